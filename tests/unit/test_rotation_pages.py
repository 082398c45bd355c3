"""Whose a failure is: the proxy's, the page's or the site's. Each row of the table in `sites.pages`, through a pool."""

from __future__ import annotations

import random

import pytest

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.pages import FEW, Evidence, needed_at
from proxywhirl.rotation.verdicts.response import CUT, SILENT
from proxywhirl.testing.clock import ManualClock

OTHER = "http://other.example/"
OK = Outcome(True, latency=0.1, status=200)
FORBIDDEN = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)
LIMITED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429)
BUSY = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503)
BROKEN = Outcome(False, blame=Blame.TARGET, status=500)
HANGS = Outcome(False, blame=Blame.PROXY, rule=SILENT, error="no answer in time")
CUTS = Outcome(False, blame=Blame.PROXY, rule=CUT, error="the answer broke off", reached=True)
STRATEGIES = ["round_robin", "random", "bandit", "least_used"]


class Shop:
    """A pool of proxies that work, and requests to the pages of a shop."""

    def __init__(self, strategy: str = "round_robin", size: int = 10) -> None:
        self.clock = ManualClock()
        urls = [f"http://192.0.2.{number}:80" for number in range(size)]
        self.pool = Pool.of(urls, strategy, clock=self.clock, rng=random.Random(1))
        self.keys = self.pool.keys()
        for number in range(size):
            self.ask(number, OK, OTHER)

    def ask(self, number: int, outcome: Outcome, page: int | str | None) -> Lease:
        """Send one proxy for a page, and return the lease, which was told of the outcome."""
        target = page if isinstance(page, str) else Target("http", "shop.example", 80, page=page)
        lease = self.pool.acquire(target, exclude=set(self.keys) - {self.keys[number]})
        lease.report(outcome)
        return lease

    def told(self) -> set[int]:
        """Return the numbers of those whose bans are told to others."""
        return {self.keys.index(key) for key, _ in self.pool.collect_bans()}

    def suspected(self) -> set[int]:
        """Return the numbers of those that are banned or suspected."""
        return {self.keys.index(key) for key, _ in self.pool.bans()}

    def chosen(self, page: int = 99) -> set[int]:
        """Return who is chosen for a page."""
        keys = set()
        for _ in range(10 * len(self.keys)):
            with self.pool.acquire(Target("http", "shop.example", 80, page=page)) as lease:
                keys.add(lease.proxy.key)
        return {self.keys.index(key) for key in keys}


@pytest.fixture(params=STRATEGIES)
def shop(request: pytest.FixtureRequest) -> Shop:
    """Give a shop that is asked through a pool with each of some strategies."""
    return Shop(request.param)


@pytest.mark.parametrize("outcome", [FORBIDDEN, LIMITED, BUSY])
def test_a_first_refusal_makes_a_suspect(shop: Shop, outcome: Outcome) -> None:
    """Others are chosen before it, no other process is told, and it serves where there is nobody else."""
    assert not shop.ask(0, outcome, 1).targets_own
    assert shop.suspected() == {0}
    assert shop.told() == set()
    assert shop.chosen() == set(range(1, 10))
    shop.ask(0, OK, 2)


@pytest.mark.parametrize("outcome", [FORBIDDEN, LIMITED, BUSY])
def test_who_is_refused_what_another_is_served_is_convicted(shop: Shop, outcome: Outcome) -> None:
    """The ban stands from then on, and is told."""
    shop.ask(0, outcome, 1)
    shop.ask(1, OK, 1)
    assert shop.suspected() == shop.told() == {0}
    with pytest.raises(PoolEmpty, match="barred from shop"):
        shop.ask(0, OK, 2)


def test_the_ban_is_as_old_as_the_refusal(shop: Shop) -> None:
    """It ends as if it had been known from the refusal on, however late that is understood."""
    shop.ask(0, FORBIDDEN, 1)
    until = shop.pool.bans()[shop.keys[0], "shop.example"].until
    shop.clock.advance(5)
    shop.ask(1, OK, 1)
    assert shop.pool.bans()[shop.keys[0], "shop.example"].until == until


