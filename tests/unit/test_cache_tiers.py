"""The three tiers together: windows, promotion, demotion, statistics, sickness, rebuilding."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxywhirl.cache import CacheEntry, CacheManager, CacheStatistics
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.coordination.reads import Reader
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch, Tier, TierName
from proxywhirl.errors import TierError
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock
from tests.unit.stores import START, Opener

OFF = {"enabled": False}
THREADS = 8


def entry(key: str, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


def put(cache: CacheManager, *keys: str) -> None:
    """Put entries one by one."""
    for key in keys:
        assert cache.put(key, entry(key))


def sizes(told: CacheStatistics) -> tuple[int, int, int]:
    """Read the tiers' sizes."""
    return (told.l1_stats.current_size, told.l2_stats.current_size, told.l3_stats.current_size)


def hits(told: CacheStatistics) -> tuple[int, int, int]:
    """Read the tiers' hits."""
    return (told.l1_stats.hits, told.l2_stats.hits, told.l3_stats.hits)


def misses(told: CacheStatistics) -> tuple[int, int, int]:
    """Read the tiers' misses."""
    return (told.l1_stats.misses, told.l2_stats.misses, told.l3_stats.misses)


def test_a_get_that_is_served_below_fills_the_tiers_above(opened: Opener) -> None:
    """One promotion for each tier filled; the next get is a hit in L1, and exact counts say so."""
    cache = opened(l1_config={"max_entries": 1}, l2_config={"max_entries": 2})
    put(cache, "a", "b", "c")
    told = cache.get_statistics()
    assert sizes(told) == (1, 2, 3)
    assert (told.promotions, told.demotions) == (0, 3)  # from L1: a, b; from L2: a
    assert (told.l1_stats.evictions_lru, told.l2_stats.evictions_lru) == (2, 1)
    assert cache.get("c") is not None
    assert hits(cache.get_statistics()) == (1, 0, 0)
    from_l2 = cache.get("b")
    told = cache.get_statistics()
    assert (hits(told), misses(told), told.promotions) == ((1, 1, 0), (1, 0, 0), 1)
    from_l3 = cache.get("a")
    told = cache.get_statistics()
    assert (hits(told), misses(told), told.promotions) == ((1, 1, 1), (2, 1, 0), 3)
    again = cache.get("a")
    told = cache.get_statistics()
    assert (hits(told), misses(told), told.promotions) == ((2, 1, 1), (2, 1, 0), 3)
    assert cache.get("missing") is None
    told = cache.get_statistics()
    assert (hits(told), misses(told)) == ((2, 1, 1), (3, 2, 1))
    assert (told.requests, told.requests_served) == (5, 4)
    assert told.overall_hit_rate == pytest.approx(4 / 7)
    assert [e.evicted_from_l1 for e in (from_l2, from_l3, again) if e is not None] == [True, True, False]
    assert (told.demotions, sizes(told)) == (6, (1, 2, 3))


def test_evicted_from_l1_is_told_by_the_process_that_evicted(opened: Opener) -> None:
    """It is not stored: a cache that is opened later has evicted nothing."""
    cache = opened(l1_config={"max_entries": 1})
    put(cache, "a", "b")
    cache.close()
    got = opened(l1_config={"max_entries": 1}).get("a")
    assert got is not None
    assert not got.evicted_from_l1


def test_a_new_incarnation_was_not_evicted(opened: Opener) -> None:
    """An eviction of an entry that was deleted since, here or elsewhere, says nothing of the one that came after."""
    cache, other = opened(l1_config={"max_entries": 1}), opened()
    put(cache, "a", "b")
    other.delete("a")
    cache.refresh()
    put(other, "a")
    got = cache.get("a")
    assert got is not None
    assert not got.evicted_from_l1


def test_statistics_are_a_copy(opened: Opener) -> None:
    """Changing them changes nothing, and they do not move with the cache."""
    cache = opened()
    told = cache.get_statistics()
    told.promotions = 99
    put(cache, "a")
    assert told.l1_stats.current_size == 0
    assert cache.get_statistics().promotions == 0


