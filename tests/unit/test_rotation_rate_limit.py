"""A site's limit by rate: it is learnt from bans, kept to, and told from what else a site refuses for."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.learning import Learning
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit, SiteUses
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
FAILED = Outcome(False, blame=Blame.PROXY)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="forbidden")
SITE = "http://shop.example/"


class Limiting:
    """A site that lets each proxy come so many times in so many seconds, and bans who comes once more."""

    def __init__(self, uses: int, window: float, ban: float = 120.0) -> None:
        self.uses, self.window, self.ban = uses, window, ban
        self.came: dict[str, deque[float]] = {}
        self.until: dict[str, float] = {}
        self.bans = 0

    def answer(self, key: str, now: float) -> Outcome:
        """Answer one request."""
        came = self.came.setdefault(key, deque())
        while came and came[0] <= now - self.window:
            came.popleft()
        if now < self.until.get(key, 0.0):
            return BANNED
        if len(came) >= self.uses:
            self.until[key] = now + self.ban
            self.bans += 1
            came.clear()
            return BANNED
        came.append(now)
        return OK


def pool_of(count: int, clock: ManualClock, seed: int = 1) -> Pool:
    """Return a pool of the strategy that learns."""
    pool = Pool("bandit", resolve=lambda _key: None, rng=random.Random(seed), clock=clock)
    pool.update(Proxy(str(n), "http", "192.0.2.1", 8080) for n in range(count))
    return pool


def send(pool: Pool, site: Limiting, clock: ManualClock, requests: int, every: float) -> int:
    """Send requests at an even pace; return how many were served."""
    served = 0
    for _ in range(requests):
        clock.advance(every)
        try:
            lease = pool.acquire(SITE)
        except PoolEmpty:
            continue
        outcome = site.answer(lease.proxy.key, clock.monotonic())
        lease.report(outcome)
        served += outcome.ok
    return served


def send_all(pool: Pool) -> None:
    """Send requests at one moment, until nobody can serve one."""
    for _ in range(50):
        pool.acquire(SITE).report(OK)


@settings(max_examples=30)
@given(uses=st.integers(1, 8), window=st.floats(5, 600), load=st.floats(1.1, 2.0), seed=st.integers(0, 10**6))
def test_a_limit_is_learnt_from_what_comes_of_uses_at_random_moments(
    uses: int, window: float, load: float, seed: int
) -> None:
    """After some hundred bans, a proxy that came as often as it may is due again when the site's window is over."""
    rate_limit, now, rng = LearnedRateLimit(), 0.0, random.Random(seed)
    for _ in range(300):
        history, true = SiteUses(), deque[float](maxlen=uses)
        history.whole = True
        for _ in range(20):
            now += rng.expovariate(load * uses / window)
            history.open.append(now)
            if len(true) == uses and now - true[0] < window:
                rate_limit.refused(history.before(now), now, whole=True)
                break
            assert history.end(now)
            rate_limit.served(history.count(now), now)
            true.append(now)
    burst = [now + 0.001 * n for n in range(uses)]
    assert rate_limit.known
    assert rate_limit.rested(burst, burst[0] + 1.2 * window) >= 1.0
    assert rate_limit.rested(burst, burst[0] + 0.7 * window) < 1.0


def test_a_site_that_bans_by_rate_is_kept_to_its_rate() -> None:
    """At 70 % of what 20 proxies may carry, nearly all requests are served, and bans end after the first minutes."""
    clock, site = ManualClock(), Limiting(uses=3, window=60.0)
    pool = pool_of(20, clock)
    every = 60.0 / (20 * 3 * 0.7)
    send(pool, site, clock, 1000, every)
    before = site.bans
    assert send(pool, site, clock, 1000, every) > 980
    assert site.bans - before <= 5


def test_more_than_a_site_allows_is_not_sent() -> None:
    """At twice what it allows, most of that is served; few are banned, and the error says when to come."""
    clock, site = ManualClock(), Limiting(uses=2, window=60.0, ban=600.0)
    pool = pool_of(10, clock)
    send(pool, site, clock, 2000, 1.5)
    before = site.bans
    assert send(pool, site, clock, 2000, 1.5) > 0.6 * 1000
    assert site.bans - before < 20
    with pytest.raises(PoolEmpty, match="have to rest") as caught:
        send_all(pool)
    assert caught.value.retry_after is not None
    assert 0 <= caught.value.retry_after < 60


