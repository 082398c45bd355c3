"""Families of worlds: a family draws a scenario from a seed, whose numbers differ from seed to seed within ranges.

Times are in seconds. In the first half of each run there is time to learn what the second half asks for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from inspect import getsource

from benchmarks.yields.draws import (
    draw_arrivals,
    draw_ends,
    draw_proxy,
    draw_session,
    draw_sites,
    draw_turns,
    in_bursts,
    source,
    steadily,
)
from benchmarks.yields.laws import (
    BREAKS_OFF,
    FailingPages,
    Law,
    Outage,
    RateLimit,
    Refusals,
    SoftBlocks,
    Taste,
    as_network,
)
from benchmarks.yields.scenario import TUNNEL, Event, Kind, Scenario
from proxywhirl.models import Attributes

__all__ = ["FAMILIES", "Family", "told_by"]

Family = Callable[[int], Scenario]
"""Draws a scenario from a seed."""

LIMITS = ((1, 3.0), (20, 60.0), (1, 5.0), (5, 30.0), (1, 10.0), (10, 120.0), (3, 60.0), (2, 60.0))
"""How often a proxy may come, within how many seconds."""

MOST_REQUESTS = 24_000

LONG_BAN = 1_800.0


def free_list(seed: int) -> Scenario:
    """5,000 proxies of which 3 % work, and these not always."""
    rng = source("free list", seed)
    proxies = []
    for place in range(5_000):
        if rng.random() < 0.03:  # noqa: PLR2004  # those that work
            turns = tuple(draw_turns(rng, 6_000.0, 1_200.0, 300.0)) if rng.random() < 0.3 else ()  # noqa: PLR2004
            proxies.append(draw_proxy(rng, place, (0.6, 0.97), (0.4, 4.0), turns=turns))
        else:
            proxies.append(draw_proxy(rng, place, (0.0, 0.0), (0.4, 4.0), kind=Kind.DEAD))
    sites = draw_sites(rng, rng.randint(1, 5), lambda _: ())
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(3.0, 6.0), 10_000))
    return Scenario("free-list", seed, tuple(proxies), sites, arrivals)


def datacentre(
    seed: int, *, name: str, load: float, count: Sequence[int] = (20, 30, 50, 100), bans: Sequence[float], floor: float
) -> Scenario:
    """Datacentre proxies at a part of the limit that each has at the sites."""
    rng = source(name, seed)
    many, ban, uses_of = rng.choice(count), rng.choice(bans), rng.randint(1, 2)
    length = {60.0: 1_500.0, 300.0: 3_000.0}.get(ban, 2.7 * ban)
    fitting = [one for one in LIMITS if load * many * one[0] / one[1] * length * uses_of <= MOST_REQUESTS]
    growth = rng.choice((1.0, 1.0, 2.0))
    limits = [rng.choice(fitting or LIMITS[-1:]) for _ in range(uses_of)]
    rates = [load * many * uses / window for uses, window in limits]
    sites = draw_sites(
        rng,
        uses_of,
        lambda place: (RateLimit(*limits[place], ban, growth, status=rng.choice((403, 429))),),
        shares=rates,
    )
    proxies = tuple(draw_proxy(rng, place, (0.97, 0.999), (0.2, 1.0)) for place in range(many))
    arrivals = draw_arrivals(rng, sites, steadily(rng, sum(rates), int(sum(rates) * length)))
    return Scenario(name, seed, proxies, sites, arrivals, patience=rng.choice((2.0, 5.0, 10.0)), floor=floor)


def residential(seed: int) -> Scenario:
    """Sessions of a gateway whose exits live 5 to 15 minutes; each site refuses some exits for reasons of its own."""
    rng = source("residential", seed)
    length = 3_000.0
    proxies = tuple(
        draw_session(rng, "gate.residential.example", place, exits=tuple(draw_ends(rng, length, (300.0, 900.0))))
        for place in range(rng.randint(30, 100))
    )

    def laws(place: int) -> tuple[Law, ...]:
        soft = rng.random() < 0.3  # noqa: PLR2004  # of the sites
        taste = Taste(rng.uniform(0.05, 0.3), f"taste of {place} in {seed}", rng.choice((403, 429)), soft)
        return (taste, SoftBlocks((rng.uniform(0.0, 0.02),) * len(proxies), random.Random(f"soft {place} {seed}")))

    sites = draw_sites(rng, rng.randint(1, 4), laws)
    rate = rng.uniform(2.0, 5.0)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, int(rate * length)))
    return Scenario("residential", seed, proxies, sites, arrivals)


def network_bans(seed: int) -> Scenario:
    """Two /24s are banned whole by a site at some moment, for a while or for good."""
    rng = source("network bans", seed)
    networks, each, length = rng.randint(6, 10), rng.randint(8, 15), 2_400.0
    proxies = tuple(
        draw_proxy(rng, place, (0.97, 0.999), (0.2, 0.8), network=place // each) for place in range(networks * each)
    )
    moments = sorted(rng.uniform(0.5, 0.85) * length for _ in range(2))
    lasts = rng.choice((600.0, length))
    banned = {network: (at, at + lasts) for network, at in zip(rng.sample(range(networks), 2), moments, strict=True)}
    status = rng.choice((403, 429))
    sites = draw_sites(
        rng,
        rng.randint(1, 3),
        lambda place: (Refusals(networks=banned, status=status),) if place == 0 else (),
    )
    rate = rng.uniform(3.0, 6.0)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, int(rate * length)))
    return Scenario("network-bans", seed, proxies, sites, arrivals, events=tuple(Event(at, 0) for at in moments))


def network_limit(seed: int) -> Scenario:
    """A site counts the uses of each /24 together."""
    rng = source("network limit", seed)
    networks, each = rng.randint(8, 20), rng.randint(3, 8)
    proxies = tuple(
        draw_proxy(rng, place, (0.97, 0.999), (0.2, 1.0), network=place // each) for place in range(networks * each)
    )
    uses, window = rng.choice(((1, 3.0), (20, 60.0), (5, 10.0), (5, 30.0)))
    ban = rng.choice((60.0, 300.0))
    limit = RateLimit(uses, window, ban, 1.0, whom=as_network, status=rng.choice((403, 429)))
    rate = rng.uniform(0.4, 0.7) * networks * uses / window
    sites = draw_sites(rng, 1, lambda _: (limit,))
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, min(int(rate * 3_000.0), MOST_REQUESTS)))
    return Scenario("network-limit", seed, proxies, sites, arrivals)


def gateways(seed: int) -> Scenario:
    """Hosts with many sessions each, told apart by username; now and then one goes down with all of them."""
    rng = source("gateways", seed)
    count, each, length = rng.randint(3, 6), rng.randint(10, 25), 2_400.0
    turns: list[list[float]] = [[] for _ in range(count)]
    now, events = rng.uniform(200.0, 400.0), []
    while now < length - 100.0:
        lasts = rng.uniform(60.0, 300.0)
        turns[rng.randrange(count)] += [now, now + lasts]
        events.append(Event(now))
        now += lasts + rng.uniform(100.0, 300.0)
    silent = [rng.random() < 0.2 for _ in range(count)]  # noqa: PLR2004  # of the hosts
    proxies = tuple(
        draw_session(rng, f"gate-{gate}.example", place, turns=tuple(turns[gate]), network=gate, silent=silent[gate])
        for gate in range(count)
        for place in range(each)
    )
    sites = draw_sites(rng, rng.randint(1, 3), lambda _: ())
    rate = rng.uniform(3.0, 6.0)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, int(rate * length)))
    return Scenario("gateways", seed, proxies, sites, arrivals, events=tuple(events))


def soft_blocks(seed: int) -> Scenario:
    """Pages with a captcha and the status 200: now and then through all, and mostly through some."""
    rng = source("soft blocks", seed)
    many = rng.randint(30, 100)
    suspect = rng.uniform(0.1, 0.4)

    def laws(place: int) -> tuple[Law, ...]:
        shares = tuple(rng.uniform(0.3, 0.9) if rng.random() < suspect else rng.uniform(0.0, 0.06) for _ in range(many))
        return (SoftBlocks(shares, random.Random(f"soft {place} {seed}")),)

    proxies = tuple(draw_proxy(rng, place, (0.96, 0.995), (0.3, 1.5)) for place in range(many))
    sites = draw_sites(rng, rng.randint(1, 4), laws)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(2.0, 5.0), 8_000))
    return Scenario("soft-blocks", seed, proxies, sites, arrivals)


def bad_addresses(seed: int, *, name: str = "bad-addresses", page: int | None = None) -> Scenario:
    """Some proxies are refused by some sites for ever."""
    rng = source(name, seed)
    many = rng.randint(30, 100)

    def laws(_: int) -> tuple[Law, ...]:
        share = rng.uniform(0.1, 0.5)
        bad = frozenset(place for place in range(many) if rng.random() < share)
        return (Refusals(bad, status=rng.choice((403, 403, 429, 999))),)

    proxies = tuple(draw_proxy(rng, place, (0.96, 0.995), (0.3, 1.5)) for place in range(many))
    sites = draw_sites(rng, rng.randint(2, 8) if page is None else rng.randint(1, 3), laws)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(2.0, 5.0), 8_000), page=page)
    return Scenario(name, seed, proxies, sites, arrivals)


def day_and_night(seed: int) -> Scenario:
    """A site's limit is stricter by night, which comes and goes several times."""
    rng = source("day and night", seed)
    many, factor = rng.choice((20, 30, 40, 60)), rng.uniform(2.0, 4.0)
    uses, window = rng.choice(((1, 3.0), (1, 5.0), (5, 30.0), (1, 10.0)))
    rate = rng.uniform(0.7, 0.9) / factor * many * uses / window
    night = (rng.uniform(800.0, 1_600.0), rng.uniform(0.3, 0.5), factor)
    limit = RateLimit(uses, window, rng.uniform(60.0, 300.0), 1.0, status=rng.choice((403, 429)), night=night)
    proxies = tuple(draw_proxy(rng, place, (0.97, 0.999), (0.2, 1.0)) for place in range(many))
    sites = draw_sites(rng, 1, lambda _: (limit,))
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, min(int(rate * 5_000.0), MOST_REQUESTS)))
    return Scenario("day-and-night", seed, proxies, sites, arrivals)