def test_a_tier_that_is_off_is_not_asked(opened: Opener) -> None:
    """It counts nothing, and the others work without it."""
    cache = opened(l2_config=OFF, l1_config={"max_entries": 1})
    put(cache, "a", "b")
    assert cache.get("a") is not None
    assert cache.get("x") is None
    told = cache.get_statistics()
    assert (hits(told), misses(told), sizes(told)) == ((0, 0, 1), (2, 0, 1), (1, 0, 2))
    assert (told.promotions, told.demotions) == (1, 2)


def test_an_eviction_from_the_authority_is_no_demotion(opened: Opener) -> None:
    """What leaves the last tier is gone from all, and nothing holds it still."""
    cache = opened(l3_config={"max_entries": 2})
    put(cache, "a", "b", "c")
    told = cache.get_statistics()
    assert (told.l3_stats.evictions_lru, told.demotions, sizes(told)) == (1, 0, (2, 2, 2))
    assert cache.get("a") is None


def test_statistics_can_be_off(opened: Opener, clock: ManualClock) -> None:
    """Nothing is counted and no history kept; sizes are told all the same."""
    cache = opened(enable_statistics=False)
    put(cache, "a")
    cache.get("a")
    clock.advance(100)
    cache.get("x")
    told = cache.get_statistics()
    assert (hits(told), misses(told), told.requests, sizes(told)) == ((0, 0, 0), (0, 0, 0), 0, (1, 1, 1))
    assert cache.statistics_history == []


def test_snapshots_form_the_history(opened: Opener, clock: ManualClock) -> None:
    """One in each `statistics_interval` of use, oldest first, bounded."""
    cache = opened(statistics_interval=7)
    for _ in range(3):
        clock.advance(7)
        cache.get("x")
        cache.get("x")
    points = cache.statistics_history
    assert [point.time for point in points] == [START + timedelta(seconds=n) for n in (7, 14, 21)]
    asked = [point.requests for point in points]
    assert asked == sorted(asked)
    for before, after in pairwise(points):
        assert after.requests_per_second == pytest.approx((after.requests - before.requests) / 7)
    for _ in range(1000):
        clock.advance(7)
        cache.get("x")
    assert len(cache.statistics_history) == 720


def test_the_background_thread_removes_what_has_expired(opened: Opener, clock: ManualClock) -> None:
    """Every `cleanup_interval_seconds`, however much it is, without any call; and the thread ends with the cache."""
    cache = opened(enable_background_cleanup=True, cleanup_interval_seconds=3600)
    cache.put_many([entry(f"k{n}") for n in range(1200)])
    assert cache.put("stays", entry("stays", ttl_seconds=9999))
    swept = threading.Event()
    sweep = cache._running().stack.sweep

    def noticed(now: float) -> bool:
        more = sweep(now)
        if not more:
            swept.set()
        return more

    cache._running().stack.sweep = noticed  # type: ignore[method-assign]  # to know when, without sleeping
    clock.advance(3600)
    assert swept.wait(timeout=120)
    assert sizes(cache.get_statistics()) == (1, 1, 1)
    cache.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "proxywhirl-cache"]


def test_counts_are_exact_with_many_threads(opened: Opener) -> None:
    """Hits, misses, requests and access counts add up to what the threads did, and the bounds hold."""
    cache = opened(l1_config={"max_entries": 4, "eviction_policy": "lfu"}, l2_config={"max_entries": 8})
    keys = [f"k{n}" for n in range(12)]
    put(cache, *keys)
    rounds = 150
    start = threading.Barrier(THREADS)

    def work(number: int) -> int:
        start.wait()
        served = 0
        for n in range(rounds):
            served += cache.get(keys[(n * (number + 1)) % len(keys)]) is not None
            served += cache.get(f"missing{n}") is not None
        return served

    with ThreadPoolExecutor(THREADS) as threads:
        served = sum(threads.map(work, range(THREADS)))
    told = cache.get_statistics()
    assert served == told.requests_served == sum(hits(told)) == THREADS * rounds
    assert told.requests == 2 * THREADS * rounds
    assert sizes(told) == (4, 8, 12)
    cache.flush()
    assert sum(found.access_count for found in cache.scan()) == served
    assert told.l3_stats.misses == THREADS * rounds


