"""Who waits for whom: reads for nobody, writes for another writer, and nothing is sick of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.coordination.breaker import SLOW_CALL_SECONDS
from proxywhirl.cache.manifest import MARK
from proxywhirl.cache.tiers.protocol import TierName
from proxywhirl.errors import TierBusyError, TierError
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock
from proxywhirl.testing.chaos import ChaosTier
from tests.unit.stores import START, Opener
from tests.waiting import GUARD_SECONDS, wait_until

OFF = {"enabled": False}

LAYOUTS: dict[str, dict[str, Any]] = {
    "L3": {},
    "L3 without windows": {"l1_config": OFF, "l2_config": OFF},
    "JSON lines": {"l3_config": OFF, "l1_config": {"max_entries": 2}},
    "SQLite in L2": {"l3_config": OFF, "l1_config": OFF, "l2_backend": "sqlite"},
}


@pytest.fixture
def opened(opened: Opener) -> Opener:
    """Let the watcher not come between."""

    def opening(**fields: Any) -> CacheManager:
        cache = opened(**fields)
        cache._running().pause()
        return cache

    return opening


def entry(key: str, password: str = "one", **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, "username": "u", "password": password, **fields})


def password(found: CacheEntry | None) -> str | None:
    """Return the password of what was found."""
    return found.password.get_secret_value() if found is not None and found.password is not None else None


def unwell(cache: CacheManager, name: TierName, clock: ManualClock) -> ChaosTier:
    """Put trouble around a tier of an open cache."""
    (breaker,) = (each for each in cache._running().stack.tiers if each.name == name)
    breaker.tier = chaos = ChaosTier(breaker.tier, clock=clock)
    return chaos


HOLDER = """
import fcntl, sys, apsw
path = sys.argv[1]
if path.endswith(".db"):
    connection = apsw.Connection(path)
    connection.execute("BEGIN IMMEDIATE")
else:
    file = open(path, "r+b")
    fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def another_process_holds(cache: CacheManager) -> Iterator[Callable[[], None]]:
    """Have another process hold the lock of the authority; give what lets it go on."""
    config = cache.config
    if config.l3_config.enabled:
        path = Path(config.l3_database_path)
    else:
        path = Path(config.l2_cache_dir) / ("l2.db" if config.l2_backend.value == "sqlite" else MARK)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        def release() -> None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(GUARD_SECONDS)

        try:
            yield release
        finally:
            release()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_read_does_not_wait_for_a_writer(opened: Opener, clock: ManualClock, layout: str) -> None:
    """While another process holds the lock of writers, and a thread of this one waits for it, all is read as ever."""
    cache = opened(**LAYOUTS[layout], default_ttl_seconds=60)
    for n in range(9):
        assert cache.put(f"k{n}", entry(f"k{n}"))
    assert cache.put("short", entry("short", ttl_seconds=10))
    clock.advance(100)  # a flush, a sweep and a point of the history are due, too
    cache.refresh()
    name: TierName = "l3" if cache.config.l3_config.enabled else "l2"
    chaos = unwell(cache, name, clock)
    with another_process_holds(cache) as release, ThreadPoolExecutor(1) as threads:
        waiting: Future[bool] = threads.submit(cache.put, "k8", entry("k8", "two"))
        wait_until(lambda: chaos.calls["transact"] > 1)
        assert [password(cache.get(f"k{n}")) for n in range(8)] == ["one"] * 8
        assert cache.get("short") is None
        assert len(cache.get_many([f"k{n}" for n in range(8)])) == 8
        assert "k1" in cache
        assert len(cache) >= 9
        assert {found.key for found in cache.scan()} == {f"k{n}" for n in range(9)}
        assert cache.look("k2") is not None
        assert cache.endpoint("k3") is not None
        assert not getattr(cache.get_statistics(), f"{name}_degraded")
        assert not waiting.done()
        release()
        assert waiting.result(GUARD_SECONDS)
    assert password(cache.get("k8")) == "two"
    assert not getattr(cache.get_statistics(), f"{name}_degraded")


@pytest.mark.parametrize("layout", sorted(LAYOUTS.keys() - {"JSON lines"}))
def test_a_cache_opens_beside_a_writer(opened: Opener, layout: str) -> None:
    """Opening writes nothing that could not wait; JSON lines alone are indexed under the lock of their directory."""
    cache = opened(**LAYOUTS[layout])
    assert cache.put("k", entry("k"))
    with another_process_holds(cache):
        assert password(opened(**LAYOUTS[layout]).get("k")) == "one"