def prices(seed: int) -> Scenario:
    """Three prices for each gigabyte; in half of the worlds the dear proxies are the better ones."""
    rng = source("prices", seed)
    many, tells, tags = rng.randint(40, 80), rng.random() < 0.5, (0.5, 2.0, 8.0)  # noqa: PLR2004
    better = ((0.85, 0.93), (0.92, 0.97), (0.97, 0.995))
    proxies = []
    for place in range(many):
        tier = rng.randrange(len(tags))
        success = better[tier] if tells else (0.9, 0.99)
        known = Attributes(price_per_gb=tags[tier])
        proxies.append(draw_proxy(rng, place, success, (0.3, 1.5), attributes=known))
    sites = draw_sites(rng, rng.randint(1, 3), lambda _: ())
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(2.0, 5.0), 8_000))
    return Scenario(
        "prices", seed, tuple(proxies), sites, arrivals, size=1_000_000, worth=rng.choice((0.01, 0.05, 0.25))
    )


def bursts(seed: int) -> Scenario:
    """Many requests at once, now and then, on a site that limits the rate of each proxy."""
    rng = source("bursts", seed)
    many, uses, window = rng.choice((30, 50, 100)), rng.choice((2, 3, 5)), rng.uniform(20.0, 40.0)
    limit = RateLimit(uses, window, rng.choice((60.0, 300.0)), 1.0, status=rng.choice((403, 429)))
    proxies = tuple(draw_proxy(rng, place, (0.97, 0.999), (0.3, 1.5)) for place in range(many))
    sites = draw_sites(rng, 1, lambda _: (limit,))
    most = many * uses
    moments = in_bursts(rng, 0.02 * most / window, 4_000.0, (window, 3 * window), (0.4 * most, 0.9 * most), (1.0, 4.0))
    return Scenario("bursts", seed, proxies, sites, draw_arrivals(rng, sites, moments), patience=10.0)


