"""A tier that fails on command: it raises, takes its time, hangs or answers nonsense, and recovers.

It wraps a real tier and behaves like it until it is told otherwise. Nothing sleeps: a delay moves the test's clock, and
a call that is held waits until the test lets it go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial
from random import Random
from threading import Event, Lock
from typing import Any, NoReturn

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Changes, Tier
from proxywhirl.errors import TierError
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
    """Wrong answers of a tier."""

    WRONG_TYPE = auto()  # an object that is none of what could be answered
    OTHER_KEY = auto()  # records under other keys than their own
    TRUNCATED = auto()  # the first half of what there is, as if it were all


class Nonsense:
    """What `Garbage.WRONG_TYPE` answers."""


def _nothing() -> None:
    """Let a call go on."""


def _as_it_is(answer: Any) -> Any:
    return answer


@dataclass(slots=True, eq=False)
class Trouble:
    """One kind of misbehaviour: which calls it meets, after how many that go well, how often, how likely.

    `strike` is done to the call's thread, `spoil` to its answer. `after` lets the call do its work first: what was
    written is written. `met` counts the calls that were troubled.
    """

    methods: frozenset[str]
    skip: int = 0
    times: int | None = None
    chance: float = 1.0
    after: bool = False
    strike: Callable[[], None] = _nothing
    spoil: Callable[[Any], Any] = _as_it_is
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


@dataclass(slots=True, eq=False)
class Held(Trouble):
    """Calls that wait until the test releases them, really and not by the clock."""

    _arrived: Event = field(default_factory=Event)
    _released: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Hold each call that is met."""
        self.strike = self._wait

    def wait_until_called(self) -> None:
        """Wait until a call is held. Raises `TimeoutError` after 30 s."""
        if not self._arrived.wait(LONGEST_HOLD_SECONDS):
            raise TimeoutError(f"none of {', '.join(sorted(self.methods))} was called")

    def release(self) -> None:
        """Let all calls go on, those to come too."""
        self._released.set()

    def _wait(self) -> None:
        self._arrived.set()
        if not self._released.wait(LONGEST_HOLD_SECONDS):  # a forgotten one hangs no test run
            raise TimeoutError("a held call was not released")


class ChaosTier:
    """A `Tier` around another one, which can be told to misbehave.

    Args:
        tier: What does the work; it may be looked at behind the trouble.
        clock: What `delay` moves: the clock that the cache under test was given.
        rng: What decides where a trouble has a chance below 1.

    `calls` counts how often each of `METHODS` was called, troubled or not. What a tier offers beyond the protocol is
    handed through. May be called from several threads, where the tier may.

    >>> from proxywhirl.cache.tiers.memory import MemoryTier
    >>> chaos = ChaosTier(MemoryTier(authority=True))
    >>> trouble = chaos.fail(OSError("the disk is away"), "get", times=1)
    >>> chaos.get("k")
    Traceback (most recent call last):
    ...
    OSError: the disk is away
    >>> chaos.get("k"), chaos.calls["get"], trouble.met
    (None, 2, 1)
    """

    def __init__(self, tier: Tier, *, clock: ManualClock | None = None, rng: Random | None = None) -> None:
        self.tier = tier
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._rng = rng or Random(0)  # noqa: S311  # no secret
        self._troubles: list[Trouble] = []
        self._lock = Lock()

    def fail(
        self,
        error: BaseException | Callable[[], BaseException] = lambda: TierError("told to fail"),
        *methods: str,
        after: bool = False,
        skip: int = 0,
        times: int | None = None,
        chance: float = 1.0,
    ) -> Trouble:
        """Raise an error from the named methods, from all but `close` where none is named.

        `skip` calls go well first, then `times` of them fail (None: all that follow), each with `chance`. With `after`
        the call has done its work when it fails, as when an acknowledgement is lost.

        Raises:
            ValueError: there is no method of a name.
        """

        def strike() -> NoReturn:
            raise error.with_traceback(None) if isinstance(error, BaseException) else error()

        return self._add(Trouble(_known(methods), skip, times, chance, after, strike))

    def delay(
        self, seconds: float, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0
    ) -> Trouble:
        """Let calls take a time by the clock. Arguments and errors as of `fail`; `ValueError` without a clock."""
        if self._clock is None:
            raise ValueError("a delay needs the clock that the cache was given: ChaosTier(tier, clock=…)")
        strike = partial(self._clock.advance, seconds)
        return self._add(Trouble(_known(methods), skip, times, chance, strike=strike))

    def garble(
        self, garbage: Garbage, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0
    ) -> Trouble:
        """Answer garbage; what the call does is done. Arguments and errors as of `fail`."""
        return self._add(Trouble(_known(methods), skip, times, chance, spoil=partial(_garbled, garbage)))

    def hold(self, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0) -> Held:
        """Hold calls until they are released, 30 s at most. Arguments and errors as of `fail`."""
        held = Held(_known(methods), skip, times, chance)
        self._add(held)
        return held

    def recover(self) -> None:
        """End all troubles; calls that are held go on."""
        with self._lock:
            ended, self._troubles = self._troubles, []
        for trouble in ended:
            if isinstance(trouble, Held):
                trouble.release()

    def _add(self, trouble: Trouble) -> Trouble:
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    def _do(self, method: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self._lock:
            self.calls[method] += 1
            met = [trouble for trouble in self._troubles if trouble.meets(method, self._rng)]
        for trouble in met:
            if not trouble.after:
                trouble.strike()
        answer = act(*arguments, **named)
        for trouble in met:
            answer = trouble.spoil(answer)
        for trouble in met:
            if trouble.after:
                trouble.strike()
        return answer

    def __getattr__(self, name: str) -> Any:
        """Return a method of the tier that meets the troubles; what is none of `METHODS` as it is."""
        if name == "revision":
            return self._do(name, lambda: self.tier.revision)
        found = getattr(self.tier, name)
        return partial(self._do, name, found) if name in METHODS else found

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.tier)})

    def __len__(self) -> int:
        length: int = self._do("len", lambda: len(self.tier))
        return length

    def __contains__(self, key: object) -> bool:
        is_there: bool = self._do("contains", lambda: key in self.tier)
        return is_there


def _known(methods: Sequence[str]) -> frozenset[str]:
    if unknown := set(methods) - METHODS:
        raise ValueError(f"a tier has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(METHODS))}")
    return frozenset(methods) or METHODS - {"close"}


def _garbled(garbage: Garbage, answer: Any) -> Any:
    """Return another answer of the chosen kind."""
    if garbage is Garbage.WRONG_TYPE:
        return Nonsense()
    change = _renamed if garbage is Garbage.OTHER_KEY else _halved
    if isinstance(answer, Changes):
        return replace(answer, records=change(answer.records), removed=change(answer.removed))
    return change(answer)


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
