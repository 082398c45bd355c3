"""Exclusive leases: one holder at a time, until it ends the lease or the lease ends by itself."""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable

import pytest

from proxywhirl.errors import LeaseExpired, PoolEmpty, TierError
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.affinity.ledger import MemoryLedger
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import parse

URLS = [parse(f"http://192.0.2.{n}:8080") for n in range(1, 5)]
OK = Outcome(True, status=200)


class SickLedger(MemoryLedger):
    """A ledger of which some methods fail."""

    def __init__(self, *sick: str) -> None:
        super().__init__()
        self.sick = set(sick)

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """See `Ledger`."""
        self._fail("hold")
        return super().hold(key, now=now, until=until)

    def free(self, key: str, token: int) -> None:
        """See `Ledger`."""
        self._fail("free")
        super().free(key, token)

    def _fail(self, name: str) -> None:
        if name in self.sick:
            raise TierError("the disk is full")


def pool_of(
    size: int = 1,
    *,
    clock: ManualClock | None = None,
    ledger: MemoryLedger | None = None,
    limits: Limits | None = None,
    on_report: Callable[[Proxy, Outcome], None] | None = None,
) -> Pool:
    """Make a pool of up to four."""
    known = {url.key: url for url in URLS[:size]}
    pool = Pool(
        "round_robin",
        resolve=known.get,
        rng=random.Random(1),
        clock=clock or ManualClock(),
        ledger=ledger,
        limits=limits or Limits(),
        on_report=on_report,
    )
    pool.update(map(Proxy.of, known.values()))
    return pool


def test_while_it_lasts_nobody_else_gets_the_proxy() -> None:
    """Neither an exclusive request nor an ordinary one; after the report both may."""
    pool = pool_of(2)
    with pool.acquire(exclusive=True) as held:
        others = [pool.acquire() for _ in range(4)]
        assert {lease.proxy.key for lease in others} == set(pool.keys()) - {held.proxy.key}
        with pytest.raises(PoolEmpty, match="in use or held by others"):
            pool.acquire(exclusive=True)
    assert {pool.acquire().proxy.key for _ in range(4)} == set(pool.keys())


def test_who_is_in_use_is_passed_over() -> None:
    """A proxy with an ordinary request under way is not given away, and the error says why there is none."""
    pool = pool_of(2)
    ordinary = pool.acquire()
    assert pool.acquire(exclusive=True).proxy.key != ordinary.proxy.key
    with pytest.raises(PoolEmpty, match="an exclusive lease needs one alone") as empty:
        pool.acquire(exclusive=True)
    assert empty.value.retry_after == 60.0


def test_threads_never_share_a_proxy() -> None:
    """Eight of them on two pools of one ledger hold, use and give back four proxies: never two have the same."""
    ledger = MemoryLedger()
    pools = [pool_of(4, ledger=ledger) for _ in range(2)]
    holders: dict[str, int] = {}
    tokens: list[int] = []
    trouble: list[str] = []

    def work(number: int) -> None:
        for _ in range(200):
            try:
                lease = pools[number % 2].acquire(exclusive=True)
            except PoolEmpty:
                continue
            key = lease.proxy.key
            if holders.setdefault(key, number) != number:
                trouble.append(key)
            tokens.append(lease.token or 0)
            if holders.pop(key) != number:
                trouble.append(key)
            lease.report(OK)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert trouble == []
    assert len(set(tokens)) == len(tokens) > 10
    assert all(use.in_flight == 0 for pool in pools for use in pool.snapshot())


def test_tokens_only_grow() -> None:
    """Whoever has the proxy later, in whichever pool, has the greater token."""
    ledger, tokens = MemoryLedger(), []
    pools = [pool_of(ledger=ledger) for _ in range(2)]
    for number in range(6):
        with pools[number % 2].acquire(exclusive=True) as lease:
            tokens.append(lease.token or 0)
    assert tokens == sorted(set(tokens))


def test_it_expires_by_itself_and_a_late_report_harms_nobody() -> None:
    """A holder that hangs loses the proxy; what it reports then neither ends nor fails the next holder's lease."""
    clock = ManualClock()
    heard: list[bool] = []
    pool = pool_of(clock=clock, on_report=lambda _, outcome: heard.append(outcome.ok))
    hung = pool.acquire(exclusive=True, ttl=5)
    clock.advance(5)
    with pytest.raises(LeaseExpired, match="ended: acquire another"):
        hung.endpoint()
    second = pool.acquire(exclusive=True, ttl=5)
    hung.report(Outcome(False))
    assert second.endpoint() == URLS[0]
    with pytest.raises(PoolEmpty):
        pool.acquire()
    (use,) = pool.snapshot()
    assert (use.in_flight, use.failed, use.set_aside_until, heard) == (1, 0, None, [False])
    second.report(OK)
    assert pool.acquire().proxy == hung.proxy


