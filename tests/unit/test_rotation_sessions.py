"""Sessions: one name, one proxy, for as long as it lasts; and what happens where that cannot be."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from proxywhirl.errors import Blame, PoolEmpty, SessionLost, TierError
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.affinity.ledger import Assignment, MemoryLedger
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import parse

URLS = [parse(f"http://192.0.2.{n}:8080") for n in range(1, 21)]
SHOP = "http://shop.example/"
OK = Outcome(True, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)


class SickLedger(MemoryLedger):
    """A ledger that can be neither read nor written."""

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:  # noqa: ARG002
        """See `Ledger`."""
        raise TierError("the disk is gone")

    def assigned(self, session: str) -> Assignment | None:  # noqa: ARG002
        """See `Ledger`."""
        raise TierError("the disk is gone")


def pool_of(
    size: int = 20,
    *,
    clock: ManualClock | None = None,
    ledger: MemoryLedger | None = None,
    limits: Limits | None = None,
    policy: SessionPolicy | None = None,
) -> Pool:
    """Make a pool of up to twenty, every second one in Germany."""
    known = {url.key: url for url in URLS[:size]}
    pool = Pool(
        "round_robin",
        resolve=known.get,
        rng=random.Random(),
        clock=clock or ManualClock(),
        ledger=ledger,
        limits=limits or Limits(),
        sessions=policy or SessionPolicy(),
    )
    for number, url in enumerate(known.values()):
        pool.update([Proxy.of(url, attributes=Attributes(country="DE" if number % 2 else "FR"))])
    return pool


def of(pool: Pool, name: str = "s", target: str | None = None) -> str:
    """Use a session and return the key of its proxy."""
    with pool.acquire(target, session=name) as lease:
        return lease.proxy.key


def fail(pool: Pool, name: str = "s", outcome: Outcome = REFUSED, target: str | None = None) -> str:
    """Let a session's proxy fail, and return its key."""
    with pool.acquire(target, session=name) as lease:
        lease.report(outcome)
        return lease.proxy.key


def be_banned(pool: Pool, key: str) -> None:
    """Let a session's proxy be refused what another one was served."""
    pool.acquire(SHOP, exclude={key}).report(OK)
    fail(pool, outcome=BANNED, target=SHOP)


def test_one_name_has_one_proxy_whoever_asks() -> None:
    """The same pool, another on the same ledger, and one that shares nothing but the proxies."""
    ledger = MemoryLedger()
    first, second, far = pool_of(ledger=ledger), pool_of(ledger=ledger), pool_of()
    names = [f"user {n}" for n in range(50)]
    had = [of(first, name) for name in names]
    assert had == [of(first, name) for name in names] == [of(second, name) for name in names]
    assert had == [of(far, name) for name in names]
    assert len(set(had)) > 10


def test_a_move_binds_other_pools_on_the_ledger() -> None:
    """Who had not heard of the session gets the proxy that it moved to."""
    ledger = MemoryLedger()
    first, second = pool_of(ledger=ledger), pool_of(ledger=ledger)
    fail(first)
    assert of(first) == of(second)


def test_a_soft_session_moves_for_good_and_says_so() -> None:
    """The lease tells from whom and why; when the old proxy is well again the session stays."""
    clock = ManualClock()
    pool = pool_of(clock=clock)
    lost = fail(pool)
    with pool.acquire(session="s") as lease:
        assert lease.moved_from == lost != lease.proxy.key
        assert lease.why == f"moved away from {lost}, since it is set aside; session"
    clock.advance(10)
    with pool.acquire(session="s") as again:
        assert (again.proxy, again.moved_from, again.why) == (lease.proxy, None, "session")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (lambda pool, key: pool.discard([key]), "it is gone"),
        (lambda pool, _key: fail(pool), "set aside"),
        (be_banned, "banned by the site"),
        (lambda pool, key: pool.learn_holds({key: 4e9}), "held exclusively"),
    ],
)
def test_a_hard_session_is_lost(trouble: Callable[[Pool, str], object], words: str) -> None:
    """Where its proxy cannot serve, the error says why, and it has no other; nor would `explain` name one."""
    pool = pool_of(policy=SessionPolicy(hard=True))
    trouble(pool, of(pool))
    with pytest.raises(SessionLost, match=words):
        pool.acquire(SHOP, session="s")
    told = pool.explain(SHOP, session="s")
    assert told.proxy is None
    assert words in told.why


def test_a_refusal_that_may_be_the_page_s_own_ends_no_session() -> None:
    """As long as nobody else was served the page: hard or soft, the session keeps its proxy."""
    for hard in (True, False):
        pool = pool_of(policy=SessionPolicy(hard=hard))
        key = fail(pool, outcome=BANNED, target=SHOP)
        assert of(pool, target=SHOP) == of(pool, target=SHOP + "other") == key


def test_a_hard_session_comes_back_with_its_proxy() -> None:
    """It is an error only for as long as the trouble lasts."""
    clock = ManualClock()
    pool = pool_of(clock=clock, policy=SessionPolicy(hard=True))
    key = fail(pool)
    clock.advance(10)
    assert of(pool) == key


