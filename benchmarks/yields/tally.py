"""What became of the requests of one run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.yields.population import Kind, Population
from benchmarks.yields.world import World

__all__ = ["POINTS", "Summary", "Tally"]

POINTS = 100
"""How many points the curve of a run has."""

PATIENCE = 600.0
"""Seconds, at the least, for which a proxy must be healthy and left alone before it counts as given up."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run, or of one half of it; the last three are of the whole run only.

    Attributes:
        first: Share of the requests that were served at the first attempt.
        served: Share of the requests that were served at all.
        attempts: Attempts for each request that was served.
        bans: How many bans began.
        given_up: Healthy proxies that were left alone in the last tenth of the run, after a use that had failed.
        idle: Healthy proxies that were left alone in it for whatever reason.
    """

    first: float
    served: float
    attempts: float
    bans: int = 0
    given_up: int = 0
    idle: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name, rounded to five digits."""
        return {name: float(f"{v:.5g}") if isinstance(v, float) else v for name, v in asdict(self).items()}


class Tally:
    """Counts, request by request.

    A healthy proxy is given up where it could serve through the whole last tenth of the run, or ten minutes where these
    are longer, was not used in that time, and its last use had failed. Who is left alone after a success is in
    reserve; that is `idle` alone.

    Attributes:
        lost: What made first attempts of the second half fail: how often, by cause.
    """

    def __init__(self, world: World, population: Population) -> None:
        self._world = world
        self._population = population
        self._first = bytearray(world.requests)
        self._served = bytearray(world.requests)
        self._attempts = bytearray(world.requests)
        self._used: dict[int, float] = {}
        self._failed: set[int] = set()
        self._now = 0.0
        self.bans = 0
        self.lost: Counter[str] = Counter()

    def used(self, proxy: int, now: float) -> None:
        """Count the beginning of an attempt."""
        self._used[proxy] = self._now = now

    def attempt(self, request: int, proxy: int, now: float, cause: str | None) -> None:
        """Count the end of an attempt; `cause` is why it failed."""
        self._now = now
        self._attempts[request] += 1
        if cause is None:
            if self._served[request]:
                raise RuntimeError(f"request {request} was served twice")
            self._served[request] = 1
            self._first[request] = self._attempts[request] == 1
            self._failed.discard(proxy)
            return
        self._failed.add(proxy)
        if self._attempts[request] == 1 and request >= self._world.requests // 2:
            self.lost[cause] += 1

    def refused(self, request: int) -> None:
        """Count a request for which no proxy was chosen."""
        if not self._attempts[request] and request >= self._world.requests // 2:
            self.lost["not sent"] += 1

    def close(self, bans: int) -> None:
        """Take down what is known at the end."""
        self.bans = bans

    def whole(self) -> Summary:
        """Sum up the whole run."""
        idle, given_up = self._left_alone()
        half = self._over(0)
        return Summary(half.first, half.served, half.attempts, self.bans, given_up, idle)

    def second_half(self) -> Summary:
        """Sum up the requests of the second half."""
        return self._over(self._world.requests // 2)

    def curve(self) -> list[float]:
        """Return the share of first attempts that succeeded, in each hundredth of the run."""
        step = max(1, self._world.requests // POINTS)
        starts = range(0, self._world.requests - step + 1, step)
        return [round(sum(self._first[start : start + step]) / step, 4) for start in starts]

    def _over(self, since: int) -> Summary:
        requests, served = self._world.requests - since, sum(self._served[since:])
        attempts = sum(self._attempts[since:]) / served if served else float("inf")
        return Summary(sum(self._first[since:]) / requests, served / requests, attempts)

    def _left_alone(self) -> tuple[int, int]:
        end = self._now
        since = max(0.0, min(end - PATIENCE, 0.9 * end))
        left = [
            place
            for place, true in enumerate(self._population.proxies)
            if true.kind in (Kind.GOOD, Kind.RETURNING)
            and true.alive_throughout(since, end)
            and self._used.get(place, -1.0) < since
        ]
        return len(left), sum(place in self._failed for place in left)
