"""Exact counters without a lock on the counting side: each thread counts for itself, a reader adds up."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from proxywhirl.cache.models import CacheStatistics, TierStatistics
from proxywhirl.cache.tiers.protocol import TIER_NAMES, TierName

_TIER_COUNTS = ("hits", "misses", "evictions_lru", "evictions_ttl", "evictions_health")
_NAMES = tuple(f"{tier}.{name}" for tier in TIER_NAMES for name in _TIER_COUNTS)
_PLACES = {name: place for place, name in enumerate((*_NAMES, "promotions", "demotions", "unserved"))}
_ROOM = len(_PLACES) + 64  # the rest is for what is counted together
L1_HITS = _PLACES["l1.hits"]


class Counters:
    """Counts by name, such as `l1.hits` or `promotions`; with `enabled` false nothing is counted.

    A request is served by a hit of one tier or it is `unserved`.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._lock = threading.Lock()
        self.local = threading.local()
        self._combined: dict[tuple[str, ...], int] = {}
        self._ended = [0] * _ROOM
        self._running: list[tuple[threading.Thread, list[int]]] = []

    def mine(self) -> list[int]:
        """Return the counts of the calling thread, to which it alone may add."""
        try:
            counts: list[int] = self.local.counts
        except AttributeError:
            counts = self._register()
        return counts

    def place(self, *names: str) -> int:
        """Return where to count several things at once, for `count`; a name may be given more than once."""
        with self._lock:
            place = self._combined.setdefault(names, len(_PLACES) + len(self._combined))
        if place >= _ROOM:
            raise ValueError(f"there is no room to count {', '.join(names)} as one")
        return place

    def count(self, place: int, number: int = 1) -> None:
        """Count in a place."""
        if self.enabled:
            try:
                self.local.counts[place] += number
            except AttributeError:
                self._register()[place] += number

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        if amount:
            self.count(_PLACES[name], amount)

    def snapshot(
        self, sizes: Mapping[TierName, int], corrupted: Mapping[TierName, int], degraded: Mapping[TierName, bool]
    ) -> CacheStatistics:
        """Add the threads' counts up, beside what the tiers say of themselves."""
        totals = self._totals()
        for names, place in list(self._combined.items()):
            for name in names:
                totals[_PLACES[name]] += totals[place]
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
        counts = [0] * _ROOM
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
