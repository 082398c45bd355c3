"""The pool: choosing, learning from reports, and what happens at its edges."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from proxywhirl.errors import Blame, LeaseReported, PoolEmpty, ProxyGone
from proxywhirl.models import HealthStatus, Outcome, Proxy, Sketch
from proxywhirl.rotation.pool import Pool, ProxyUse
from proxywhirl.rotation.proxy_state import BACKOFF, FAILURES_TO_CAP
from proxywhirl.testing.clock import ManualClock
from proxywhirl.timetable import Timetable
from proxywhirl.urls import ProxyURL

OK = Outcome(True, latency=0.1, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY, error="refused")


def urls(count: int) -> list[str | ProxyURL]:
    """Make so many different proxies."""
    return [f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8080" for i in range(count)]


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


@pytest.fixture
def pool(clock: ManualClock) -> Pool:
    """Give a pool of three on that clock."""
    return Pool.of(urls(3), "round_robin", clock=clock, rng=random.Random(1))


def use(pool: Pool, outcome: Outcome, *, exclude: tuple[str, ...] = ()) -> str:
    """Acquire, report, and return the key of the proxy."""
    with pool.acquire(exclude=exclude) as lease:
        lease.report(outcome)
        return lease.proxy.key


def state(pool: Pool, key: str) -> ProxyUse:
    """Return what the pool knows of one proxy."""
    return next(use for use in pool.snapshot() if use.proxy.key == key)


def fail(pool: Pool, key: str, outcome: Outcome = REFUSED) -> float:
    """Let one proxy fail and return until when it is set aside."""
    others = tuple(use.proxy.key for use in pool.snapshot() if use.proxy.key != key)
    assert use(pool, outcome, exclude=others) == key
    until = state(pool, key).set_aside_until
    assert until is not None
    return until


def test_each_proxy_serves_once_in_a_turn_and_says_why(pool: Pool) -> None:
    """Round robin is the default, and a lease tells the strategy and among how many it chose."""
    with pool.acquire() as lease:
        assert lease.why == "round_robin, one of 3 ready"
        lease.report(OK)
    keys = [lease.proxy.key, *(use(pool, OK) for _ in range(5))]
    assert len(set(keys[:3])) == 3
    assert keys[3:] == keys[:3]


def test_a_failing_proxy_is_set_aside_and_comes_back_by_itself(pool: Pool, clock: ManualClock) -> None:
    """After a failure a proxy serves nothing until its back-off has passed, then takes its turn again."""
    key = use(pool, REFUSED)
    until = state(pool, key).set_aside_until
    assert until is not None
    assert clock.monotonic() <= until <= clock.monotonic() + 2
    assert key not in {use(pool, OK) for _ in range(10)}
    clock.advance(until - clock.monotonic())
    assert Counter(use(pool, OK) for _ in range(6))[key] == 2
    assert state(pool, key).set_aside_until is None


def test_failures_in_a_row_lengthen_the_back_off_and_a_success_resets_it(pool: Pool, clock: ManualClock) -> None:
    """The n-th failure in a row may set aside for up to 2·3ⁿ⁻¹ seconds; after a success it begins anew."""
    key = pool.snapshot()[0].proxy.key
    delays = []
    others = tuple(u.proxy.key for u in pool.snapshot()[1:])
    use(pool, OK, exclude=others)
    for number in range(1, 12):
        delays.append(fail(pool, key) - clock.monotonic())
        clock.advance(delays[-1])
        assert state(pool, key).consecutive_failures == number
    assert all(0 <= delay <= min(2 * 3**n, BACKOFF.longest) for n, delay in enumerate(delays))
    assert max(delays) > 60
    use(pool, OK, exclude=others)
    assert state(pool, key).consecutive_failures == 0
    assert fail(pool, key) <= clock.monotonic() + 2


def test_when_all_are_set_aside_the_one_due_first_is_tried(pool: Pool) -> None:
    """A pool in trouble still answers: with the proxy that is due first and not excluded, then the next."""
    due = sorted((fail(pool, u.proxy.key), u.proxy.key) for u in pool.snapshot())
    tried: list[str] = []
    for _ in due:
        with pool.acquire(exclude=tried) as lease:
            assert lease.why == "none ready, due first of 3 set aside"
            tried.append(lease.proxy.key)
    assert tried == [key for _, key in due]


def test_a_success_while_set_aside_brings_a_proxy_back_at_once(pool: Pool) -> None:
    """Whatever the back-off says, a proxy that has just served is ready."""
    key = pool.snapshot()[0].proxy.key
    others = tuple(u.proxy.key for u in pool.snapshot()[1:])
    with pool.acquire(exclude=others) as slow:
        fail(pool, key)
        slow.report(OK)
    assert state(pool, key).set_aside_until is None
    assert use(pool, OK, exclude=others) == key


@pytest.mark.parametrize("blame", [Blame.TARGET, Blame.TARGET_THROUGH_PROXY, Blame.US])
def test_a_failure_of_another_party_teaches_nothing_against_the_proxy(pool: Pool, blame: Blame) -> None:
    """The target's failures and ours do not set a proxy aside and are not counted as its own."""
    key = use(pool, Outcome(False, blame=blame))
    assert state(pool, key) == ProxyUse(state(pool, key).proxy, 0, 0, 0, None, 0)


