"""Keep a sick tier from failing a request: mark it degraded, leave it out, try it again with back-off.

Sick is a tier that raises, whatever it raises, one that takes seconds for what takes microseconds, and one that
returns something that it cannot have been asked for. A slow answer is used; the next questions are not asked. One
that says that it can still be read (`TierError.readable`) is left out of writes alone, and a read that goes well says
nothing of these.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from proxywhirl.cache.absent import AbsentTier
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Batch, Decision, Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError

__all__ = ["LEFT_OUT", "DecisionError", "GuardedTier", "LeftOut", "guarded_decision", "sound"]

_log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
SLOW_CALL_SECONDS = 2.0
SLOW_RECORD_SECONDS = 0.001

T = TypeVar("T")


class DecisionError(Exception):
    """What a decision raised inside a transaction: not the tier's fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class LeftOut:
    """Stands for the answer of a tier that was not asked, or gave none."""


LEFT_OUT = LeftOut()


def guarded_decision(decide: Decision) -> Decision:
    """Return the decision so that its own errors are told from the tier's."""

    def decided(present: Mapping[str, Record]) -> Batch:
        try:
            return decide(present)
        except Exception as exc:
            raise DecisionError(exc) from exc

    return decided


class _BackOff:
    """When something that failed is tried again: after pauses that double until it goes well."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._retry_at = 0.0

    @property
    def over(self) -> bool:
        """Whether to try again."""
        return self._monotonic() >= self._retry_at

    def fail(self) -> float:
        """Begin the next pause, the first one or one twice as long; return its seconds."""
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._retry_at = self._monotonic() + pause
        return pause

    def recover(self) -> None:
        """Begin with the first pause the next time."""
        self._failures = 0


class GuardedTier:
    """A tier with its name, its lock and its health.

    `degraded` is one that is not asked, `unwritable` one that is read alone. `behind` is true for a window that was
    left out of a change: it follows the log before it is used again.
    """

    def __init__(self, name: TierName, tier: Tier, clock: Clock) -> None:
        self.name = name
        self.tier = tier
        self.degraded = False
        self.unwritable = False
        self.behind = False
        self._lock = threading.RLock()
        self._monotonic = clock.monotonic
        self._asking = _BackOff(clock.monotonic)
        self._writing = _BackOff(clock.monotonic)
        self._reason = ""
        if isinstance(tier, AbsentTier):
            self.behind = True
            self._degrade(tier.reason)

    @property
    def absent(self) -> str | None:
        """Why the tier could not be opened; None where it is open."""
        return self._reason if isinstance(self.tier, AbsentTier) else None

    @property
    def available(self) -> bool:
        """Whether to ask the tier now: it is well, or its back-off has ended."""
        return not self.degraded or self._asking.over

    @property
    def writable(self) -> bool:
        """Whether to write to the tier now."""
        return self.available and (not self.unwritable or self._writing.over)

    @property
    def sick(self) -> bool:
        """Whether it could not do lately what it was asked, be it reading or writing."""
        return self.degraded or self.unwritable

    def write(self, change: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Change the tier as `call` asks it; one that could not be written to lately is left out."""
        return self.call(change, default, size, writes=True) if self.writable else default

    def call(self, ask: Callable[[Tier], T], default: T, size: int = 1, *, writes: bool = False) -> T:
        """Ask the tier about `size` records; `default` where it is left out or fails."""
        if not self.available:
            return default
        if not self._lock.acquire(timeout=SLOW_CALL_SECONDS + size * SLOW_RECORD_SECONDS):
            return default  # a call that is under way hangs; it will be the one to say so
        try:
            return self._call(ask, default, size, writes) if (self.writable if writes else self.available) else default
        finally:
            self._lock.release()

    def get(self, key: str) -> Record | LeftOut | None:
        """Ask the tier for a record as `call` would, which this is for the reads that nothing is in the way of."""
        if self.degraded or not self._lock.acquire(False):  # by its name it costs twice as much
            nothing: Record | LeftOut | None = LEFT_OUT
            return self.call(partial(_fetch, key), nothing)
        try:
            began = self._monotonic()
            answer = self.tier.get(key)
            took = self._monotonic() - began
            if took <= SLOW_CALL_SECONDS and (answer is None or (type(answer) is Record and answer.key == key)):
                return answer
            return self._judge(key, answer, took)
        except Exception as exc:  # noqa: BLE001  # as in `_call`
            self._degrade(_reason(exc))
            return LEFT_OUT
        finally:
            self._lock.release()

    def _judge(self, key: str, answer: object, took: float) -> Record | None:
        """Return an answer that came late; refuse one that is none."""
        found = sound(key, answer)
        if took > SLOW_CALL_SECONDS:
            self._degrade(f"a call took {took:.1f} s")
        return found

    def _call(self, ask: Callable[[Tier], T], default: T, size: int, writes: bool) -> T:
        began = self._monotonic()
        try:
            if isinstance(self.tier, AbsentTier):
                self.tier = self.tier.reopen()
            answer = ask(self.tier)
        except DecisionError as exc:
            raise exc.cause from exc.cause.__cause__
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with a tier, the others serve
            if writes and isinstance(exc, TierError) and exc.readable:
                self._bar_writes(_reason(exc))
            else:
                self._degrade(_reason(exc))
            return default
        took = self._monotonic() - began
        if took > SLOW_CALL_SECONDS + size * SLOW_RECORD_SECONDS:
            self._degrade(f"a call took {took:.1f} s")
            return answer
        if self.degraded:
            self.degraded = False
            self._asking.recover()
            _log.warning("tier %s works again", self.name)
        if writes and self.unwritable:
            self.unwritable = False
            self._writing.recover()
            _log.warning("tier %s can be written to again", self.name)
        return answer

    def _degrade(self, reason: str) -> None:
        pause = self._asking.fail()
        self.degraded = True
        known = isinstance(self.tier, AbsentTier) and reason == self._reason  # it is tried again all the time
        self._reason = reason
        level = logging.DEBUG if known else logging.WARNING
        _log.log(level, "tier %s is degraded, next try in %g s: %s", self.name, pause, reason)

    def _bar_writes(self, reason: str) -> None:
        pause = self._writing.fail()
        self.unwritable = True
        _log.warning("tier %s is read and not written to, next try in %g s: %s", self.name, pause, reason)


def _fetch(key: str, tier: Tier) -> Record | LeftOut | None:
    return sound(key, tier.get(key))


def _reason(exc: Exception) -> str:
    return str(exc) if isinstance(exc, TierError) else f"{type(exc).__name__}: {exc}"


def sound(key: str, answer: object) -> Record | None:
    """Return the answer of a tier that was asked for a key.

    Raises:
        TierError: it is no answer to that.
    """
    if answer is None:
        return None
    if type(answer) is not Record or answer.key != key:
        raise TierError(f"asked for an entry, it answered with {type(answer).__name__}")
    return answer
