"""What families of worlds are drawn with: proxies, sessions of a gateway, sites, moments and requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from benchmarks.yields.laws import Law
from benchmarks.yields.scenario import Arrival, Kind, Site, TrueProxy
from proxywhirl.models import Attributes, Proxy, Target
from proxywhirl.urls import parse

__all__ = [
    "Span",
    "draw_arrivals",
    "draw_ends",
    "draw_proxy",
    "draw_session",
    "draw_sites",
    "draw_turns",
    "in_bursts",
    "source",
    "steadily",
]

Span = tuple[float, float]


def source(name: str, seed: int) -> random.Random:
    """Return what a scenario of a family is drawn with."""
    return random.Random(f"{name} {seed}")


def draw_proxy(
    rng: random.Random,
    place: int,
    success: Span,
    latency: Span,
    *,
    kind: Kind = Kind.GOOD,
    turns: tuple[float, ...] = (),
    attributes: Attributes | None = None,
    network: int | None = None,
    tail: float = 0.0,
) -> TrueProxy:
    """Draw a proxy with an address of its own, in a network of its own or in a given /24."""
    where = place if network is None else network
    url = f"http://{20 + where // 65_536}.{where // 256 % 256}.{where % 256}.{1 + place % 250}:8080"
    chance, seconds = rng.uniform(*success), rng.uniform(*latency)
    silent = rng.random() < 0.5  # noqa: PLR2004  # half of them
    value = Proxy.of(parse(url), attributes=attributes)
    return TrueProxy(value, url, kind, chance, seconds, silent, turns, network=where, tail=tail)


def draw_session(
    rng: random.Random,
    gateway: str,
    place: int,
    *,
    turns: tuple[float, ...] = (),
    exits: tuple[float, ...] = (),
    network: int = 0,
    silent: bool = False,
) -> TrueProxy:
    """Draw a session of a gateway, which its username tells from the others."""
    url = f"http://account-session-{place}:secret@{gateway}:8000"
    chance, seconds = rng.uniform(0.94, 0.99), rng.uniform(0.5, 2.0)
    return TrueProxy(Proxy.of(parse(url)), url, Kind.GOOD, chance, seconds, silent, turns, exits, network)


def draw_turns(rng: random.Random, until: float, up: float, down: float) -> Iterator[float]:
    """Draw when a proxy dies and comes back, of which it does each so long in the mean."""
    now, alive = 0.0, True
    while now < until:
        now += rng.expovariate(1 / (up if alive else down))
        alive = not alive
        yield now


def draw_ends(rng: random.Random, until: float, lives: Span) -> Iterator[float]:
    """Draw when exits end one after another; the first one has lived for a while already."""
    now = rng.uniform(0.0, lives[1])
    while now < until:
        yield now
        now += rng.uniform(*lives)


def draw_sites(
    rng: random.Random,
    count: int,
    laws: Callable[[int], tuple[Law, ...]],
    *,
    shares: Sequence[float] | None = None,
    scheme: str = "https",
) -> tuple[Site, ...]:
    """Draw sites, each with the laws that `laws` makes for its place; some are more wanted than others."""
    port = 443 if scheme == "https" else 80
    return tuple(
        Site(
            Target(scheme, f"site-{place}.example", port),
            rng.uniform(0.5, 2.0) if shares is None else shares[place],
            laws(place),
        )
        for place in range(count)
    )


def draw_arrivals(
    rng: random.Random, sites: Sequence[Site], moments: Iterator[float], *, page: int | None = None
) -> tuple[Arrival, ...]:
    """Draw for each moment a request, each for a page of its own, or all for the same one."""
    cumulated = list(accumulate(site.share for site in sites))
    places = range(len(sites))
    return tuple(
        Arrival(at, rng.choices(places, cum_weights=cumulated)[0], number if page is None else page)
        for number, at in enumerate(moments)
    )


def steadily(rng: random.Random, rate: float, count: int) -> Iterator[float]:
    """Draw when requests come at a rate."""
    now = 0.0
    for _ in range(count):
        now += rng.expovariate(rate)
        yield now


def in_bursts(rng: random.Random, rate: float, until: float, every: Span, many: Span, within: Span) -> Iterator[float]:
    """Draw when requests come that come at a rate, and beside it many at once, now and then."""
    moments, now = [], 0.0
    while now < until:
        now += rng.expovariate(rate)
        moments.append(now)
    now = rng.uniform(*every)
    while now < until:
        length = rng.uniform(*within)
        moments += [now + rng.uniform(0.0, length) for _ in range(round(rng.uniform(*many)))]
        now += rng.uniform(*every)
    return iter(sorted(moments))
