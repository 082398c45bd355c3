"""Families of worlds: a family draws a scenario from a seed, whose numbers differ from seed to seed within ranges.

Times are in seconds. In the first half of each run there is time to learn what the second half asks for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate

from benchmarks.yields.laws import CUT, FailingPages, Law, RateLimit, Refusals, SoftBlocks, Taste
from benchmarks.yields.scenario import Arrival, Kind, Scenario, Site, TrueProxy
from proxywhirl.models import Attributes, Proxy, Target
from proxywhirl.urls import parse

__all__ = ["FAMILIES", "Family"]

Family = Callable[[int], Scenario]
"""Draws a scenario from a seed."""

Span = tuple[float, float]

LIMITS = ((1, 3.0), (20, 60.0), (1, 5.0), (5, 30.0), (1, 10.0), (10, 120.0), (3, 60.0), (2, 60.0))
"""How often a proxy may come, within how many seconds."""

MOST_REQUESTS = 24_000

LONG_BAN = 1_800.0


def free_list(seed: int) -> Scenario:
    """5,000 proxies of which 3 % work, and these not always."""
    rng = _rng("free list", seed)
    proxies = []
    for place in range(5_000):
        if rng.random() < 0.03:  # noqa: PLR2004  # those that work
            turns = tuple(_turns(rng, 6_000.0, 1_200.0, 300.0)) if rng.random() < 0.3 else ()  # noqa: PLR2004
            proxies.append(_proxy(rng, place, (0.6, 0.97), (0.4, 4.0), turns=turns))
        else:
            proxies.append(_proxy(rng, place, (0.0, 0.0), (0.4, 4.0), kind=Kind.DEAD))
    sites = _sites(rng, rng.randint(1, 5), lambda _: ())
    return Scenario("free-list", seed, tuple(proxies), sites, _arrivals(rng, sites, rng.uniform(3.0, 6.0), 10_000))


def datacentre(
    seed: int, *, name: str, load: float, count: Sequence[int] = (20, 30, 50, 100), bans: Sequence[float], floor: float
) -> Scenario:
    """Datacentre proxies at a part of the limit that each has at the sites."""
    rng = _rng(name, seed)
    many, ban, uses_of = rng.choice(count), rng.choice(bans), rng.randint(1, 2)
    length = {60.0: 1_500.0, 300.0: 3_000.0}.get(ban, 2.7 * ban)
    fitting = [one for one in LIMITS if load * many * one[0] / one[1] * length * uses_of <= MOST_REQUESTS]
    growth = rng.choice((1.0, 1.0, 2.0))
    limits = [rng.choice(fitting or LIMITS[-1:]) for _ in range(uses_of)]
    rates = [load * many * uses / window for uses, window in limits]
    sites = _sites(
        rng,
        uses_of,
        lambda place: (RateLimit(*limits[place], ban, growth, status=rng.choice((403, 429))),),
        shares=rates,
    )
    proxies = tuple(_proxy(rng, place, (0.97, 0.999), (0.2, 1.0)) for place in range(many))
    arrivals = _arrivals(rng, sites, sum(rates), int(sum(rates) * length))
    return Scenario(name, seed, proxies, sites, arrivals, patience=rng.choice((2.0, 5.0, 10.0)), floor=floor)


def residential(seed: int) -> Scenario:
    """Sessions of a gateway whose exits live 5 to 15 minutes; each site refuses some exits for reasons of its own."""
    rng = _rng("residential", seed)
    length = 3_000.0
    proxies = tuple(
        _session(rng, "gate.residential.example", place, exits=tuple(_ends(rng, length, (300.0, 900.0))))
        for place in range(rng.randint(30, 100))
    )

    def laws(place: int) -> tuple[Law, ...]:
        soft = rng.random() < 0.3  # noqa: PLR2004  # of the sites
        taste = Taste(rng.uniform(0.05, 0.3), f"taste of {place} in {seed}", rng.choice((403, 429)), soft)
        return (taste, SoftBlocks((rng.uniform(0.0, 0.02),) * len(proxies), random.Random(f"soft {place} {seed}")))

    sites = _sites(rng, rng.randint(1, 4), laws)
    rate = rng.uniform(2.0, 5.0)
    return Scenario("residential", seed, proxies, sites, _arrivals(rng, sites, rate, int(rate * length)))


def soft_blocks(seed: int) -> Scenario:
    """Pages with a captcha and the status 200: now and then through all, and mostly through some."""
    rng = _rng("soft blocks", seed)
    many = rng.randint(30, 100)
    suspect = rng.uniform(0.1, 0.4)

    def laws(place: int) -> tuple[Law, ...]:
        shares = tuple(rng.uniform(0.3, 0.9) if rng.random() < suspect else rng.uniform(0.0, 0.06) for _ in range(many))
        return (SoftBlocks(shares, random.Random(f"soft {place} {seed}")),)

    proxies = tuple(_proxy(rng, place, (0.96, 0.995), (0.3, 1.5)) for place in range(many))
    sites = _sites(rng, rng.randint(1, 4), laws)
    return Scenario("soft-blocks", seed, proxies, sites, _arrivals(rng, sites, rng.uniform(2.0, 5.0), 8_000))


def bad_addresses(seed: int) -> Scenario:
    """Some proxies are refused by some sites for ever."""
    rng = _rng("bad addresses", seed)
    many = rng.randint(30, 100)

    def laws(_: int) -> tuple[Law, ...]:
        share = rng.uniform(0.1, 0.5)
        bad = frozenset(place for place in range(many) if rng.random() < share)
        return (Refusals(bad, status=rng.choice((403, 403, 429, 999))),)

    proxies = tuple(_proxy(rng, place, (0.96, 0.995), (0.3, 1.5)) for place in range(many))
    sites = _sites(rng, rng.randint(2, 8), laws)
    return Scenario("bad-addresses", seed, proxies, sites, _arrivals(rng, sites, rng.uniform(2.0, 5.0), 8_000))


def day_and_night(seed: int) -> Scenario:
    """A site's limit is stricter by night, which comes and goes several times."""
    rng = _rng("day and night", seed)
    many, factor = rng.choice((20, 30, 40, 60)), rng.uniform(2.0, 4.0)
    uses, window = rng.choice(((1, 3.0), (1, 5.0), (5, 30.0), (1, 10.0)))
    rate = rng.uniform(0.7, 0.9) / factor * many * uses / window
    night = (rng.uniform(800.0, 1_600.0), rng.uniform(0.3, 0.5), factor)
    limit = RateLimit(uses, window, rng.uniform(60.0, 300.0), 1.0, status=rng.choice((403, 429)), night=night)
    proxies = tuple(_proxy(rng, place, (0.97, 0.999), (0.2, 1.0)) for place in range(many))
    sites = _sites(rng, 1, lambda _: (limit,))
    arrivals = _arrivals(rng, sites, rate, min(int(rate * 5_000.0), MOST_REQUESTS))
    return Scenario("day-and-night", seed, proxies, sites, arrivals)


