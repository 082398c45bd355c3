"""Bans: what holds for one proxy on one site, for how long, and who hears of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits, ProxyState
from proxywhirl.rotation.sites.bans import FIRST_BAN, LONGEST_BAN, Ban, BanBook
from proxywhirl.rotation.sites.learning import CONNECT, EVERYBODY, Learning
from proxywhirl.rotation.sites.site import Site, keeps_any
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import parse
from proxywhirl.wire.retry_after import LONGEST_WAIT

SHOP, NEWS = "https://shop.example/x", "https://news.example/"
OK = Outcome(True, latency=0.1, status=200)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)
URLS = [f"http://192.0.2.{n}:8080" for n in range(1, 6)]
KEYS = [parse(url).key for url in URLS]
PAIR = ("a", "shop.example")


def pool_of(clock: ManualClock, *, limits: Limits | None = None) -> Pool:
    """Make a pool of five."""
    return Pool.of(URLS, "round_robin", rng=random.Random(1), clock=clock, limits=limits or Limits())


def refuse(pool: Pool, key: str, outcome: Outcome = BANNED, url: str = SHOP) -> None:
    """Let a site refuse a page to a proxy."""
    pool.acquire(url, exclude=[k for k in KEYS if k != key]).report(outcome)


def ban(pool: Pool, key: str, outcome: Outcome = BANNED, url: str = SHOP) -> float:
    """Let a site refuse a proxy what it serves to another, and return until when that bans it."""
    refuse(pool, key, outcome, url)
    pool.acquire(url, exclude=[key]).report(OK)
    return pool.bans()[key, url.split("/")[2]].until


def served(pool: Pool, site: str | None, count: int = 10) -> set[str]:
    """Return who serves some requests to a site."""
    keys = set()
    for _ in range(count):
        with pool.acquire(site) as lease:
            keys.add(lease.proxy.key)
    return keys


def test_a_ban_holds_for_that_proxy_on_that_site_alone() -> None:
    """Elsewhere the proxy goes on serving, and there all others do."""
    pool = pool_of(ManualClock())
    ban(pool, KEYS[0])
    assert served(pool, SHOP) == set(KEYS[1:])
    assert served(pool, NEWS) == served(pool, None) == set(KEYS)


def test_a_ban_expires_by_itself() -> None:
    """A moment before its end the proxy is left alone, at its end it serves."""
    clock = ManualClock()
    pool = pool_of(clock)
    until = ban(pool, KEYS[0])
    clock.advance(until - clock.now() - 0.01)
    assert KEYS[0] not in served(pool, SHOP)
    clock.advance(0.02)
    assert KEYS[0] in served(pool, SHOP)
    assert pool.bans() == {}


@given(st.integers(2, 30), st.none() | st.floats(0.1, 1e6), st.booleans(), st.randoms(use_true_random=False))
def test_bans_in_a_row_grow_and_are_never_shorter_than_asked(
    strikes: int, asked: float | None, unwanted: bool, rng: random.Random
) -> None:
    """Each lasts longer than the one before up to the longest, and none less than `Retry-After` says."""
    book, now, before = BanBook(rng), 1e9, 0.0
    for number in range(1, strikes):
        struck = book.strike(PAIR, "403", now=now, retry_after=asked, unwanted=unwanted)
        seconds = struck.until - now
        base = FIRST_BAN if asked is None else min(max(asked, 1.0), LONGEST_WAIT)
        assert struck.strikes == number
        assert seconds >= base - 1e-3
        assert seconds <= max(LONGEST_BAN, base) * 1.2 + 1e-3
        assert seconds > min(before * 1.6, LONGEST_BAN) - 1e-3
        now, before = struck.until, seconds


@pytest.mark.parametrize("asked", [float("inf"), float("nan"), -5.0, 1e300])
def test_an_impossible_retry_after_bans_for_a_finite_time(asked: float) -> None:
    """Neither forever nor for no time: what makes no sense is bounded."""
    struck = BanBook(random.Random(1)).strike(PAIR, "429", now=0.0, retry_after=asked)
    assert 1.0 <= struck.until <= LONGEST_WAIT * 1.2


def test_retry_after_reaches_the_ban() -> None:
    """A site that asks for ten minutes is left alone by that proxy for ten minutes or more."""
    clock = ManualClock()
    outcome = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=600.0)
    assert ban(pool_of(clock), KEYS[0], outcome) >= clock.now() + 600


@pytest.mark.parametrize("asked", [None, 5.0, float("nan")])
def test_what_was_under_way_together_is_banned_once(asked: float | None) -> None:
    """Ten requests that meet the same ban are one strike, and the ban ends when it would have."""
    book = BanBook(random.Random(1))
    first = book.strike(PAIR, "403", now=0.0, retry_after=None)
    for _ in range(10):
        book.strike(PAIR, "403", now=1.0, retry_after=asked)
    assert book.get(PAIR) == first


def test_a_ban_that_holds_becomes_as_long_as_the_site_asks_for() -> None:
    """A site that says only in its second refusal that it wants ten minutes gets them, and it is one strike."""
    book = BanBook(random.Random(1))
    book.strike(PAIR, "429", now=0.0, retry_after=None)
    later = book.strike(PAIR, "429", now=1.0, retry_after=600.0)
    assert (later.until, later.strikes) == (601.0, 1)
    assert later.forget_at > later.until


def test_a_success_takes_one_strike_back() -> None:
    """After three strikes and one success the next ban is again a third one."""
    clock = ManualClock()
    book = BanBook(random.Random(1))
    for _ in range(3):
        struck = book.strike(PAIR, "403", now=clock.now(), retry_after=None)
        clock.advance(struck.until - clock.now())
    book.forgive(PAIR, now=clock.now())
    assert book.held(clock.now()) == {}
    assert book.strike(PAIR, "403", now=clock.now(), retry_after=None).strikes == 3


def test_successes_are_no_credit_for_later_bans() -> None:
    """However often a proxy served after a ban, the next one lasts at least as long as the first."""
    clock = ManualClock()
    pool = pool_of(clock)
    clock.advance(ban(pool, KEYS[0]) - clock.now())
    for _ in range(20):
        pool.acquire(SHOP, exclude=KEYS[1:]).report(OK)
    outcome = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=300.0)
    assert ban(pool, KEYS[0], outcome) >= clock.now() + 300.0


def test_successes_after_a_ban_was_forgiven_are_no_news() -> None:
    """Only what changes a ban is collected, since each is written down."""
    clock = ManualClock()
    pool = pool_of(clock)
    clock.advance(ban(pool, KEYS[0]) - clock.now())
    pool.acquire(SHOP, exclude=KEYS[1:]).report(OK)
    assert list(pool.collect_bans()) == [(KEYS[0], "shop.example")]
    pool.acquire(SHOP, exclude=KEYS[1:]).report(OK)
    assert pool.collect_bans() == {}


def test_bans_survive_in_a_new_pool() -> None:
    """What one pool collects keeps the same proxy off the site in another that learns it, with its strikes."""
    clock = ManualClock()
    first, second = pool_of(clock), pool_of(clock)
    until = ban(first, KEYS[0])
    second.learn_bans(first.collect_bans())
    assert KEYS[0] not in served(second, SHOP)
    assert (first.collect_bans(), second.collect_bans()) == ({}, {})
    clock.advance(until - clock.now())
    ban(second, KEYS[0])
    assert second.bans()[KEYS[0], "shop.example"].strikes == 2


@pytest.mark.parametrize("later", [0.0, 7200.0])
def test_a_ban_that_others_lifted_holds_no_more(later: float) -> None:
    """Also where one hears of it so late that the lift itself is to be forgotten."""
    clock = ManualClock()
    pool = pool_of(clock)
    outcome = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=80_000.0)
    ban(pool, KEYS[0], outcome)
    lifted = Ban(clock.now(), 0, "lifted", clock.now() + 3600)
    clock.advance(later)
    pool.learn_bans({(KEYS[0], "shop.example"): lifted})
    assert pool.bans() == {}
    assert KEYS[0] in served(pool, SHOP)


def test_a_ban_keeps_a_cool_down_apart() -> None:
    """A success that takes a strike back does not let the proxy return to the site before it has cooled down."""
    clock = ManualClock()
    pool = pool_of(clock, limits=Limits(cooldown=30.0))
    clock.advance(ban(pool, KEYS[0]) - clock.now())
    pool.acquire(SHOP, exclude=KEYS[1:]).report(OK)
    with pytest.raises(PoolEmpty, match="cooling down"):
        pool.acquire(SHOP, exclude=KEYS[1:])
    clock.advance(30.0)
    assert KEYS[0] in served(pool, SHOP, 5)


def test_who_opens_no_tunnels_is_kept_from_them_however_many_they_are() -> None:
    """A hundred in a row say nothing of a site, and each is asked for a tunnel once."""
    pool = Pool.of([f"http://10.0.0.{n}:80" for n in range(100)], "round_robin", clock=ManualClock())
    for _ in range(99):
        pool.acquire(SHOP).report(Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=405, rule="no-connect"))
    assert len(pool.bans()) == 99
    assert len(served(pool, NEWS)) == 1
    assert len(served(pool, "http://plain.example/", 100)) == 100


def test_a_book_is_bounded_and_the_soonest_forgotten_go_first() -> None:
    """Of five bans a book of three keeps the newest, and of the others those that last longest."""
    book = BanBook(random.Random(1), most=3)
    for number in range(5):
        book.strike((str(number), "s"), "403", now=0.0, retry_after=1000.0 * (5 - number))
    assert set(book.held(0.0)) == {("0", "s"), ("1", "s"), ("4", "s")}


def test_a_ban_that_is_taken_back_is_so_for_others_too() -> None:
    """Also where the pair was banned long before: what is collected is a ban that is over."""
    book = BanBook(random.Random(1))
    old = book.strike(PAIR, "403", now=0.0, retry_after=None)
    book.strike(PAIR, "503", now=1e6, retry_after=None)
    book.restore(PAIR, old, now=1e6)
    assert book.collect()[PAIR].until <= 1e6


moves = st.lists(
    st.tuples(
        st.sampled_from(["strike", "serve", "learn", "lift", "wait", "open"]),
        st.sampled_from("abcd"),
        st.integers(0, 5),
        st.none() | st.integers(0, 3),
        st.floats(1.0, 5000.0),
    ),
    max_size=60,
)


@given(moves)
def test_book_and_sites_never_disagree(steps: list[tuple[str, str, int, int | None, float]]) -> None:
    """Whatever happens, with too many bans and too many sites: who is barred from a known site is who is banned.

    A ban that may be taken back, since it may be the page that refuses, bars nobody yet.
    """
    clock = ManualClock()
    learning = Learning(random.Random(1), clock, arms=True, most_bans=6, most_sites=3)
    for what, key, number, page, seconds in steps:
        name = f"site{number}"
        state = ProxyState(key, None)  # type: ignore[arg-type]  # nothing is asked of the proxy
        now, wall = clock.monotonic(), clock.now()
        if what == "wait":
            clock.advance(seconds)
        elif what == "learn":
            learning.learn_bans({(key, name): Ban(wall + seconds, 1, "403", wall + 2 * seconds)})
        elif what == "lift":
            learning.learn_bans({(key, name): Ban(wall, 0, "lifted", wall + seconds)})
        elif what == "strike":
            status = (403, 429, 503)[int(seconds) % 3]
            refused = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=status, retry_after=seconds)
            learning.failed(state, learning.site(name), refused, now, proxies=4, page=page)
        elif what == "serve":
            learning.served(state, learning.site(name), now, page=page)
        else:
            learning.site(name)
        for site in [*learning.sites.values(), learning.connect]:
            keeps_any(site.barred, clock.monotonic())
            assert_agree(learning, site, clock.now())
        assert len(learning.book) <= 6
        assert_agree(learning, learning.peek(name), clock.now())


def assert_agree(learning: Learning, site: Site, wall: float) -> None:
    """Hold who is barred against who is banned; the two clocks round differently in the last digit."""
    now, soon = (
        {key for key, name in learning.book.held(at) if name == site.name and key != EVERYBODY}
        for at in (wall - 1e-6, wall + 1e-6)
    )
    assert soon - site.evidence.suspects.keys() <= set(site.barred) <= now


def test_the_tunnels_have_a_name_of_their_own() -> None:
    """No site can be called what stands for all tunnels."""
    with pytest.raises(ValueError, match="http"):
        Pool.of(URLS).acquire(CONNECT)