def network_away(seed: int) -> Scenario:
    """Our own network is away for two minutes, twice: every use fails at connecting."""
    rng = source("network away", seed)
    length = 2_400.0
    away = tuple((at, at + 120.0) for at in (rng.uniform(0.2, 0.4) * length, rng.uniform(0.55, 0.8) * length))
    proxies = tuple(draw_proxy(rng, place, (0.95, 0.99), (0.2, 1.5)) for place in range(rng.randint(20, 80)))
    sites = draw_sites(rng, rng.randint(1, 3), lambda _: ())
    rate = rng.uniform(2.0, 5.0)
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, int(rate * length)))
    events = tuple(Event(ends) for _, ends in away)
    return Scenario("network-away", seed, proxies, sites, arrivals, away=away, events=events)


def three_proxies(seed: int) -> Scenario:
    """Three proxies of which one is dead."""
    rng = source("three proxies", seed)
    dead = rng.randrange(3)
    proxies = tuple(
        draw_proxy(rng, place, (0.0, 0.0) if place == dead else (0.93, 0.99), (0.3, 1.5), kind=kind)
        for place in range(3)
        for kind in [Kind.DEAD if place == dead else Kind.GOOD]
    )
    sites = draw_sites(rng, rng.randint(1, 2), lambda _: ())
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(0.3, 2.0), 3_000))
    return Scenario("three-proxies", seed, proxies, sites, arrivals)