def test_who_is_refused_what_others_were_just_served_is_convicted_at_once(shop: Shop) -> None:
    """The page is known to be served."""
    shop.ask(1, OK, 1)
    shop.ask(0, FORBIDDEN, 1)
    assert shop.told() == {0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_page_that_served_and_fails_for_many_in_a_row_is_closed(strategy: str) -> None:
    """Twelve that never came before are refused one after the other: what was taken for their bans is taken back."""
    shop = Shop(strategy, size=20)
    shop.ask(0, OK, 1)
    own = [shop.ask(number, FORBIDDEN, 1).targets_own for number in range(1, 13)]
    assert own[-1]
    assert own == sorted(own)
    assert not own[1]
    for number in range(1, 13):
        shop.ask(number, OK, 100 + number)
    assert shop.suspected() == set()
    assert all(ban.until <= shop.clock.now() for ban in shop.pool.collect_bans().values())


@pytest.mark.parametrize("outcome", [FORBIDDEN, LIMITED, BUSY, BROKEN, HANGS, CUTS])
def test_what_fails_alike_through_several_is_the_target_s_own(shop: Shop, outcome: Outcome) -> None:
    """After four at most: the page is closed, no other process is told, and other pages are served by all."""
    own = [shop.ask(number, outcome, 1).targets_own for number in range(4)]
    assert own[0] is False
    assert own[-1]
    assert own == sorted(own)
    assert shop.ask(9, outcome, 1).targets_own
    assert shop.told() == set()
    for number in range(10):
        shop.ask(number, OK, 100 + number)
    assert shop.suspected() == set()
    assert shop.chosen() == set(range(10))


def test_failures_that_are_not_alike_close_no_page(shop: Shop) -> None:
    """A 403, a 429 and a 503 at one page say nothing in common."""
    assert not any(shop.ask(n, o, 1).targets_own for n, o in enumerate([FORBIDDEN, LIMITED, BUSY]))


def test_a_closed_page_is_opened_by_a_success(shop: Shop) -> None:
    """Who fails there then is not excused by what was before."""
    for number in range(4):
        shop.ask(number, FORBIDDEN, 1)
    shop.ask(5, OK, 1)
    assert not shop.ask(6, FORBIDDEN, 1).targets_own
    assert 6 in shop.told()


def test_who_fails_on_pages_that_differ_is_convicted(shop: Shop) -> None:
    """On four at once, or on two where the first is half a minute old, and the site serves others."""
    for page in range(100, 130):
        shop.ask(9, OK, page)
    for page in range(1, 5):
        assert not shop.told()
        shop.ask(0, FORBIDDEN, page)
        shop.ask(9, OK, 99)
    assert shop.told() == {0}
    shop.ask(1, FORBIDDEN, 11)
    shop.clock.advance(31)
    shop.ask(1, FORBIDDEN, 12)
    assert shop.told() == {1}


def test_a_proxy_that_is_refused_everywhere_makes_no_bans_of_others_refusals(shop: Shop) -> None:
    """However many pages convict one, that is one ban: whether what others meet is one is found out as before."""
    for page in range(100, 130):
        shop.ask(9, OK, page)
    for page in range(1, 5):
        shop.ask(0, FORBIDDEN, page)
        shop.ask(9, OK, 99)
    assert shop.told() == {0}
    shop.ask(1, FORBIDDEN, 50)
    assert shop.told() == set()


def test_pages_in_a_row_convict_one_alone(shop: Shop) -> None:
    """If a site that served fifty fails on four pages and nobody is served between, chance hardly did that."""
    for page in range(100, 150):
        shop.ask(9, OK, page)
    for page in range(1, 5):
        assert not shop.told()
        shop.ask(0, FORBIDDEN, page)
    assert shop.told() == {0}


def test_one_page_is_one_page_however_often(shop: Shop) -> None:
    """Refused ten times at one page, where nobody else asked, a proxy is a suspect, and no more."""
    for _ in range(10):
        shop.clock.advance(20)
        shop.ask(0, FORBIDDEN, 1)
    assert shop.told() == set()


def test_who_is_served_another_page_is_no_suspect(shop: Shop) -> None:
    """It is chosen as before, and a later success of another one at that page convicts it no more."""
    shop.ask(0, FORBIDDEN, 1)
    shop.ask(0, OK, 2)
    assert shop.suspected() == set()
    assert shop.chosen() == set(range(10))
    shop.ask(1, OK, 1)
    assert shop.suspected() == set()


def test_suspicions_are_cleared_in_any_number(shop: Shop) -> None:
    """Two pages that failed at one proxy leave no ban behind when it is served a third."""
    shop.ask(0, FORBIDDEN, 1)
    shop.ask(0, LIMITED, 2)
    shop.ask(0, OK, 3)
    assert shop.suspected() == set()
    assert all(ban.until <= shop.clock.now() for ban in shop.pool.collect_bans().values())


def test_a_target_that_breaks_makes_no_suspects(shop: Shop) -> None:
    """Its own failures are nobody's else: no ban, before or after it serves again."""
    for number in range(3):
        shop.ask(number, BROKEN, 1)
    assert shop.suspected() == set()
    shop.ask(4, OK, 1)
    assert shop.suspected() == set()
    assert shop.told() == set()


@pytest.mark.parametrize("outcome", [HANGS, CUTS])
def test_silence_at_a_page_that_serves_others_is_the_proxy_s(shop: Shop, outcome: Outcome) -> None:
    """It is set aside once that is known, as after any failure of its own; not before."""
    shop.ask(0, outcome, 1)
    assert all(use.set_aside_until is None for use in shop.pool.snapshot())
    shop.ask(1, OK, 1)
    uses = {use.proxy.key: use for use in shop.pool.snapshot()}
    assert uses[shop.keys[0]].set_aside_until is not None
    assert uses[shop.keys[0]].failed == 1


def test_requests_without_a_page_are_for_one(shop: Shop) -> None:
    """As long as it is about proxies: who is refused where others are served is banned."""
    shop.ask(0, FORBIDDEN, None)
    assert shop.told() == set()
    shop.ask(1, OK, None)
    assert shop.told() == {0}


def test_what_is_known_of_pages_is_bounded() -> None:
    """However many pages fail or are served, and through however many proxies."""
    shop = Shop(size=20)
    for page in range(3000):
        shop.ask(page % 20, FORBIDDEN if page % 3 else OK, page)
        shop.clock.advance(1)
    evidence = shop.pool._chooser.learning.peek("shop.example").evidence
    assert len(evidence.open) <= 64
    assert len(evidence.served) <= 64
    assert len(evidence.closed) <= 512
    assert all(len(known) <= 20 for known in evidence.open.values())
    assert len(evidence.run_pages) <= 3000


def test_it_takes_more_failures_where_more_fails() -> None:
    """As many as chance brings once in a thousand, three at least and twelve at most."""
    needed = [needed_at(rate / 100) for rate in range(101)]
    assert needed == sorted(needed)
    assert (needed[0], needed[100]) == (FEW, 12)
    assert all(0.3**n <= 0.001 for n in [needed_at(0.3)])
    assert Evidence().refusing < 0.2 < Evidence().failing