@pytest.mark.parametrize(
    ("count", "every", "share", "seed"), [(5, 1.0, 0.02, 1), (20, 0.2, 0.02, 1), (100, 1.0, 0.1, 2)]
)
def test_pages_that_a_site_refuses_to_everybody_are_no_limit(count: int, every: float, share: float, seed: int) -> None:
    """Where some pages are refused whoever asks, and again and again, the others go on being served."""
    clock, rng = ManualClock(), random.Random(seed)
    pool = pool_of(count, clock)
    wanted = served = 0
    for number in range(3000):
        clock.advance(rng.expovariate(1 / every))
        forbidden = rng.random() < share
        wanted += not forbidden
        tried: set[str] = set()
        while len(tried) < 5:
            try:
                lease = pool.acquire(f"{SITE}{number}", exclude=tried)
            except PoolEmpty:
                break
            tried.add(lease.proxy.key)
            lease.report(BANNED if forbidden else OK)
            if not forbidden:
                served += 1
                break
    assert served > 0.9 * wanted


def test_a_limit_that_a_site_gives_up_is_found_out() -> None:
    """Though nobody comes too early, some do now and then: soon after the limit is gone, all are served."""
    clock, site = ManualClock(), Limiting(uses=2, window=60.0, ban=60.0)
    pool = pool_of(10, clock, seed=3)
    send(pool, site, clock, 3000, 1.5)
    assert pool._chooser.learning.peek("shop.example").rate_limit.kept
    site.uses = 10**6
    send(pool, site, clock, 3000, 1.5)
    assert send(pool, site, clock, 1000, 1.5) == 1000


def test_what_the_proxy_let_fail_is_no_use_of_the_site() -> None:
    """Failures at the proxy do not count towards the site's limit, nor does what was never told of stay open."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True)
    state = ProxyState("a", Proxy("a", "http", "192.0.2.1", 8080))
    site = learning.site("shop.example")
    learning.served(ProxyState("b", Proxy("b", "http", "192.0.2.1", 8080)), site, 0.0)
    learning.failed(state, site, BANNED, 0.0, proxies=9)
    uses = site.arms["a"].uses
    learning.used(state, site, 1.0)
    learning.ended(state, site, 1.0, came=False)
    assert list(uses.all()) == []
    learning.used(state, site, 2.0)
    learning.ended(state, site, 2.0, came=True)
    learning.used(state, site, 3.0)
    learning.served(state, site, 3.1, use=3.0)
    assert (list(uses.served), uses.open) == ([2.0, 3.0], [])


def used_alike() -> tuple[Pool, ManualClock]:
    """Return a pool whose five proxies were each used twice, second by second, until the site refused one."""
    clock = ManualClock()
    pool = pool_of(5, clock)
    for page in range(10):
        pool.acquire(f"{SITE}{page}").report(OK)
        clock.advance(1.0)
    pool.acquire(f"{SITE}10").report(BANNED)
    return pool, clock


def test_who_was_used_as_much_as_one_that_is_refused_waits_a_moment() -> None:
    """All are about to meet the limit that one met, if it is one: the next request is told to ask again soon."""
    pool, clock = used_alike()
    with pytest.raises(PoolEmpty, match="have to rest") as caught:
        pool.acquire(f"{SITE}11")
    assert caught.value.retry_after is not None
    assert 0.0 < caught.value.retry_after < 1.0
    clock.advance(2.1)
    assert pool.acquire(f"{SITE}11")


def test_a_request_that_was_refused_waits_less() -> None:
    """It shows whose failure it was: after half a second it goes to another proxy."""
    pool, clock = used_alike()
    tried = {proxy for proxy, _ in pool.bans()}
    clock.advance(0.6)
    with pytest.raises(PoolEmpty):
        pool.acquire(f"{SITE}11")
    lease = pool.acquire(f"{SITE}10", exclude=tried)
    assert lease.proxy.key not in tried


@given(st.floats(0.0, 0.2), st.integers(4, 6))
def test_refusals_that_nobody_explains_show_a_limit(failing: float, refusals: int) -> None:
    """Where all come too early no page is served that would show whose failures these are: the limit is obeyed."""
    limit = LearnedRateLimit()
    limit.refused([0.0], 50.0, whole=True)
    for use in range(refusals):
        limit.suspect([100.0 * use], 100.0 * use + 30.0, 100.0 * use + 31.0, failing=failing, again=False)
    assert limit.kept


def test_a_use_that_was_under_way_at_the_first_refusal_counts() -> None:
    """When a site refuses somebody for the first time, nobody's last use is missing: the rests would seem longer."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True)
    site = learning.site("shop.example")
    state, other = (ProxyState(key, Proxy(key, "http", "192.0.2.1", 8080)) for key in "ab")
    learning.served(state, site, 1.0, use=0.9)
    learning.failed(other, site, BANNED, 5.0, proxies=9)
    learning.served(state, site, 5.5, use=4.8)
    assert list(site.arms["a"].uses.served) == [0.9, 4.8]


