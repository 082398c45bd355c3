"""Who takes part: our strategies, one that learns nothing, and one that knows everything."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.yields.race import Arena, Choice, Contestant
from proxywhirl.errors import PoolEmpty, SiteResting
from proxywhirl.models import Outcome
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies.registry import strategy_names

__all__ = ["BLIND", "ORACLE", "Blind", "Enter", "Oracle", "PoolChoice", "own_contestants"]

Enter = Callable[[Arena], Contestant]

BLIND = "blind round robin"
ORACLE = "oracle"


class PoolChoice:
    """A pool with one of its strategies, as the library uses it."""

    def __init__(self, arena: Arena, strategy: str) -> None:
        proxies = arena.population.proxies
        rng = random.Random(f"{strategy} of {arena.world.seed}")
        self._pool = Pool(strategy, resolve=lambda _key: None, rng=rng, clock=arena.clock)
        self._pool.update(true.value for true in proxies)
        self._keys = [true.value.key for true in proxies]
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._targets = [site.target for site in arena.population.sites]

    def pick(self, site: int, tried: Sequence[int]) -> Choice | None:
        """Take a lease."""
        try:
            lease = self._pool.acquire(self._targets[site], exclude={self._keys[place] for place in tried})
        except (PoolEmpty, SiteResting):
            return None
        return self._places[lease.proxy.key], lease

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Report on the lease."""
        choice[1].report(outcome)


class Blind:
    """Each proxy in turn, whatever came of it."""

    def __init__(self, arena: Arena) -> None:
        self._count = len(arena.population.proxies)
        self._next = 0

    def pick(self, site: int, tried: Sequence[int]) -> Choice | None:  # noqa: ARG002  # the site is nothing to it
        """Take the next one that was not tried."""
        if len(tried) >= self._count:
            return None
        while True:
            place, self._next = self._next, (self._next + 1) % self._count
            if place not in tried:
                return place, None

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Learn nothing."""


class Oracle:
    """The best proxy that would not be refused at this very moment, the faster among equals.

    It gives up a request that nobody can serve. What it reaches is the most that the world allows to anybody who
    chooses for one request at a time.
    """

    def __init__(self, arena: Arena) -> None:
        proxies = arena.population.proxies
        self._arena = arena
        self._best = sorted(range(len(proxies)), key=lambda place: (-proxies[place].success, proxies[place].latency))

    def pick(self, site: int, tried: Sequence[int]) -> Choice | None:
        """Take the best."""
        reality, now = self._arena.reality, self._arena.clock.monotonic()
        if self._arena.population.sites[site].is_down(now):
            return None
        for place in self._best:
            if place not in tried and reality.chance(place, site, now) > 0.0:
                return place, None
        return None

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Learn nothing: it knows."""


def own_contestants() -> dict[str, Enter]:
    """Return all but the peers, by name; the oracle comes last."""
    ours: dict[str, Enter] = {name: partial(PoolChoice, strategy=name) for name in strategy_names()}
    return {**ours, BLIND: Blind, ORACLE: Oracle}
