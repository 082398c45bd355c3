"""Who lives in a world: its proxies, its sites, and when each of its requests arrives; all drawn from the seed."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from benchmarks.yields.world import World
from proxywhirl.models import Attributes, Proxy, Target
from proxywhirl.urls import parse

__all__ = ["BanRule", "Kind", "Population", "Site", "TrueProxy", "arrivals", "populate"]

COUNTRIES = ("DE", "FR", "US", "BR", "JP")
PRICES = (0.0, 1.5, 8.0)
"""A price says nothing about quality here: who waits for a dear proxy to be better is disappointed."""


class Kind(StrEnum):
    """What a proxy is."""

    GOOD = "good"
    DEAD = "dead"
    FLAKY = "flaky"
    FAST_FAILING = "fast failing"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class TrueProxy:
    """A proxy as it is, which no contestant but the oracle knows.

    `success` is the share of uses that reach the site while it is alive, `latency` the mean seconds of these. `turns`
    are the moments at which it dies and comes back. A `silent` one fails by not answering.
    """

    value: Proxy
    url: str
    kind: Kind
    success: float
    latency: float
    silent: bool
    turns: tuple[float, ...] = ()

    def alive(self, now: float) -> bool:
        """Whether it can serve at a moment."""
        if self.kind is Kind.DEAD:
            return False
        return not self.turns or bisect_right(self.turns, now) % 2 == 0

    def alive_throughout(self, since: float, until: float) -> bool:
        """Whether it can serve at every moment of a span."""
        return self.alive(since) and bisect_right(self.turns, since) == bisect_right(self.turns, until)


@dataclass(frozen=True, slots=True)
class BanRule:
    """How a site bans: who uses it more than `uses` times in `window` seconds is refused for `ban` seconds at first."""

    uses: int
    window: float
    ban: float
    tells: bool


@dataclass(frozen=True, slots=True)
class Site:
    """A site as it is. While it is down it answers with an error itself, or (`gone`) no proxy can reach it."""

    target: Target
    share: float
    rule: BanRule | None = None
    down: tuple[float, float] | None = None
    gone: bool = False
    walls: frozenset[int] = frozenset()

    def is_down(self, now: float) -> bool:
        """Whether it is down at a moment."""
        return self.down is not None and self.down[0] <= now < self.down[1]


@dataclass(frozen=True, slots=True)
class Population:
    """All who live in a world; a proxy and a site are meant by their places here."""

    proxies: tuple[TrueProxy, ...]
    sites: tuple[Site, ...]


def populate(world: World) -> Population:
    """Draw the proxies and the sites."""
    rng = random.Random(f"population of {world.seed}")
    kinds = [
        kind
        for kind, share in (
            (Kind.DEAD, world.dead),
            (Kind.FLAKY, world.flaky),
            (Kind.FAST_FAILING, world.fast_failing),
            (Kind.RETURNING, world.returning),
        )
        for _ in range(round(share * world.proxies))
    ][: world.proxies]
    kinds += [Kind.GOOD] * (world.proxies - len(kinds))
    rng.shuffle(kinds)
    proxies = tuple(_proxy(world, place, kind, rng) for place, kind in enumerate(kinds))
    return Population(proxies, _sites(world, rng))


def arrivals(world: World, population: Population) -> Iterator[tuple[float, int]]:
    """Draw the requests, in order: when each arrives, in seconds from the start, and at which site."""
    rng = random.Random(f"arrivals of {world.seed}")
    cumulated = list(accumulate(site.share for site in population.sites))
    places = range(len(population.sites))
    now = 0.0
    for _ in range(world.requests):
        now += rng.expovariate(world.rate)
        yield now, rng.choices(places, cum_weights=cumulated)[0]


def _proxy(world: World, place: int, kind: Kind, rng: random.Random) -> TrueProxy:
    success, latency = {
        Kind.FLAKY: (world.flaky_success, world.flaky_latency),
        Kind.FAST_FAILING: (world.fast_success, world.fast_latency),
    }.get(kind, (world.good_success, world.good_latency))
    url = f"http://198.{18 + place // 65_536}.{place // 256 % 256}.{place % 256}:8080"
    known = Attributes(country=rng.choice(COUNTRIES), price_per_gb=rng.choice(PRICES))
    return TrueProxy(
        Proxy.of(parse(url), attributes=known),
        url,
        kind,
        0.0 if kind is Kind.DEAD else rng.uniform(*success),
        rng.uniform(*latency),
        silent=kind is not Kind.FAST_FAILING and rng.random() < 0.5,  # noqa: PLR2004  # half of them
        turns=tuple(_turns(world, rng)) if kind is Kind.RETURNING else (),
    )


def _turns(world: World, rng: random.Random) -> Iterator[float]:
    """Draw when a proxy dies and comes back; the longest waits for answers end after the last arrival."""
    now, alive = 0.0, True
    while now < 2 * world.duration + 10 * world.attempts * world.timeout:
        now += rng.expovariate(1 / (world.up if alive else world.down))
        alive = not alive
        yield now


def _sites(world: World, rng: random.Random) -> tuple[Site, ...]:
    ranks = list(range(1, world.sites + 1))
    rng.shuffle(ranks)
    return tuple(_site(world, place, rank**-world.skew, rng) for place, rank in enumerate(ranks))


def _site(world: World, place: int, share: float, rng: random.Random) -> Site:
    target = Target("https", f"site-{place}.example", 443)
    if place < world.banning:
        rule = BanRule(
            rng.randint(*world.uses),
            rng.uniform(*world.window),
            rng.uniform(*world.ban),
            tells=rng.random() < world.tells,
        )
        walls = frozenset(proxy for proxy in range(world.proxies) if rng.random() < world.walled)
        return Site(target, share, rule, walls=walls)
    if place < world.banning + world.outages:
        length = world.outage * world.duration
        begins = rng.uniform(0.0, world.duration - length)
        return Site(target, share, down=(begins, begins + length), gone=place % 2 == 0)
    return Site(target, share)