def test_what_waits_for_a_writer_in_vain_is_owed(opened: Opener, clock: ManualClock) -> None:
    """Another durable tier takes the write, and everything is read with it, listed and counted too."""
    cache = opened(l1_config=OFF)
    for n in range(4):
        assert cache.put(f"k{n}", entry(f"k{n}"))
    chaos = unwell(cache, "l3", clock)
    chaos.fail(TierBusyError("another process is writing"), "transact")
    cache._running().stack.authority.patience = 0.01
    assert cache.put("k0", entry("k0", "two"))
    assert cache.delete("k1")
    assert cache.put("new", entry("new", "three"))
    assert [password(cache.get(key)) for key in ("k0", "k1", "k2", "new")] == ["two", None, "one", "three"]
    assert {found.key: password(found) for found in cache.scan()} == {
        "k0": "two",
        "k2": "one",
        "k3": "one",
        "new": "three",
    }
    assert (len(cache), "k1" in cache, "new" in cache) == (4, False, True)
    chaos.recover()
    clock.advance(1)
    cache.refresh()
    assert len(cache) == 4
    assert not cache.get_statistics().l3_degraded


def test_a_page_of_deletions_that_are_owed_does_not_end_a_scan(opened: Opener, clock: ManualClock) -> None:
    """However many entries in a row are gone, those after them are listed."""
    cache = opened(l1_config=OFF, l2_config={"max_entries": 10})
    cache.put_many([entry(f"a{n:04}") for n in range(2_500)] + [entry("z")])
    chaos = unwell(cache, "l3", clock)
    chaos.fail(TierError("told to fail"), "transact")
    assert cache.delete_many([f"a{n:04}" for n in range(2_500)]) == 2_500
    assert [found.key for found in cache.scan()] == ["z"]
    assert len(cache) == 1


@pytest.mark.parametrize("change", ["replace", "delete", "check"])
@pytest.mark.parametrize("l2", ["jsonl", "sqlite"])
@pytest.mark.parametrize("l1", [True, False])
def test_a_process_reads_its_own_writes_though_the_log_cannot_be_read(
    opened: Opener, clock: ManualClock, change: str, l2: str, l1: bool
) -> None:
    """Another process wrote just before, and the authority is sick just after: nothing older is served."""
    config = {"l2_backend": l2} if l1 else {"l2_backend": l2, "l1_config": OFF}
    cache, other = opened(**config), opened(**config)
    assert cache.put("k", entry("k", "old", health_status="healthy"))
    cache.refresh()
    assert password(cache.get("k")) == "old"
    assert other.put("x", entry("x"))
    unwell(cache, "l3", clock).fail(TierError("told to fail"), "get", "get_many", "peek", "changes_since", "revision")
    if change == "replace":
        assert cache.put("k", entry("k", "new"))
        assert password(cache.get("k")) in {"new", None}
        assert password(cache.get_many(["k"]).get("k")) in {"new", None}
    elif change == "delete":
        assert cache.delete("k")
        assert cache.get("k") is None
    else:
        assert cache.record_check("k", HealthCheck(False, HealthStatus.UNHEALTHY, START.timestamp()))
        found = cache.get("k")
        assert found is None or found.health_status is HealthStatus.UNHEALTHY


def test_what_another_process_has_paid_is_not_served_as_owed(opened: Opener, clock: ManualClock) -> None:
    """Nor does a change that changes nothing bring it back while the authority is sick again."""
    cache, other = opened(l1_config=OFF), opened(l1_config=OFF)
    authority = unwell(cache, "l3", clock)
    authority.fail(TierError("told to fail"), "transact")
    assert cache.put("k", entry("k", "owed"))
    other.refresh()
    assert other.put("k", entry("k", "new"))
    authority.recover()
    clock.advance(2)
    cache.refresh()
    assert password(cache.get("k")) == "new"
    authority.fail(TierError("told to fail"), "transact")
    assert not cache.record_check("missing", HealthCheck(True, HealthStatus.HEALTHY, START.timestamp()))
    assert password(cache.get("k")) == "new"
    assert password(cache.get_many(["k"]).get("k")) == "new"


