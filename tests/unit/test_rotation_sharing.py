"""What processes tell each other of sites: who has learnt more stands, uses count for all, and each has its part."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.bans import BanLengths
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit
from proxywhirl.rotation.sites.sharing import (
    ANY_SITE,
    PRESENT_SECONDS,
    SiteRecord,
    SiteUser,
    merged,
    of_others,
)
from proxywhirl.testing import ManualClock

SITE = "shop.example"
TARGET = f"https://{SITE}/"
URLS = [f"http://203.0.{n}.1:80" for n in range(12)]
WINDOW, BAN = 10.0, 120.0
SERVED = Outcome(True, status=200, latency=0.1)
REFUSED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, rule="status-429")


class LimitedSite:
    """A site that each proxy may come to once in `WINDOW` seconds; else it is banned for `BAN`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}
        self._banned: dict[str, float] = {}
        self.refusals = 0

    def visit(self, pool: Pool) -> str:
        """Send a request through the pool, and again if it is refused; return the key that served it, if any."""
        tried: set[str] = set()
        for _ in range(4):
            try:
                lease = pool.acquire(f"{TARGET}{self._clock.monotonic()}", exclude=tried)
            except PoolEmpty:
                return ""
            key, now = lease.proxy.key, self._clock.monotonic()
            if now >= self._banned.get(key, 0.0) and now - self._used.get(key, -math.inf) >= WINDOW:
                self._used[key] = now
                lease.report(SERVED)
                return key
            if now >= self._banned.get(key, 0.0):
                self._banned[key] = now + BAN
            self.refusals += 1
            lease.report(REFUSED)
            tried.add(key)
        return ""


