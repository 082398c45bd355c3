"""What a resting site and a silent one mean beyond the moment: other pools, restarts, and the proxies that met them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest

from proxywhirl.errors import Blame, PoolEmpty, SiteResting
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.verdicts.response import SILENT
from proxywhirl.testing.clock import ManualClock

SHOP, OTHER = "http://shop.example/", "http://other.example/"
PAGES = (f"http://shop.example/{number}" for number in count())
OK = Outcome(True, latency=0.1, status=200)
BUSY = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503, rule="status-503", retry_after=30.0)
LIMITED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, rule="status-429", retry_after=600.0)
HANGS = Outcome(False, blame=Blame.PROXY, rule=SILENT, error="no answer in time")
REFUSED = Outcome(False, blame=Blame.PROXY, error="refused")
URLS = [f"http://192.0.2.{n}:80" for n in range(1, 9)]


def pool_on(clock: ManualClock, strategy: str = "round_robin") -> Pool:
    """Make a pool of eight that have all served somewhere."""
    pool = Pool.of(URLS, strategy, clock=clock, rng=random.Random(1))
    keys = set(pool.keys())
    for key in sorted(keys):
        pool.acquire(OTHER, exclude=keys - {key}).report(OK)
    return pool


def serve(pool: Pool, pages: int = 12) -> None:
    """Let the shop serve so many pages, so that it is known for failing seldom."""
    for _ in range(pages):
        pool.acquire(next(PAGES)).report(OK)


def aside(pool: Pool) -> int:
    """Count those that are set aside."""
    return sum(use.set_aside_until is not None for use in pool.snapshot())


def test_a_site_that_rests_does_so_in_another_pool_and_after_a_restart() -> None:
    """What one pool finds out keeps another from asking, as long as the site asked for; a success there frees both."""
    clock = ManualClock()
    pools = pool_on(clock), pool_on(clock)
    serve(pools[0])
    for _ in range(3):
        pools[0].acquire(next(PAGES)).report(BUSY)
    pools[1].learn_bans(pools[0].collect_bans())
    with pytest.raises(SiteResting) as resting:
        pools[1].acquire(SHOP)
    assert 29 < resting.value.retry_after <= 30
    assert pools[1].bans() == {}
    clock.advance(31)
    pools[1].acquire(SHOP).report(OK)
    pools[0].learn_bans(pools[1].collect_bans())
    for _ in range(3):
        pools[0].acquire(SHOP).report(OK)


@pytest.mark.parametrize("strategy", ["round_robin", "bandit"])
def test_those_that_a_site_limits_keep_nobody_else_from_it(strategy: str) -> None:
    """Those that are to come back in ten minutes are left alone so long; what they were refused others are served."""
    clock = ManualClock()
    pool = pool_on(clock, strategy)
    leases = [pool.acquire(next(PAGES)) for _ in range(4)]
    for lease in leases:
        lease.report(LIMITED)
    for lease in leases:
        assert lease.page is not None
        pool.acquire(Target("http", "shop.example", 80, page=lease.page)).report(OK)
    limited = {lease.proxy.key for lease in leases}
    assert {key for key, _ in pool.collect_bans()} == limited
    clock.advance(595)
    for _ in range(40):
        lease = pool.acquire(SHOP)
        assert lease.proxy.key not in limited
        lease.report(OK)
    assert aside(pool) == 0


def ask_on(ask: Callable[[], None], times: int) -> None:
    """Ask so often, unless it is an error before."""
    for _ in range(times):
        ask()


@pytest.mark.parametrize("strategy", ["round_robin", "bandit"])
def test_where_a_site_limits_everybody_nobody_asks_before_the_time_it_named(strategy: str) -> None:
    """All find that out, on pages that differ; then the request is told when the first may come back."""
    clock = ManualClock()
    pool = pool_on(clock, strategy)
    began = clock.monotonic()

    def ask() -> None:
        pool.acquire(next(PAGES)).report(LIMITED)
        clock.advance(1)

    with pytest.raises(PoolEmpty) as empty:
        ask_on(ask, 3 * len(URLS))
    assert empty.value.retry_after is not None
    assert 590 <= clock.monotonic() - began + empty.value.retry_after <= 750
    assert aside(pool) == 0


def test_a_site_that_hangs_sets_nobody_aside() -> None:
    """Proxies that work and stay silent on one site, one after another, are not to blame; the site rests."""
    clock = ManualClock()
    pool = pool_on(clock)
    serve(pool)
    for _ in range(3):
        pool.acquire(next(PAGES)).report(HANGS)
    assert aside(pool) == 0
    assert all(use.failed == 0 for use in pool.snapshot())
    trial = pool.acquire(SHOP)
    with pytest.raises(SiteResting):
        pool.acquire(SHOP)
    trial.report(HANGS)
    clock.advance(2)
    pool.acquire(SHOP).report(HANGS)
    assert aside(pool) == 0


def test_a_page_that_hangs_sets_nobody_aside() -> None:
    """Silence at one page through all proxies that work is the page's: no proxy fails by it, and no site rests."""
    pool = pool_on(ManualClock())
    for _ in range(24):
        pool.acquire(SHOP).report(HANGS)
    assert aside(pool) == 0
    assert all(use.failed == 0 for use in pool.snapshot())
    pool.acquire(next(PAGES)).report(OK)


def test_one_that_is_silent_where_others_serve_is_to_blame() -> None:
    """As long as the site answers through others, silence is the proxy's failure."""
    clock = ManualClock()
    pool = pool_on(clock)
    for _ in range(3):
        pool.acquire(SHOP).report(HANGS)
        pool.acquire(SHOP).report(OK)
    assert aside(pool) == 3


def test_proxies_that_refuse_are_to_blame_however_many_they_are() -> None:
    """What fails before the proxy is reached says nothing of the site: three dead ones in a row are three dead ones."""
    clock = ManualClock()
    pool = pool_on(clock)
    for _ in range(3):
        pool.acquire(SHOP).report(REFUSED)
    assert aside(pool) == 3
    pool.acquire(SHOP).report(OK)


def test_those_of_which_nothing_is_known_are_no_witnesses_of_silence() -> None:
    """New proxies that hang, as half of a public list does, are set aside, and the site is asked through others."""
    clock = ManualClock()
    pool = Pool.of(URLS, "round_robin", clock=clock, rng=random.Random(1))
    for _ in range(6):
        pool.acquire(SHOP).report(HANGS)
    assert aside(pool) == 6
    pool.acquire(SHOP).report(OK)
