"""What happens in a world when a proxy is used: the only code that decides it, for every contestant alike."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from benchmarks.yields.population import BanRule, Kind, Population
from benchmarks.yields.world import World
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome

__all__ = ["BROKEN", "SILENT", "UNREACHABLE", "Reality", "Standing"]

BROKEN = "closed the connection"
SILENT = "gave no answer in time"
UNREACHABLE = "cannot reach the target"
"""How the edges' words for what went wrong begin."""

REFUSED = 0.1
"""Seconds until a refused connection is noticed."""

DOUBLINGS = 30
"""More would make no ban longer: the longest one has been reached."""


@dataclass(slots=True)
class Standing:
    """How a proxy stands with a banning site: its last uses, and until when it is banned."""

    used: deque[float] = field(default_factory=deque)
    until: float = 0.0
    bans: int = 0

    def would_ban(self, rule: BanRule, now: float) -> bool:
        """Whether a use at this moment would be one too many."""
        while self.used and self.used[0] <= now - rule.window:
            self.used.popleft()
        return len(self.used) >= rule.uses


class Reality:
    """One run of a world. What a use leads to is told at once, and learnt by the contestant when it has taken its time.

    Attributes:
        bans: How many bans began.
    """

    def __init__(self, world: World, population: Population) -> None:
        self.world = world
        self.population = population
        self.bans = 0
        self._rng = random.Random(f"luck of {world.seed}")
        self._standings: dict[tuple[int, int], Standing] = {}

    def use(self, proxy: int, site: int, now: float) -> Outcome:
        """Send a request; return what its edge will report, whose `latency` is how long that takes."""
        true = self.population.proxies[proxy]
        if not true.alive(now) or self._rng.random() >= true.success:
            return self._fails(proxy, true.kind is Kind.DEAD or not true.alive(now))
        latency = min(true.latency * self._rng.gammavariate(4.0, 0.25), self.world.timeout)
        where = self.population.sites[site]
        if where.is_down(now):
            return self._down(latency, gone=where.gone)
        refused = self._refusal(proxy, site, now, latency)
        return refused or Outcome(ok=True, latency=latency, status=200)

    def chance(self, proxy: int, site: int, now: float) -> float:
        """Return with which probability a use at this moment would succeed. Only the oracle may ask."""
        true, where = self.population.proxies[proxy], self.population.sites[site]
        if not true.alive(now) or where.is_down(now) or proxy in where.walls:
            return 0.0
        if where.rule is not None:
            standing = self._standings.get((proxy, site))
            if standing is not None and (now < standing.until or standing.would_ban(where.rule, now)):
                return 0.0
        return true.success

    def _fails(self, proxy: int, away: bool) -> Outcome:
        true = self.population.proxies[proxy]
        if true.kind is Kind.FAST_FAILING:
            return Outcome(
                ok=False, blame=Blame.PROXY, latency=true.latency, status=502, error="answered with an error of its own"
            )
        if true.silent:
            return Outcome(ok=False, blame=Blame.PROXY, latency=self.world.timeout, error=SILENT)
        return Outcome(ok=False, blame=Blame.PROXY, latency=REFUSED if away else true.latency, error=BROKEN)

    def _down(self, latency: float, *, gone: bool) -> Outcome:
        if gone:
            return Outcome(ok=False, blame=Blame.TARGET_THROUGH_PROXY, latency=latency, status=502, error=UNREACHABLE)
        rule = "status-503"
        return Outcome(ok=False, blame=Blame.TARGET_THROUGH_PROXY, latency=latency, status=503, rule=rule)

    def _refusal(self, proxy: int, site: int, now: float, latency: float) -> Outcome | None:
        """Count a use that reached a site; return how it refuses it, if it does."""
        where = self.population.sites[site]
        if where.rule is None:
            return None
        if proxy in where.walls:
            return _refused(403, latency, None)
        standing = self._standings.setdefault((proxy, site), Standing())
        if now >= standing.until:
            if not standing.would_ban(where.rule, now):
                standing.used.append(now)
                return None
            standing.until = now + min(where.rule.ban * 2.0 ** min(standing.bans, DOUBLINGS), self.world.longest_ban)
            standing.bans += 1
            standing.used.clear()
            self.bans += 1
        return _refused(429, latency, standing.until - now) if where.rule.tells else _refused(403, latency, None)


def _refused(status: int, latency: float, retry_after: float | None) -> Outcome:
    blame = Blame.TARGET_THROUGH_PROXY
    return Outcome(
        ok=False, blame=blame, latency=latency, status=status, rule=f"status-{status}", retry_after=retry_after
    )
