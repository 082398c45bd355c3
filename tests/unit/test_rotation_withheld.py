"""What a pool is told of health by the store, and what it tells: those out of service are tried, and nobody is lost."""

from __future__ import annotations

import random

import pytest

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Attributes, Outcome, Proxy, Sketch
from proxywhirl.rotation.pool import Pool, ProxyUse
from proxywhirl.rotation.proxy_state import BACKOFF, FAILURES_TO_CAP
from proxywhirl.rotation.verdicts.response import NO_CONNECT, SILENT
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY, error="connection refused")
HANGS = Outcome(False, blame=Blame.PROXY, rule=SILENT, error="no answer in time")
SHOP, OTHER = "http://shop.example/", "http://other.example/"
STRATEGIES = ["round_robin", "random", "bandit", "fastest", "least_used"]

Told = list[tuple[str, bool | None]]


def portray(key: str, sketch: Sketch) -> Proxy:
    """Make the value of a sketch, which says its country."""
    return Proxy(key, "http", "192.0.2.1", 8080, attributes=Attributes(country=sketch[1] or None))


def sketches(*keys: str, country: str = "") -> dict[str, Sketch]:
    """Return sketches as a feeder stocks them."""
    return dict.fromkeys(keys, ("", country))


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


@pytest.fixture
def told() -> Told:
    """Give the list of what pools of the test tell of health: None for a failure that is taken back."""
    return []


@pytest.fixture(params=STRATEGIES)
def pool(request: pytest.FixtureRequest, clock: ManualClock, told: Told) -> Pool:
    """Make an empty pool with each of some strategies."""
    return Pool(
        request.param,
        resolve=lambda _key: None,
        clock=clock,
        rng=random.Random(3),
        portray=portray,
        on_health=lambda key, outcome: told.append((key, None if outcome is None else outcome.ok)),
    )


def state(pool: Pool, key: str) -> ProxyUse:
    """Return what is known of a proxy."""
    return next(use for use in pool.snapshot() if use.proxy.key == key)


def serving(pool: Pool, requests: int = 60) -> set[str]:
    """Return who serves some requests, all of which succeed."""
    keys = set()
    for _ in range(requests):
        lease = pool.acquire()
        keys.add(lease.proxy.key)
        lease.release()
    return keys


def test_what_is_told_out_of_service_is_set_aside(pool: Pool, clock: ManualClock) -> None:
    """Used or not, it serves no more while others are ready, and is tried when it is due."""
    pool.stock(sketches("used", "unused", "other"))
    for _ in range(20):
        pool.acquire(exclude={"unused"}).report(OK)
    pool.stock(sketches("used", "unused"), aside=True)
    assert serving(pool) == {"other"}
    for key in ("used", "unused"):
        use = state(pool, key)
        assert use.consecutive_failures == FAILURES_TO_CAP
        assert use.set_aside_until is not None
        assert use.set_aside_until <= clock.monotonic() + BACKOFF.longest
    clock.advance(BACKOFF.longest)
    tried = set()
    for _ in range(400):
        lease = pool.acquire()
        tried.add(lease.proxy.key)
        lease.report(OK)
    assert tried == {"used", "unused", "other"}
    assert all(use.consecutive_failures == 0 for use in pool.snapshot())


def test_what_is_told_in_service_again_serves_at_once(pool: Pool) -> None:
    """A success elsewhere brings it back here, whether it was ever used here or not."""
    pool.stock(sketches("used", "unused", "other"))
    for _ in range(20):
        pool.acquire(exclude={"unused"}).report(OK)
    pool.stock(sketches("used", "unused"), aside=True)
    pool.stock(sketches("used", "unused"))
    assert all((use.set_aside_until, use.consecutive_failures) == (None, 0) for use in pool.snapshot())
    for key in ("used", "unused"):
        with pool.acquire(exclude={"used", "unused", "other"} - {key}) as lease:
            assert lease.proxy.key == key


def test_what_failed_here_alone_is_not_brought_back_by_a_change(pool: Pool) -> None:
    """Its own failures are recorded, and come back as a change of its status: it stays set aside all the same."""
    pool.stock(sketches("a", "b"))
    lease = pool.acquire()
    lease.report(REFUSED)
    until = state(pool, lease.proxy.key).set_aside_until
    pool.stock(sketches("a", "b"))
    assert state(pool, lease.proxy.key).set_aside_until == until
    assert state(pool, lease.proxy.key).consecutive_failures == 1


def test_what_failed_here_keeps_its_own_back_off_when_it_is_told_out_of_service(pool: Pool) -> None:
    """The pool knows it better than the store; a success elsewhere brings it back here too."""
    pool.stock(sketches("a", "b"))
    lease = pool.acquire()
    lease.report(REFUSED)
    key = lease.proxy.key
    until = state(pool, key).set_aside_until
    pool.stock(sketches(key), aside=True)
    assert (state(pool, key).set_aside_until, state(pool, key).consecutive_failures) == (until, 1)
    pool.stock(sketches(key))
    assert (state(pool, key).set_aside_until, state(pool, key).consecutive_failures) == (None, 0)


def test_what_served_here_since_is_not_brought_back_once_more(pool: Pool) -> None:
    """A failure after the success that brought it back is not forgotten when the store tells of that success."""
    pool.stock(sketches("a"), aside=True)
    pool.acquire().report(OK)
    pool.acquire().report(REFUSED)
    pool.stock(sketches("a"))
    assert state(pool, "a").consecutive_failures == 1
    assert state(pool, "a").set_aside_until is not None


