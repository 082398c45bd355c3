"""Simple learners, each as an engineer writes it in an afternoon: what the pool has to be no worse than.

- A round robin with a pace: it spreads the uses, and learns from refusals how far apart they have to be.
- ε-greedy: of the pairs of proxy and site it takes the one that did best, and now and then any.
- Thompson sampling: it draws for each pair how good it may be, and takes the best draw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.yields.race import Arena, Choice, Wait
from benchmarks.yields.scenario import Arrival
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome

__all__ = ["EpsilonGreedy", "PacedRoundRobin", "Thompson"]

Pair = tuple[int, int]

EVERYWHERE = -1
"""Stands for a site where it is the proxy that failed."""

FIRST_BAN, LONGEST_BAN = 60.0, 3_600.0
FIRST_ASIDE = 20.0
LONGEST_PACE, LONGER, SHORTER = 60.0, 1.1, 0.9999
LONG_WAIT = 3.0


class Bars:
    """Who is kept from where until when; each time that follows lasts twice as long."""

    def __init__(self) -> None:
        self._until: dict[Pair, float] = {}
        self._strikes: dict[Pair, int] = {}

    def free(self, pair: Pair) -> float:
        """Return when a proxy may come again."""
        return max(self._until.get((pair[0], EVERYWHERE), 0.0), self._until.get(pair, 0.0))

    def bar(self, pair: Pair, now: float, first: float) -> None:
        """Keep a proxy away, from a site or from all."""
        if now >= self._until.get(pair, 0.0):
            strikes = self._strikes[pair] = self._strikes.get(pair, 0) + 1
            self._until[pair] = now + min(first * 2.0 ** (strikes - 1), LONGEST_BAN)

    def clear(self, pair: Pair) -> None:
        """Forget what was held against a proxy that served."""
        for one in (pair, (pair[0], EVERYWHERE)):
            self._strikes.pop(one, None)
            self._until.pop(one, None)


class PacedRoundRobin:
    """Each proxy in turn, at a pace that a site teaches by refusing who came before.

    A proxy that is refused stays away from the site, and one that fails from all, for a time that doubles; where all
    have to stay away for long, the one is tried that would be back first.
    """

    def __init__(self, arena: Arena) -> None:
        self._clock = arena.clock
        self._count = len(arena.scenario.proxies)
        self._next = 0
        self._bars = Bars()
        self._pace: dict[int, float] = {}
        self._last: dict[Pair, float] = {}
        self._proven: set[Pair] = set()

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Take the next one that may come; wait for the first that will."""
        now, pace = self._clock.monotonic(), self._pace.get(request.site, 0.0)
        soonest, rested = float("inf"), (float("inf"), -1)
        for _ in range(self._count):
            place, self._next = self._next, (self._next + 1) % self._count
            if place in tried:
                continue
            pair = place, request.site
            barred, paced = self._bars.free(pair), self._last.get(pair, -1e9) + pace
            if barred <= now and paced <= now:
                return self._use(pair, now)
            soonest = min(soonest, max(barred, paced))
            if paced <= now:
                rested = min(rested, (barred, place))
        if rested[1] >= 0 and soonest - now > LONG_WAIT:
            return self._use((rested[1], request.site), now)
        return Wait(soonest - now) if soonest < float("inf") else None

    def _use(self, pair: Pair, now: float) -> Choice:
        since, self._last[pair] = now - self._last.get(pair, now), now
        return pair[0], (pair, since)

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Bar who was refused, and lengthen the pace where a proxy that was welcome before is refused."""
        (pair, since), now = choice[1], self._clock.monotonic()
        if outcome.ok:
            self._bars.clear(pair)
            self._proven.add(pair)
            self._pace[pair[1]] = self._pace.get(pair[1], 0.0) * SHORTER
        elif outcome.blame is Blame.TARGET_THROUGH_PROXY:
            self._bars.bar(pair, now, outcome.retry_after or FIRST_BAN)
            if pair in self._proven:
                self._pace[pair[1]] = min(max(self._pace.get(pair[1], 0.0), since * LONGER), LONGEST_PACE)
            self._proven.discard(pair)
        elif outcome.blame is Blame.PROXY:
            self._bars.bar((pair[0], EVERYWHERE), now, FIRST_ASIDE)


HALF_LIFE = 1_200.0
"""Seconds after which an outcome counts half."""

EPSILON = 0.02
NEWCOMERS = 2
"""How many of those that never served the site are looked at beside all others."""

PRIOR_GOOD, PRIOR_BAD = 0.5, 0.5


class _Record:
    """What a proxy did on a site; old outcomes fade."""

    __slots__ = ("bad", "good", "stamp")

    def __init__(self, now: float) -> None:
        self.good, self.bad, self.stamp = 0.0, 0.0, now

    def count(self, now: float, *, ok: bool) -> None:
        kept = 0.5 ** ((now - self.stamp) / HALF_LIFE)
        self.good, self.bad, self.stamp = self.good * kept + ok, self.bad * kept + (not ok), now


class Thompson:
    """Draw for each pair how good it may be, and take the best draw.

    Of those that never served the site one or two are looked at each time, so that many dead ones do not win by number.
    """

    def __init__(self, arena: Arena) -> None:
        self._clock = arena.clock
        self._rng = random.Random(f"learner of {arena.scenario.seed}")
        self._records: dict[Pair, _Record] = {}
        self._served: dict[int, set[int]] = {}
        self._others: dict[int, list[int]] = {}
        self._all = list(range(len(arena.scenario.proxies)))
        self._aside: dict[int, float] = {}

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | None:
        """Take the best of those that served here, and of some others."""
        site, now = request.site, self._clock.monotonic()
        others = self._others.setdefault(site, self._all)
        looked_at = self._rng.sample(others, min(NEWCOMERS, len(others)))
        candidates = [
            (self._score(self._records.get((place, site))), place)
            for place in (*self._served.get(site, ()), *looked_at)
            if place not in tried and self._aside.get(place, 0.0) <= now
        ]
        if not candidates:
            left = [place for place in self._all if place not in tried]
            return (self._rng.choice(left), site) if left else None
        return self._best(candidates), site

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Count for the pair; a proxy that failed itself is left alone for a moment."""
        place, site = choice
        now = self._clock.monotonic()
        self._records.setdefault((place, site), _Record(now)).count(now, ok=outcome.ok)
        served = self._served.setdefault(site, set())
        if outcome.ok and place not in served:
            served.add(place)
            self._others[site] = [other for other in self._others[site] if other != place]
        if outcome.blame is Blame.PROXY:
            self._aside[place] = now + FIRST_ASIDE

    def _score(self, record: _Record | None) -> float:
        good, bad = (0.0, 0.0) if record is None else (record.good, record.bad)
        return self._rng.betavariate(good + PRIOR_GOOD, bad + PRIOR_BAD)

    def _best(self, candidates: Sequence[tuple[float, int]]) -> int:
        return max(candidates)[1]


class EpsilonGreedy(Thompson):
    """Take the pair that did best, the one used least lately among equals, and now and then any."""

    def _score(self, record: _Record | None) -> float:
        if record is None:
            return PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD)
        return (record.good + PRIOR_GOOD) / (record.good + record.bad + PRIOR_GOOD + PRIOR_BAD)

    def _best(self, candidates: Sequence[tuple[float, int]]) -> int:
        if self._rng.random() < EPSILON:
            return self._rng.choice(candidates)[1]
        return max(candidates)[1]
