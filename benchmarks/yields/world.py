"""A world to choose proxies in, as a few numbers: who lives in it is drawn from them and one seed.

Make another world by giving other numbers; everything else follows. Shares are from 0 to 1 and times in seconds; a pair
is the least and the most of what is drawn evenly.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

__all__ = ["Span", "World"]

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class World:
    """The numbers of a world. The proxies that belong to no other kind are good.

    Attributes:
        name: What it is called in the tables.
        seed: Everything is drawn from it: the population, the arrivals and the luck of each use.
        proxies: How many there are.
        dead: Share that never works. Half of these refuse at once, half are silent until the timeout.
        flaky: Share that fails often.
        fast_failing: Share that answers fast, mostly with an error of its own.
        returning: Share that is good, dies at random moments and comes back.
        good_success, flaky_success, fast_success: Share of uses that the proxies of a kind carry to the site.
        good_latency, flaky_latency, fast_latency: Seconds that they take for it, on the average of a proxy.
        up, down: Mean seconds that a returning proxy stays alive and dead.
        sites: How many sites are asked.
        skew: How unevenly: the n-th most wanted site is asked for in proportion to n to the power of minus this.
        banning: How many sites ban by rate, each proxy for itself.
        uses: How often a proxy may use a banning site within its window.
        window: Within how many seconds.
        ban: How long the first ban of a proxy by a site lasts; each further one lasts twice as long as the last.
        longest_ban: The most that a ban lasts.
        tells: Share of the banning sites that say in `Retry-After` how long a ban lasts.
        walled: Share of (proxy, site) pairs at banning sites that are refused whenever they are tried.
        outages: How many of the other sites are down once.
        outage: For which share of the run.
        requests: How many requests arrive.
        rate: How many of them in a second, at random moments.
        attempts: How many proxies a request may try.
        timeout: After how many seconds an attempt is given up.
        patience: For how many seconds a request waits, in all, where there is no proxy for it.

    Raises:
        ValueError: A number is out of its range, or there are more kinds of proxies or sites than these.
    """

    name: str = "standard"
    seed: int = 1
    proxies: int = 1_000
    dead: float = 0.30
    flaky: float = 0.20
    fast_failing: float = 0.05
    returning: float = 0.10
    good_success: Span = (0.97, 0.995)
    flaky_success: Span = (0.40, 0.70)
    fast_success: Span = (0.05, 0.20)
    good_latency: Span = (0.2, 2.0)
    flaky_latency: Span = (0.3, 2.0)
    fast_latency: Span = (0.03, 0.08)
    up: float = 900.0
    down: float = 300.0
    sites: int = 20
    skew: float = 0.5
    banning: int = 5
    uses: tuple[int, int] = (2, 6)
    window: Span = (60.0, 300.0)
    ban: Span = (60.0, 300.0)
    longest_ban: float = 3_600.0
    tells: float = 0.5
    walled: float = 0.0
    outages: int = 2
    outage: float = 0.1
    requests: int = 100_000
    rate: float = 20.0
    attempts: int = 5
    timeout: float = 10.0
    patience: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no world can have."""
        for name in ("proxies", "sites", "requests", "rate", "attempts", "timeout", "up", "down", "longest_ban"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        for name in ("dead", "flaky", "fast_failing", "returning", "tells", "walled", "outage"):
            self._check(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("banning", "outages", "patience"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                self._check(field.name, isinstance(value, int), "a whole number")
            if isinstance(value, tuple):
                self._check(field.name, len(value) == 2 and 0 < value[0] <= value[1], "a pair: the least, the most")  # noqa: PLR2004  # a pair is of two
                if field.name.endswith("success"):
                    self._check(field.name, value[1] <= 1, "at most 1")
        self._check(
            "dead",
            self.dead + self.flaky + self.fast_failing + self.returning <= 1.0 + 1e-9,
            "with the others at most 1",
        )
        self._check("sites", self.banning + self.outages <= self.sites, "at least `banning` and `outages` together")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a world from a TOML file with the attributes that differ from the standard world.

        Raises:
            ValueError: The file is no TOML, names an attribute that there is not, or the world is impossible.
            OSError: The file cannot be read.
        """
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        known = [field.name for field in fields(cls)]
        if unknown := sorted(told.keys() - set(known)):
            raise ValueError(f"{path}: a world has no {', '.join(unknown)}; it has {', '.join(known)}")
        pairs: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        try:
            return cls(**{"name": path.stem} | pairs)
        except TypeError as exc:
            raise ValueError(f"{path}: a value is of the wrong kind: {exc}") from exc

    @property
    def duration(self) -> float:
        """Seconds from the first request to the last, on the average."""
        return self.requests / self.rate

    def _check(self, name: str, fine: bool, rule: str) -> None:
        if not fine:
            raise ValueError(
                f"the world {self.name!r} is impossible: {name} is {getattr(self, name)!r}, must be {rule}"
            )