class Home:
    """Pools of several processes on one home, and what they wrote down."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.site = LimitedSite(self.clock)
        self.records: dict[str, SiteRecord] = {}
        self.pools: dict[str, Pool] = {}

    def open(self, name: str) -> Pool:
        """Begin a process."""
        pool = self.pools[name] = Pool.of(URLS, rng=random.Random(name), clock=self.clock)
        pool.learn_sites(self.records, name)
        return pool

    def exchange(self, *, last: str = "") -> None:
        """Let each process write and read; one of them may end."""
        for name, pool in self.pools.items():
            for site, record in pool.collect_sites(name, last=name == last).items():
                self.records[site] = merged(self.records.get(site), record, self.clock.now())
            bans = pool.collect_bans()
            for other in self.pools.values():
                if other is not pool:
                    other.learn_bans(bans)
        self.pools.pop(last, None)
        for name, pool in self.pools.items():
            pool.learn_sites(self.records, name)

    def run(self, seconds: float, every: float) -> Iterator[str]:
        """Send requests by each process in turn."""
        until, names = self.clock.monotonic() + seconds, list(self.pools)
        for turn in range(round(seconds / every)):
            yield self.site.visit(self.pools[names[turn % len(names)]])
            self.clock.advance(every)
            self.exchange()
        assert self.clock.monotonic() == pytest.approx(until)


def teach(home: Home) -> Pool:
    """Return a pool that has learnt the limit of the site."""
    pool = home.open("first")
    served = list(home.run(900.0, 0.75))
    assert home.site.refusals
    assert all(served[-100:].count(key) for key in set(served[-100:]) - {""})
    return pool


def test_a_later_process_keeps_to_the_limit_that_an_earlier_one_has_learnt() -> None:
    """It goes on from what was written down: nobody is banned for what was known."""
    home = Home()
    teach(home)
    home.exchange(last="first")
    home.clock.advance(BAN * 2)
    before = home.site.refusals
    home.open("second")
    served = list(home.run(120.0, 1.25))
    assert home.site.refusals - before <= 1
    assert sum(map(bool, served)) > 0.8 * len(served)


def test_two_processes_together_come_as_often_as_one_may() -> None:
    """Each counts the uses of the other one, and takes its own part of the proxies first."""
    home = Home()
    teach(home)
    home.open("second")
    home.exchange()
    before = home.site.refusals
    served = list(home.run(300.0, 1.0))
    assert home.site.refusals - before <= 4
    assert sum(map(bool, served)) > 0.75 * len(served)


def taught_beside(home: Home) -> tuple[Pool, Pool]:
    """Return a pool that has learnt the limit of the site, and one of another process beside it."""
    first = teach(home)
    second = home.open("second")
    home.exchange()
    return first, second


def test_a_use_elsewhere_is_a_use_here() -> None:
    """A proxy that another process has just used has to rest here too."""
    home = Home()
    first, second = taught_beside(home)
    home.clock.advance(WINDOW * 3)
    used = {home.site.visit(first) for _ in range(3)} - {""}
    home.clock.advance(0.1)
    home.exchange()
    site = second._chooser.learning.site(SITE)
    assert used
    assert all(site.tired(key, home.clock.monotonic()) for key in used)


def test_a_refusal_elsewhere_makes_others_come_first() -> None:
    """Before it is known whose failure it was, and no longer than a while."""
    home = Home()
    first, second = taught_beside(home)
    home.clock.advance(WINDOW * 3)
    lease = first.acquire(f"{TARGET}new")
    lease.report(REFUSED)
    home.clock.advance(0.1)
    home.exchange()
    site = second._chooser.learning.site(SITE)
    assert any(lease.proxy.key in table for table in site.avoided(home.clock.monotonic()))
    home.clock.advance(60.0)
    assert not any(lease.proxy.key in table for table in site.avoided(home.clock.monotonic()))


def test_a_process_that_ends_leaves_its_part() -> None:
    """At once where it says so, and after a while where it does not."""
    home = Home()
    for name in ("one", "other"):
        home.open(name)
    home.exchange()
    one = home.pools["one"]
    assert len(one._chooser.states.others) == len(URLS) / 2
    home.exchange(last="other")
    assert not one._chooser.states.others
    home.open("crashes")
    home.exchange()
    assert one._chooser.states.others
    home.pools.pop("crashes")
    for _ in range(30):
        home.clock.advance(PRESENT_SECONDS / 20)
        one.acquire(TARGET).report(SERVED)
        home.exchange()
    assert not one._chooser.states.others


def test_a_pool_without_bandit_takes_no_part() -> None:
    """Other strategies learn nothing of limits; they go on as ever."""
    pool = Pool.of(URLS, "random", rng=random.Random(1), clock=ManualClock())
    record = SiteRecord((5.0, 1.0), (3.0,), 1.0, {"a": SiteUser(1.0, (("k", 1.0, False),))})
    pool.learn_sites({SITE: record, ANY_SITE: record}, "me")
    pool.acquire(TARGET).report(REFUSED)
    assert pool.acquire(TARGET)


names = st.text("abc", min_size=1, max_size=3)
numbers = st.lists(st.floats(0, 100), min_size=1, max_size=4).map(tuple)
users = st.dictionaries(
    names, st.builds(SiteUser, seen=st.floats(900, 1000), rate=st.floats(0, 100), part=st.floats(0, 1)), max_size=5
)
records = st.builds(SiteRecord, limit=numbers, lengths=numbers, used=st.floats(0, 1000), users=users)


@given(records, records)
def test_who_has_learnt_from_more_stands(known: SiteRecord, new: SiteRecord) -> None:
    """Of what both say the one with more outcomes is taken whole; nobody who was silent for long is a user."""
    both = merged(known, new, 1000.0)
    assert both.limit in (known.limit, new.limit)
    assert both.limit[0] == max(known.limit[0], new.limit[0])
    assert both.lengths[0] == max(known.lengths[0], new.lengths[0])
    assert all(1000.0 - user.seen < PRESENT_SECONDS for user in both.users.values())
    assert merged(both, new, 1000.0).users.keys() == both.users.keys()


@given(records, records, st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=40))
def test_each_proxy_is_for_one_process(known: SiteRecord, new: SiteRecord, keys: set[str]) -> None:
    """The parts of all are all proxies, and none twice, where there are enough for everybody."""
    both = merged(known, SiteRecord(new.limit, new.lengths, new.used, new.users), 1000.0).users
    parts = {name: user.part for name, user in both.items()}
    own = [keys - of_others(keys, parts, name) for name in parts]
    if len(parts) > 1 and all(len(mine) < len(keys) for mine in own):
        assert sum(map(len, own)) == len(keys)
        assert set().union(*own) == keys


@given(st.lists(st.floats(0.1, 300.0), min_size=1, max_size=30), st.integers(0, 2**30))
def test_a_limit_goes_on_from_its_numbers(gaps: list[float], seed: int) -> None:
    """One that adopts what another has learnt believes the same, and tells the same."""
    rng, limit, times, now = random.Random(seed), LearnedRateLimit(), list[float](), 0.0
    for gap in gaps:
        now += gap
        if rng.random() < 0.4:
            limit.refused(times, now, whole=True)
            times.clear()
        else:
            limit.served(times, now)
            times.append(now)
    other = LearnedRateLimit()
    assert other.adopt(limit.numbers())
    assert other.numbers() == limit.numbers()
    assert (other.known, other.kept, other.gap) == (limit.known, limit.kept, limit.gap)
    assert other.rested(times, now + 1.0) == limit.rested(times, now + 1.0)
    assert not other.adopt(limit.numbers()[:-1])
    wild = list(limit.numbers())
    wild[3] = -1e9
    assert other.adopt(wild)
    assert 0.0 <= other.refuses_early <= 1.0


@given(st.lists(st.tuples(st.floats(1.0, 1e4), st.booleans(), st.floats(0, 1)), max_size=30))
def test_the_lengths_of_bans_go_on_from_their_numbers(returns: list[tuple[float, bool, float]]) -> None:
    """One that adopts what another has learnt waits as long."""
    lengths, other = BanLengths(), BanLengths()
    for elapsed, served, refused in returns:
        lengths.returned(elapsed, served=served, refused=refused)
    assert other.adopt(lengths.numbers())
    assert other.numbers() == lengths.numbers()
    assert all(other.over(a) <= other.over(b) for a, b in pairwise((1.0, 60.0, 1e4)))
    assert not any(other.adopt(numbers) for numbers in ((), (1.0,), (1.0, 0.0, 1.0)))


def test_a_success_that_was_under_way_when_a_ban_began_does_not_end_it() -> None:
    """It tells nothing of the time after the refusal, which may be known from another process."""
    clock = ManualClock()
    pool = Pool.of(URLS[:3], "round_robin", rng=random.Random(1), clock=clock)
    leases = [pool.acquire(f"{TARGET}a") for _ in range(6)]
    clock.advance(1.0)
    leases[1].report(SERVED)
    leases[0].report(REFUSED)
    banned = leases[0].proxy.key, SITE
    assert banned in pool.bans()
    clock.advance(0.1)
    assert leases[3].proxy.key == banned[0]
    leases[3].report(SERVED)
    assert banned in pool.bans()


def test_where_a_limit_is_kept_all_that_are_refused_have_met_it() -> None:
    """That everybody is refused is not taken for the site's fault: they are banned."""
    home = Home()
    pool = teach(home)
    home.clock.advance(1200.0)
    limit = pool._chooser.learning.sites[SITE].rate_limit
    assert limit.kept
    leases = [pool.acquire(f"{TARGET}{n}") for n in range(len(URLS))]
    for lease in leases:
        home.clock.advance(0.01)
        lease.report(REFUSED)
    assert pool._chooser.learning.sites[SITE].at_fault == ""
    assert len(pool.bans()) == len({lease.proxy.key for lease in leases})