@pytest.mark.parametrize("deleted", [True, False])
def test_what_another_process_owes_reaches_memory(opened: Opener, clock: ManualClock, *, deleted: bool) -> None:
    """The log tells of it when it is paid, which can be long after, or never where it changes nothing."""
    cache, other = opened(), opened()
    sick = [unwell(each, "l3", clock) for each in (cache, other)]
    for authority in sick:
        authority.fail(TierError("told to fail"), "transact")
    assert cache.put("k", entry("k", "one"))
    other.refresh()
    assert password(cache.get("k")) == password(other.get("k")) == "one"
    assert other.delete("k") if deleted else other.put("k", entry("k", "two"))
    cache.refresh()
    expected = None if deleted else "two"
    assert password(cache.get("k")) == password(other.get("k")) == expected
    sick[1].recover()
    clock.advance(2)
    other.refresh()
    for each in (cache, other):
        each.refresh()
        assert password(each.get("k")) == expected
        assert ("k" in each) is not deleted


def test_a_debt_that_comes_to_nothing_leaves_memory(opened: Opener, clock: ManualClock) -> None:
    """What was removed meanwhile stays removed: nothing is written, so that no log tells of it."""
    cache, other = opened(), opened()
    assert cache.put("k", entry("k", "one"))
    authority = unwell(cache, "l3", clock)
    authority.fail(TierError("told to fail"))
    assert other.delete("k")
    assert cache.record_check("k", HealthCheck(True, HealthStatus.HEALTHY, START.timestamp()))
    authority.recover()
    authority.fail(TierError("told to fail"), "transact", times=1)
    clock.advance(2)
    cache.refresh()
    assert cache.get("k") is not None
    clock.advance(4)
    cache.refresh()
    assert cache.get("k") is None
    assert "k" not in cache


def test_a_tier_that_fails_now_and_then_makes_no_length_negative(opened: Opener, clock: ManualClock) -> None:
    """How many it holds, and how many of these are owed, is one question."""
    cache = opened(l1_config=OFF)
    assert cache.put("k", entry("k"))
    authority = unwell(cache, "l3", clock)
    authority.fail(TierError("told to fail"), "transact", times=1)
    assert cache.delete("k")
    authority.fail(TierBusyError("told to wait"), "len", times=1)
    assert len(cache) == 0
    assert len(cache) == 0


def test_the_log_does_not_take_back_what_is_owed(opened: Opener, clock: ManualClock) -> None:
    """What another process has paid of this one is older than what this one owes since."""
    cache, other = opened(), opened()
    unwell(cache, "l3", clock).fail(TierError("told to fail"), "transact")
    assert cache.put("k", entry("k", "one"))
    other.refresh()
    assert cache.put("k", entry("k", "two"))
    cache.refresh()
    assert password(cache.get("k")) == "two"
    assert password(cache.get_many(["k"]).get("k")) == "two"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", ["replace", "delete", "clear"])
def test_a_change_whose_answer_was_lost_is_seen(opened: Opener, clock: ManualClock, layout: str, change: str) -> None:
    """A tier may fail after it has written: memory goes by its log, as for what another process wrote."""
    cache = opened(**LAYOUTS[layout])
    assert cache.put("k", entry("k", "old"))
    assert password(cache.get("k")) == "old"
    authority = unwell(cache, cache._running().stack.authority.name, clock)
    authority.fail(TierError("told to fail"), "transact", "clear", after=True)
    if change == "replace":
        cache.put("k", entry("k", "new"))
    elif change == "delete":
        cache.delete("k")
    else:
        with pytest.raises(TierError, match="degraded"):
            cache.clear()
    authority.recover()
    clock.advance(2)
    cache.refresh()
    assert password(cache.get("k")) == ("new" if change == "replace" else None)
    assert ("k" in cache) is (change == "replace")


def test_one_slow_call_is_no_sickness(opened: Opener, clock: ManualClock) -> None:
    """It may be this process that was stopped; the second one in a row is a sickness, and is answered too."""
    cache = opened(l1_config=OFF, l2_config=OFF)
    chaos = unwell(cache, "l3", clock)
    for n in range(3):
        chaos.delay(SLOW_CALL_SECONDS + 1, "transact", times=1)
        assert cache.put("k", entry("k", f"{n}"))
        assert password(cache.get("k")) == f"{n}"
        chaos.delay(SLOW_CALL_SECONDS + 1, "get", times=1)
        assert password(cache.get("k")) == f"{n}"
        assert password(cache.get("k")) == f"{n}"
        assert not cache.get_statistics().l3_degraded
    chaos.delay(SLOW_CALL_SECONDS + 1, "get")
    assert [password(cache.get("k")) for _ in range(5)] == ["2", "2", None, None, None]
    assert cache.get_statistics().l3_degraded
    clock.advance(1)
    assert [password(cache.get("k")) for _ in range(3)] == ["2", None, None]
    chaos.recover()
    clock.advance(2)
    assert [password(cache.get("k")) for _ in range(3)] == ["2"] * 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_writer_that_waited_in_vain_makes_no_later_one_fail(opened: Opener, clock: ManualClock, layout: str) -> None:
    """The lock is tried anew for each write where nothing else could take it: no back-off of ours stands in between."""
    cache = opened(**LAYOUTS[layout])
    assert cache.put("k", entry("k"))
    authority = cache._running().stack.authority
    with another_process_holds(cache):
        authority.patience = 0.01
        first = cache.put("k", entry("k", "two"))
        assert first is not authority.alone  # with L2 beside L3 it is owed
        assert password(cache.get("k")) == ("two" if first else "one")
    authority.patience = GUARD_SECONDS
    assert cache.put("k", entry("k", "three"))
    assert password(cache.get("k")) == "three"


