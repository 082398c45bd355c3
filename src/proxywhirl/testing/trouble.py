"""What can be wrong with a tier: each kind of misbehaviour, and which calls it meets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from random import Random
from threading import Event
from typing import Any

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Changes
from proxywhirl.testing.clock import ManualClock

METHODS = frozenset(
    {
        *("get", "peek", "get_many", "transact", "follow", "fill", "drop", "touch_many", "expired", "scan"),
        *("changes_since", "changed_elsewhere", "clear", "get_meta", "set_meta", "metas", "examine", "close"),
        *("revision", "len", "contains"),
    }
)
"""What can be troubled; `len` and `contains` are the operators, `revision` the property."""

LONGEST_HOLD_SECONDS = 30.0


class Garbage(Enum):
    """What a tier answers that has lost its mind."""

    WRONG_TYPE = auto()  # an object that is none of what could be answered
    OTHER_KEY = auto()  # records under other keys than their own
    TRUNCATED = auto()  # the first half of what there is, as if it were all


class Nonsense:
    """What `Garbage.WRONG_TYPE` answers."""


@dataclass(slots=True, eq=False)
class Trouble:
    """One kind of misbehaviour: of which calls, after how many that go well, how often, how likely.

    `met` counts the calls that it troubled. `after` lets the call do its work first: what was written is written.
    """

    methods: frozenset[str]
    skip: int = 0
    times: int | None = None
    chance: float = 1.0
    after: bool = False
    met: int = 0

    def meets(self, method: str, rng: Random) -> bool:
        """Whether a call is troubled; counts it."""
        if method not in self.methods or self.met == self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if rng.random() >= self.chance:
            return False
        self.met += 1
        return True

    def strike(self) -> None:
        """Do what it does to the call's thread."""

    def spoil(self, answer: Any) -> Any:
        """Do what it does to the call's answer."""
        return answer


@dataclass(slots=True, eq=False, kw_only=True)
class Failure(Trouble):
    """Raises."""

    error: BaseException | Callable[[], BaseException]

    def strike(self) -> None:
        """Raise the error."""
        raise self.error.with_traceback(None) if isinstance(self.error, BaseException) else self.error()


@dataclass(slots=True, eq=False, kw_only=True)
class Delay(Trouble):
    """Moves the clock."""

    clock: ManualClock
    seconds: float

    def strike(self) -> None:
        """Let the time pass."""
        self.clock.advance(self.seconds)


@dataclass(slots=True, eq=False, kw_only=True)
class Garbled(Trouble):
    """Spoils the answer."""

    garbage: Garbage

    def spoil(self, answer: Any) -> Any:
        """Return another answer of the chosen kind."""
        if self.garbage is Garbage.WRONG_TYPE:
            return Nonsense()
        change = _renamed if self.garbage is Garbage.OTHER_KEY else _halved
        if isinstance(answer, Changes):
            return replace(answer, records=change(answer.records), removed=change(answer.removed))
        return change(answer)


class Held(Trouble):
    """Calls that wait until the test releases them, really and not by the clock."""

    __slots__ = ("_arrived", "_released")

    def __init__(self, methods: frozenset[str], **when: Any) -> None:
        super().__init__(methods, **when)
        self._arrived = Event()
        self._released = Event()

    def wait_until_called(self) -> None:
        """Wait until a call is held. Raises `TimeoutError` after 30 s."""
        if not self._arrived.wait(LONGEST_HOLD_SECONDS):
            raise TimeoutError(f"none of {', '.join(sorted(self.methods))} was called")

    def release(self) -> None:
        """Let all calls go on, those to come too."""
        self._released.set()

    def strike(self) -> None:
        """Wait for the release. Raises `TimeoutError` after 30 s, so that a forgotten one hangs no test run."""
        self._arrived.set()
        if not self._released.wait(LONGEST_HOLD_SECONDS):
            raise TimeoutError("a held call was not released")


def _halved(answer: Any) -> Any:
    if isinstance(answer, dict):
        return dict(list(answer.items())[: len(answer) // 2])
    return answer[: len(answer) // 2] if isinstance(answer, list) else answer


def _renamed(answer: Any) -> Any:
    if isinstance(answer, Record):
        return replace(answer, key=f"not-{answer.key}")
    if isinstance(answer, dict):
        return {key: _renamed(each) for key, each in answer.items()}
    if isinstance(answer, list):
        return [_renamed(each) for each in answer]
    return f"not-{answer}" if isinstance(answer, str) else answer
