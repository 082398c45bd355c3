"""A pool whose networks are banned and whose gateways go down: who serves, what is said, and what others learn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty, SiteResting
from proxywhirl.models import Attributes, Outcome, Proxy, Sketch
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import parse

SHOP = "http://shop.example/"
NETWORK = "203.0.113.0/24"
GATEWAY = "gateway gw.example"
OK = Outcome(True, latency=0.1, status=200)
FORBIDDEN = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)
REFUSED = Outcome(False, blame=Blame.PROXY)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


def urls(network: str, count: int) -> list[str]:
    """Return the URLs of so many proxies in a network."""
    return [f"http://{network}.{n}:80" for n in range(1, count + 1)]


TWO = [url for pair in zip(urls("203.0.113", 10), urls("198.51.100", 10), strict=True) for url in pair]
GATEWAYS = [f"http://s{n}:x@{host}:80" for n in range(10) for host in ("gw.example", "other.example")]


def pool_of(clock: ManualClock, proxies: list[str] = TWO, strategy: str = "round_robin", **options: object) -> Pool:
    """Make a pool."""
    return Pool.of(proxies, strategy, clock=clock, rng=random.Random(1), **options)  # type: ignore[arg-type]


def use(pool: Pool, count: int, clock: ManualClock, *, outcome: Outcome = FORBIDDEN, host: str = "203.0.113") -> None:
    """Use proxies for pages that differ: those of a host fail, all others are served."""
    for page in range(count):
        lease = pool.acquire(f"{SHOP}{page}")
        clock.advance(0.1)
        lease.report(outcome if lease.proxy.host.startswith(host) else OK)


@pytest.mark.parametrize("strategy", [name for name in strategy_names() if name not in ("sticky", "geo")])
def test_no_request_goes_to_a_network_that_a_site_bans(clock: ManualClock, strategy: str) -> None:
    """After a few failures all requests to the site go to the other network; other sites are served by both."""
    pool = pool_of(clock, strategy=strategy)
    use(pool, 40, clock)
    assert (NETWORK, "shop.example") in pool.bans()
    hosts = [pool.acquire(SHOP).proxy.host for _ in range(30)]
    assert all(host.startswith("198.51.100") for host in hosts)
    if strategy not in ("fastest", "cheapest"):
        assert any(pool.acquire("http://b.example/").proxy.host.startswith("203.0.113") for _ in range(200))


def test_nobody_uses_a_gateway_that_is_down(clock: ManualClock) -> None:
    """It is barred everywhere, before most of its sessions have failed."""
    pool = pool_of(clock, GATEWAYS)
    use(pool, 20, clock, outcome=OK)
    use(pool, 20, clock, outcome=REFUSED, host="gw.example")
    assert (GATEWAY, "*:group") in pool.bans()
    assert sum(use.failed for use in pool.snapshot()) <= 5
    hosts = {pool.acquire(site).proxy.host for site in (SHOP, "http://b.example/", None) for _ in range(10)}
    assert hosts == {"other.example"}


def test_a_request_that_only_the_group_can_serve_gets_it(clock: ManualClock) -> None:
    """One at a time, and after a failure nobody for a second; a success opens the group to all again."""
    pool = pool_of(clock, strategy="bandit")
    use(pool, 60, clock)
    outside = {use.proxy.key for use in pool.snapshot() if use.proxy.host.startswith("198.51.100")}
    lease = pool.acquire(SHOP, exclude=outside)
    assert lease.proxy.host.startswith("203.0.113")
    assert f"network {NETWORK} is banned at shop.example" in lease.why
    with pytest.raises(PoolEmpty) as empty:
        pool.acquire(SHOP, exclude=outside)
    assert 0.0 < (empty.value.retry_after or 0.0) <= 0.5
    lease.report(FORBIDDEN)
    with pytest.raises(PoolEmpty, match=f"network {NETWORK} is banned at shop.example") as empty:
        pool.acquire(SHOP, exclude=outside)
    clock.advance(empty.value.retry_after or 0.0)
    assert 0.5 <= (empty.value.retry_after or 0.0) <= 1.0
    pool.acquire(SHOP, exclude=outside).report(OK)
    for _ in range(3):
        assert pool.acquire(SHOP, exclude=outside).proxy.host.startswith("203.0.113")


@pytest.mark.parametrize("strategy", ["bandit", "round_robin"])
def test_a_request_that_failed_leaves_a_group_in_doubt(clock: ManualClock, strategy: str) -> None:
    """After two failures of neighbours the next attempt goes elsewhere, though neighbours are next in turn."""
    pool = pool_of(clock, [*urls("203.0.113", 10), *urls("198.51.100", 10)], strategy)
    tried: list[str] = []
    for _ in range(3):
        lease = pool.acquire(SHOP, exclude=tried)
        tried.append(lease.proxy.key)
        clock.advance(0.1)
        lease.report(REFUSED if lease.proxy.host.startswith("203") else OK)
        if lease.proxy.host.startswith("198"):
            break
    assert lease.proxy.host.startswith("198")


def test_no_country_is_lost_with_its_network(clock: ManualClock) -> None:
    """Where all proxies of a country are in one network its requests are served by it."""
    pool = Pool(resolve=lambda _key: None, clock=clock, rng=random.Random(1))
    places = [(url, "DE" if "203" in url else "FR") for url in TWO]
    pool.update(Proxy.of(parse(url), attributes=Attributes(country=country)) for url, country in places)
    use(pool, 60, clock)
    assert (NETWORK, "shop.example") in pool.bans()
    assert pool.acquire(SHOP, country="DE").proxy.attributes.country == "DE"


def test_it_is_explained(clock: ManualClock) -> None:
    """What keeps out the members, what is known of the site, and what an error says."""
    pool = pool_of(clock)
    use(pool, 12, clock)
    told = pool.explain(SHOP)
    words = f"its network {NETWORK} is banned at shop.example (403)"
    assert words in {excluded.reason for excluded in told.excluded}
    assert f"network {NETWORK} is banned at shop.example" in told.site
    everybody = [use.proxy.key for use in pool.snapshot()]
    pool.discard([use.proxy.key for use in pool.snapshot() if use.proxy.host.startswith("203")][:1])
    with pytest.raises(PoolEmpty):
        pool.acquire(SHOP, exclude=everybody)


def test_a_gateway_that_is_down_is_explained(clock: ManualClock) -> None:
    """By the words for a gateway."""
    pool = pool_of(clock, GATEWAYS)
    use(pool, 20, clock, outcome=REFUSED, host="gw.example")
    reasons = {excluded.reason for excluded in pool.explain().excluded}
    assert "its gateway gw.example is down (proxy)" in reasons


def test_one_request_tries_when_the_bar_is_over(clock: ManualClock) -> None:
    """The others wait for it; if it is served the network is back."""
    pool = pool_of(clock)
    use(pool, 40, clock)
    clock.advance(7.0)
    leases = [pool.acquire(SHOP) for _ in range(20)]
    tries = [lease for lease in leases if lease.proxy.host.startswith("203.0.113")]
    assert len(tries) == 1
    tries[0].release()
    again = next(lease for lease in (pool.acquire(SHOP) for _ in range(20)) if lease.proxy.host.startswith("203"))
    again.report(OK)
    assert (NETWORK, "shop.example") not in pool.bans()
    assert sum(pool.acquire(SHOP).proxy.host.startswith("203") for _ in range(20)) > 1


def test_others_learn_of_a_bar_and_of_its_end(clock: ManualClock) -> None:
    """It is collected as other bans are; one that a person lifted is over everywhere."""
    pool, other = pool_of(clock), pool_of(clock)
    use(pool, 12, clock)
    other.learn_bans(pool.collect_bans())
    assert (NETWORK, "shop.example") in other.bans()
    assert all(other.acquire(SHOP).proxy.host.startswith("198") for _ in range(20))
    ban = other.bans()[NETWORK, "shop.example"]
    lifted = {pair: type(ban)(clock.now(), 0, "lifted", clock.now() + 3600) for pair in other.bans()}
    other.learn_bans(lifted)
    assert any(other.acquire(SHOP).proxy.host.startswith("203") for _ in range(20))


def test_a_session_leaves_a_group_only_for_one_that_is_not_barred(clock: ManualClock) -> None:
    """A soft session moves outside; one that has to stay in the group keeps its proxy, and so does a hard one."""
    hard = pool_of(clock, sessions=SessionPolicy(hard=True))
    soft = pool_of(clock)
    names = [f"s{n}" for n in range(12)]
    for pool in (soft, hard):
        first = {name: pool.acquire(SHOP, session=name).proxy for name in names}
        assert {proxy.host.rpartition(".")[0] for proxy in first.values()} == {"203.0.113", "198.51.100"}
        use(pool, 12, clock)
        outside = {use.proxy.key for use in pool.snapshot() if use.proxy.host.startswith("198")}
        banned = {key for key, _ in pool.bans()}
        inside = [name for name, proxy in first.items() if proxy.host.startswith("203") and proxy.key not in banned]
        for name in inside:
            kept = pool.acquire(SHOP, session=name, exclude=outside).proxy.key
            assert kept == first[name].key
        for name in inside:
            lease = pool.acquire(SHOP, session=name)
            assert lease.proxy.host.startswith("203" if pool is hard else "198")
            if pool is soft:
                assert f"its network {NETWORK} is banned at shop.example" in lease.why


def test_a_pool_of_sketches_knows_its_groups(clock: ManualClock) -> None:
    """Groups are read from the sketches: no value is made of one that is passed over."""
    made = []

    def portray(key: str, sketch: Sketch) -> Proxy:
        if key:  # else what many sketches have in common is asked for
            made.append(key)
        return Proxy(key, "http", sketch[0].rpartition("/")[2].rpartition(":")[0], 80)

    pool = Pool("random", resolve=lambda _key: None, clock=clock, rng=random.Random(1), portray=portray)
    pool.stock({f"k{n}": (f"http://203.0.{n >> 8}.{n & 255}:80", "") for n in range(5120)})
    for _ in range(400):
        lease = pool.acquire(SHOP)
        clock.advance(0.05)
        lease.report(FORBIDDEN if lease.proxy.host.startswith(("203.0.1.", "203.0.2.")) else OK)
    assert {("203.0.1.0/24", "shop.example"), ("203.0.2.0/24", "shop.example")} <= set(pool.collect_bans())
    assert len(made) <= 400


STEP = st.tuples(st.sampled_from(["ok", "forbidden", "refused", "release", "wait"]), st.integers(0, 5))


@given(st.lists(STEP, max_size=60), st.sampled_from(["round_robin", "random", "bandit"]))
def test_groups_never_leave_a_request_without_a_proxy(steps: list[tuple[str, int]], strategy: str) -> None:
    """Whatever is reported: who is neither banned nor set aside serves, or has to rest for a moment."""
    clock = ManualClock()
    pool = pool_of(clock, [*urls("203.0.113", 3), *urls("198.51.100", 3)], strategy)
    for what, number in steps:
        if what == "wait":
            clock.advance(float(number))
            continue
        free = {use.proxy.key for use in pool.snapshot() if use.set_aside_until is None}
        banned = {key for key, site in pool.bans() if site == "shop.example"}
        try:
            lease = pool.acquire(f"{SHOP}{number}")
        except SiteResting:
            continue
        except PoolEmpty as exc:
            if free - banned and "have to rest" not in str(exc):
                raise
            continue
        if what == "release":
            lease.release()
        else:
            lease.report({"ok": OK, "forbidden": FORBIDDEN, "refused": REFUSED}[what])
