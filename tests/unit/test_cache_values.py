"""What no tier can hold is refused where it comes in, and what grows stays in the range that can be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

Opener = Callable[..., CacheManager]

OFF = {"enabled": False}
START = datetime(2025, 1, 1, tzinfo=UTC)
LARGEST = 2**63 - 1
KEY = "k"
STACKS: dict[str, dict[str, Any]] = {
    "memory": {"l2_config": OFF, "l3_config": OFF},
    "jsonl": {"l3_config": OFF},
    "sqlite": {"l2_config": OFF},
    "sqlite-over-sqlite": {"l2_backend": "sqlite"},
    "all": {},
    "no-l1": {"l1_config": OFF},
}
COUNTERS = (
    "access_count",
    "failure_count",
    "consecutive_health_failures",
    "consecutive_health_successes",
    "recovery_attempt",
    "total_health_checks",
    "total_health_check_failures",
)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `START`."""
    return ManualClock(now=START.timestamp())


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opener]:
    """Give a function that opens a cache on the same files each time; close all of them afterwards."""
    caches: list[CacheManager] = []

    def opening(**fields: Any) -> CacheManager:
        places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "l3.db")}
        caches.append(CacheManager(CacheConfig.model_validate({**places, **fields}), clock=clock))
        return caches[-1]

    yield opening
    for cache in caches:
        cache.close()


def entry(key: str = KEY, **fields: Any) -> CacheEntry:
    """Make an entry that lives long."""
    known = {"proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 10**9}
    return CacheEntry(key=key, **{**known, **fields})


def check(*, ok: bool) -> HealthCheck:
    """Make a health check of now."""
    status = HealthStatus.HEALTHY if ok else HealthStatus.DEGRADED
    return HealthCheck(ok, status, START.timestamp())


def use_all(cache: CacheManager) -> None:
    """Let every counter of the entry grow in every way in which it can."""
    for _ in range(3):
        assert cache.get(KEY) is not None
        assert KEY in cache.get_many([KEY])
        assert cache.endpoint(KEY) is not None
        cache.flush()
    for ok in (False, True, False):
        cache.record_check(KEY, check(ok=ok))
    cache.invalidate_by_health(KEY)
    cache.flush()


@pytest.mark.parametrize("stack", STACKS)
def test_a_counter_at_its_end_stays_there_and_no_tier_is_sick_for_it(opened: Opener, stack: str) -> None:
    """Uses, checks and failures of such an entry are counted no further, shown and stored; all goes on as before."""
    cache = opened(**STACKS[stack], health_check_invalidation=False)
    assert cache.put(KEY, entry(KEY, **dict.fromkeys(COUNTERS, LARGEST)))
    assert cache.put("other", entry("other"))
    use_all(cache)
    figures = cache.get_statistics()
    assert (figures.l1_degraded, figures.l2_degraded, figures.l3_degraded) == (False, False, False)
    if stack != "memory":
        cache.close()
        cache = opened(**STACKS[stack])
    shown = cache.get(KEY)
    assert shown is not None
    largest = {name for name in COUNTERS if getattr(shown, name) == LARGEST}
    restarted = {"consecutive_health_successes", "recovery_attempt"}  # the last check has failed
    assert largest >= set(COUNTERS) - restarted - {"failure_count", "consecutive_health_failures"}
    assert [each.key for each in cache.scan()] == [KEY, "other"]
    assert cache.verify() == []
    assert cache.delete("other")


@pytest.mark.parametrize("stack", ["jsonl", "all", "memory"])
def test_hits_near_the_end_of_a_count_are_added_up_to_the_end(opened: Opener, stack: str) -> None:
    """What is noted beside a stored count does not lead past the end either, shown before it is written or after."""
    cache = opened(**STACKS[stack])
    cache.put(KEY, entry(access_count=LARGEST - 2))
    shown = [found.access_count for _ in range(4) if (found := cache.get(KEY)) is not None]
    assert shown == [LARGEST - 1, LARGEST, LARGEST, LARGEST]
    if stack != "memory":
        cache.close()
        reopened = opened(**STACKS[stack]).get(KEY)
        assert reopened is not None
        assert reopened.access_count == LARGEST
