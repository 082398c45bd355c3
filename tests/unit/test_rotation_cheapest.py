"""Cheapest: a waterfall over prices, down to the dearer while the cheaper are in trouble, and back."""

from __future__ import annotations

import random
from collections import Counter

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import NO_LIMITS, Limits
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="forbidden")
PRICES = {"free": None, "cheap": 1.0, "dear": 10.0}
SITE = "http://shop.example/"


def proxy(key: str, price: float | None, country: str | None = None) -> Proxy:
    """Make a proxy with a price."""
    return Proxy(key, "http", "192.0.2.1", 8080, attributes=Attributes(price_per_gb=price, country=country))


class Waterfall:
    """Four proxies of each price."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.clock = ManualClock()
        self.pool = Pool("cheapest", resolve=lambda _key: None, rng=random.Random(1), clock=self.clock, limits=limits)
        self.keys = {tier: [f"{tier}{n}" for n in range(4)] for tier in PRICES}
        self.pool.update(proxy(key, PRICES[tier]) for tier, keys in self.keys.items() for key in keys)

    def run(self, requests: int, sick: dict[str, Outcome] | None = None, target: str | None = None) -> Counter[str]:
        """Send requests, a tenth of a second apart, and count by tier; the sick tiers answer as is said."""
        served: Counter[str] = Counter()
        for _ in range(requests):
            self.clock.advance(0.1)
            with self.pool.acquire(target) as lease:
                tier = lease.proxy.key.rstrip("0123456789")
                served[tier] += 1
                lease.report((sick or {}).get(tier, OK))
        return served


def test_the_cheapest_serves_alone_while_it_is_well() -> None:
    """Who has no price costs nothing and serves all, each of the tier as often as chance says (six deviations)."""
    world = Waterfall()
    assert set(world.run(400)) == {"free"}
    for use in world.pool.snapshot():
        if use.proxy.key.startswith("free"):
            assert abs(use.served - 100) < 6 * (400 * 0.25 * 0.75) ** 0.5


def test_dearer_ones_serve_while_the_cheaper_are_excluded_or_at_their_limit() -> None:
    """A request that excludes a tier goes to the next; so do requests beside those that fill it."""
    world = Waterfall(Limits(in_flight=1))
    assert world.pool.acquire(exclude=set(world.keys["free"])).proxy.key in world.keys["cheap"]
    leases = [world.pool.acquire() for _ in range(11)]  # the one above is lost, and taken back
    tiers = [lease.proxy.key.rstrip("0123456789") for lease in leases]
    assert tiers == ["free"] * 4 + ["cheap"] * 4 + ["dear"] * 3
    leases[0].release()
    assert world.pool.acquire().proxy.key in world.keys["free"]


def test_dearer_ones_serve_the_site_that_banned_the_cheaper_and_no_other() -> None:
    """Bans hold for one site; elsewhere the cheapest serve on, also when the bans are found out by requests."""
    world = Waterfall()
    ban = Ban(until=world.clock.now() + 100, strikes=1, rule="forbidden", forget_at=world.clock.now() + 1000)
    world.pool.learn_bans({(key, "shop.example"): ban for key in world.keys["free"]})
    assert set(world.run(50, target=SITE)) == {"cheap"}
    assert set(world.run(50, target="http://other.example/")) == {"free"}
    world.clock.advance(200)
    assert set(world.run(50, target=SITE)) == {"free"}
    world.run(10, {"free": BANNED}, target="http://strict.example/")
    assert set(world.run(50)) == {"free"}


def test_a_tier_that_mostly_fails_is_left_and_found_again() -> None:
    """While the free ones fail at most one request in five tries them; a minute after they are well they serve all."""
    world = Waterfall()
    world.run(100, {"free": REFUSED})
    assert world.run(1000, {"free": REFUSED})["cheap"] > 800
    assert world.run(1000, {"free": REFUSED, "cheap": REFUSED})["dear"] > 500
    world.run(12_000)
    assert set(world.run(100)) == {"free"}


def test_failures_that_were_under_way_together_are_one_reason_to_leave() -> None:
    """Sixty that fail at once lead away for half a minute, not for ten: then the tier is tried again."""
    world = Waterfall()
    leases = [world.pool.acquire() for _ in range(60)]
    for lease in leases:
        lease.report(REFUSED)
    assert set(world.run(1)) == {"cheap"}
    world.clock.advance(40)
    assert "free" in world.run(20)


def test_when_every_tier_is_in_trouble_the_cheapest_that_has_somebody_serves() -> None:
    """Trouble everywhere is no reason to pay more."""
    world = Waterfall()
    everything = dict.fromkeys(PRICES, REFUSED)
    world.run(3000, everything)
    assert world.run(1)
    assert all(use.failed for use in world.pool.snapshot())


def test_what_others_do_says_nothing_of_the_tier_within_a_filter() -> None:
    """Where French free proxies fail, requests for German ones keep to the free."""
    pool = Pool("cheapest", resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock())
    pool.update(proxy(f"fr{n}", None, "FR") for n in range(30))
    pool.update([proxy("de-free", None, "DE"), proxy("de-dear", 5.0, "DE")])
    pool.acquire(country="DE").release()
    for _ in range(30):
        pool.acquire(country="FR").report(REFUSED)
    assert {pool.acquire(country="DE").proxy.key for _ in range(20)} == {"de-free"}


def test_a_new_price_counts_from_the_next_request_on() -> None:
    """Who becomes the cheapest serves, who becomes dear does not, set aside or not."""
    pool = Pool("cheapest", resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock())
    pool.update([proxy("a", 1.0), proxy("b", 2.0)])
    assert pool.acquire().proxy.key == "a"
    pool.update([proxy("a", 3.0)])
    assert pool.acquire().proxy.key == "b"
    pool.update([proxy("a", 0.5)])
    assert pool.acquire(max_price=1).proxy.key == "a"
