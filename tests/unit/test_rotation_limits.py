"""Limits for each proxy: how many a second, how many at once, how soon again on one site; and what is never leaked."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.testing.clock import ManualClock

SHOP = "http://shop.example/"
OK = Outcome(True, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY)


def pool_of(
    size: int, limits: Limits | None = None, clock: ManualClock | None = None, strategy: str = "random"
) -> Pool:
    """Make a pool of so many."""
    urls = [f"http://10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(size)]
    return Pool.of(urls, strategy, limits=limits or Limits(), clock=clock or ManualClock(), rng=random.Random(2))


@given(st.floats(0.1, 50.0), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=80))
def test_no_window_has_more_requests_than_the_limit_and_one(rate: float, pauses: list[float]) -> None:
    """However requests come, within any span of time the proxy serves at most as many as fit it, and one."""
    clock = ManualClock()
    pool = pool_of(1, Limits(requests_per_second=rate), clock)
    served = []
    for pause in pauses:
        clock.advance(pause)
        try:
            pool.acquire().release()
        except PoolEmpty:
            continue
        served.append(clock.monotonic())
    for first, begin in enumerate(served):
        for last, end in enumerate(served[first:], first):
            assert last - first + 1 <= (end - begin) * rate + 1 + 1e-6


def test_the_error_says_when_the_limit_allows_the_next() -> None:
    """To wait for so long is enough, and a moment less is not."""
    clock = ManualClock()
    pool = pool_of(2, Limits(requests_per_second=0.25), clock)
    pool.acquire().report(OK)
    clock.advance(1.0)
    pool.acquire().report(OK)
    with pytest.raises(PoolEmpty, match="2 are at their limit of requests") as empty:
        pool.acquire()
    assert empty.value.retry_after == 3.0
    clock.advance(2.99)
    with pytest.raises(PoolEmpty):
        pool.acquire()
    clock.advance(0.011)
    pool.acquire().report(OK)


def test_never_more_at_once_than_the_limit() -> None:
    """Eight threads on three proxies with two uses each: never a seventh, and none is lost at the end."""
    pool = pool_of(3, Limits(in_flight=2))
    most, served = [], []

    def work() -> None:
        for _ in range(300):
            try:
                lease = pool.acquire()
            except PoolEmpty:
                continue
            most.append(max(use.in_flight for use in pool.snapshot()))
            lease.report(OK)
            served.append(lease)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) <= 2
    assert len(served) > 300
    assert len([pool.acquire() for _ in range(1)] + [pool.acquire() for _ in range(5)]) == 6


def test_a_cool_down_begins_at_the_end_of_a_use() -> None:
    """It holds on that site alone, and none runs beside a use, however long that takes."""
    clock = ManualClock()
    pool = pool_of(1, Limits(cooldown=10.0), clock)
    lease = pool.acquire(SHOP)
    clock.advance(9)
    lease.report(OK)
    clock.advance(9)
    with pytest.raises(PoolEmpty, match="1 are cooling down from the site") as empty:
        pool.acquire(SHOP)
    assert empty.value.retry_after == 1.0
    pool.acquire("http://other.example/").report(OK)
    clock.advance(1)
    pool.acquire(SHOP)


@pytest.mark.parametrize("name", ["requests_per_second", "in_flight", "cooldown"])
def test_a_limit_is_more_than_nothing(name: str) -> None:
    """Nobody could keep another one."""
    with pytest.raises(ValueError, match=f"{name} must be more than 0, not 0"):
        Limits(**{name: 0})


def lose(lease: Lease, how: str) -> None:
    """Lose a lease without a word, so that nobody but the collector of garbage sees it."""
    if how == "cycle":
        ring: list[object] = [lease]
        ring.append(ring)
    elif how == "exception":
        with contextlib.suppress(KeyError):
            dict[object, object]().pop(lease)


@pytest.mark.parametrize("how", ["dropped", "exception", "cycle"])
def test_a_lost_lease_gives_everything_back(how: str) -> None:
    """What it counted as in flight, its place under a limit, and the trial of its proxy."""
    clock = ManualClock()
    pool = pool_of(1, Limits(in_flight=1), clock)
    pool.acquire().report(REFUSED)
    clock.advance(2)
    for _ in range(20):
        lose(pool.acquire(), how)
        gc.collect()
    with pool.acquire() as lease:
        assert pool.snapshot()[0].in_flight == 1
        lease.report(OK)
    assert pool.snapshot()[0].in_flight == 0


def test_a_trial_is_one_request_that_ends_by_itself() -> None:
    """While it is out others are chosen; when nothing is heard of it another may try."""
    clock = ManualClock()
    pool = pool_of(2, clock=clock, strategy="round_robin")
    failing = pool.acquire()
    failing.report(REFUSED)
    clock.advance(2)
    out = [pool.acquire() for _ in range(10)]
    assert [lease.proxy.key for lease in out].count(failing.proxy.key) == 1
    clock.advance(30)
    assert failing.proxy.key in {pool.acquire().proxy.key for _ in range(3)}


def test_hopeless_proxies_get_few_trials_while_others_serve() -> None:
    """With nine in ten dead, no more than one request in ten is spent on finding that out again."""
    clock = ManualClock()
    pool = pool_of(200, clock=clock)
    dead = set(pool.keys()[:180])
    spent = 0
    for number in range(6000):
        lease = pool.acquire()
        failed = lease.proxy.key in dead
        spent += failed and number >= 2000
        lease.report(REFUSED if failed else OK)
        clock.advance(0.1)
    assert spent <= 400


def test_after_an_outage_all_come_back() -> None:
    """A thousand that failed together serve again within minutes, without one request that waits for them."""
    clock = ManualClock()
    pool = pool_of(1000, clock=clock)
    for lease in [pool.acquire() for _ in range(8000)]:
        lease.report(REFUSED)
    for _ in range(6000):
        clock.advance(0.1)
        pool.acquire().report(OK)
    assert all(use.consecutive_failures == 0 for use in pool.snapshot() if use.served)
    assert sum(use.set_aside_until is None for use in pool.snapshot()) >= 990


def test_a_thousand_failing_at_once_costs_no_call_more_than_some_steps() -> None:
    """Of 20,000 proxies a thousand fail and come due together: no single call makes more than 2,000 calls of others."""
    clock = ManualClock()
    pool = pool_of(20_000, clock=clock)
    leases = [pool.acquire() for _ in range(1000)]
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    def measured(work: object) -> int:
        nonlocal steps
        steps = 0
        sys.setprofile(count)
        try:
            work()  # type: ignore[operator]  # one of those below
        finally:
            sys.setprofile(None)
        return steps

    longest = max(measured(lambda lease=lease: lease.report(REFUSED)) for lease in leases)
    clock.advance(1000)
    longest = max(longest, *(measured(lambda: pool.acquire().report(OK)) for _ in range(1000)))
    assert 0 < longest <= 2000
