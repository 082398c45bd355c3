"""Keep a sick tier from failing a request: mark it degraded, leave it out, try it again with back-off.

The rules:

- A tier that raises anything while it is read is left out. So is a tier whose answer does not fit the question.
- A tier that raises while it is written to is left out of writes alone. A read that goes well says nothing of writes.
- A slow answer is used, and a slow write counts. Two slow calls, one after the other, are a sickness.
- Another process that is writing is no sickness. A write waits for it, outside the lock of the tier, so that reads go
  on; the caller says how long.

A durable tier that cannot be opened is left out like a sick one, if another durable tier can be opened.

A window holds only copies, so nothing is lost without it. Without the authority the window above it serves, and writes
are kept for the authority.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import NoReturn, TypeVar

from proxywhirl.backoff import Backoff, Trials
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Decision, Patient, Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import TierBusyError, TierError, UnstorableValue
from proxywhirl.state.contention import pauses


class AbsentTier:
    """Stands for a tier until `reopen` returns the tier. Every other call is a `TierError` that says why."""

    corrupted = 0

    def __init__(self, reason: TierError, reopen: Callable[[], Tier]) -> None:
        self.reason = str(reason)
        self.reopen = reopen

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def abandon(self) -> None:
        """Do nothing, as above."""

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(Tier, name):
            raise TierError(self.reason)
        raise AttributeError(name)

    def __len__(self) -> NoReturn:
        raise TierError(self.reason)

    def __contains__(self, key: object) -> NoReturn:
        raise TierError(self.reason)


_log = logging.getLogger(__name__)

BACKOFF = Backoff(1.0, 60.0)
PATIENCE_SECONDS = 10.0
SLOW_CALL_SECONDS = 2.0
SLOW_RECORD_SECONDS = 0.001
MUCH = 500
AT_ONCE = (None,)

T = TypeVar("T")


class DecisionError(Exception):
    """What a decision raised inside a transaction: not the tier's fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


_patience: ContextVar[float] = ContextVar("patience", default=math.inf)


@contextlib.contextmanager
def in_passing() -> Iterator[None]:
    """Let writes of this thread wait for nobody meanwhile: a read writes what it can at once, and leaves the rest."""
    token = _patience.set(0.0)
    try:
        yield
    finally:
        _patience.reset(token)


def may_wait() -> bool:
    """Whether a write may wait for other writers: not `in_passing`."""
    return _patience.get() > 0


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