def pages(seed: int) -> Scenario:
    """A share of the pages always fails, whoever asks; the proxies are good. Some of the sites limit the rate."""
    rng = _rng("pages that fail", seed)
    many = rng.choice((3, 5, 10, 25, 50))
    ways = tuple(rng.sample((403, 404, 429, 451, 500, 502, 503, 999, CUT), rng.randint(1, 4)))
    uses, window = rng.choice(((1, 1.0), (5, 10.0), (20, 60.0)))
    limited = rng.random() < 0.4  # noqa: PLR2004  # of the runs
    rate = rng.uniform(0.2, 0.5) * many * uses / window if limited else rng.choice((2.0, 8.0, 16.0))
    laws: list[Law] = [RateLimit(uses, window, rng.choice((30.0, 300.0)), 1.0)] if limited else []
    laws.append(FailingPages(rng.uniform(0.05, 0.5), ways, f"pages of {seed}"))
    proxies = tuple(_proxy(rng, place, (0.98, 0.999), (0.2, 1.0)) for place in range(many))
    sites = _sites(rng, 1, lambda _: tuple(laws), scheme=rng.choice(("http", "https")))
    arrivals = _arrivals(rng, sites, rate, 4_000)
    return Scenario("pages", seed, proxies, sites, arrivals, attempts=20, patience=30.0)


