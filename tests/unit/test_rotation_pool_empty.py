"""Why nobody can serve, and for how long it is worth to wait: only those count who could serve this request."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.selection.explain import A_WHILE
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import ProxyURL

SHOP = "http://shop.example/"
REFUSED = Outcome(False, blame=Blame.PROXY, error="connection refused")
OK = Outcome(True, latency=0.1, status=200)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=40.0)


def pool_of(*countries: str, limits: Limits | None = None, clock: ManualClock | None = None) -> Pool:
    """Make a pool with a proxy in each country."""
    clock = clock or ManualClock()
    pool = Pool.of((), "round_robin", limits=limits or Limits(), clock=clock, rng=random.Random(3))
    for number, country in enumerate(countries, 1):
        proxy = Proxy.of(ProxyURL("http", f"10.0.0.{number}", 80))
        pool.update([replace(proxy, attributes=Attributes(country=country))])
    return pool


def empty(pool: Pool, target: str | None = None, **asked: object) -> PoolEmpty:
    """Return the error of a request that nobody can serve."""
    with pytest.raises(PoolEmpty) as error:
        pool.acquire(target, **asked)  # type: ignore[arg-type]  # of several kinds
    return error.value


def test_a_wish_that_nobody_fulfils_is_not_waited_for() -> None:
    """Proxies of other countries that are set aside, banned or held will be back, and change nothing about it."""
    pool = pool_of("FR", "FR", "FR", "FR")
    pool.acquire(exclude=()).report(REFUSED)
    pool.acquire(SHOP).report(OK)
    pool.acquire(SHOP).report(BANNED)
    held = pool.acquire(exclusive=True, ttl=5)
    error = empty(pool, SHOP, country="DE")
    assert str(error) == "none of the 4 proxies of the pool fulfils country=DE"
    assert error.retry_after is None
    held.release()


def test_only_those_who_fulfil_the_wish_are_counted_and_waited_for() -> None:
    """The wait is that of the one proxy of the country, however soon others are back."""
    pool = pool_of("DE", "FR", "FR")
    pool.acquire(SHOP, country="DE").report(BANNED)
    pool.acquire(SHOP, country="FR").report(OK)
    held = pool.acquire(exclusive=True, ttl=5, country="FR")
    error = empty(pool, SHOP, country="DE")
    assert str(error) == (
        "no proxy of the pool that fulfils country=DE can serve this request: of 3, 1 are barred from shop.example"
    )
    assert error.retry_after is not None
    assert error.retry_after >= 40.0
    held.release()


def test_who_has_left_the_pool_is_neither_counted_nor_waited_for() -> None:
    """A ban outlives the membership: one that was banned and removed is no proxy of the country any more."""
    pool = pool_of("DE", "DE")
    gone = pool.acquire(SHOP)
    gone.report(BANNED)
    pool.discard([gone.proxy.key])
    error = empty(pool, SHOP, country="DE", exclude=set(pool.keys()))
    assert str(error).endswith("of 1, 1 are tried for this request")
    assert error.retry_after is None


def test_those_that_were_tried_are_not_waited_for() -> None:
    """When one comes back that the request excludes it gets no proxy either."""
    pool = pool_of("DE", "FR")
    tried = pool.acquire(SHOP)
    tried.report(OK)
    pool.acquire(exclude=set(pool.keys()) - {tried.proxy.key}).report(REFUSED)
    pool.acquire(SHOP, exclude={tried.proxy.key}).report(BANNED)
    error = empty(pool, SHOP, exclude={tried.proxy.key})
    assert error.retry_after is not None
    assert error.retry_after >= 40.0
    assert empty(pool, SHOP, exclude=set(pool.keys())).retry_after is None


@pytest.mark.parametrize("wish", [{}, {"country": "DE"}])
def test_proxies_with_as_much_under_way_as_they_may_have_are_waited_for(wish: dict[str, str]) -> None:
    """When a use ends nobody knows: the error says so, and to ask again in a moment."""
    pool = pool_of("DE", limits=Limits(in_flight=1))
    lease = pool.acquire(**wish)  # type: ignore[arg-type]
    error = empty(pool, **wish)
    assert str(error).endswith("those in use can take no more")
    assert error.retry_after == A_WHILE
    assert empty(pool, exclude={lease.proxy.key}).retry_after is None
    lease.release()
    pool.acquire(**wish).release()  # type: ignore[arg-type]


def test_an_exclusive_lease_waits_for_those_it_may_have() -> None:
    """Those that it found held count, and those of another country do not."""
    clock = ManualClock()
    pool = pool_of("DE", "FR", clock=clock)
    held = [pool.acquire(exclusive=True, ttl=ttl, country=country) for country, ttl in (("DE", 50), ("FR", 5))]
    assert empty(pool, exclusive=True, country="DE").retry_after == 50.0
    del held