@pytest.mark.parametrize("blame", [Blame.PROXY, Blame.ACCOUNT, None])
def test_a_failure_of_the_proxy_or_its_account_counts(pool: Pool, blame: Blame | None) -> None:
    """The proxy's failures set it aside; one without blame is the proxy's."""
    key = use(pool, Outcome(False, blame=blame))
    assert (state(pool, key).failed, state(pool, key).consecutive_failures) == (1, 1)
    assert state(pool, key).set_aside_until is not None


def test_leases_that_were_out_together_fail_as_one(pool: Pool) -> None:
    """Fifty requests lost with one proxy are one failure in a row, so it comes back as after one."""
    key = pool.snapshot()[0].proxy.key
    others = [u.proxy.key for u in pool.snapshot()[1:]]
    leases = [pool.acquire(exclude=others) for _ in range(50)]
    for lease in leases:
        lease.report(REFUSED)
    assert (state(pool, key).failed, state(pool, key).consecutive_failures) == (50, 1)


def test_a_lease_is_reported_once(pool: Pool) -> None:
    """A second report, or one after the release, is an error and teaches nothing."""
    with pool.acquire() as lease:
        lease.report(OK)
        with pytest.raises(LeaseReported, match=r"the lease on http://10\.0\.0\.0:8080 was reported"):
            lease.report(REFUSED)
    released = pool.acquire()
    released.release()
    with pytest.raises(LeaseReported):
        released.report(REFUSED)
    assert sum(u.served for u in pool.snapshot()) == 1
    assert sum(u.failed for u in pool.snapshot()) == 0


def test_an_unreported_lease_teaches_nothing(pool: Pool) -> None:
    """Leaving the context, even by an exception, only gives the proxy back."""
    with pytest.raises(KeyError, match="1"), pool.acquire() as lease:
        raise KeyError(state(pool, lease.proxy.key).in_flight)
    assert pool.snapshot() == [ProxyUse(u.proxy, 0, 0, 0, None, 0) for u in pool.snapshot()]


def test_an_empty_pool_says_what_to_do() -> None:
    """Without any proxy the error tells how to bring some in."""
    with pytest.raises(PoolEmpty, match="the pool has no proxies: `proxywhirl import FILE`"):
        Pool.of([]).acquire()


def test_a_pool_of_which_all_is_excluded_says_how_many_were_tried(pool: Pool) -> None:
    """With all proxies excluded, ready and set aside alike, the error counts them."""
    fail(pool, pool.snapshot()[0].proxy.key)
    with pytest.raises(PoolEmpty, match=r"every proxy of the pool \(3\) was tried"):
        pool.acquire(exclude=[u.proxy.key for u in pool.snapshot()])


def test_the_credential_is_read_when_it_is_asked_for() -> None:
    """A password that was changed after the choice is the one that is used."""
    old, new = (ProxyURL("http", "192.0.2.1", 8080, "bob", password) for password in ("old", "new"))
    store = {old.key: old}
    pool = Pool("round_robin", resolve=store.get)
    pool.update([Proxy.of(old)])
    lease = pool.acquire()
    store[new.key] = new
    assert lease.endpoint().password == "new"
    assert "new" not in repr(lease) + str(lease.proxy) + repr(pool.snapshot())


def test_a_proxy_that_is_gone_from_the_store_is_forgotten() -> None:
    """The pool drops a proxy whose credential nobody knows, and the lease says so; others still serve."""
    kept, gone = (ProxyURL("http", f"192.0.2.{n}", 8080) for n in (1, 2))
    pool = Pool("round_robin", resolve={kept.key: kept}.get)
    pool.update([Proxy.of(gone), Proxy.of(kept)])
    lease = pool.acquire()
    with pytest.raises(ProxyGone, match=r"http://192\.0\.2\.2:8080 was removed"):
        lease.endpoint()
    assert gone.key not in pool
    assert {use(pool, OK) for _ in range(3)} == {kept.key}