def test_threads_that_miss_at_once_load_once(opened: Opener) -> None:
    """A thousand threads that ask for a key that is not in L1 make one read below, and count a hit each."""
    cache = opened(l1_config={"max_entries": 1}, l2_config=OFF)
    put(cache, "a", "b")
    start = threading.Barrier(1000)

    def ask(_: int) -> int:
        start.wait()
        got = cache.get("a")
        return 0 if got is None else 1

    threading.stack_size(128 * 1024)
    try:
        with ThreadPoolExecutor(1000) as threads:
            assert sum(threads.map(ask, range(1000))) == 1000
    finally:
        threading.stack_size(0)
    told = cache.get_statistics()
    assert (hits(told), told.promotions) == ((999, 0, 1), 1)
    assert told.requests_served == 1000
    cache.flush()
    (found,) = (found for found in cache.scan() if found.key == "a")
    assert found.access_count == 1000


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
def test_threads_may_do_anything_at_once(opened: Opener, policy: str) -> None:
    """Readers, writers and removers together raise nothing and leave the tiers in agreement."""
    cache = opened(l1_config={"max_entries": 3, "eviction_policy": policy}, l2_config=OFF)
    keys = [f"k{n}" for n in range(6)]

    def work(number: int) -> None:
        for n in range(120):
            key = keys[(n + number) % len(keys)]
            if number % 4 == 0:
                cache.put(key, entry(key))
            elif number % 4 == 1 and n % 3 == 0:
                cache.delete(key)
            else:
                cache.get(key)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    alive = {found.key for found in cache.scan()}
    assert {key for key in keys if cache.get(key) is not None} == alive
    assert sizes(cache.get_statistics())[0] <= 3


def test_hits_of_one_load_are_not_counted_twice() -> None:
    """Hits that wait to be written are added to a record from the store, by key and generation."""
    log = HitLog(durable=True)
    record = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, generation=3)
    log.note(record, 5.0)
    log.note(record, 7.0)
    fresh = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, generation=3, access_count=10)
    log.add_to(fresh)
    assert (fresh.access_count, fresh.accessed_at) == (12, 7.0)
    other = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, generation=4)
    log.add_to(other)
    assert other.access_count == 0
    (access,) = log.take()
    assert (access.key, access.generation, access.count, access.at) == ("k", 3, 2, 7.0)
    assert log.take() == []


class SickTier(MemoryTier):
    """A tier that fails every call while `sick`, and counts how often it was asked then."""

    sick = False
    asked = 0

    def __getattribute__(self, name: str) -> Any:
        """Fail where a real tier would, for a store that is away."""
        if name in {
            "get",
            "peek",
            "transact",
            "fill",
            "drop",
            "scan",
            "changes_since",
            "clear",
            "expired",
            "touch_many",
        }:
            self._look()
        return super().__getattribute__(name)

    def __len__(self) -> int:
        """Fail likewise."""
        self._look()
        return super().__len__()

    def _look(self) -> None:
        if self.sick:
            self.asked += 1
            raise TierError("the disk is away")


class Tiers:
    """A stack of three tiers in memory, two of which can be sick."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=START.timestamp())
        self.l1, self.l2, self.l3 = MemoryTier(max_entries=2), SickTier(), SickTier(authority=True)
        self.counters = Counters(enabled=True)
        tiers: list[tuple[TierName, Tier]] = [("l1", self.l1), ("l2", self.l2), ("l3", self.l3)]
        self.stack = TierStack(tiers, clock=self.clock, counters=self.counters)

    def put(self, key: str, source: str = "s") -> bool:
        """Write a record."""
        record = Record(key, "http://192.0.2.1:80", source, 0.0, 0, 2e9, 0.0)
        return self.stack.commit([], lambda _: Batch(puts=[record]), admit=True) is not None

    def delete(self, key: str) -> bool:
        """Delete a record."""
        return self.stack.commit([], lambda _: Batch(deletes=[key]), admit=False) is not None

    def get(self, key: str) -> str | None:
        """Read a record's source."""
        reading = Reader(self.stack).read(key, self.clock.now())
        return None if reading is None else reading[0].source

    def degraded(self) -> list[str]:
        """Name the tiers that are marked."""
        return [name for name, marked in self.stack.measure()[2].items() if marked]


