"""Who takes part: our strategies, one that learns nothing, and one that knows everything."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.yields.race import Arena, Choice, Contestant, Wait
from benchmarks.yields.scenario import Arrival
from proxywhirl.cache.change_feed import portray
from proxywhirl.cache.record import encode_attributes
from proxywhirl.errors import PoolEmpty, SiteResting
from proxywhirl.models import Outcome, Proxy, Sketch
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies.registry import strategy_names

__all__ = ["BLIND", "ORACLE", "Blind", "Enter", "Oracle", "PoolChoice", "own_contestants"]

Enter = Callable[[Arena], Contestant]

BLIND = "blind round robin"
ORACLE = "oracle"

LEAST_LEFT = 0.001
"""Seconds: a pool is not asked for less."""

LOOKS_AGAIN = 0.25
"""Seconds after which the oracle looks again where nobody can serve."""


class PoolChoice:
    """A pool with one of its strategies, as the clients use it.

    `updated` fills it by `update` and not as they do; with `priced` it is told what a success is worth.
    """

    def __init__(self, arena: Arena, strategy: str, *, updated: bool = False, priced: bool = False) -> None:
        proxies = [true.value for true in arena.scenario.proxies]
        self._pool = Pool(
            strategy,
            resolve=lambda _key: None,
            rng=random.Random(f"{strategy} of {arena.scenario.seed}"),
            clock=arena.clock,
            portray=portray,
            success_worth=arena.scenario.worth if priced else None,
        )
        if updated:
            self._pool.update(proxies)
        else:
            self._pool.stock({proxy.key: sketch(proxy) for proxy in proxies})
        self._keys = [proxy.key for proxy in proxies]
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._sites = arena.scenario.sites
        self._longest = arena.scenario.longest
        self._clock = arena.clock

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Take a lease."""
        target = self._sites[request.site].target_of(request.page)
        within = None
        if self._longest is not None:
            within = max(request.at + self._longest - self._clock.monotonic(), LEAST_LEFT)
        try:
            lease = self._pool.acquire(target, exclude={self._keys[place] for place in tried}, within=within)
        except PoolEmpty as exc:
            return None if exc.retry_after is None else Wait(exc.retry_after)
        except SiteResting as exc:
            return None if exc.retry_after is None else Wait(exc.retry_after, resting=True)
        return self._places[lease.proxy.key], lease

    def learn(self, choice: Choice, outcome: Outcome) -> bool:
        """Report on the lease."""
        lease = choice[1]
        lease.report(outcome)
        return bool(lease.targets_own)


def sketch(proxy: Proxy) -> Sketch:
    """Return what a store reads of a proxy that is new to it."""
    return proxy.url, f"{proxy.status.value} {proxy.label is not None:d} {encode_attributes(proxy.attributes)}\n"


class Blind:
    """Each proxy in turn, whatever came of it."""

    def __init__(self, arena: Arena) -> None:
        self._count = len(arena.scenario.proxies)
        self._next = 0

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | None:  # noqa: ARG002  # the site is nothing to it
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
    """The proxy that would most likely serve at this very moment, the faster among equals.

    Where a page has a price or a deadline, chances that differ by less than a hundredth count as equal, and the cheaper
    or the faster proxy is taken. It waits where nobody can serve, and gives up a request that nobody ever serves. What
    it reaches is the most that the scenario allows to anybody who chooses for one request at a time.
    """

    def __init__(self, arena: Arena) -> None:
        scenario = arena.scenario
        self._arena = arena
        self._digits = 2 if scenario.size or scenario.longest else 9
        self._costs = [
            ((true.value.attributes.price_per_gb or 0.0) if scenario.size else 0.0, true.latency)
            for true in scenario.proxies
        ]
        places = [place for place, true in enumerate(scenario.proxies) if true.success]
        self._best = sorted(places, key=lambda place: -scenario.proxies[place].success)

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Take the best."""
        reality, now, scenario = self._arena.reality, self._arena.clock.monotonic(), self._arena.scenario
        if scenario.fails_always(request):
            return None
        best, chance = -1, 0.0
        for place in self._best:
            if round(scenario.proxies[place].success, self._digits) < chance:
                break  # all the others serve less often
            if place in tried:
                continue
            here = round(reality.chance(place, request, now), self._digits)
            if here > chance or (best >= 0 and here == chance and self._costs[place] < self._costs[best]):
                best, chance = place, here
        return Wait(LOOKS_AGAIN) if best < 0 else (best, None)

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Learn nothing: it knows."""


def own_contestants() -> dict[str, Enter]:
    """Return all but the peers, by name; the oracle comes last."""
    ours: dict[str, Enter] = {name: partial(PoolChoice, strategy=name) for name in strategy_names()}
    return {**ours, BLIND: Blind, ORACLE: Oracle}
