"""Bandit: which proxies work for which site is learnt, forgotten when it is no longer so, and bounded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.learning import Learning
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
        assert all(served[number] for number in mine)


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


def test_what_is_known_of_pairs_is_bounded() -> None:
    """On one site as on many, however many proxies come and go, no more is remembered than is said."""
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True, most_arms=100)
    for number in range(3000):
        state = ProxyState(f"k{number}", Proxy(f"k{number}", "http", "192.0.2.1", 8080))
        site = learning.site("one.example" if number < 1000 else f"s{number % 7}.example")
        learning.failed(state, site, BANNED, clock.monotonic(), proxies=10_000)
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
