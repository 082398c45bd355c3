"""Sites at fault: when pages that differ fail alike through several proxies nobody is punished, and the site rests."""

from __future__ import annotations

import random
from itertools import count

import pytest

from proxywhirl.errors import Blame, PoolEmpty, SiteResting
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.pages import needed_at as witnesses_needed
from proxywhirl.rotation.sites.site import Site
from proxywhirl.testing.clock import ManualClock

SHOP = "http://shop.example/x"
PAGES = (f"http://shop.example/{number}" for number in count())
OK = Outcome(True, latency=0.1, status=200)
FORBIDDEN = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)
BUSY = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503)
DOWN = Outcome(False, blame=Blame.TARGET, status=500)
REFUSED = Outcome(False, blame=Blame.PROXY)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


def pool_of(size: int, clock: ManualClock, strategy: str = "round_robin") -> Pool:
    """Make a pool of so many."""
    return Pool.of(
        [f"http://10.0.{n >> 8}.{n & 255}:80" for n in range(size)], strategy, clock=clock, rng=random.Random(1)
    )


def site_of(pool: Pool) -> Site:
    """Return what a pool knows of the shop: its rests show in no other way."""
    with pool.acquire("http://other.example/") as lease:
        return lease._grantor._chooser.learning.site("shop.example")  # type: ignore[attr-defined, no-any-return]


def serve(pool: Pool, pages: int = 12) -> None:
    """Let a site serve so many pages, so that it is known for failing seldom."""
    for _ in range(pages):
        pool.acquire(next(PAGES)).report(OK)


def bring_down(pool: Pool, outcome: Outcome = BUSY, pages: int = 3) -> None:
    """Let so many pages of a site that is known to serve fail through as many proxies."""
    serve(pool)
    for _ in range(pages):
        pool.acquire(next(PAGES)).report(outcome)


def wait_for(pool: Pool, clock: ManualClock) -> float:
    """Let time pass until the site may be tried, and return how long that was."""
    with pytest.raises(SiteResting) as resting:
        pool.acquire(SHOP)
    clock.advance(resting.value.retry_after)
    return resting.value.retry_after


@pytest.mark.parametrize("outcome", [BUSY, DOWN])
def test_a_site_that_fails_through_several_proxies_is_left_alone(clock: ManualClock, outcome: Outcome) -> None:
    """Nobody stays banned, other sites are served, and the error says for how long and why."""
    pool = pool_of(10, clock)
    bring_down(pool, outcome)
    assert pool.bans() == {}
    trial = pool.acquire(SHOP)
    with pytest.raises(SiteResting, match=rf"shop\.example failed alike .*\({outcome.status}\)") as resting:
        pool.acquire(SHOP)
    assert 0.0 < resting.value.retry_after <= 1.0
    trial.release()
    pool.acquire("http://other.example/").report(OK)


def test_after_the_rest_one_request_at_a_time_tries(clock: ManualClock) -> None:
    """The first tries at once; while one is out the others wait; failing, it doubles the rest; a success ends it."""
    pool = pool_of(10, clock)
    bring_down(pool)
    rests = []
    for _ in range(8):
        trial = pool.acquire(SHOP)
        with pytest.raises(SiteResting) as waiting:
            pool.acquire(SHOP)
        assert waiting.value.retry_after == 0.25
        trial.report(BUSY)
        rests.append(wait_for(pool, clock))
    assert all(2.0**n / 2 <= rest <= 2.0**n for n, rest in enumerate(rests[:6]))
    assert all(30 <= rest <= 60 for rest in rests[6:])
    pool.acquire(SHOP).report(OK)
    assert len({pool.acquire(SHOP).proxy.key for _ in range(10)}) == 10


@pytest.mark.parametrize("told", [None, REFUSED, Outcome(False, blame=Blame.US)])
def test_a_trial_that_tells_nothing_of_the_site_makes_room_at_once(clock: ManualClock, told: Outcome | None) -> None:
    """A release, and a failure that is the proxy's or ours, let the next request try."""
    pool = pool_of(10, clock)
    bring_down(pool)
    with pool.acquire(SHOP) as trial:
        if told is not None:
            trial.report(told)
    pool.acquire(SHOP).report(OK)
    pool.acquire(SHOP)