def test_a_sick_window_is_left_out_and_comes_back_in_line(caplog: pytest.LogCaptureFixture) -> None:
    """Gets and puts go on; it is tried again with back-off, and what it missed is not served stale."""
    tiers = Tiers()
    assert all(tiers.put(key) for key in "abc")
    tiers.stack.refresh()
    tiers.l2.sick = True
    assert tiers.get("a") == "s"
    assert tiers.degraded() == ["l2"]
    assert tiers.put("b", "new")
    assert tiers.delete("c")
    asked = tiers.l2.asked
    for _ in range(50):
        assert tiers.get("a") == "s"
        assert tiers.get("c") is None
    assert tiers.l2.asked == asked, "a sick tier is not asked within its back-off"
    tiers.l2.sick = False
    assert tiers.degraded() == ["l2"]
    tiers.clock.advance(1)
    tiers.stack.refresh()
    assert tiers.degraded() == []
    assert "c" not in tiers.l2
    assert [record.source for record in tiers.l2.scan("", 9)] == ["s", "new"]
    tiers.stack.near_cache.forget(tiers.stack.near_cache.revision)
    assert tiers.get("b") == "new"
    assert tiers.get("c") is None
    assert [text for text in caplog.messages if "l2" in text] == [
        "tier l2 is degraded, next try in 1 s: the disk is away",
        "tier l2 works again",
    ]


def test_the_back_off_of_a_sick_tier_doubles_up_to_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """One call in each back-off finds out, no more."""
    tiers = Tiers()
    tiers.l2.sick = True
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        asked = tiers.l2.asked
        for _ in range(5):
            tiers.get("x")
        assert tiers.l2.asked == asked + 1
        tiers.clock.advance(pause - 0.5)
        tiers.get("x")
        assert tiers.l2.asked == asked + 1
        tiers.clock.advance(0.5)
    assert "next try in 60 s" in caplog.text


def test_a_sick_authority_takes_nothing_and_fails_nothing() -> None:
    """What the windows hold is served; a put and a delete are not acknowledged; listing says why it cannot."""
    tiers = Tiers()
    assert tiers.put("a")
    tiers.l3.sick = True
    assert tiers.put("b") is False
    assert tiers.delete("a") is False
    assert tiers.get("a") == "s"
    assert tiers.get("b") is None
    assert tiers.degraded() == ["l3"]
    peeked = tiers.stack.peek("a")
    assert peeked is not None
    with pytest.raises(TierError, match="l3 is degraded"):
        tiers.stack.page("")
    with pytest.raises(TierError, match="nothing was removed: tier l3 is degraded"):
        tiers.stack.clear()
    tiers.l3.sick = False
    tiers.clock.advance(60)
    assert tiers.put("b")
    assert tiers.get("a") == "s"
    assert tiers.degraded() == []


def test_a_directory_that_goes_away_fails_no_request(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    """With L2's database replaced by a directory, gets and puts go on; with it back, L2 works again."""
    cache = opened(l1_config={"max_entries": 1}, l2_backend="sqlite")
    put(cache, "a", "b")
    held = apsw.Connection(str(tmp_path / "l2" / "l2.db"))
    held.execute("ALTER TABLE entries RENAME TO away")
    put(cache, "c")
    assert cache.get("a") is not None
    assert cache.delete("b")
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded) == (False, True, False)
    held.execute("ALTER TABLE away RENAME TO entries")
    held.close()
    clock.advance(60)
    assert cache.get("b") is None
    assert {found.key for found in cache.scan()} == {"a", "c"}
    assert cache.get("c") is not None
    assert cache.get("a") is not None
    told = cache.get_statistics()
    assert not told.l2_degraded
    assert told.l2_stats.current_size == 2


def test_a_credential_is_put_while_a_window_is_sick(opened: Opener, tmp_path: Path) -> None:
    """The note of the key that cannot be left in a sick tier does not fail the put."""
    cache = opened()
    (tmp_path / "l2").rename(tmp_path / "away")
    (tmp_path / "l2").write_text("in the way")
    assert cache.put("a", entry("a", username="bob", password="hunter2"))
    assert cache.get("a") is not None


