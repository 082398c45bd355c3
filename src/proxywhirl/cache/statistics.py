"""Exact counters without a lock on the counting side: each thread counts for itself, a reader adds up."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from proxywhirl.cache.models import CacheStatistics, TierStatistics
from proxywhirl.cache.tier import TIER_NAMES, TierName

__all__ = ["Counters"]

_TIER_COUNTS = ("hits", "misses", "evictions_lru", "evictions_ttl", "evictions_health")
_NAMES = tuple(f"{tier}.{name}" for tier in TIER_NAMES for name in _TIER_COUNTS)
_PLACES = {
    name: place for place, name in enumerate((*_NAMES, "promotions", "demotions", "requests", "requests_served"))
}


class Counters:
    """Counts by name, such as `l1.hits` or `promotions`; with `enabled` false nothing is counted."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lock = threading.Lock()
        self._local = threading.local()
        self._ended = [0] * len(_PLACES)
        self._running: list[tuple[threading.Thread, list[int]]] = []

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        if self._enabled:
            counts = getattr(self._local, "counts", None) or self._register()
            counts[_PLACES[name]] += amount

    def add_each(self, tiers: Iterable[str], name: str, amount: int = 1) -> None:
        """Count the same for several tiers."""
        for tier in tiers:
            self.add(f"{tier}.{name}", amount)

    def snapshot(
        self,
        sizes: Mapping[TierName, int],
        corrupted: Mapping[TierName, int],
        degraded: Mapping[TierName, bool],
    ) -> CacheStatistics:
        """Add the threads' counts up, beside what the tiers say of themselves."""
        totals = self._totals()
        tiers: dict[TierName, TierStatistics] = {}
        for tier in TIER_NAMES:
            counts = {name: totals[_PLACES[f"{tier}.{name}"]] for name in _TIER_COUNTS}
            lost = corrupted.get(tier, 0) if self._enabled else 0
            tiers[tier] = TierStatistics(**counts, current_size=sizes.get(tier, 0), evictions_corruption=lost)
        return CacheStatistics(
            l1_stats=tiers["l1"],
            l2_stats=tiers["l2"],
            l3_stats=tiers["l3"],
            promotions=totals[_PLACES["promotions"]],
            demotions=totals[_PLACES["demotions"]],
            requests=totals[_PLACES["requests"]],
            requests_served=totals[_PLACES["requests_served"]],
            l1_degraded=degraded.get("l1", False),
            l2_degraded=degraded.get("l2", False),
            l3_degraded=degraded.get("l3", False),
        )

    def _register(self) -> list[int]:
        counts = [0] * len(_PLACES)
        with self._lock:
            for thread, old in [pair for pair in self._running if not pair[0].is_alive()]:
                self._ended = [a + b for a, b in zip(self._ended, old, strict=True)]
                self._running.remove((thread, old))
            self._running.append((threading.current_thread(), counts))
        self._local.counts = counts
        return counts

    def _totals(self) -> list[int]:
        with self._lock:
            rows = [self._ended, *(counts for _, counts in self._running)]
        return [sum(column) for column in zip(*rows, strict=True)]
