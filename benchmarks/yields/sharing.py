"""Pools that share what they learn: two processes side by side, and a process that follows another one.

What passes from one pool to the other is what a store keeps: the bans, as `Pool.collect_bans` gives and
`Pool.learn_bans` takes them. All else each pool has to learn by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.yields.contestants import PoolChoice
from benchmarks.yields.race import Arena, Choice, Wait
from benchmarks.yields.scenario import Arrival
from proxywhirl.models import Outcome
from proxywhirl.rotation.sites.bans import Ban, Pair

__all__ = ["Restarted", "SideBySide"]

EXCHANGED_EVERY = 1.0
"""Seconds, about as often as processes read what others wrote."""


class _Sharing(PoolChoice):
    """A pool whose bans are collected for others."""

    def collect(self) -> dict[Pair, Ban]:
        """Return the bans that changed since the last time."""
        return self._pool.collect_bans()

    def take_in(self, bans: Mapping[Pair, Ban]) -> None:
        """Learn the bans that another one found out."""
        self._pool.learn_bans(bans)


class SideBySide:
    """Two processes on one store, which take the requests in no order."""

    def __init__(self, arena: Arena) -> None:
        self._clock = arena.clock
        self._sides = (_Sharing(arena, "bandit"), _Sharing(arena, "bandit"))
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
        self._runs = _Sharing(arena, "bandit")
        self._store: dict[Pair, Ban] = {}
        self._over = False

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Let the one choose that runs now."""
        if not self._over and self._arena.clock.monotonic() >= self._ends:
            self._over = True
            self._store.update(self._runs.collect())
            self._runs = _Sharing(self._arena, "bandit")
            self._runs.take_in(self._store)
        choice = self._runs.pick(request, tried)
        if not self._over:
            self._store.update(self._runs.collect())
        return (choice[0], (self._runs, choice)) if isinstance(choice, tuple) else choice

    def learn(self, choice: Choice, outcome: Outcome) -> bool:
        """Tell the one that chose."""
        chosen_by, chosen = choice[1]
        known: Callable[[Choice, Outcome], bool] = chosen_by.learn
        return known(chosen, outcome)