def test_a_proxy_that_was_added_again_is_not_forgotten_by_an_old_lease() -> None:
    """Only the very proxy that was leased is dropped, not its successor of the same key."""
    url = ProxyURL("http", "192.0.2.1", 8080)
    pool = Pool("round_robin", resolve=lambda _key: None)
    pool.update([Proxy.of(url)])
    lease = pool.acquire()
    pool.discard([url.key])
    pool.update([Proxy.of(url)])
    with pytest.raises(ProxyGone):
        lease.endpoint()
    assert url.key in pool


def test_an_update_replaces_the_proxy_and_keeps_what_was_learnt(pool: Pool) -> None:
    """New attributes arrive; statistics, the back-off and the place in the turn stay."""
    use(pool, OK)
    second = pool.snapshot()[1].proxy
    fail(pool, second.key)
    before = pool.snapshot()
    pool.update(Proxy(u.proxy.key, "http", u.proxy.host, 8080, label="new") for u in before)
    after = pool.snapshot()
    assert {u.proxy.label for u in after} == {"new"}
    assert [(u.served, u.failed, u.set_aside_until) for u in after] == [
        (u.served, u.failed, u.set_aside_until) for u in before
    ]
    assert use(pool, OK) == before[2].proxy.key


def test_a_dead_proxy_starts_set_aside(clock: ManualClock) -> None:
    """What is known to be dead serves last, is tried when it is due, and goes to the longest back-off."""
    dead, fresh = (ProxyURL("http", f"192.0.2.{n}", 8080) for n in (1, 2))
    pool = Pool("round_robin", resolve={dead.key: dead, fresh.key: fresh}.get, clock=clock, rng=random.Random(3))
    pool.update([Proxy.of(dead, status=HealthStatus.DEAD), Proxy.of(fresh)])
    assert {use(pool, OK) for _ in range(3)} == {fresh.key}
    until = state(pool, dead.key).set_aside_until
    assert until is not None
    assert clock.monotonic() < until <= clock.monotonic() + BACKOFF.longest
    clock.advance(until - clock.monotonic())
    assert dead.key in {use(pool, OK) for _ in range(2)}


def drawer(made: list[str]) -> Callable[[str, Sketch], Proxy]:
    """Return a `portray` that notes each key of which it makes the value."""

    def portray(key: str, sketch: Sketch) -> Proxy:
        made.append(key)
        return Proxy(key, "http", "192.0.2.1", 8080, label=sketch[1])

    return portray


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_of_a_sketch_no_value_is_made_until_it_is_chosen(strategy: str) -> None:
    """Filling, replacing and counting make none of ten thousand values; a choice makes one, its repetition none."""
    made: list[str] = []
    pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(1), portray=drawer(made))
    for label in ("old", "new"):
        pool.stock({str(n): ("", label) for n in range(10_000)})
    assert (len(pool), len(pool.keys()), made) == (10_000, 10_000, [])
    with pool.acquire() as lease:
        assert lease.proxy.label == "new"
    pool.discard(set(pool.keys()) - {lease.proxy.key})
    use(pool, OK)
    assert made == [lease.proxy.key]


def test_filling_with_sketches_takes_no_step_for_each() -> None:
    """Twenty thousand new sketches run as few lines of Python as a hundred: what is done for each is not Python."""
    counts = []
    for size in (100, 20_000):
        pool = Pool("round_robin", resolve=lambda _key: None, portray=drawer([]))
        sketches = {str(n): ("", "") for n in range(size)}
        counts.append(lines_run(lambda pool=pool, sketches=sketches: pool.stock(sketches)))  # type: ignore[misc]  # bound now
    assert counts[1] == counts[0]


def test_a_used_proxy_shows_what_its_next_sketch_says(clock: ManualClock) -> None:
    """A sketch of a known key replaces the value, and leaves statistics and back-off as they are."""
    pool = Pool("round_robin", resolve=lambda _key: None, clock=clock, portray=drawer([]))
    pool.stock({"a": ("", "one")})
    before = fail(pool, "a")
    pool.stock({"a": ("", "two"), "b": ("", "two")})
    assert [(u.proxy.label, u.failed, u.set_aside_until) for u in pool.snapshot()] == [
        ("two", 1, before),
        ("two", 0, None),
    ]


def test_dead_sketches_start_set_aside_and_come_back(clock: ManualClock) -> None:
    """They serve last; when they are due they are tried, and one failure sends them to the longest back-off again."""
    pool = Pool("round_robin", resolve=lambda _key: None, clock=clock, rng=random.Random(3), portray=drawer([]))
    pool.stock({"dead": ("", "")}, aside=True)
    pool.stock({"fresh": ("", "")})
    assert {use(pool, OK) for _ in range(3)} == {"fresh"}
    assert (state(pool, "dead").consecutive_failures, state(pool, "fresh").consecutive_failures) == (FAILURES_TO_CAP, 0)
    clock.advance(BACKOFF.longest)
    fail(pool, "dead")
    assert state(pool, "dead").consecutive_failures == FAILURES_TO_CAP + 1