def heavy_tails(seed: int) -> Scenario:
    """Latencies with heavy tails, quick and slow proxies, and a deadline for each request."""
    rng = source("heavy tails", seed)
    proxies = tuple(
        draw_proxy(rng, place, (0.95, 0.99), (seconds, seconds), tail=rng.uniform(0.3, 1.3))
        for place in range(rng.randint(30, 80))
        for seconds in [0.15 * 20.0 ** rng.random()]
    )
    sites = draw_sites(rng, rng.randint(1, 3), lambda _: ())
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(2.0, 5.0), 8_000))
    return Scenario("heavy-tails", seed, proxies, sites, arrivals, timeout=30.0, longest=rng.uniform(2.0, 10.0))


def retry_after(seed: int) -> Scenario:
    """A site that answers 429 with `Retry-After`: of some seconds, or of minutes."""
    rng = source("retry after", seed)
    many, short = rng.choice((20, 30, 50)), rng.random() < 0.6  # noqa: PLR2004  # of the worlds
    uses, window = rng.choice(((1, 2.0), (5, 10.0), (10, 30.0), (1, 5.0)))
    ban = rng.uniform(2.0, 10.0) if short else rng.uniform(60.0, 600.0)
    rate = rng.uniform(0.6, 0.9) * many * uses / window
    proxies = tuple(draw_proxy(rng, place, (0.97, 0.999), (0.2, 1.0)) for place in range(many))
    sites = draw_sites(rng, 1, lambda _: (RateLimit(uses, window, ban, 1.0, tells=True),))
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, min(int(rate * 2_400.0), MOST_REQUESTS)))
    return Scenario("retry-after", seed, proxies, sites, arrivals)


def tunnels(seed: int) -> Scenario:
    """Tunnels, in which no page is seen and the connection alone tells anything: good, flaky and dying proxies."""
    rng = source("tunnels", seed)
    proxies = []
    for place in range(rng.randint(40, 120)):
        kind = rng.choices((Kind.GOOD, Kind.RETURNING, Kind.FLAKY, Kind.DEAD), (5, 2, 2, 2))[0]
        success = {Kind.FLAKY: (0.4, 0.8), Kind.DEAD: (0.0, 0.0)}.get(kind, (0.95, 0.995))
        turns = tuple(draw_turns(rng, 6_000.0, 900.0, 200.0)) if kind is Kind.RETURNING else ()
        proxies.append(draw_proxy(rng, place, success, (0.2, 1.5), kind=kind, turns=turns))
    down = rng.uniform(0.0, 2_000.0)
    sites = draw_sites(rng, 4, lambda place: (Outage((down, down + 200.0), gone=True),) if place == 0 else ())
    arrivals = draw_arrivals(rng, sites, steadily(rng, rng.uniform(3.0, 6.0), 8_000), page=TUNNEL)
    return Scenario("tunnels", seed, tuple(proxies), sites, arrivals)


