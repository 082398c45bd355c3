"""Let one contestant choose for all requests of a scenario, and count what becomes of them.

The run is a queue of events (ends of attempts, ends of waits) on a clock that stands still between them. So several
requests are under way at once, and what becomes of an attempt is learnt when it ends, not when it begins.

A request is pursued as the clients do it. An attempt that failed is followed by another with another proxy, unless the
target itself failed or the contestant knows that no other proxy does better. Where no proxy can be had now, the request
waits and asks again, up to the patience of the scenario.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

from benchmarks.yields.reality import UNREACHABLE, Reality
from benchmarks.yields.scenario import Arrival, Kind, Scenario
from benchmarks.yields.tally import Tally
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.testing import ManualClock

__all__ = ["Arena", "Choice", "Contestant", "Wait", "race"]

Choice = tuple[int, Any]
"""The place of a proxy, and whatever the contestant wants to be given back with the outcome."""

LEAST_WAIT = 0.01
"""Seconds: who is free again "now" may take a moment to be."""

ASKS_AGAIN = 0.25
"""Seconds after which a client asks whether a site still rests."""


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no proxy now, but may be one in so many seconds; `resting` says that the site may be back before."""

    seconds: float
    resting: bool = False


class Contestant(Protocol):
    """A way to choose."""

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:
        """Choose for a request that has tried some proxies; None gives the request up."""
        ...

    def learn(self, choice: Choice, outcome: Outcome) -> bool | None:
        """Take note of how an attempt ended; True says that another proxy would do no better."""
        ...


@dataclass(frozen=True, slots=True)
class Arena:
    """What a contestant is put into. Only the oracle may look into `reality` or at more of a proxy than its value."""

    scenario: Scenario
    reality: Reality
    clock: ManualClock


@dataclass(slots=True)
class _Request:
    number: int
    about: Arrival
    tried: list[int] = field(default_factory=list)


def race(scenario: Scenario, enter: Callable[[Arena], Contestant]) -> Tally:
    """Run a scenario, which is used up. The same seed and contestant give the same tally, on every machine."""
    arena = Arena(scenario, Reality(scenario), ManualClock())
    run = _Run(arena, enter(arena))
    for number, arrival in enumerate(scenario.arrivals):
        run.until(arrival.at)
        run.attempt(_Request(number, arrival))
    run.until(float("inf"))
    run.tally.close(arena.reality.bans)
    return run.tally


class _Run:
    def __init__(self, arena: Arena, contestant: Contestant) -> None:
        self.tally = Tally(arena.scenario, arena.reality)
        self._arena = arena
        self._contestant = contestant
        self._now = 0.0
        self._ends: list[tuple[float, int, _Request, Choice | None, Outcome | None]] = []
        self._order = count()  # what ends at the same moment ends in the order in which it began
        self._rng = random.Random(f"waits of {arena.scenario.seed}")

    def until(self, moment: float) -> None:
        """Let all attempts and waits end that end up to a moment, and those that follow from them."""
        while self._ends and self._ends[0][0] <= moment:
            at, _, request, choice, outcome = heappop(self._ends)
            self._move(at)
            if choice is None or outcome is None or self._learn(request, choice, outcome):
                self.attempt(request)
        if moment != float("inf"):
            self._move(moment)

    def attempt(self, request: _Request) -> None:
        """Begin an attempt now, if there is a proxy for it; else wait for one, or give the request up."""
        choice = self._contestant.pick(request.about, request.tried)
        if isinstance(choice, Wait):
            seconds = max(choice.seconds, LEAST_WAIT) * self._rng.uniform(1.0, 1.1)
            if self._now + seconds <= request.about.at + self._arena.scenario.patience:
                ends = self._now + (min(seconds, ASKS_AGAIN) if choice.resting else seconds)
                heappush(self._ends, (ends, next(self._order), request, None, None))
                return
            choice = None
        if choice is None:
            self.tally.refused(request.number)
            return
        outcome = self._arena.reality.use(choice[0], request.about, self._now)
        request.tried.append(choice[0])
        self.tally.used(choice[0], self._now)
        ends = self._now + (outcome.latency or 0.0)
        heappush(self._ends, (ends, next(self._order), request, choice, outcome))

    def _learn(self, request: _Request, choice: Choice, outcome: Outcome) -> bool:
        """Take in the end of an attempt; tell whether another one follows."""
        final = self._contestant.learn(choice, outcome)
        self.tally.attempt(request.number, choice[0], self._now, outcome, self._cause(choice[0], outcome))
        if outcome.ok or final or outcome.blame is Blame.TARGET:
            return False
        longest = self._arena.scenario.longest
        if longest is not None and self._now >= request.about.at + longest:
            return False
        return len(request.tried) < self._arena.scenario.attempts

    def _move(self, moment: float) -> None:
        self._arena.clock.advance(max(0.0, moment - self._now))
        self._now = moment

    def _cause(self, proxy: int, outcome: Outcome) -> str | None:
        """Name what made an attempt fail; a page that is not there is a failure too."""
        if outcome.ok and outcome.status == 200:  # noqa: PLR2004  # the status of a page
            return None
        if outcome.status in (403, 429):
            return "refused"
        if outcome.status == 200:  # noqa: PLR2004  # the status of a page with a captcha too
            return "soft block"
        if outcome.status == 503 or (outcome.error or "").startswith(UNREACHABLE):  # noqa: PLR2004  # of a site that is down
            return "site down"
        if outcome.status is not None and outcome.error is None:
            return "page"
        kind = self._arena.scenario.proxies[proxy].kind
        return "bad luck" if kind is Kind.GOOD else kind.value