@pytest.mark.parametrize("wishes", [{}, {"country": "DE"}])
def test_the_last_ones_are_tried_at_once(pool: Pool, wishes: dict[str, str]) -> None:
    """Of a pool, or of those that a request wishes for, all of which are out of service, the one due first serves."""
    pool.stock(sketches("de1", "de2", country="DE"), aside=True)
    pool.stock(sketches("fr", country="FR"), aside=not wishes)
    lease = pool.acquire(**wishes)  # type: ignore[arg-type]  # each of its own kind
    assert lease.proxy.key.startswith("de") or not wishes
    lease.report(REFUSED)
    again = pool.acquire(exclude={lease.proxy.key}, **wishes)  # type: ignore[arg-type]  # as above
    again.report(OK)
    assert pool.acquire(**wishes).proxy.key == again.proxy.key  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("wishes", [{}, {"country": "DE"}])
def test_a_ban_of_one_that_is_out_of_service_withholds_nobody(pool: Pool, wishes: dict[str, str]) -> None:
    """The others are tried at once, for the site too: nobody would serve there but for the ban."""
    pool.stock(sketches("banned", "other", country="DE"))
    pool.stock(sketches("fr", country="FR"), aside=not wishes)
    pool.acquire(SHOP, exclude={"banned", "fr"}).report(OK)
    pool.acquire(SHOP, exclude={"other", "fr"}).report(Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403))
    pool.stock(sketches("other", country="DE"), aside=True)
    with pytest.raises(PoolEmpty) as empty:
        pool.acquire(SHOP, country="DE")
    assert empty.value.retry_after is not None
    pool.stock(sketches("banned", country="DE"), aside=True)
    with pool.acquire(SHOP, exclude={"fr"}, **wishes) as lease:  # type: ignore[arg-type]  # each of its own kind
        assert lease.proxy.key == "other"


def test_requests_that_were_under_way_count_no_more(pool: Pool) -> None:
    """What began before the proxy was told out of service fails for the same reason."""
    pool.stock(sketches("a"))
    lease = pool.acquire()
    pool.stock(sketches("a"), aside=True)
    lease.report(REFUSED)
    assert state(pool, "a").consecutive_failures == FAILURES_TO_CAP


@pytest.mark.parametrize(
    ("outcome", "tells"),
    [
        (OK, True),
        (REFUSED, True),
        (Outcome(False), True),
        (Outcome(False, blame=Blame.ACCOUNT, status=407), True),
        (Outcome(False, blame=Blame.PROXY, rule=NO_CONNECT), False),
        (Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403), False),
        (Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429), False),
        (Outcome(False, blame=Blame.TARGET, status=500), False),
        (Outcome(False, blame=Blame.US, error="no route to any host"), False),
        (None, False),
    ],
)
def test_only_what_is_its_own_is_told_of_a_proxy(pool: Pool, told: Told, outcome: Outcome | None, tells: bool) -> None:
    """A ban, a site's own failure, ours, and a request that was given up say nothing of a proxy's health."""
    pool.stock(sketches("a"))
    lease = pool.acquire(SHOP)
    if outcome is None:
        lease.release()
    else:
        lease.report(outcome)
    assert told == ([("a", outcome is not None and outcome.ok)] if tells else [])


def test_requests_that_were_lost_together_are_one_failure(pool: Pool, told: Told) -> None:
    """Fifty that broke with one proxy are told once; the next failure is another one."""
    pool.stock(sketches("a"))
    leases = [pool.acquire() for _ in range(50)]
    for lease in leases:
        lease.report(REFUSED)
    assert told == [("a", False)]
    pool.acquire().report(REFUSED)
    assert told == [("a", False)] * 2


def test_silence_on_one_page_is_not_told_until_another_is_served_it(pool: Pool, told: Told) -> None:
    """It may be the page that hangs. Once somebody is served there it is the failure of those who were not."""
    pool.stock(sketches("a", "b", "c", "d"))
    let_all_serve(pool)
    told.clear()
    for key in "ab":
        pool.acquire(SHOP, exclude=set("abcd") - {key}).report(HANGS)
    assert told == []
    pool.acquire(SHOP, exclude=set("abd")).report(OK)
    assert sorted(told, key=str) == [("a", False), ("b", False), ("c", True)]
    assert state(pool, "a").set_aside_until is not None


def test_what_a_site_that_hangs_has_cost_is_taken_back(pool: Pool, told: Told) -> None:
    """Of three silences, where others were just served, the third shows whose they are: two are taken back."""
    pool.stock(sketches("a", "b", "c", "d"))
    let_all_serve(pool)
    for number in range(12):
        pool.acquire(f"{SHOP}{number}").report(OK)
    told.clear()
    for number, key in enumerate("abc"):
        pool.acquire(f"{SHOP}{number}", exclude=set("abcd") - {key}).report(HANGS)
    assert told[:2] == [("a", False), ("b", False)]
    assert sorted(told[2:]) == [("a", None), ("b", None)]
    assert all(use.set_aside_until is None for use in pool.snapshot())


def let_all_serve(pool: Pool) -> None:
    """Let four proxies show that they work."""
    for key in "abcd":
        pool.acquire(OTHER, exclude=set("abcd") - {key}).report(OK)


def test_a_pool_without_any_proxy_stays_empty(pool: Pool) -> None:
    """What leaves the store leaves the pool, whatever it was told before."""
    pool.stock(sketches("a"), aside=True)
    pool.discard(["a"])
    with pytest.raises(PoolEmpty):
        pool.acquire()
    pool.stock(sketches("a"))
    assert pool.acquire().proxy.key == "a"