def test_a_pool_that_cannot_read_sketches_says_so() -> None:
    """Without `portray` the first use of a sketch names what is missing."""
    pool = Pool("round_robin", resolve=lambda _key: None)
    pool.stock({"a": ("", "")})
    with pytest.raises(TypeError, match="portray"):
        pool.acquire()


def test_discarding_a_leased_proxy_is_safe(pool: Pool) -> None:
    """A lease on a discarded proxy can still be reported; the report brings nothing back."""
    leases = [pool.acquire() for _ in range(3)]
    pool.discard([lease.proxy.key for lease in leases] + ["unknown"])
    for lease, outcome in zip(leases, (OK, REFUSED, OK), strict=True):
        lease.report(outcome)
    assert len(pool) == 0
    assert pool.snapshot() == []
    with pytest.raises(PoolEmpty):
        pool.acquire()


def test_reports_are_passed_on_without_the_lock() -> None:
    """`on_report` gets proxy and outcome of each report, no release, and may itself call the pool."""
    heard: list[tuple[str, bool]] = []
    url = ProxyURL("http", "192.0.2.1", 8080)

    def listen(proxy: Proxy, outcome: Outcome) -> None:
        heard.append((proxy.key, outcome.ok))
        talkative.discard([proxy.key])

    talkative = Pool("round_robin", resolve={url.key: url}.get, on_report=listen)
    talkative.update([Proxy.of(url)])
    talkative.acquire().release()
    talkative.acquire().report(OK)
    assert heard == [(url.key, True)]
    assert len(talkative) == 0


def test_after_an_outage_all_come_back(clock: ManualClock) -> None:
    """However many are due at once, none is forgotten."""
    pool = Pool.of(urls(1000), "round_robin", clock=clock)
    for _ in range(1000):
        use(pool, REFUSED)
    clock.advance(BACKOFF.longest)
    for _ in range(2000):
        use(pool, OK)
    assert all(u.served and u.set_aside_until is None for u in pool.snapshot())


def test_setting_the_same_proxies_aside_forever_takes_no_more_memory() -> None:
    """The heap's stale entries are bounded by a constant beside the valid ones."""
    shelf = Timetable()
    for moment in range(10_000):
        shelf.put(str(moment % 10), float(moment))
        if moment % 3 == 0:
            shelf.discard(str(moment % 7))
    assert len(shelf._heap) <= 2 * len(shelf) + 64


def test_threads_lose_nothing() -> None:
    """Eight threads that acquire, report, add and discard leave sums that add up, and nothing in flight."""
    pool = Pool.of(urls(50), "round_robin", rng=random.Random(1))
    stable = {u.proxy.key for u in pool.snapshot()}
    extra = [Proxy.of(ProxyURL("http", f"192.0.2.{n}", 8080)) for n in range(20)]
    reported = Counter[bool]()
    guard = threading.Lock()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        mine = Counter[bool]()
        for _ in range(1500):
            with pool.acquire() as lease:
                ok = rng.random() < 0.8
                if lease.proxy.key in stable:
                    mine[ok] += 1
                lease.report(OK if ok else REFUSED)
            if rng.random() < 0.1:
                (pool.update if rng.random() < 0.5 else lambda ps: pool.discard(p.key for p in ps))(
                    rng.sample(extra, 3)
                )
        with guard:
            reported.update(mine)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    pool.discard(proxy.key for proxy in extra)
    uses = pool.snapshot()
    assert (sum(u.served for u in uses), sum(u.failed for u in uses)) == (reported[True], reported[False])
    assert all(u.in_flight == 0 for u in uses)
    assert {u.proxy.key for u in uses} == stable


def lines_run(work: Callable[[], object]) -> int:
    """Count the lines of Python that a call runs: a measure of its work that no other process disturbs."""
    count = 0

    def trace(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_the_cost_does_not_grow_with_the_pool(strategy: str) -> None:
    """Acquire and report run no more lines among 20,000 proxies than among 100."""
    counts = []
    for size in (100, 20_000):
        pool = Pool.of(urls(size), strategy, rng=random.Random(1))
        counts.append(lines_run(lambda pool=pool: [use(pool, OK) for _ in range(50)]))  # type: ignore[misc]  # bound now
    assert counts[1] <= counts[0] * 1.1