FULL = """
import json, resource, sys
from datetime import UTC, datetime
from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
backend, place = sys.argv[1:]
config = CacheConfig.model_validate({
    "l1_config": {"max_entries": 1}, "l3_config": {"enabled": False}, "l2_backend": backend, "l2_cache_dir": place,
})
def entry(key, label=None):
    return CacheEntry(key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=datetime.now(UTC),
                      ttl_seconds=999, attributes={"label": label})
with CacheManager(config) as cache:
    for n in range(9):
        assert cache.put(f"k{n}", entry(f"k{n}"))
    cache.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    refused = sum(not cache.put(f"x{n}", entry(f"x{n}", "x" * 999)) for n in range(50))
    served = sum(cache.get(f"k{n}") is not None for n in range(9))
    listed = len(list(cache.scan()))
    told = served, listed, len(cache), len(cache.get_many([f"k{n}" for n in range(9)]))
    sick = cache.get_statistics().l2_degraded
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([refused, *told, sick]))
"""


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
def test_a_disk_that_takes_nothing_stops_writes_and_not_reads(tmp_path: Path, backend: str) -> None:
    """Files may not grow in a real process: what is stored is read, listed and counted, and the sickness is told."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, backend, str(tmp_path / "l2")],
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [50, 9, 9, 9, 9, True]


def test_a_window_that_another_process_holds_is_left_out(opened: Opener, clock: ManualClock) -> None:
    """What waits for it goes on waiting, in order; reads and writes go on without it, and it misses nothing."""
    cache = opened(l1_config={"max_entries": 1})
    for n in range(5):
        assert cache.put(f"k{n}", entry(f"k{n}"))
    chaos = unwell(cache, "l2", clock)
    chaos.fail(TierBusyError("another process is writing"), "follow", "fill", "touch_many", "drop", "clear")
    told = cache.get_statistics()
    assert told.l2_stats.current_size == 0
    assert not told.l2_degraded
    assert [password(cache.get(f"k{n}")) for n in range(5)] == ["one"] * 5
    chaos.recover()
    assert cache.get_statistics().l2_stats.current_size == 5
    assert cache.put("k0", entry("k0", "two"))
    assert password(opened(l1_config=OFF).get("k0")) == "two"


def test_threads_read_while_one_writes(opened: Opener) -> None:
    """A write that is held in the database's transaction by its decision keeps no reader of memory waiting."""
    cache = opened(l1_config={"max_entries": 10})
    assert cache.put("k", entry("k"))
    inside, go_on = threading.Event(), threading.Event()

    def judge(*_: object) -> HealthCheck:
        inside.set()
        assert go_on.wait(GUARD_SECONDS)
        return HealthCheck(True, HealthStatus.HEALTHY, START.timestamp())

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(cache.record_checks, [("k", judge)])
        assert inside.wait(GUARD_SECONDS)
        assert password(cache.get("k")) == "one"
        go_on.set()
        assert writing.result(GUARD_SECONDS) == 1


def test_sqlite_keeps_its_patience_for_reads(tmp_path: Path) -> None:
    """Only the lock of writers is asked for without waiting."""
    with CacheManager(
        CacheConfig(l2_cache_dir=str(tmp_path / "l2"), l3_database_path=str(tmp_path / "l3.db"))
    ) as cache:
        cache.put("k", entry("k"))
        tier = cache._running().stack.authority.tier
        holder = apsw.Connection(str(tmp_path / "l3.db"))
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(TierBusyError, match="another process holds it"):
            tier.drop(["k"])
        assert tier.get("k") is not None
        holder.execute("ROLLBACK")
        holder.close()