def pages(seed: int) -> Scenario:
    """A share of the pages always fails, whoever asks; the proxies are good, and no rate is too high."""
    rng = source("pages that fail", seed)
    many = rng.choice((3, 5, 10, 25, 50))
    failing = FailingPages(rng.uniform(0.05, 0.5), _ways(rng), f"pages of {seed}")
    return _crawl("pages", seed, rng, many, rng.choice((2.0, 8.0, 16.0)), (failing,))


def limited_pages(seed: int) -> Scenario:
    """The same at a site that also limits the rate of each proxy, and refuses with statuses that pages have too."""
    rng = source("limited pages that fail", seed)
    many, (uses, window) = rng.choice((5, 10, 25, 50)), rng.choice(((1, 1.0), (5, 10.0), (20, 60.0)))
    share = rng.uniform(0.05, 0.5)
    most = many * uses / window / (1.0 + 3.0 * share)  # four tries for a page that fails
    limit = RateLimit(uses, window, rng.choice((30.0, 300.0)), 1.0, status=rng.choice((403, 429)))
    failing = FailingPages(share, _ways(rng), f"limited pages of {seed}")
    return _crawl("limited-pages", seed, rng, many, rng.uniform(0.3, 0.7) * most, (limit, failing))


def _ways(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.sample((403, 404, 429, 451, 500, 502, 503, 999, BREAKS_OFF), rng.randint(1, 4)))


def _crawl(name: str, seed: int, rng: random.Random, many: int, rate: float, laws: tuple[Law, ...]) -> Scenario:
    proxies = tuple(draw_proxy(rng, place, (0.98, 0.999), (0.2, 1.0)) for place in range(many))
    sites = draw_sites(rng, 1, lambda _: laws, scheme=rng.choice(("http", "https")))
    arrivals = draw_arrivals(rng, sites, steadily(rng, rate, 4_000))
    return Scenario(name, seed, proxies, sites, arrivals, attempts=20, patience=30.0)


_BANS = (60.0, 300.0, LONG_BAN)

FAMILIES: dict[str, Family] = {
    "free-list": free_list,
    **{
        f"dc-{part}": partial(datacentre, name=f"dc-{part}", load=part / 100, bans=_BANS, floor=0.85)
        for part in (30, 60, 90)
    },
    "dc-90-30min": partial(datacentre, name="dc-90-30min", load=0.9, count=(20,), bans=(LONG_BAN,), floor=0.7),
    "residential": residential,
    "network-bans": network_bans,
    "network-limit": network_limit,
    "gateways": gateways,
    "soft-blocks": soft_blocks,
    "bad-addresses": bad_addresses,
    "one-page": partial(bad_addresses, name="one-page", page=0),
    "day-and-night": day_and_night,
    "prices": prices,
    "bursts": bursts,
    "network-away": network_away,
    "three-proxies": three_proxies,
    "heavy-tails": heavy_tails,
    "retry-after": retry_after,
    "tunnels": tunnels,
    "pages": pages,
    "limited-pages": limited_pages,
}


def told_by(family: Family) -> str:
    """Return all by which a family draws, as a text: with another text it draws another world."""
    drawn, numbers = (family.func, family.keywords) if isinstance(family, partial) else (family, {})
    shared = getsource(_ways) + getsource(_crawl) if "_crawl" in getsource(drawn) else ""
    return f"{getsource(drawn)}{shared}{sorted(numbers.items())}{LIMITS}{MOST_REQUESTS}{LONG_BAN}"
