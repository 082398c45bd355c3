"""Exact counters without a lock on the counting side: each thread counts for itself, a reader adds up."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from proxywhirl.cache.models import CacheStatistics, TierStatistics
from proxywhirl.cache.policy import Movement
from proxywhirl.cache.tier import TIER_NAMES, TierName

__all__ = ["L1_HITS", "Counters"]

_TIER_COUNTS = ("hits", "misses", "evictions_lru", "evictions_ttl", "evictions_health")
_NAMES = tuple(f"{tier}.{name}" for tier in TIER_NAMES for name in _TIER_COUNTS)
_PLACES = {name: place for place, name in enumerate((*_NAMES, "promotions", "demotions", "unserved"))}
L1_HITS = _PLACES["l1.hits"]


class Counters:
    """Counts by name, such as `l1.hits` or `promotions`; with `enabled` false nothing is counted.

    A request is served by a hit of one tier or it is `unserved`.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._lock = threading.Lock()
        self.local = threading.local()
        self._movements: list[Movement] = []
        self._places: dict[int, tuple[int, ...]] = {}
        self._ended = [0] * len(_PLACES)
        self._running: list[tuple[threading.Thread, list[int]]] = []

    def mine(self) -> list[int]:
        """Return the counts of the calling thread, to which it alone may add."""
        try:
            counts: list[int] = self.local.counts
        except AttributeError:
            counts = self._register()
        return counts

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        if self.enabled and amount:
            self.mine()[_PLACES[name]] += amount

    def add_movement(self, movement: Movement, number: int = 1) -> None:
        """Count what a number of reads did."""
        if self.enabled and number:
            places = self._places.get(id(movement))
            if places is None:
                self._movements.append(movement)  # so that no other gets its id
                places = self._places[id(movement)] = tuple(_PLACES[name] for name in movement.counts())
            counts = self.mine()
            for place in places:
                counts[place] += number

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
            lost = corrupted.get(tier, 0) if self.enabled else 0
            tiers[tier] = TierStatistics(**counts, current_size=sizes.get(tier, 0), evictions_corruption=lost)
        served = sum(stats.hits for stats in tiers.values())
        return CacheStatistics(
            l1_stats=tiers["l1"],
            l2_stats=tiers["l2"],
            l3_stats=tiers["l3"],
            promotions=totals[_PLACES["promotions"]],
            demotions=totals[_PLACES["demotions"]],
            requests=served + totals[_PLACES["unserved"]],
            requests_served=served,
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
        self.local.counts = counts
        return counts

    def _totals(self) -> list[int]:
        with self._lock:
            rows = [self._ended, *(counts for _, counts in self._running)]
        return [sum(column) for column in zip(*rows, strict=True)]
