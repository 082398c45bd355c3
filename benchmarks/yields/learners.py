"""Simple learners, each as an engineer writes it in an afternoon: what the pool has to be no worse than."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.yields.race import Arena, Choice, Wait
from benchmarks.yields.scenario import Arrival
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome

__all__ = ["PacedRoundRobin"]

FIRST_BAN, LONGEST_BAN = 60.0, 3_600.0
FIRST_ASIDE = 20.0
LONGEST_PACE, LONGER, SHORTER = 60.0, 1.1, 0.9999


class PacedRoundRobin:
    """Each proxy in turn, at a pace that a site teaches by refusing who came before.

    A proxy that is refused stays away from the site, and one that fails from all, for a time that doubles.
    """

    def __init__(self, arena: Arena) -> None:
        self._clock = arena.clock
        self._count = len(arena.scenario.proxies)
        self._next = 0
        self._pace: dict[int, float] = {}
        self._last: dict[tuple[int, int], float] = {}
        self._until: dict[tuple[int, int], float] = {}
        self._strikes: dict[tuple[int, int], int] = {}
        self._proven: set[tuple[int, int]] = set()

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Take the next one that may come; wait for the first that will."""
        now, pace, soonest = self._clock.monotonic(), self._pace.get(request.site, 0.0), float("inf")
        for _ in range(self._count):
            place, self._next = self._next, (self._next + 1) % self._count
            if place in tried:
                continue
            pair = place, request.site
            free = max(self._until.get((place, -1), 0.0), self._until.get(pair, 0.0), self._last.get(pair, -1e9) + pace)
            if free <= now:
                since, self._last[pair] = now - self._last.get(pair, now), now
                return place, (pair, since)
            soonest = min(soonest, free)
        return Wait(soonest - now) if soonest < float("inf") else None

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Bar who was refused, and lengthen the pace where a proxy that was welcome before is refused."""
        ((place, site), since), now = choice[1], self._clock.monotonic()
        if outcome.ok:
            self._strikes.pop((place, site), None)
            self._strikes.pop((place, -1), None)
            self._proven.add((place, site))
            self._pace[site] = self._pace.get(site, 0.0) * SHORTER
        elif outcome.blame is Blame.TARGET_THROUGH_PROXY:
            self._bar((place, site), now, outcome.retry_after or FIRST_BAN)
            if (place, site) in self._proven:
                self._pace[site] = min(max(self._pace.get(site, 0.0), since * LONGER), LONGEST_PACE)
            self._proven.discard((place, site))
        elif outcome.blame is Blame.PROXY:
            self._bar((place, -1), now, FIRST_ASIDE)

    def _bar(self, pair: tuple[int, int], now: float, first: float) -> None:
        if now < self._until.get(pair, 0.0):
            return
        strikes = self._strikes[pair] = self._strikes.get(pair, 0) + 1
        self._until[pair] = now + min(first * 2.0 ** (strikes - 1), LONGEST_BAN)
