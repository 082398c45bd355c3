"""What became of the requests of one run."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.yields.reality import Reality
from benchmarks.yields.scenario import Kind, Scenario
from proxywhirl.models import Outcome

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
        first: Of each request, whether it was served at the first attempt.
        served: Of each request, whether it was served.
        took: Of each request, the seconds from its coming until it was served.
        lost: What made first attempts of the second half fail: how often, by cause.
        money: What all attempts cost.
    """

    def __init__(self, scenario: Scenario, reality: Reality) -> None:
        self._scenario = scenario
        self._reality = reality
        count = len(scenario.arrivals)
        self.first = bytearray(count)
        self.served = bytearray(count)
        self.took = array("f", bytes(4 * count))
        self.money = 0.0
        self.bans = 0
        self.lost: Counter[str] = Counter()
        self._attempts = bytearray(count)
        self._used: dict[int, float] = {}
        self._failed: set[int] = set()
        self._now = 0.0

    @property
    def reached(self) -> int:
        """How many attempts reached a site."""
        return self._reality.reached

    def used(self, proxy: int, now: float) -> None:
        """Count the beginning of an attempt."""
        self._used[proxy] = self._now = now

    def attempt(self, request: int, proxy: int, now: float, outcome: Outcome, cause: str | None) -> None:
        """Count the end of an attempt; `cause` is why it failed."""
        self._now = now
        self._attempts[request] += 1
        if outcome.bytes_down:
            price = self._scenario.proxies[proxy].value.attributes.price_per_gb
            self.money += (price or 0.0) * outcome.bytes_down / 1e9
        if cause is None:
            if self.served[request]:
                raise RuntimeError(f"request {request} was served twice")
            self.served[request] = 1
            self.first[request] = self._attempts[request] == 1
            self.took[request] = now - self._scenario.arrivals[request].at
            self._failed.discard(proxy)
            return
        self._failed.add(proxy)
        if self._attempts[request] == 1 and request >= len(self.first) // 2:
            self.lost[cause] += 1

    def refused(self, request: int) -> None:
        """Count a request for which no proxy was chosen."""
        if not self._attempts[request] and request >= len(self.first) // 2:
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
        return self._over(len(self.first) // 2)

    def curve(self) -> list[float]:
        """Return the share of first attempts that succeeded, in each hundredth of the run."""
        count = len(self.first)
        step = max(1, count // POINTS)
        return [round(sum(self.first[start : start + step]) / step, 4) for start in range(0, count - step + 1, step)]

    def _over(self, since: int) -> Summary:
        requests, served = len(self.first) - since, sum(self.served[since:])
        attempts = sum(self._attempts[since:]) / served if served else float("inf")
        return Summary(sum(self.first[since:]) / requests, served / requests, attempts)

    def _left_alone(self) -> tuple[int, int]:
        end = self._now
        since = max(0.0, min(end - PATIENCE, 0.9 * end))
        left = [
            place
            for place, true in enumerate(self._scenario.proxies)
            if true.kind in (Kind.GOOD, Kind.RETURNING)
            and true.alive_throughout(since, end)
            and self._used.get(place, -1.0) < since
        ]
        return len(left), sum(place in self._failed for place in left)
