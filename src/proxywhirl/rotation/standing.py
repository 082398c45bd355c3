"""Who is ready to serve: not set aside, not at a limit. Pure.

The rules:

- a failing proxy is set aside for an exponential back-off with full jitter;
- when it is due it comes back on trial: one request at a time, until one succeeds. A trial that is neither reported nor
  released ends by itself, so that it cannot starve; and trials are few, as long as others are ready: hopeless proxies
  get one request in twenty, while each trial that succeeds makes room for two more;
- a proxy at a limit is ready again when that allows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from proxywhirl.rotation.limits import Limits
from proxywhirl.rotation.retry import backoff
from proxywhirl.rotation.slot import Slot
from proxywhirl.rotation.stock import Stock
from proxywhirl.rotation.views import Views
from proxywhirl.timetable import Timetable

__all__ = ["TRIAL_SECONDS", "Standing"]

TRIAL_SECONDS = 30.0
"""After so long without a word another request may try the proxy."""

_TRIAL_SHARE = 0.05
_RETURNS_AT_ONCE = 64  # thousands may be due at once; no single request pays for the return of them all
_TRIALS_AT_ONCE = float(_RETURNS_AT_ONCE)
_FIRST_TRIALS = 4.0
_FOR_A_SUCCESS = 3.0  # times the success rate of the last trials
_LUCK_WEIGHT = 0.1


class Standing:
    """Keeps `views` in line with who is set aside and who is at a limit. Times are on the pool's monotonic clock."""

    def __init__(self, stock: Stock, limits: Limits, rng: random.Random) -> None:
        self.aside: Timetable[str] = Timetable()
        self.limited: Timetable[str] = Timetable()
        self.views: Views
        self._stock = stock
        self._limits = limits
        self._rng = rng
        self._trials = _FIRST_TRIALS
        self._luck = 0.5

    def ready(self, key: str) -> bool:
        """Whether a proxy may serve now."""
        return key not in self.aside.at and not self.at_limit(key)

    def at_limit(self, key: str) -> bool:
        """Whether a proxy is used as much as it may be."""
        if key in self.limited.at:
            return True
        slot = self._stock.slot(key)
        return slot is not None and self._limits.in_flight is not None and slot.in_flight >= self._limits.in_flight

    def enter(self, key: str) -> None:
        """Let a proxy serve if nothing stands in the way any more."""
        if self.ready(key):
            self.views.add(key)

    def bring_back(self, now: float, *, for_request: bool) -> None:
        """Let those serve who are due, as many as may be on trial."""
        if self.aside.at:
            if for_request:
                self._trials = min(self._trials + _TRIAL_SHARE, _TRIALS_AT_ONCE)
            while self._trials >= 1.0:
                key = self.aside.pop_due(now)
                if key is None:
                    break
                self._trials -= 1.0
                self._stock.open(key, dead=True)
                self.enter(key)
        if self.limited.at:
            for _ in range(_RETURNS_AT_ONCE):
                key = self.limited.pop_due(now)
                if key is None:
                    break
                self.enter(key)

    def begin(self, slot: Slot, now: float) -> float | None:
        """Take note of a use; return when its trial ends by itself, None where it is no trial."""
        key, limits = slot.key, self._limits
        slot.in_flight += 1
        trial: float | None = None
        if slot.failures and key not in self.aside.at:
            trial = now + TRIAL_SECONDS
            self.aside.put(key, trial)
            self.views.remove(key)
        if limits.requests_per_second is not None:
            slot.next_use = max(slot.next_use, now) + 1.0 / limits.requests_per_second
            self.limited.put(key, slot.next_use)
            self.views.remove(key)
        if limits.in_flight is not None and slot.in_flight >= limits.in_flight:
            self.views.remove(key)
        self.views.moved(slot)
        return trial

    def end(self, slot: Slot, trial: float | None) -> None:
        """Take note of the end of a use of which nothing is told yet."""
        slot.in_flight -= 1
        self.views.moved(slot)
        if trial is not None and self.aside.due_at(slot.key) == trial:
            self.aside.discard(slot.key)  # it was one request, and that is over
            self.enter(slot.key)
        elif self._limits.in_flight is not None:
            self.enter(slot.key)

    def succeeded(self, slot: Slot, trial: float | None) -> None:
        """Bring a proxy back for good that had failed."""
        slot.failures = 0
        self.aside.discard(slot.key)
        if trial is not None:
            self._luck += _LUCK_WEIGHT * (1.0 - self._luck)
            self._trials = min(self._trials + _FOR_A_SUCCESS * self._luck, _TRIALS_AT_ONCE)
        self.enter(slot.key)

    def set_aside(self, slot: Slot, trial: float | None, now: float) -> None:
        """Set a proxy aside for one more failure in a row."""
        if trial is not None:
            self._luck -= _LUCK_WEIGHT * self._luck
        slot.incident += 1
        slot.failures += 1
        self.put_aside(slot.key, slot.failures, now, proven=slot.served > 0)

    def pardon(self, slot: Slot) -> None:
        """Take back the last failure of a proxy, which was another's."""
        slot.failed -= 1
        slot.bad = max(slot.bad - 1.0, 0.0)
        slot.failures = max(slot.failures - 1, 0)
        if not slot.failures:
            self.aside.discard(slot.key)
            self.enter(slot.key)

    def put_aside(self, key: str, failures: int, now: float, *, proven: bool = True) -> None:
        """Set a proxy aside that has failed so often in a row; `proven` says that it has served before."""
        self.views.remove(key)
        self.aside.put(key, now + backoff(failures, self._rng, proven=proven))

    def forget(self, key: str) -> None:
        """Drop a proxy that leaves the pool."""
        self.aside.discard(key)
        self.limited.discard(key)
        self.views.remove(key)

    def due_first(self, admits: Callable[[str], bool], candidates: Collection[str]) -> str | None:
        """Return who is due first of those who are set aside, are at no limit and are admitted.

        Nobody is beside `candidates`: where they are few, nobody else is looked at.
        """
        if len(candidates) >= len(self.aside):
            return self.aside.first(lambda key: admits(key) and not self.at_limit(key))
        at = self.aside.at
        due = ((at[key], key) for key in candidates if key in at and admits(key) and not self.at_limit(key))
        return min(due, default=(0.0, None))[1]