def test_a_lost_database_is_rebuilt_from_the_second_tier(
    opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What L2 holds comes back with its credentials, and is said; the log begins anew for those who follow it."""
    cache = opened()
    for n in range(3):
        cache.put(f"k{n}", entry(f"k{n}", username="bob", password=f"pass{n}", failure_count=n))
    cache.close()
    for path in tmp_path.glob("l3.db*"):
        path.unlink()
    caplog.set_level(logging.WARNING)
    again = opened()
    assert "l3 was empty and was rebuilt from l2: 3 entries" in caplog.text
    assert sizes(again.get_statistics()) == (0, 3, 3)
    got = again.get("k2")
    assert got is not None
    assert got.failure_count == 2
    assert got.password is not None
    assert got.password.get_secret_value() == "pass2"
    assert again.delete("k1")
    again.close()
    assert {found.key for found in opened().scan()} == {"k0", "k2"}


def test_an_entry_that_was_retired_in_l2_alone_can_come_back_above_a_new_database(opened: Opener) -> None:
    """A database put under an existing L2 takes its retired entries, and L2 does not hide them when they are well."""
    cache = opened(l3_config=OFF, failure_threshold=1)
    put(cache, "a", "b")
    assert cache.invalidate_by_health("a")
    cache.close()
    again = opened(failure_threshold=1)
    assert again.get("a") is None
    assert again.record_check("a", HealthCheck(True, HealthStatus.HEALTHY, 1.0))
    assert again.get("a") is not None


def test_a_process_that_only_checked_tells_whom_it_took_out_of_service(opened: Opener, clock: ManualClock) -> None:
    """A monitor asks for no entry; its evictions are among the statistics of all processes all the same."""
    put(opened(), "a")
    with opened(failure_threshold=1) as monitor:
        assert monitor.record_check("a", HealthCheck(False, HealthStatus.DEAD, clock.now()))
    (told,) = opened().process_statistics()
    assert told.statistics.l3_stats.evictions_health == 1


def test_what_fails_while_the_database_cannot_be_used_is_out_of_service_all_the_same(
    opened: Opener, clock: ManualClock
) -> None:
    """Its failures are owed: it is served no more, a trial gets its credential, and so it is when all is well."""
    cache = opened()
    cache.put("k", entry("k", username="bob", password="hunter2"))
    failure = HealthCheck(False, HealthStatus.DEGRADED, clock.now())
    with contextlib.closing(apsw.Connection(cache.config.l3_database_path)) as broken:
        broken.execute("ALTER TABLE entries RENAME TO elsewhere")
        for _ in range(3):
            assert cache.record_check("k", failure)
        assert cache.get_statistics().l3_degraded
        assert cache.get("k") is None
        dialled = cache.endpoint("k")
        broken.execute("ALTER TABLE elsewhere RENAME TO entries")
    assert dialled is not None
    assert dialled.password == "hunter2"
    clock.advance(60)
    assert cache.get("k") is None
    assert not cache.get_statistics().l3_degraded
    (retired,) = cache.scan(retired=True)
    assert (retired.failure_count, retired.total_health_checks) == (3, 3)
    assert cache.endpoint("k") == dialled
    assert cache.record_check("k", HealthCheck(True, HealthStatus.DEGRADED, clock.now()))
    assert cache.get("k") is not None


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
def test_a_second_tier_that_was_away_follows_the_log_when_it_is_opened(opened: Opener, backend: str) -> None:
    """What changed without it is not served stale, and what was deleted does not come back."""
    cache = opened(l2_backend=backend)
    put(cache, "changed", "deleted", "same")
    cache.close()
    without = opened(l2_config=OFF)
    without.delete("deleted")
    assert without.put("changed", entry("changed", source="new"))
    without.close()
    again = opened(l2_backend=backend)
    assert again.get("deleted") is None
    got = again.get("changed")
    assert got is not None
    assert got.source == "new"
    assert again.get("same") is not None
    assert sizes(again.get_statistics()) == (2, 2, 2)


def test_what_another_wrote_just_before_a_write_is_followed_too() -> None:
    """A write that finds the log further on than it knew brings its windows in line first."""
    tiers = Tiers()
    assert tiers.put("a")
    other = TierStack([("l3", tiers.l3)], clock=tiers.clock, counters=Counters(enabled=True))
    other.commit([], lambda _: Batch(deletes=["a"]), admit=False)
    assert tiers.get("a") == "s"  # nothing has told yet
    assert tiers.put("b")
    assert tiers.get("a") is None


def test_a_lost_second_tier_fills_again(opened: Opener, tmp_path: Path) -> None:
    """Losing L2's files loses no entry."""
    cache = opened()
    put(cache, "a", "b")
    cache.close()
    for path in (tmp_path / "l2").iterdir():
        path.unlink()
    again = opened()
    assert sizes(again.get_statistics()) == (0, 0, 2)
    assert again.get("a") is not None
    assert sizes(again.get_statistics()) == (1, 1, 2)


def test_two_caches_on_the_same_files_follow_each_other(opened: Opener) -> None:
    """Puts, changed passwords, deletes, retirements and a clear of the one are seen by the other after a refresh."""
    one, other = opened(), opened()
    one.add("http://bob:old@192.0.2.1:80", source="s")
    key = CacheManager.generate_cache_key("http://bob@192.0.2.1:80")

    def password() -> str | None:
        other.refresh()
        got = other.get(key)
        return None if got is None or got.password is None else got.password.get_secret_value()

    assert password() == "old"
    one.add("http://bob:new@192.0.2.1:80", source="s")
    assert password() == "new"
    one.delete(key)
    assert password() is None
    one.add("http://bob:again@192.0.2.1:80", source="s")
    assert password() == "again"
    for _ in range(3):
        one.invalidate_by_health(key)
    assert password() is None
    put(other, "x")
    one.refresh()
    assert one.get("x") is not None
    assert one.clear() == 1
    other.refresh()
    assert other.get("x") is None
    assert sizes(other.get_statistics()) == (0, 0, 0)


def test_a_cache_lists_what_another_wrote_without_being_told(opened: Opener) -> None:
    """Where L2 is the authority too, listing and asking go to the files as they are."""
    one, other = opened(l3_config=OFF), opened(l3_config=OFF)
    put(one, "a")
    assert "a" in other
    assert len(other) == 1
    assert [found.key for found in other.scan()] == ["a"]
    assert [proxy.key for proxy in other.changes_since(0).proxies] == ["a"]


def test_writing_counts_does_not_hide_what_another_wrote(opened: Opener) -> None:
    """A flush that reads the files on its way leaves the deletion to be followed."""
    one, other = opened(l3_config=OFF), opened(l3_config=OFF)
    put(one, "a")
    other.refresh()
    assert other.get("a") is not None
    one.delete("a")
    other.flush()
    other.refresh()
    assert other.get("a") is None


def test_damage_is_counted_and_the_entry_comes_back_from_below(opened: Opener, tmp_path: Path) -> None:
    """A damaged line of L2 is an `evictions_corruption`; L3 still has the entry."""
    cache = opened()
    put(cache, "a", "b")
    cache.close()
    path = next(path for path in (tmp_path / "l2").glob("shard-*") if b'"key":"a"' in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'"key":"a"', b'"key":"#"'))
    again = opened()
    assert again.get("a") is not None
    told = again.get_statistics()
    assert (told.l2_stats.evictions_corruption, told.l2_stats.total_evictions) == (1, 1)
    assert hits(told) == (0, 0, 1)


def test_what_leaves_the_lowest_tier_is_told_at_once_then_once_a_minute_and_at_the_end(
    opened: Opener, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each entry that is lost for want of room is in one of the messages, and a busy store writes few of them."""
    cache = opened(l3_config=OFF, l2_config={"max_entries": 2})
    put(cache, "a", "b", "c")
    (first,) = [record.getMessage() for record in caplog.records if "want of room" in record.getMessage()]
    assert "1 entry is gone" in first
    assert first.endswith("raise max_entries of cache.l2_config, or enable the third tier")
    put(cache, "d", "e")
    clock.advance(60)
    put(cache, "f")
    put(cache, "g")
    cache.close()
    told = [record.args for record in caplog.records if "want of room" in record.getMessage()]
    assert [args[1] for args in told if isinstance(args, tuple)] == [1, 3, 1]