class BreakerTier:
    """A tier with its name, its locks and its health.

    - `degraded`: it is not asked. `unwritable`: it is read alone. `sick`: either of the two.
    - `changing`: reads have to wait for a write that takes its time.
    - `behind`: a window that was left out of a change; it catches up with the log before it is used again.
    - `miscounts`: it was left out of hits, which are not in the log; it is emptied then.
    - `patience`: for how many seconds a write waits for another process.
    - `alone`: nothing else takes its writes, so each of them waits, even after one has waited in vain.
    """

    def __init__(self, name: TierName, tier: Tier, clock: Clock) -> None:
        self.name = name
        self.degraded = False
        self.unwritable = False
        self.sick = False
        self.behind = False
        self.miscounts = False
        self.patience = PATIENCE_SECONDS
        self.alone = False
        self.changing = False
        self._lock = threading.RLock()
        self._use(tier)
        self._monotonic = clock.monotonic
        self._asking = Trials(BACKOFF, clock.monotonic)
        self._writing = Trials(BACKOFF, clock.monotonic)
        self._reason = ""
        self._slow_until: float | None = None
        if isinstance(tier, AbsentTier):
            self.behind = True
            self._degrade(tier.reason)

    def _use(self, tier: Tier) -> None:
        """Take a tier: its locks are waited for here, and it is read beside writes if it can be."""
        self.tier = tier
        absent = isinstance(tier, AbsentTier)
        if not absent and isinstance(tier, Patient):
            tier.patient = False
        beside = not absent and getattr(tier, "reads_beside_writes", False)
        self._reads = threading.RLock() if beside else self._lock

    @property
    def absent(self) -> str | None:
        """Why the tier could not be opened; None where it is open."""
        return self._reason if isinstance(self.tier, AbsentTier) else None

    @property
    def available(self) -> bool:
        """Whether to ask the tier now: it is well, or its back-off has ended."""
        return not self.degraded or self._asking.due

    @property
    def writable(self) -> bool:
        """Whether to write to the tier now."""
        return self.available and (not self.unwritable or self._writing.due)

    def write(self, change: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Change the tier as `call` asks it; one that could not be written to lately is left out.

        Another process that is writing is waited for up to `patience` seconds, or not at all `in_passing`. Who reads
        meanwhile does not wait: the tier's lock is free between two tries.
        """
        return self._try(change, default, size, self.patience, writes=True)

    def call(self, ask: Callable[[Tier], T], default: T, size: int = 1, *, waits: bool = False) -> T:
        """Ask the tier about `size` records; `default` where it is left out or fails.

        A question that needs the lock of writers may have to wait as `write` does: it `waits` then.
        """
        return self._try(ask, default, size, self.patience if waits else 0.0, writes=False)

    def _try(self, ask: Callable[[Tier], T], default: T, size: int, patience: float, *, writes: bool) -> T:
        exclusive = writes or patience > 0  # the call needs the lock of writers
        why = ""
        wait = min(patience, _patience.get())
        for again in (False, True):  # nearly every first try succeeds
            for _ in pauses(wait) if again else AT_ONCE:
                lock = self._lock if exclusive else self._reads
                if self.sick and not (self.writable if writes else self.available):
                    return default
                if not lock.acquire(False) and not lock.acquire(timeout=SLOW_CALL_SECONDS + size * SLOW_RECORD_SECONDS):
                    return default  # the call that hangs will say so
                try:
                    if exclusive:
                        self.changing = size > MUCH and self._reads is self._lock
                    if self.sick and not (self.writable if writes else self.available):
                        return default  # another call has failed meanwhile
                    return self._call(ask, default, size, writes=writes)
                except TierBusyError as exc:
                    why = str(exc)
                finally:
                    if exclusive:
                        self.changing = False
                    lock.release()
        if writes and wait and not self.alone:
            self._bar_writes(f"{why}: it was waited for {wait:g} s")
        else:
            _log.debug("tier %s gave no answer: %s", self.name, why)
        return default

    def get(self, key: str) -> Record | LeftOut | None:
        """Ask the tier for a record as `call` would, quicker when nothing is in the way."""
        # `acquire` without the name of its argument: with it, it costs twice
        if self.degraded or self._slow_until is not None or not self._reads.acquire(False):
            nothing: Record | LeftOut | None = LEFT_OUT
            return self.call(lambda tier: sound(key, tier.get(key)), nothing)
        try:
            began = self._monotonic()
            answer = self.tier.get(key)
            took = self._monotonic() - began
            if took <= SLOW_CALL_SECONDS and (answer is None or (type(answer) is Record and answer.key == key)):
                return answer
            self._is_too_slow(began, began + took, SLOW_CALL_SECONDS)
            return sound(key, answer)
        except TierBusyError:
            return LEFT_OUT
        except UnstorableValue:
            raise
        except Exception as exc:  # noqa: BLE001  # as in `_call`
            self._degrade(_reason(exc))
            return LEFT_OUT
        finally:
            self._reads.release()

    def _call(self, ask: Callable[[Tier], T], default: T, size: int, *, writes: bool) -> T:
        began = self._monotonic()
        try:
            if isinstance(self.tier, AbsentTier):
                self._use(self.tier.reopen())
            answer = ask(self.tier)
        except DecisionError as exc:
            raise exc.cause from exc.cause.__cause__
        except (TierBusyError, UnstorableValue):  # the tier is well
            raise
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with a tier, the others serve
            if writes and not isinstance(self.tier, AbsentTier):
                self._bar_writes(_reason(exc))
            else:
                self._degrade(_reason(exc))
            return default
        ended = self._monotonic()
        longest = SLOW_CALL_SECONDS + size * SLOW_RECORD_SECONDS
        if (ended - began > longest or self._slow_until is not None) and self._is_too_slow(began, ended, longest):
            return answer
        if self.degraded:
            self.degraded = False
            self._asking.succeed()
            self.sick = self.unwritable
            _log.warning("tier %s works again", self.name)
        if writes and self.unwritable:
            self.unwritable = False
            self._writing.succeed()
            self.sick = self.degraded
            _log.warning("tier %s can be written to again", self.name)
        return answer

    def _is_too_slow(self, began: float, ended: float, longest: float) -> bool:
        """Whether two calls took too long, one after the other: one may be a process that was stopped meanwhile."""
        slow_until, self._slow_until = self._slow_until, ended if ended - began > longest else None
        if self._slow_until is None or slow_until is None or began < slow_until:
            return False
        self._degrade(f"a call took {ended - began:.1f} s, as the one before did")
        return True

    def _degrade(self, reason: str) -> None:
        pause = self._asking.fail()
        self.degraded = self.sick = True
        known = isinstance(self.tier, AbsentTier) and reason == self._reason  # such a tier is tried again all the time
        self._reason = reason
        level = logging.DEBUG if known else logging.WARNING
        _log.log(level, "tier %s is degraded, next try in %g s: %s", self.name, pause, reason)

    def _bar_writes(self, reason: str) -> None:
        pause = self._writing.fail()
        self.unwritable = self.sick = True
        _log.warning("tier %s is read and not written to, next try in %g s: %s", self.name, pause, reason)


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
