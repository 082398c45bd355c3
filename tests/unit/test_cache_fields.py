"""What single fields of the configuration do, where that takes more than one call to see."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, CacheStatistics
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.directory import Shards
from proxywhirl.cache.tiers.jsonl.shard_file import Located, ShardFile
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Batch, Tier
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock
from tests.unit.stores import START, Opener

OFF = {"enabled": False}
THREADS = 8
POLICIES = ("lru", "lfu", "fifo", "sieve")


@pytest.fixture
def _switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def entry(key: str, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


def entries(number: int, **fields: Any) -> list[CacheEntry]:
    """Make entries `k0`, `k1` and so on."""
    return [entry(f"k{n}", **fields) for n in range(number)]


def each(told: CacheStatistics, name: str) -> tuple[int, int, int]:
    """Read a count of the three tiers."""
    l1, l2, l3 = (int(getattr(tier, name)) for tier in (told.l1_stats, told.l2_stats, told.l3_stats))
    return l1, l2, l3


SHRINKING: dict[str, tuple[dict[str, Any], str]] = {
    "JSONL above a database": ({}, "l2_config"),
    "SQLite above a database": ({"l2_backend": "sqlite"}, "l2_config"),
    "JSONL alone": ({"l3_config": OFF}, "l2_config"),
    "the database": ({"l2_config": OFF}, "l3_config"),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("arrangement", SHRINKING)
def test_a_store_that_is_opened_with_a_smaller_bound_shrinks(opened: Opener, arrangement: str, policy: str) -> None:
    """At once, to the bound, by the policy; it is counted as evictions, and as demotions where a tier below has it."""
    fields, tier = SHRINKING[arrangement]
    cache = opened(l1_config=OFF, **fields)
    for n in range(9):
        cache.put(f"k{n}", entry(f"k{n}", access_count=n, last_accessed=datetime(2025, 1, 1, 1, n, tzinfo=UTC)))
    cache.close()
    again = opened(**{"l1_config": OFF, **fields, tier: {"max_entries": 2, "eviction_policy": policy}})
    told = again.get_statistics()
    name = tier[:2]
    place = int(name[1]) - 1
    assert (each(told, "current_size")[place], each(told, "evictions_lru")[place]) == (2, 7)
    above = arrangement.endswith("above a database")
    assert told.demotions == (7 if above else 0)
    assert len(again) == (9 if above else 2)
    if not above:
        assert {kept.key for kept in again.scan()} == {"k7", "k8"}
    assert again.put("new", entry("new"))
    assert each(again.get_statistics(), "current_size")[place] == 2


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
def test_no_tier_exceeds_its_bound_under_threads(opened: Opener, backend: str, policy: str) -> None:
    """Keys that come, go and come again from many threads: each thread sees every tier within its bound, always."""
    bounds = (2, 4, 6)
    tiers = [{"max_entries": bound, "eviction_policy": policy} for bound in bounds]
    cache = opened(l1_config=tiers[0], l2_config=tiers[1], l3_config=tiers[2], l2_backend=backend)

    def work(number: int) -> bool:
        within = True
        for n in range(12):
            key = f"k{(n * (number + 1) + number) % 10}"
            if n % 4 == 3:
                cache.delete(key)
            elif n % 2:
                cache.get(key)
            else:
                cache.put(key, entry(key))
            sizes = each(cache.get_statistics(), "current_size")
            within = within and all(size <= bound for size, bound in zip(sizes, bounds, strict=True))
        return within

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(work, range(THREADS)))
    cache.put_many(entries(10))
    assert each(cache.get_statistics(), "current_size") == bounds
    assert len(list(cache.scan())) == 6


@pytest.mark.usefixtures("_switching")
def test_every_count_is_exact_under_threads(opened: Opener) -> None:
    """Hits, misses, promotions, demotions, evictions, requests and access counts add up to what was done."""
    cache = opened(l1_config={"max_entries": 3}, l2_config=OFF)
    cache.put_many(entries(9))
    before = cache.get_statistics()
    assert (before.l1_stats.evictions_lru, before.demotions) == (6, 6)
    rounds, start = 60, threading.Barrier(THREADS)

    def work(number: int) -> None:
        start.wait()
        for n in range(rounds):
            assert cache.get(f"k{(n * (number + 1)) % 9}") is not None
            assert cache.get(f"missing{n}") is None
        assert len(cache.get_many([f"k{n}" for n in range(9)])) == 9

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    told = cache.get_statistics()
    served = THREADS * (rounds + 9)
    assert (told.requests, told.requests_served) == (served + THREADS * rounds, served)
    l1, _, l3 = told.l1_stats, told.l2_stats, told.l3_stats
    assert (l1.hits + l3.hits, l1.misses) == (served, l3.hits + THREADS * rounds)
    assert l3.misses == THREADS * rounds
    assert told.promotions == l3.hits
    assert told.demotions == l1.evictions_lru
    assert 0 < l1.evictions_lru - 6 <= told.promotions
    cache.flush()
    assert sum(found.access_count for found in cache.scan()) == served


@pytest.mark.usefixtures("_switching")
def test_threads_that_invalidate_and_expire_count_each_entry_once(opened: Opener, clock: ManualClock) -> None:
    """Whichever thread is first counts an eviction by health or by time; the others count none."""
    cache = opened(failure_threshold=THREADS)
    cache.put_many([*entries(6, ttl_seconds=60), *(entry(f"x{n}", ttl_seconds=60) for n in range(4))])

    def fail(_: int) -> int:
        return sum(cache.invalidate_by_health(f"k{n}") for n in range(6))

    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(fail, range(THREADS))) == 6
        clock.advance(60)
        list(threads.map(lambda _: cache.get_many([f"x{n}" for n in range(4)]), range(THREADS)))
    told = cache.get_statistics()
    assert each(told, "evictions_health") == (6, 6, 6)
    assert each(told, "evictions_ttl") == (4, 4, 4)
    assert each(told, "current_size") == (0, 0, 0)
    assert (told.l1_stats.total_evictions, told.demotions) == (10, 0)


def test_without_statistics_nothing_is_counted(opened: Opener, clock: ManualClock) -> None:
    """Whatever happens: hits, misses, movements, evictions for any reason, damage, requests, history."""
    cache = opened(enable_statistics=False, l1_config={"max_entries": 1}, failure_threshold=1, statistics_interval=1)
    cache.put_many(entries(4, ttl_seconds=60))
    for key in ("k0", "k0", "k1", "missing"):
        cache.get(key)
    cache.get_many(["k0", "missing"])
    cache.invalidate_by_health("k0")
    clock.advance(60)
    cache.get("k1")
    told = cache.get_statistics()
    counted = told.model_copy(update={"l1_stats": None, "l2_stats": None, "l3_stats": None})
    nothing = CacheStatistics().model_copy(update={"l1_stats": None, "l2_stats": None, "l3_stats": None})
    assert counted == nothing
    for name in ("hits", "misses", "evictions_lru", "evictions_ttl", "evictions_health", "evictions_corruption"):
        assert each(told, name) == (0, 0, 0)
    assert (cache.statistics_history, cache.process_statistics()) == ([], [])


def test_a_hit_in_l1_leaves_the_sweep_to_the_thread(opened: Opener, clock: ManualClock) -> None:
    """Once in `ttl_cleanup_interval` the hit wakes the watcher, which removes what has expired."""
    cache = opened(ttl_cleanup_interval=10)
    cache.put_many([*entries(3, ttl_seconds=5), entry("stays")])
    stack, by = cache._running().stack, list[str]()
    sweep, swept = stack.sweep, threading.Event()

    def noticed(now: float) -> bool:
        more = sweep(now)
        by.append(threading.current_thread().name)
        swept.set()
        return more

    stack.sweep = noticed  # type: ignore[method-assign]  # to know when, without sleeping
    clock.advance(9)
    assert cache.get("stays") is not None
    assert not by
    clock.advance(1)
    assert cache.get("stays") is not None
    assert swept.wait(timeout=120)
    assert by == ["proxywhirl-cache"]
    assert (len(cache), each(cache.get_statistics(), "evictions_ttl")) == (1, (3, 3, 3))


def filled(tier: Tier, expired: int, others: int) -> Tier:
    """Put entries that expire at 1.0, and others that do later, into an authority."""
    ends = [(f"e{n}", 1.0) for n in range(expired)] + [(f"o{n}", 1e9 + n) for n in range(others)]
    records = [Record(key, "http://192.0.2.1:80", "s", 0.0, 1, at, 0.0) for key, at in ends]
    tier.transact([], lambda _: Batch(puts=records))
    return tier


def test_a_sweep_of_a_database_costs_no_look_at_the_rest(tmp_path: Path) -> None:
    """Finding and removing what expired takes SQLite hardly more steps among 20,000 entries than among 200."""
    steps = []
    for others in (200, 20_000):
        tier = SqliteTier(tmp_path / f"{others}.db", authority=True)
        try:
            filled(tier, 100, others)
            counted = [0]

            def count(counted: list[int] = counted) -> bool:
                counted[0] += 1
                return False

            tier._database.connection.set_progress_handler(count, 1)
            keys = tier.expired(2.0, 500)
            removed = tier.transact(keys, lambda present: Batch(deletes=list(present))).deletes
            tier._database.connection.set_progress_handler(None)
            assert (len(keys), len(removed)) == (100, 100)
            steps.append(counted[0])
        finally:
            tier.close()
    assert steps[0] > 1000
    assert steps[1] < 1.05 * steps[0]


def test_finding_what_expired_reads_nothing_of_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSONL tier has the times in memory, in order: it looks at no other key, and opens no line."""
    tier = JsonlTier(tmp_path, authority=True)
    try:
        filled(tier, 100, 5_000)
        looked: list[str] = []
        locate = Shards.locate

        def noted(self: Shards, key: str) -> Located | None:
            looked.append(key)
            return locate(self, key)

        monkeypatch.setattr(Shards, "locate", noted)
        monkeypatch.setattr(ShardFile, "read", None)
        assert len(tier.expired(2.0, 500)) == 100
        assert len(looked) <= 200
        assert {key[0] for key in looked} == {"e"}
    finally:
        tier.close()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_power_durability_syncs_each_write(opened: Opener, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """With `power` an acknowledged write has been synced: in the shards of an authority by `fsync`."""
    synced: list[int] = []
    cache = opened(durability=durability, l1_config=OFF, l3_config=OFF)
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    for number in range(1, 4):
        assert cache.put("k", entry("k"))
        assert (len(synced) >= number) is (durability == "power")


@pytest.mark.parametrize("durability", ["process", "power"])
def test_power_durability_of_a_database_is_its_pragma(opened: Opener, durability: str) -> None:
    """SQLite itself waits for the disk at each commit with `synchronous=FULL`, and not with `NORMAL`."""
    cache = opened(durability=durability, l1_config=OFF)
    (database,) = (tier for name, tier in cache._running().tiers if name == "l3")
    assert isinstance(database, SqliteTier)
    assert isinstance(database._database.connection, apsw.Connection)
    assert database._database.connection.pragma("synchronous") == (2 if durability == "power" else 1)


def test_a_path_may_begin_with_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` stands for it in `l2_cache_dir`, `l3_database_path` and `key_file`, and nothing is made elsewhere."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    config = CacheConfig(l2_cache_dir="~/two", l3_database_path="~/three/l3.db", key_file="~/keys/key")
    with CacheManager(config, clock=ManualClock(now=START.timestamp())) as cache:
        cache.put("k", entry("k", username="bob", password="x"))
    assert (tmp_path / "me/two/mark.json").is_file()
    assert (tmp_path / "me/three/l3.db").is_file()
    assert (tmp_path / "me/keys/key").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["me"]


def test_sources_have_their_own_time_to_live(opened: Opener, clock: ManualClock) -> None:
    """What `per_source_ttl` names ends when it says, what it does not name when `default_ttl_seconds` says."""
    cache = opened(default_ttl_seconds=100, per_source_ttl={"short": 10, "long": 1000})
    keys = {}
    for n, source in enumerate(("short", "other", "long"), start=1):
        made = cache.add(f"http://192.0.2.{n}:80", source=source)
        assert made is not None
        keys[source] = made.key
    left = []
    for seconds in (10, 90, 900):
        clock.advance(seconds)
        left.append([source for source, key in keys.items() if cache.get(key) is not None])
    assert left == [["other", "long"], ["long"], []]


def test_an_entry_that_leaves_the_tiers_one_by_one_is_counted_in_each(opened: Opener) -> None:
    """From L1 and L2 it is a demotion, from L3 it is the end; a get promotes it back through both."""
    bounds = {f"l{n}_config": {"max_entries": n} for n in (1, 2, 3)}
    cache = opened(**bounds)
    for n in range(4):
        cache.put(f"k{n}", entry(f"k{n}"))
    told = cache.get_statistics()
    assert each(told, "evictions_lru") == (3, 2, 1)
    assert (told.demotions, told.promotions) == (5, 0)
    assert cache.get("k0") is None
    got = cache.get("k1")
    told = cache.get_statistics()
    assert got is not None
    assert got.evicted_from_l1
    assert told.promotions == 2
    assert each(told, "evictions_lru") == (4, 3, 1)
    again = cache.get("k1")
    assert again is not None
    assert not again.evicted_from_l1


def test_failure_count_counts_every_failure_and_the_streak_those_of_checks(opened: Opener) -> None:
    """`invalidate_by_health` counts in `failure_count` alone, a failed check in both, and a success ends both."""
    cache = opened(failure_threshold=4)
    cache.put("k", entry("k"))
    failing = HealthCheck(False, HealthStatus.UNHEALTHY, START.timestamp(), error="refused")

    def counts() -> tuple[int, int, int]:
        got = cache.look("k")
        assert got is not None
        return got.failure_count, got.consecutive_health_failures, got.total_health_checks

    cache.record_check("k", failing)
    assert counts() == (1, 1, 1)
    assert not cache.invalidate_by_health("k")
    assert counts() == (2, 1, 1)
    cache.record_check("k", HealthCheck(True, HealthStatus.HEALTHY, START.timestamp()))
    assert counts() == (0, 0, 2)
    cache.record_checks([("k", failing)] * 3)
    assert cache.invalidate_by_health("k")
    assert counts() == (4, 3, 5)


VICTIMS = {"lru": "ba", "fifo": "aa", "lfu": "cb", "sieve": "ab"}


@pytest.mark.parametrize("policy", VICTIMS)
@pytest.mark.parametrize("tier", ["l1_config", "l2_config", "l3_config"])
def test_each_tier_evicts_by_its_own_policy(opened: Opener, clock: ManualClock, tier: str, policy: str) -> None:
    """Two histories, in which no two policies choose the same two entries, tell which one is at work."""
    left = ""
    for history in ("+a +b +c b b c a", "+a a +b +c"):
        off = {name: OFF for name in ("l1_config", "l2_config", "l3_config") if name != tier}
        cache = opened(**off, **{tier: {"max_entries": 3, "eviction_policy": policy}})
        cache.clear()
        for step in f"{history} +new".split():
            clock.advance(0.1)
            if step.startswith("+"):
                cache.put(step[1:], entry(step[1:], last_accessed=datetime.fromtimestamp(clock.now(), UTC)))
            else:
                assert cache.get(step) is not None
        left += "".join(key for key in "abc" if key not in cache)
        cache.close()
    assert left == VICTIMS[policy]


def test_with_background_cleanup_calls_do_not_sweep(opened: Opener, clock: ManualClock) -> None:
    """However long ago the last sweep was, a put or get leaves it to the thread, whose interval is another one."""
    cache = opened(enable_background_cleanup=True, cleanup_interval_seconds=10_000, ttl_cleanup_interval=10)
    cache.put_many([*entries(3, ttl_seconds=5), entry("stays", ttl_seconds=99_999)])
    for _ in range(3):
        clock.advance(1000)
        assert cache.get("missing") is None
        assert cache.put("stays", entry("stays", ttl_seconds=99_999))
        assert len(cache) == 4


def test_a_degraded_database_is_told(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    """While L3 fails, `l3_degraded` is true and L1 and L2 serve; it is false again when L3 works again."""
    cache = opened()
    cache.put("k", entry("k"))
    away = apsw.Connection(str(tmp_path / "l3.db"))
    away.execute("ALTER TABLE entries RENAME TO away")
    assert cache.get("missing") is None
    assert cache.get("k") is not None
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded) == (False, False, True)
    away.execute("ALTER TABLE away RENAME TO entries")
    away.close()
    clock.advance(60)
    assert cache.get("missing") is None
    assert not cache.get_statistics().l3_degraded