def test_a_trial_of_which_nobody_hears_ends_by_itself(clock: ManualClock) -> None:
    """A lost trial costs seconds, not the site; until then each that waits is told to ask again in a moment."""
    pool = pool_of(10, clock)
    bring_down(pool)
    lost = pool.acquire(SHOP)
    assert wait_for(pool, clock) == 0.25
    clock.advance(9.5)
    assert wait_for(pool, clock) == 0.25
    pool.acquire(SHOP).report(OK)
    lost.release()


def test_a_request_that_finds_no_proxy_uses_up_no_trial(clock: ManualClock) -> None:
    """Who was refused for another reason leaves the trial to the next."""
    pool = pool_of(3, clock)
    bring_down(pool)
    with pytest.raises(PoolEmpty):
        pool.acquire(SHOP, country="DE")
    pool.acquire(SHOP).report(OK)


@pytest.mark.parametrize("how", [{"session": "s"}, {"exclusive": True}])
def test_sessions_and_exclusive_leases_may_try_too(clock: ManualClock, how: dict[str, object]) -> None:
    """What they agree on takes several steps, of which none stands in the way of the next."""
    pool = pool_of(4, clock)
    bring_down(pool)
    busy = pool.acquire("http://other.example/")
    pool.acquire(SHOP, **how).report(OK)  # type: ignore[arg-type]  # of several types
    busy.release()
    pool.acquire(SHOP)


def test_a_trial_that_is_refused_ends_the_rest(clock: ManualClock) -> None:
    """A site that answers 403 to one is there, and refuses that proxy or that page."""
    pool = pool_of(10, clock)
    bring_down(pool)
    pool.acquire(SHOP).report(FORBIDDEN)
    assert len(pool.bans()) == 1
    pool.acquire(SHOP)


def test_fifty_that_were_out_together_make_one_rest(clock: ManualClock) -> None:
    """What was sent before the site was left alone says nothing new: the rest is the first one, not the longest."""
    pool = pool_of(50, clock)
    serve(pool)
    for lease in [pool.acquire(next(PAGES)) for _ in range(50)]:
        lease.report(BUSY)
    assert pool.bans() == {}
    assert site_of(pool).rests == 1
    pool.acquire(SHOP).report(OK)
    pool.acquire(SHOP)


def test_after_an_outage_nobody_pays_for_it(clock: ManualClock) -> None:
    """Pages that failed with the site convict nobody when they are served again, or were served before."""
    pool = pool_of(3, clock)
    serve(pool)
    urls = [next(PAGES) for _ in range(9)]
    for url in urls[:2]:
        pool.acquire(url).report(OK)
    for lease in [pool.acquire(url) for url in urls]:
        lease.report(BUSY)
    clock.advance(5)
    for url in urls:
        pool.acquire(url).report(OK)
    assert pool.bans() == {}
    assert all(ban.until <= clock.now() for ban in pool.collect_bans().values())


def test_a_late_failure_may_still_say_for_how_long(clock: ManualClock) -> None:
    """`Retry-After` is kept whichever of them brings it, and never shortened."""
    pool = pool_of(50, clock)
    serve(pool)
    leases = [pool.acquire(next(PAGES)) for _ in range(8)]
    asked = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503, retry_after=90.0)
    for lease in leases:
        lease.report(asked if lease is leases[5] else BUSY)
    assert wait_for(pool, clock) == 90.0


@pytest.mark.parametrize("pages", [1, 2, 30])
@pytest.mark.parametrize(("strategy", "known"), [("round_robin", 0), ("round_robin", 12), ("bandit", 0)])
def test_a_403_for_all_rests_nothing_and_bans_nobody(clock: ManualClock, strategy: str, known: int, pages: int) -> None:
    """One page is refused to all, or the site refuses everybody: requests go on, and others are told of no ban."""
    pool = pool_of(10, clock, strategy)
    serve(pool, known)
    urls = [next(PAGES) for _ in range(pages)]
    for number in range(30):
        pool.acquire(urls[number % pages]).report(FORBIDDEN)
        clock.advance(0.1)
    assert pool.collect_bans() == {}
    assert pool.explain(SHOP).eligible == 10
    pool.acquire(SHOP).report(OK)


def test_failures_that_are_not_alike_are_the_proxies(clock: ManualClock) -> None:
    """A 403, a 429 and a 503 in turn, at pages that differ: the proxies are suspected, and not the site."""
    pool = pool_of(12, clock)
    for number in range(9):
        status = (403, 429, 503)[number % 3]
        pool.acquire(next(PAGES)).report(Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=status))
    assert len(pool.bans()) == 9