def test_only_the_sessions_of_a_lost_proxy_move() -> None:
    """All others stay where they are."""
    pool = pool_of()
    before = {f"s{n}": of(pool, f"s{n}") for n in range(200)}
    gone = before["s0"]
    pool.discard([gone])
    after = {name: of(pool, name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {n for n, key in before.items() if key == gone}


@pytest.mark.parametrize(
    ("policy", "step", "uses"), [(SessionPolicy(ttl=100, idle=99), 40, 2), (SessionPolicy(idle=30), 30, 0)]
)
def test_a_session_ends(policy: SessionPolicy, step: float, uses: int) -> None:
    """By its time to live although it is used, and by its idle time: the next use begins another elsewhere."""
    clock = ManualClock()
    pool = pool_of(clock=clock, policy=policy)
    key = of(pool)
    for _ in range(uses):
        clock.advance(step)
        assert of(pool) == key
    clock.advance(step)
    with pool.acquire(session="s") as lease:
        assert lease.proxy.key != key
        assert lease.moved_from is None


@pytest.mark.parametrize(("name", "times"), [("ttl", (-1, 1)), ("idle", (1, -1))])
def test_times_that_make_no_sense_are_errors(name: str, times: tuple[float, float]) -> None:
    """A session cannot end before it begins."""
    with pytest.raises(ValueError, match=f"a session's {name} must be more than 0 seconds, not -1"):
        SessionPolicy(*times)


def test_a_session_fulfils_wishes() -> None:
    """Its proxy is one of those that are wanted; asking for another country moves it."""
    pool = pool_of()
    for n in range(20):
        with pool.acquire(session=str(n), country="DE") as lease:
            assert lease.proxy.attributes.country == "DE"
    with pool.acquire(session="0", country="FR") as moved:
        assert moved.moved_from is not None
        assert "since it is not country=FR" in moved.why
    with pytest.raises(PoolEmpty, match="fulfils country=IT"):
        pool.acquire(session="0", country="IT")


@pytest.mark.parametrize(
    ("limits", "target", "wait"),
    [
        (Limits(requests_per_second=0.5), None, 2.0),
        (Limits(cooldown=7.0), SHOP, 7.0),
        (Limits(in_flight=1), None, 0.05),
    ],
)
def test_at_a_limit_a_session_waits(limits: Limits, target: str | None, wait: float) -> None:
    """It keeps its proxy, and the error says when to come back."""
    clock = ManualClock()
    pool = pool_of(clock=clock, limits=limits)
    first = pool.acquire(target, session="s")
    with pytest.raises(PoolEmpty, match="at its limit") as empty:
        pool.acquire(target, session="s")
    assert empty.value.retry_after == wait
    first.report(OK)
    clock.advance(wait)
    with pool.acquire(target, session="s") as again:
        assert (again.proxy, again.moved_from) == (first.proxy, None)


def test_where_all_are_set_aside_a_session_is_still_served() -> None:
    """As for any request: by the one that is due first."""
    pool = pool_of(3)
    for name in "abcdefghij":
        fail(pool, name)
    assert all(use.set_aside_until is not None for use in pool.snapshot())
    assert of(pool, "new") in pool
    assert of(pool, "a") in pool


def test_a_ledger_that_fails_costs_the_agreement_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions hold within the process, move there, and the log says that nobody else knows."""
    pool = pool_of(ledger=SickLedger())
    lost = fail(pool)
    key = of(pool)
    assert key != lost
    assert key == of(pool)
    assert pool.explain(session="other").proxy is not None
    assert "known to this process alone: the disk is gone" in caplog.text


def test_threads_agree_on_a_new_session() -> None:
    """Eight that ask at once for each of fifty names get one proxy for each."""
    pools = [pool_of(ledger=ledger) for ledger in [MemoryLedger()] for _ in range(2)]
    got: list[tuple[int, str]] = []
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        for n in range(50):
            gate.wait(10)
            got.append((n, of(pools[number % 2], f"n{n}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(got), len(set(got))) == (400, 50)


def test_what_others_moved_or_ended_is_taken_in() -> None:
    """A session that another process moved goes where it went."""
    pool = pool_of()
    before = of(pool)
    with pool.acquire(session="s") as lease:
        (session,) = pool.collect_uses()
    other = min(set(pool.keys()) - {lease.proxy.key})
    pool.learn_sessions({session: Assignment(other, ManualClock().now(), ManualClock().now(), 1)})
    assert of(pool) == other
    pool.learn_sessions({session: None})
    assert of(pool) in (other, before)


def test_a_clock_that_is_set_back_does_not_keep_a_session_for_ever() -> None:
    """One that began long after now has ended."""
    policy = SessionPolicy(ttl=100)
    assert policy.lasts(Assignment("k", 50.0, 50.0), 10.0)
    assert not policy.lasts(Assignment("k", 1e6, 1e6), 10.0)


def test_who_comes_and_goes_is_known_to_sessions_at_once() -> None:
    """Nobody falls to a proxy that left, whether that was before or after the first session; newcomers get some."""
    pool = pool_of()
    of(pool)
    gone, stays = pool.keys()[:10], set(pool.keys()[10:])
    pool.discard(gone)
    assert {of(pool, f"n{n}") for n in range(100)} <= stays
    pool.update([Proxy.of(url) for url in URLS[:10]])
    assert {of(pool, f"m{n}") for n in range(200)} >= set(gone)


@pytest.mark.parametrize("name", ["", 5, b"cart"])
def test_what_is_no_name_is_no_session(name: str) -> None:
    """An empty text, as of a variable that was never set, would put all who forgot it on one proxy: it is refused."""
    with pytest.raises(ValueError, match="a session is a text that is not empty"):
        Pool.of(["http://192.0.2.1"]).acquire(session=name)


def test_a_lone_key_is_no_collection_to_exclude() -> None:
    """A key that stands where several belong is refused, rather than taken for its letters."""
    pool = Pool.of(["http://192.0.2.1"])
    with pytest.raises(TypeError, match="put it in brackets"):
        pool.acquire(exclude=pool.keys()[0])
