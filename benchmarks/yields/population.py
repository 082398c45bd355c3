"""Who lives in a world of numbers: its proxies, its sites, and when each of its requests arrives; all from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

from benchmarks.yields.laws import Law, Outage, RateLimit, Refusals
from benchmarks.yields.scenario import Arrival, Kind, Scenario, Site, TrueProxy
from benchmarks.yields.world import World
from proxywhirl.models import Attributes, Proxy, Target
from proxywhirl.urls import parse

__all__ = ["populate"]

COUNTRIES = ("DE", "FR", "US", "BR", "JP")
PRICES = (0.0, 1.5, 8.0)
"""A price says nothing about quality here: who waits for a dear proxy to be better is disappointed."""


def populate(world: World) -> Scenario:
    """Draw the proxies, the sites and the requests. Each request is for a page of its own."""
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
    sites = _sites(world, rng)
    return Scenario(
        world.name,
        world.seed,
        proxies,
        sites,
        tuple(_arrivals(world, sites)),
        attempts=world.attempts,
        patience=world.patience,
        timeout=world.timeout,
    )


def _arrivals(world: World, sites: tuple[Site, ...]) -> Iterator[Arrival]:
    rng = random.Random(f"arrivals of {world.seed}")
    cumulated = list(accumulate(site.share for site in sites))
    places = range(len(sites))
    now = 0.0
    for number in range(world.requests):
        now += rng.expovariate(world.rate)
        yield Arrival(now, rng.choices(places, cum_weights=cumulated)[0], number)


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
        network=place // 256,
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
        limit = RateLimit(
            rng.randint(*world.uses),
            rng.uniform(*world.window),
            rng.uniform(*world.ban),
            longest=world.longest_ban,
            tells=rng.random() < world.tells,
        )
        walls = frozenset(proxy for proxy in range(world.proxies) if rng.random() < world.walled)
        laws: tuple[Law, ...] = (Refusals(walls), limit) if walls else (limit,)
        return Site(target, share, laws)
    if place < world.banning + world.outages:
        length = world.outage * world.duration
        begins = rng.uniform(0.0, world.duration - length)
        return Site(target, share, (Outage((begins, begins + length), gone=place % 2 == 0),))
    return Site(target, share)