def test_successes_in_between_leave_bans_with_the_proxies(clock: ManualClock) -> None:
    """Where every third request serves, the site is well."""
    pool = pool_of(30, clock)
    for number in range(30):
        pool.acquire(SHOP).report(OK if number % 3 == 0 else FORBIDDEN)
    assert len(pool.bans()) == 20


def test_one_proxy_that_fails_often_is_one_witness(clock: ManualClock) -> None:
    """Ten failures through one are its ban, and no word about the site."""
    pool = pool_of(5, clock)
    with pool.acquire() as first:
        others = set(pool.keys()) - {first.proxy.key}
    leases: list[Lease] = [pool.acquire(SHOP, exclude=others) for _ in range(10)]
    for lease in leases:
        lease.report(BUSY)
    assert list(pool.bans()) == [(first.proxy.key, "shop.example")]
    pool.acquire(SHOP)


def test_two_are_enough_where_there_are_no_more(clock: ManualClock) -> None:
    """In a pool of two both have to fail alike, on three pages at least."""
    pool = pool_of(2, clock)
    bring_down(pool, BUSY, 2)
    assert site_of(pool).rests == 0
    pool.acquire(next(PAGES)).report(BUSY)
    assert site_of(pool).rests == 1
    assert pool.bans() == {}


def test_it_takes_more_pages_where_nobody_knows_how_many_fail(clock: ManualClock) -> None:
    """A site that served nothing yet may be asked for ten pages that fail before it rests."""
    pool = pool_of(20, clock)
    for _ in range(9):
        pool.acquire(next(PAGES)).report(DOWN)
    assert site_of(pool).rests == 0
    pool.acquire(next(PAGES)).report(DOWN)
    assert site_of(pool).rests == 1


def test_one_page_rests_no_site(clock: ManualClock) -> None:
    """However often and through however many a page fails: its answer is passed on, and others are asked for."""
    pool = pool_of(50, clock)
    serve(pool)
    for _ in range(50):
        with pool.acquire(SHOP) as lease:
            lease.report(DOWN)
    assert lease.targets_own
    assert site_of(pool).rests == 0
    assert pool.bans() == {}


def test_a_target_without_a_page_stands_for_many(clock: ManualClock) -> None:
    """In a tunnel nobody sees the page: each request that fails is about another one of the site."""
    pool = pool_of(20, clock)
    serve(pool)
    for _ in range(3):
        pool.acquire(Target("http", "shop.example", 80)).report(DOWN)
    assert site_of(pool).rests == 1


def test_where_requests_fail_often_it_takes_more_witnesses(clock: ManualClock) -> None:
    """The number grows with the rate and is bounded; a site that bans half of them is not at fault after three."""
    needed = [witnesses_needed(rate / 100) for rate in range(101)]
    assert needed == sorted(needed)
    assert (needed[0], needed[100]) == (3, 12)
    pool = pool_of(200, clock)
    for number in range(80):
        pool.acquire(SHOP).report(OK if number % 2 else FORBIDDEN)
    before = len(pool.bans())
    bring_down(pool, FORBIDDEN, 5)
    assert len(pool.bans()) == before + 5


def test_failures_long_apart_are_no_run(clock: ManualClock) -> None:
    """Three within hours are no ban that others are told of, and say nothing of the site."""
    pool = pool_of(10, clock)
    for _ in range(3):
        pool.acquire(SHOP).report(FORBIDDEN)
        clock.advance(301)
    assert pool.collect_bans() == {}
    assert site_of(pool).at_fault == ""


def test_a_report_after_the_site_was_forgotten_finds_it_again(clock: ManualClock) -> None:
    """A ban reported late holds, however many other sites were asked for meanwhile."""
    pool = pool_of(2, clock)
    late = pool.acquire(SHOP)
    for number in range(4100):
        pool.acquire(f"http://s{number}.example/").release()
    late.report(FORBIDDEN)
    assert {pool.acquire(SHOP).proxy.key for _ in range(4)} == set(pool.keys()) - {late.proxy.key}
    for number in range(4100):
        pool.acquire(f"http://s{number}.example/").release()
    assert {pool.acquire(SHOP).proxy.key for _ in range(4)} == set(pool.keys()) - {late.proxy.key}
