"""Bandit: which proxies work for which site is learnt, forgotten when it is no longer so, and bounded."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.learning import Learning
from proxywhirl.rotation.sites.site import Site
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="forbidden")
A, B = "http://a.example/", "http://b.example/"


class World:
    """Proxies on a clock, each request ten seconds after the one before."""

    def __init__(self, count: int, answer: Callable[[int, str, random.Random], Outcome], seed: int = 1) -> None:
        self.answer = answer
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.pool = Pool("bandit", resolve=lambda _key: None, rng=random.Random(seed), clock=self.clock)
        self.pool.update(Proxy(str(n), "http", "192.0.2.1", 8080) for n in range(count))

    def run(self, requests: int, site: str = A) -> tuple[float, Counter[int]]:
        """Send requests; return the share that succeeded, and who served."""
        good, served = 0, Counter[int]()
        for _ in range(requests):
            self.clock.advance(10.0)
            with self.pool.acquire(site) as lease:
                number = int(lease.proxy.key)
                outcome = self.answer(number, site, self.rng)
                good += outcome.ok
                served[number] += 1
                lease.report(outcome)
        return good / requests, served


def test_it_learns_which_proxies_work_for_which_site() -> None:
    """Of 40, half are banned by one site and half by the other: each site gets those that work there, 19 times in 20.

    Whoever chooses evenly succeeds one time in two. The bans themselves end again and again, so that this is learnt.
    """

    def answer(number: int, site: str, _rng: random.Random) -> Outcome:
        return OK if (number < 20) == (site == A) else BANNED

    world = World(40, answer)
    for _ in range(50):
        world.run(10, A)
        world.run(10, B)
    for site, mine in ((A, range(20)), (B, range(20, 40))):
        share, served = world.run(1000, site)
        assert share > 0.95
        assert sum(served[number] for number in mine) > 950
        assert sum(served[number] > 0 for number in mine) >= 5  # an eighth of the pool


def test_the_reliable_serve_more_than_the_flaky() -> None:
    """Ten that fail in half of their requests get less than a quarter of what ten good ones get."""
    world = World(20, lambda number, _site, rng: REFUSED if number < 10 and rng.random() < 0.5 else OK)
    world.run(1000)
    share, served = world.run(3000)
    assert share > 0.9
    assert sum(served[number] for number in range(10)) < 600


def test_those_of_which_nothing_is_known_are_tried() -> None:
    """Each of twenty newcomers beside twenty good ones serves within 5,000 requests."""
    world = World(20, lambda _number, _site, _rng: OK)
    world.run(500)
    world.pool.update(Proxy(str(n), "http", "192.0.2.1", 8080) for n in range(20, 40))
    assert set(range(20, 40)) <= set(world.run(5000)[1])


def test_a_proxy_that_was_repaired_is_found_again() -> None:
    """After hours of nothing but failures, which weigh half after six, it has its share two days later."""
    world = World(10, lambda number, _site, _rng: REFUSED if number == 0 else OK)
    world.run(3000)
    world.answer = lambda _number, _site, _rng: OK
    world.run(2 * 8640)
    assert world.run(1000)[1][0] > 50


def test_a_site_that_stops_to_ban_is_served_by_all_again() -> None:
    """Those that a site had banned serve it again within two days after it wants them."""
    world = World(10, lambda number, _site, _rng: BANNED if number < 5 else OK)
    world.run(1000)
    world.answer = lambda _number, _site, _rng: OK
    world.run(2 * 8640)
    assert set(range(5)) <= set(world.run(1000)[1])


def taking(seconds: float) -> Outcome:
    """Return a success that took so long."""
    return Outcome(True, latency=seconds, status=200)


def test_among_those_that_are_as_good_the_quicker_serve() -> None:
    """Of twenty that always serve, five quick ones get nine in ten requests; each of the others is tried still."""
    world = World(20, lambda number, _site, rng: taking(math.exp(rng.gauss(0.0, 0.3)) * (0.2 if number < 5 else 1.0)))
    world.run(500)
    _, served = world.run(4000)
    assert sum(served[number] for number in range(5)) > 3600
    assert len(served) == 20


def test_a_quick_one_that_fails_is_not_as_good() -> None:
    """Who fails one time in four is passed over, however quick it is."""
    world = World(
        20, lambda number, _site, rng: REFUSED if number < 5 and rng.random() < 0.25 else taking(0.1 + (number >= 5))
    )
    world.run(1000)
    share, served = world.run(2000)
    assert share > 0.95
    assert sum(served[number] for number in range(5)) < 300


def test_one_that_became_quicker_shows_it() -> None:
    """The slowest of twenty becomes the quickest, and serves a quarter of the requests soon after."""
    world = World(20, lambda number, _site, _rng: taking(3.0 if number == 0 else 1.0 + number / 20))
    world.run(1000)
    world.answer = lambda number, _site, _rng: taking(0.1 if number == 0 else 1.0 + number / 20)
    world.run(4000)
    assert world.run(1000)[1][0] > 250


def test_a_site_that_limits_by_rate_gets_the_load_spread() -> None:
    """Where each may come once in 100 s, time costs no proxies; elsewhere the quick ones serve most all the same."""
    used: dict[int, float] = {}

    def answer(number: int, site: str, _rng: random.Random) -> Outcome:
        if site == A:
            early, used[number] = world.clock.monotonic() - used.get(number, -1e9) < 100.0, world.clock.monotonic()
            if early:
                return BANNED
        return taking(0.1 if number < 4 else 1.0)

    world = World(20, answer)
    world.run(1000, B)
    world.run(1000, A)
    share, spread = world.run(2000, A)
    assert share > 0.97
    assert max(spread.values()) < 3 * min(spread.values())
    assert sum(world.run(2000, B)[1][number] for number in range(4)) > 1600


def test_where_refusals_have_nothing_to_do_with_rate_the_quick_serve() -> None:
    """A site that refuses a fifth of all proxies for ever gets the quick ones of the others, as any site does."""
    world = World(20, lambda number, _site, _rng: BANNED if number % 5 == 0 else taking(0.1 if number < 5 else 1.0))
    world.run(2000)
    share, served = world.run(2000)
    assert share > 0.97
    assert sum(served[number] for number in range(5)) > 1600


def test_a_slow_one_is_not_chosen_for_a_short_deadline() -> None:
    """Of twenty that serve alike, those that take 5 s get none of the requests that have 1 s; alone, they serve."""
    world = World(20, lambda number, _site, _rng: taking(5.0 if number < 15 else 0.8))
    for _ in range(500):
        with world.pool.acquire(A) as lease:
            lease.report(world.answer(int(lease.proxy.key), A, world.rng))
    chosen = Counter(int(world.pool.acquire(A, within=1.0).proxy.key) for _ in range(500))
    assert sum(chosen[number] for number in range(15)) == 0
    assert world.pool.explain(A, within=1.0).proxy is not None
    slow = {str(number) for number in range(15)}
    assert world.pool.acquire(A, within=1.0, exclude={str(number) for number in range(15, 20)}).proxy.key in slow


def test_a_deadline_at_a_slow_site_is_that_of_the_site() -> None:
    """Where a site takes ten times as long as the others, those that are quick elsewhere are in time there no more."""
    world = World(20, lambda number, site, _rng: taking((1.0 if number < 10 else 0.2) * (10.0 if site == B else 1.0)))
    for number in range(3000):
        site = B if number % 2 else A
        with world.pool.acquire(site) as lease:
            lease.report(world.answer(int(lease.proxy.key), site, world.rng))
    assert all(int(world.pool.acquire(B, within=3.0).proxy.key) >= 10 for _ in range(200))


def priced(worth: float | None, clock: ManualClock) -> Pool:
    """Return a pool of ten proxies that cost 8 for 10⁹ bytes, and ten that cost nothing."""
    pool = Pool("bandit", resolve=lambda _key: None, rng=random.Random(1), clock=clock, success_worth=worth)
    pool.update(
        Proxy(str(n), "http", "192.0.2.1", 8080, attributes=Attributes(price_per_gb=8.0 if n < 10 else None))
        for n in range(20)
    )
    return pool


def dear_uses(pool: Pool, clock: ManualClock, cheap_serves: float, moved: int = 10**6) -> float:
    """Let all be used for a while; return which part of the requests the dear ones get after that."""
    rng, dear = random.Random(1), 0
    for request in range(3000):
        clock.advance(1.0)
        with pool.acquire(A) as lease:
            is_dear = int(lease.proxy.key) < 10
            ok = is_dear or rng.random() < cheap_serves
            dear += is_dear and request >= 1000
            lease.report(Outcome(ok, latency=0.1, bytes_down=moved) if ok else REFUSED)
    return dear / 2000


def test_what_costs_more_than_it_brings_is_not_used() -> None:
    """A megabyte costs 0.008: where a success is worth 0.02, the cheap serve, as long as they serve three in four."""
    for cheap_serves, least, most in ((1.0, 0.0, 0.05), (0.85, 0.0, 0.2), (0.2, 0.8, 1.0)):
        clock = ManualClock()
        assert least <= dear_uses(priced(0.02, clock), clock, cheap_serves) <= most


def test_without_a_worth_and_for_nothing_prices_do_not_count() -> None:
    """Where nobody said what a success is worth, or where uses move next to nothing, the dear get their half."""
    for worth, moved in ((None, 10**6), (0.02, 100)):
        clock = ManualClock()
        assert 0.35 < dear_uses(priced(worth, clock), clock, 1.0, moved) < 0.65


def test_newcomers_are_alike_whichever_way_they_came() -> None:
    """A pool that was filled by `update` chooses as one that was filled by `stock`, request by request."""
    chosen = []
    for sketched in (False, True):
        clock, rng = ManualClock(), random.Random(1)
        proxies = [Proxy(str(n), "http", "192.0.2.1", 8080) for n in range(40)]
        pool = Pool(
            "bandit",
            resolve=lambda _key: None,
            rng=random.Random(1),
            clock=clock,
            portray=lambda key, _sketch: Proxy(key, "http", "192.0.2.1", 8080),
        )
        if sketched:
            pool.stock({proxy.key: (proxy.url, "") for proxy in proxies})
        else:
            pool.update(proxies)
        keys = []
        for _ in range(500):
            clock.advance(1.0)
            with pool.acquire(A) as lease:
                keys.append(lease.proxy.key)
                lease.report(OK if int(lease.proxy.key) < 10 or rng.random() < 0.5 else REFUSED)
        chosen.append(keys)
    assert chosen[0] == chosen[1]


def test_the_few_that_work_are_found_again_among_many() -> None:
    """Of 2,000 one in fifty works: after 300 requests four in five are served, and most were never tried."""
    world = World(2000, lambda number, _site, _rng: OK if number % 50 == 0 else REFUSED)
    _, served = world.run(300)
    share, more = world.run(500)
    assert share > 0.8
    assert len(served | more) < 1000


def test_first_uses_of_a_site_count_as_seldom_as_they_were_served() -> None:
    """Half of 60 are refused at one site and serve elsewhere: who served there goes on, and few others are tried."""
    world = World(60, lambda number, site, _rng: BANNED if site == A and number % 2 else OK)
    for _ in range(30):
        world.run(10, B)
        world.run(2, A)
    _, first = world.run(300, A)
    refused = sum(first[number] for number in range(1, 60, 2))
    assert refused < 20
    assert world.pool._chooser.learning.peek("a.example").first_uses < 0.9


def test_what_costs_more_than_it_brings_is_used_where_nothing_else_is() -> None:
    """Where all cost more than a success is worth, requests are served all the same, known site or not."""
    clock = ManualClock()
    pool = priced(1e-9, clock)
    pool.discard(str(number) for number in range(10, 20))
    for _ in range(50):
        pool.acquire(A).report(Outcome(True, latency=0.1, bytes_down=10**6))


def ban(learning: Learning, state: ProxyState, site: Site, now: float) -> None:
    """Let a site refuse a proxy a page that it served to another one."""
    learning.served(ProxyState("other", Proxy("other", "http", "192.0.2.1", 8080)), site, now, page=1)
    learning.failed(state, site, BANNED, now, proxies=10_000, page=1)


def test_what_is_known_of_pairs_is_bounded() -> None:
    """On one site as on many, however many proxies come and go, no more is remembered than is said."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True, most_arms=100)
    for number in range(3000):
        state = ProxyState(f"k{number}", Proxy(f"k{number}", "http", "192.0.2.1", 8080))
        site = learning.site("one.example" if number < 1000 else f"s{number % 7}.example")
        ban(learning, state, site, clock.monotonic())
        learning.served(state, site, clock.monotonic())
        assert sum(len(each.arms) for each in learning.sites.values()) <= 100
        assert state.key in site.arms


def test_sites_that_are_forgotten_take_no_knowledge_of_others_with_them() -> None:
    """Arms that went with their sites count no more: after 10,000 sites of two the bound of 9,000 is not reached."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True, most_arms=9000)
    states = [ProxyState(f"k{number}", Proxy(f"k{number}", "http", "192.0.2.1", 8080)) for number in range(2)]
    for number in range(10_000):
        site = learning.site(f"s{number}.example")
        for state in states:
            learning.failed(state, site, BANNED, clock.monotonic(), proxies=10_000)
            learning.served(state, site, clock.monotonic())
    assert all(len(site.arms) == 2 for site in learning.sites.values())