def test_a_proxy_that_may_be_banned_teaches_nothing_of_the_limit() -> None:
    """Refused twice by one sign, only its first refusal shows a rest that was too short; a success begins anew."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True)
    site = learning.site("shop.example")
    state = ProxyState("a", Proxy("a", "http", "192.0.2.1", 8080), good=5.0)
    learning.failed(ProxyState("b", Proxy("b", "http", "192.0.2.1", 8080)), site, BANNED, 0.0, proxies=9, page=1)
    for use, page in ((1.0, 2), (2.0, 3), (9.0, 4)):
        learning.used(state, site, use)
        if page == 2:
            learning.served(state, site, use, use=use, page=page)
        else:
            learning.failed(state, site, BANNED, use, proxies=9, use=use, page=page)
    uses = [failure.use for failure in site.evidence.suspects["a"]]
    assert uses == [2.0, None]
    learning.used(state, site, 12.0)
    learning.served(state, site, 12.0, use=12.0, page=5)
    assert not site.arms["a"].uses.refused


@given(st.lists(st.integers(0, 2), min_size=30, max_size=60), st.integers(1, 9))
def test_each_site_goes_round_all_proxies(sites: list[int], seed: int) -> None:
    """In whatever order sites are asked for, a proxy comes back to one when all the others were there."""
    clock = ManualClock()
    pool = pool_of(5, clock, seed)
    came: dict[int, list[str]] = {}
    for known in range(5):  # what is not known of a proxy is no reason to pass it over
        others = {key for place, key in enumerate(pool.keys()) if place != known}
        pool.acquire(exclude=others).report(Outcome(True, status=200))
    for number, site in enumerate(sites):
        lease = pool.acquire(f"http://shop{site}.example/{number}")
        lease.report(Outcome(True, status=200))
        came.setdefault(site, []).append(lease.proxy.key)
    for keys in came.values():
        assert all(len(set(keys[at : at + 5])) == len(keys[at : at + 5]) for at in range(len(keys)))


def test_moments_of_use_are_bounded() -> None:
    """However often a proxy is used, some twenty moments are remembered."""
    uses = SiteUses()
    for now in range(1000):
        uses.open.append(float(now))
        uses.end(float(now))
        uses.count(float(now))
    assert len(uses.all()) == 20


def test_who_comes_too_early_is_no_witness_against_the_site() -> None:
    """Many that are refused for their own haste stay banned: the site is not found to refuse everybody."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True)
    site = learning.site("shop.example")
    states = [ProxyState(f"k{n}", Proxy(f"k{n}", "http", "192.0.2.1", 8080), good=5.0) for n in range(20)]
    learning.failed(states[0], site, BANNED, 0.0, proxies=20)
    now = 0.0
    for state in states[1:]:
        for _ in range(2):
            now += 1.0
            clock.advance(1.0)
            learning.used(state, site, now)
            learning.served(state, site, now, use=now)
    for state in states[1:]:
        last = site.arms[state.key].uses.served[-1] + 0.5
        learning.used(state, site, last)
        learning.failed(state, site, BANNED, now, proxies=20, use=last)
    assert site.rate_limit.known
    assert not site.at_fault
    assert len(site.barred) >= 18


def test_how_long_a_site_bans_is_learnt_from_those_that_come_back() -> None:
    """Who served, was banned and is refused when the ban should be over makes first bans longer, for all."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True)
    site = learning.site("shop.example")
    states = [ProxyState(f"k{n}", Proxy(f"k{n}", "http", "192.0.2.1", 8080)) for n in range(9)]
    learning.failed(states[8], site, BANNED, 0.0, proxies=9)
    for state in states[:8]:
        learning.served(state, site, clock.monotonic())
        learning.failed(state, site, BANNED, clock.monotonic(), proxies=9)
        clock.advance(1000.0)
        learning.failed(state, site, BANNED, clock.monotonic(), proxies=9)
        learning.served(states[8], site, clock.monotonic())
    learning.served(states[0], site, clock.monotonic())
    learning.failed(states[0], site, BANNED, clock.monotonic(), proxies=9)
    assert site.barred.at["k0"] - clock.monotonic() > 240.0
