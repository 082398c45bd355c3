"""The enabled tiers, fastest first, each with its guard: who is asked, who is brought in line before.

Say in the log what leaves the lowest tier for want of room: no tier is below it, so that it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from proxywhirl.cache.coordination.breaker import BreakerTier, in_passing
from proxywhirl.cache.coordination.following import bring_in_line
from proxywhirl.cache.record import Record, fault_of
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.protocol import Applied, Salvaging, Tier, TierName
from proxywhirl.clock import Clock

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0


class Losses:
    """Tells of the first ones at once, of those that follow once a minute, and of the rest at the end."""

    def __init__(self, tier: TierName, clock: Clock) -> None:
        self._tier = tier
        self._monotonic = clock.monotonic
        self._untold = 0
        self._quiet_until = float("-inf")

    def note(self, number: int) -> None:
        """Count entries that left."""
        self._untold += number
        if self._monotonic() >= self._quiet_until:
            self._quiet_until = self._monotonic() + PAUSE_SECONDS
            self.tell()

    def tell(self) -> None:
        """Tell of what was not told yet."""
        number, self._untold = self._untold, 0
        if number:
            _log.warning(
                "tier %s is the lowest and full, so that %d %s gone for want of room: raise max_entries of "
                "cache.%s_config%s",
                self._tier,
                number,
                "entry is" if number == 1 else "entries are",
                self._tier,
                ", or enable the third tier" if self._tier == "l2" else "",
            )


WINDOW_PATIENCE_SECONDS = 1.0

T = TypeVar("T")


@dataclass(slots=True)
class Committed:
    """What the authority wrote, and which windows held keys that went with it."""

    applied: Applied
    held: dict[TierName, set[str]] = field(default_factory=dict)


class Ladder:
    """The tiers of one cache; the last one is the authority, `windows` are the durable ones above it."""

    def __init__(self, tiers: Sequence[tuple[TierName, Tier]], *, clock: Clock, counters: Counters) -> None:
        self.tiers = [BreakerTier(name, tier, clock) for name, tier in tiers]
        self.authority = self.tiers[-1]
        self.authority.behind = False  # it follows nobody
        connect(self.authority.tier, self.tiers[:-1])
        self.durable = [breaker for breaker in self.tiers if breaker.name != "l1"]
        self.windows = [breaker for breaker in self.durable if breaker is not self.authority]
        for window in self.windows:
            window.patience = WINDOW_PATIENCE_SECONDS  # it can be left out
        self._counters = counters
        self._losses = Losses(self.authority.name, clock) if self.durable else None
        self._evictions = {breaker.name: counters.place(*self.eviction_counts(breaker.name)) for breaker in self.tiers}

    def ask(self, breaker: BreakerTier, ask: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Ask a tier about `size` records; a window that was left out of a change follows the log first."""
        if breaker.behind:
            with in_passing():
                if not self.is_in_line(breaker):
                    return default
        return breaker.call(ask, default, size)

    def write(self, breaker: BreakerTier, change: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Do as `ask` with what changes the tier."""
        if breaker.behind and not self.is_in_line(breaker):
            return default
        return breaker.write(change, default, size)

    def is_in_line(self, window: BreakerTier) -> bool:
        """Try to bring a window in line that was left out of a change; return whether it is."""
        if window.available:
            bring_in_line(window, self.authority)
        return not window.behind

    def note_evictions(self, tier: TierName, number: int) -> None:
        """Count entries that left a tier for want of room."""
        if number:
            self._counters.count(self._evictions[tier], number)
            if tier == self.authority.name and self._losses is not None:
                self._losses.note(number)

    def close(self) -> None:
        """Close every tier, after telling what left the lowest one."""
        if self._losses is not None:
            self._losses.tell()
        for breaker in self.tiers:
            breaker.tier.close()

    def eviction_counts(self, tier: TierName) -> tuple[str, ...]:
        """Return the names of the counts that one for such an entry is added to."""
        evictions = f"{tier}.evictions_lru"
        return (evictions,) if tier == self.authority.name else (evictions, "demotions")


def connect(authority: Tier, windows: Sequence[BreakerTier]) -> None:
    """Have the lowest of the tiers ask the others for copies of what is damaged in it."""

    def copy_of(key: str, revision: int) -> Record | None:
        for window in windows:
            found = window.call(lambda tier: tier.peek(key), None)
            if found is not None and found.revision == revision and fault_of(found) is None:
                counted = found.stored_count if window.name == "l1" else found.access_count  # hits come by themselves
                return replace(found, access_count=counted)
        return None

    if isinstance(authority, Salvaging):
        authority.copy_of = copy_of