def _rng(name: str, seed: int) -> random.Random:
    return random.Random(f"{name} {seed}")


def _proxy(
    rng: random.Random,
    place: int,
    success: Span,
    latency: Span,
    *,
    kind: Kind = Kind.GOOD,
    turns: tuple[float, ...] = (),
    attributes: Attributes | None = None,
    per_network: int = 256,
    tail: float = 0.0,
) -> TrueProxy:
    """Draw a proxy with an address of its own, `per_network` of them in each /24."""
    network, host = divmod(place, per_network)
    url = f"http://198.{18 + network // 256}.{network % 256}.{host}:8080"
    chance, seconds = rng.uniform(*success), rng.uniform(*latency)
    silent = rng.random() < 0.5  # noqa: PLR2004  # half of them
    value = Proxy.of(parse(url), attributes=attributes)
    return TrueProxy(value, url, kind, chance, seconds, silent, turns, network=network, tail=tail)


def _session(
    rng: random.Random,
    gateway: str,
    place: int,
    *,
    turns: tuple[float, ...] = (),
    exits: tuple[float, ...] = (),
    network: int = 0,
) -> TrueProxy:
    """Draw a session of a gateway, which its username tells from the others."""
    url = f"http://account-session-{place}:secret@{gateway}:8000"
    chance, seconds = rng.uniform(0.94, 0.99), rng.uniform(0.5, 2.0)
    return TrueProxy(Proxy.of(parse(url)), url, Kind.GOOD, chance, seconds, False, turns, exits, network)


def _turns(rng: random.Random, until: float, up: float, down: float) -> Iterator[float]:
    now, alive = 0.0, True
    while now < until:
        now += rng.expovariate(1 / (up if alive else down))
        alive = not alive
        yield now


def _ends(rng: random.Random, until: float, lives: Span) -> Iterator[float]:
    """Draw when exits end one after another; the first one has lived for a while already."""
    now = rng.uniform(0.0, lives[1])
    while now < until:
        yield now
        now += rng.uniform(*lives)


def _sites(
    rng: random.Random,
    count: int,
    laws: Callable[[int], tuple[Law, ...]],
    *,
    shares: Sequence[float] | None = None,
    scheme: str = "https",
) -> tuple[Site, ...]:
    port = 443 if scheme == "https" else 80
    return tuple(
        Site(
            Target(scheme, f"site-{place}.example", port),
            rng.uniform(0.5, 2.0) if shares is None else shares[place],
            laws(place),
        )
        for place in range(count)
    )


def _arrivals(
    rng: random.Random, sites: Sequence[Site], rate: float, count: int, *, page: int | None = None
) -> tuple[Arrival, ...]:
    """Draw requests at random moments, each for a page of its own, or all for the same one."""
    cumulated = list(accumulate(site.share for site in sites))
    now, drawn = 0.0, []
    for number in range(count):
        now += rng.expovariate(rate)
        site = rng.choices(range(len(sites)), cum_weights=cumulated)[0]
        drawn.append(Arrival(now, site, number if page is None else page))
    return tuple(drawn)


_BANS = (60.0, 300.0, LONG_BAN)

FAMILIES: dict[str, Family] = {
    "free-list": free_list,
    **{
        f"dc-{part}": partial(datacentre, name=f"dc-{part}", load=part / 100, bans=_BANS, floor=0.85)
        for part in (30, 60, 90)
    },
    "dc-90-30min": partial(datacentre, name="dc-90-30min", load=0.9, count=(20,), bans=(LONG_BAN,), floor=0.7),
    "residential": residential,
    "soft-blocks": soft_blocks,
    "bad-addresses": bad_addresses,
    "day-and-night": day_and_night,
    "pages": pages,
}