def test_an_expired_one_leaves_no_limit_behind() -> None:
    """With one use at a time, the proxy of a holder that hangs serves ordinary requests again."""
    clock = ManualClock()
    pool = pool_of(clock=clock, limits=Limits(in_flight=1))
    hung = pool.acquire(exclusive=True, ttl=5)
    clock.advance(5)
    with pool.acquire() as lease:
        assert lease.proxy == hung.proxy
        hung.release()
        assert pool.snapshot()[0].in_flight == 1


def test_renewing_holds_it_longer() -> None:
    """A lease that is renewed in time lasts from then on; later that is an error, and so for any other lease."""
    clock = ManualClock()
    pool = pool_of(2, clock=clock)
    lease = pool.acquire(exclusive=True, ttl=5)
    clock.advance(4)
    lease.renew(5)
    clock.advance(4)
    assert lease.endpoint()
    assert {pool.acquire().proxy.key for _ in range(3)} == set(pool.keys()) - {lease.proxy.key}
    clock.advance(1)
    with pytest.raises(LeaseExpired):
        lease.renew(5)
    with pytest.raises(ValueError, match="only an exclusive lease"):
        pool.acquire().renew(5)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ttl": 5}, "exclusive=True"),
        ({"exclusive": True, "ttl": 0}, "more than 0"),
        ({"exclusive": True, "ttl": float("inf")}, "more than 0"),
        ({"exclusive": True, "session": "s"}, "not both"),
    ],
)
def test_what_does_not_fit_is_an_error(asked: dict[str, object], words: str) -> None:
    """It says what to do, and takes nothing."""
    pool = pool_of()
    with pytest.raises(ValueError, match=words):
        pool.acquire(**asked)  # type: ignore[arg-type]  # of several types
    assert pool.acquire(exclusive=True).token == 1


def test_a_ledger_that_cannot_be_written_fails_the_acquisition_alone() -> None:
    """There is no lease without an agreement; ordinary requests go on, and the proxy is not lost."""
    clock, ledger = ManualClock(), SickLedger("hold")
    pool = pool_of(clock=clock, ledger=ledger)
    with pytest.raises(TierError):
        pool.acquire(exclusive=True)
    clock.advance(1)
    assert pool.snapshot()[0].in_flight == 0
    pool.acquire().report(OK)
    ledger.sick.clear()
    assert pool.acquire(exclusive=True).token == 1


def test_an_end_that_cannot_be_written_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The report is learnt and passed on, the log says so, and for others the lease ends by itself."""
    clock, ledger, heard = ManualClock(), SickLedger("free"), []
    pool = pool_of(clock=clock, ledger=ledger, on_report=lambda _, outcome: heard.append(outcome))
    with caplog.at_level(logging.WARNING), pool.acquire(exclusive=True, ttl=5) as lease:
        lease.report(OK)
    assert heard == [OK]
    assert "over, which others learn when its time is: the disk is full" in caplog.text
    with pytest.raises(PoolEmpty):
        pool.acquire(exclusive=True)
    clock.advance(5)
    assert pool.acquire(exclusive=True).token == 2


def test_a_lost_one_ends_when_its_time_is_over() -> None:
    """Dropped without a word it keeps the proxy until then, and nothing longer."""
    clock = ManualClock()
    pool = pool_of(clock=clock)
    lease = pool.acquire(exclusive=True, ttl=5)
    del lease
    gc.collect()
    with pytest.raises(PoolEmpty):
        pool.acquire()
    clock.advance(5)
    assert pool.acquire(exclusive=True).token == 2


def test_what_others_hold_is_nobodys_here() -> None:
    """Learnt holds keep the proxy from all, until they end or others say so; our own lease stands beside that."""
    clock = ManualClock()
    pool = pool_of(clock=clock)
    (key,) = pool.keys()
    pool.learn_holds({key: clock.now() + 10})
    with pytest.raises(PoolEmpty) as empty:
        pool.acquire()
    assert empty.value.retry_after == 10
    pool.learn_holds({key: clock.now()})
    lease = pool.acquire(exclusive=True)
    pool.learn_holds({key: clock.now()})
    with pytest.raises(PoolEmpty):
        pool.acquire()
    lease.release()
    pool.acquire()


def test_a_proxy_that_was_removed_and_added_again_stays_held() -> None:
    """The holder still has it, and its end frees it."""
    pool = pool_of()
    lease = pool.acquire(exclusive=True)
    pool.discard(pool.keys())
    pool.update([lease.proxy])
    with pytest.raises(PoolEmpty):
        pool.acquire()
    lease.report(OK)
    assert pool.acquire(exclusive=True).token == 2
