"""Pools that share what they learn: two processes side by side, and a process that follows another one.

What passes from one pool to the other is what a store keeps: the bans, and what is known of sites, as `Pool` gives and
takes them. All else each pool has to learn by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.yields.contestants import PoolChoice
from benchmarks.yields.race import Arena, Choice, Wait
from benchmarks.yields.scenario import Arrival
from proxywhirl.models import Outcome
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.rotation.sites.sharing import SiteRecord, merged

__all__ = ["Restarted", "SideBySide"]

EXCHANGED_EVERY = 0.1
"""Seconds, about as often as processes read what others wrote."""


class _Sharing(PoolChoice):
    """A pool that tells others what it learns; `name` is that of its process."""

    def __init__(self, arena: Arena, name: str) -> None:
        super().__init__(arena, "bandit")
        self._name = name
        self._pool.learn_sites({}, name)

    def collect(self) -> dict[Pair, Ban]:
        """Return the bans that changed since the last time."""
        return self._pool.collect_bans()

    def take_in(self, bans: Mapping[Pair, Ban]) -> None:
        """Learn the bans that another one found out."""
        self._pool.learn_bans(bans)

    def tell(self, sites: dict[str, SiteRecord]) -> None:
        """Write down what was learnt of sites."""
        now = self._clock.now()
        for site, record in self._pool.collect_sites(self._name).items():
            sites[site] = merged(sites.get(site), record, now)

    def follow(self, sites: Mapping[str, SiteRecord]) -> None:
        """Read what all know of sites."""
        self._pool.learn_sites(sites, self._name)


class SideBySide:
    """Two processes on one store, which take the requests in no order."""

    def __init__(self, arena: Arena) -> None:
        self._clock = arena.clock
        self._sides = (_Sharing(arena, "one"), _Sharing(arena, "other"))
        self._sites: dict[str, SiteRecord] = {}
        self._next = 0.0

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Let one of them choose, for a request always the same one."""
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + EXCHANGED_EVERY
            first, second = self._sides
            found = first.collect(), second.collect()
            first.take_in(found[1])
            second.take_in(found[0])
            for side in self._sides:
                side.tell(self._sites)
            for side in self._sides:
                side.follow(self._sites)
        side = self._sides[int(request.at * 1e6) % 2]
        choice = side.pick(request, tried)
        return (choice[0], (side, choice)) if isinstance(choice, tuple) else choice

    def learn(self, choice: Choice, outcome: Outcome) -> bool:
        """Tell the one that chose."""
        side, chosen = choice[1]
        known: Callable[[Choice, Outcome], bool] = side.learn
        return known(chosen, outcome)


class Restarted:
    """A process that ends in the middle of the run; another one follows it on the same store."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        arrivals = arena.scenario.arrivals
        self._ends = arrivals[len(arrivals) // 2].at
        self._runs = _Sharing(arena, "first")
        self._store: dict[Pair, Ban] = {}
        self._sites: dict[str, SiteRecord] = {}
        self._over = False

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Let the one choose that runs now."""
        if not self._over and self._arena.clock.monotonic() >= self._ends:
            self._over = True
            self._runs = _Sharing(self._arena, "second")
            self._runs.take_in(self._store)
            self._runs.follow(self._sites)
        choice = self._runs.pick(request, tried)
        if not self._over:
            self._store.update(self._runs.collect())
            self._runs.tell(self._sites)
        return (choice[0], (self._runs, choice)) if isinstance(choice, tuple) else choice

    def learn(self, choice: Choice, outcome: Outcome) -> bool:
        """Tell the one that chose."""
        chosen_by, chosen = choice[1]
        known: Callable[[Choice, Outcome], bool] = chosen_by.learn
        return known(chosen, outcome)
