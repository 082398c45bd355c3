"""Let one contestant choose for all requests of a world, and count what becomes of them.

The run is a queue of two kinds of events, arrivals and ends of attempts, on a clock that stands still between them. So
several requests are under way at once, and what becomes of an attempt is learnt when it ends, not when it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

from benchmarks.yields.population import Kind, Population, arrivals, populate
from benchmarks.yields.reality import UNREACHABLE, Reality
from benchmarks.yields.tally import Tally
from benchmarks.yields.world import World
from proxywhirl.models import Outcome
from proxywhirl.testing import ManualClock

__all__ = ["Arena", "Choice", "Contestant", "race"]

Choice = tuple[int, Any]
"""The place of a proxy, and whatever the contestant wants to be given back with the outcome."""


class Contestant(Protocol):
    """A way to choose."""

    def pick(self, site: int, tried: Sequence[int]) -> Choice | None:
        """Choose for a request that has tried some proxies; None gives the request up."""
        ...

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Take note of how an attempt ended."""
        ...


@dataclass(frozen=True, slots=True)
class Arena:
    """What a contestant is put into. Only the oracle may look into `reality` or at more of a proxy than its value."""

    world: World
    population: Population
    reality: Reality
    clock: ManualClock


@dataclass(slots=True)
class _Request:
    number: int
    site: int
    tried: list[int] = field(default_factory=list)


def race(world: World, enter: Callable[[Arena], Contestant]) -> Tally:
    """Run a world with one contestant. The same world and contestant give the same tally, on every machine."""
    population = populate(world)
    arena = Arena(world, population, Reality(world, population), ManualClock())
    run = _Run(arena, enter(arena))
    for number, (at, site) in enumerate(arrivals(world, population)):
        run.until(at)
        run.attempt(_Request(number, site))
    run.until(float("inf"))
    run.tally.close(arena.reality.bans)
    return run.tally


class _Run:
    def __init__(self, arena: Arena, contestant: Contestant) -> None:
        self.tally = Tally(arena.world, arena.population)
        self._arena = arena
        self._contestant = contestant
        self._now = 0.0
        self._ends: list[tuple[float, int, _Request, Choice, Outcome]] = []
        self._order = count()  # attempts that end at the same moment end in the order in which they began

    def until(self, moment: float) -> None:
        """Let all attempts end that end up to a moment, and those that follow from them."""
        while self._ends and self._ends[0][0] <= moment:
            at, _, request, choice, outcome = heappop(self._ends)
            self._move(at)
            self._contestant.learn(choice, outcome)
            self.tally.attempt(request.number, choice[0], self._now, self._cause(choice[0], outcome))
            if not outcome.ok and len(request.tried) < self._arena.world.attempts:
                self.attempt(request)
        if moment != float("inf"):
            self._move(moment)

    def attempt(self, request: _Request) -> None:
        """Begin an attempt now, if there is a proxy for it."""
        choice = self._contestant.pick(request.site, request.tried)
        if choice is None:
            self.tally.refused(request.number)
            return
        outcome = self._arena.reality.use(choice[0], request.site, self._now)
        request.tried.append(choice[0])
        self.tally.used(choice[0], self._now)
        ends = self._now + (outcome.latency or 0.0)
        heappush(self._ends, (ends, next(self._order), request, choice, outcome))

    def _move(self, moment: float) -> None:
        self._arena.clock.advance(max(0.0, moment - self._now))
        self._now = moment

    def _cause(self, proxy: int, outcome: Outcome) -> str | None:
        """Name what made an attempt fail."""
        if outcome.ok:
            return None
        if outcome.status in (403, 429):
            return "banned"
        if outcome.status == 503 or outcome.error == UNREACHABLE:  # noqa: PLR2004  # the status of a site that is down
            return "site down"
        kind = self._arena.population.proxies[proxy].kind
        return "bad luck" if kind is Kind.GOOD else kind.value
