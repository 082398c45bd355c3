"""The health fields of an entry are those that were written last, from whichever tier they come."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, HealthStatus
from proxywhirl.models import HealthCheck
from proxywhirl.testing import ManualClock

SEALING_KEY = Fernet.generate_key().decode()
OFF = {"enabled": False}
SMALL = {"l1_config": {"max_entries": 1}, "l2_config": {"max_entries": 2}}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "three tiers": SMALL,
    "three tiers, SQLite twice": {**SMALL, "l2_backend": "sqlite"},
    "L1 and JSONL": {"l1_config": {"max_entries": 1}, "l3_config": OFF},
    "L1 and SQLite": {"l1_config": {"max_entries": 1}, "l2_config": OFF},
    "memory alone": {"l1_config": {}, "l2_config": OFF, "l3_config": OFF},
}
KEYS = st.sampled_from("abcd")
MOMENTS = st.integers(1, 2**31).map(float)
CHECKS = st.builds(
    HealthCheck,
    st.booleans(),
    st.sampled_from(HealthStatus),
    MOMENTS,
    next_check=st.none() | MOMENTS,
    recovery_attempt=st.integers(0, 9),
    error=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
)


def moment(at: float) -> datetime:
    """Turn Unix seconds into what an entry has."""
    return datetime.fromtimestamp(at, UTC)


@dataclass(frozen=True)
class Health:
    """The health fields, under their names in `CacheEntry`."""

    health_status: HealthStatus = HealthStatus.UNKNOWN
    last_health_check: datetime | None = None
    consecutive_health_failures: int = 0
    consecutive_health_successes: int = 0
    recovery_attempt: int = 0
    next_check_time: datetime | None = None
    last_health_error: str | None = None
    total_health_checks: int = 0
    total_health_check_failures: int = 0
    failure_count: int = 0

    @classmethod
    def of(cls, entry: CacheEntry) -> Health:
        """Read them from an entry."""
        return cls(**{name: getattr(entry, name) for name in cls.__dataclass_fields__})

    def after(self, check: HealthCheck) -> Health:
        """Move all of them by a check."""
        return Health(
            health_status=check.status,
            last_health_check=moment(check.at),
            consecutive_health_failures=0 if check.ok else self.consecutive_health_failures + 1,
            consecutive_health_successes=self.consecutive_health_successes + 1 if check.ok else 0,
            recovery_attempt=check.recovery_attempt,
            next_check_time=None if check.next_check is None else moment(check.next_check),
            last_health_error=None if check.ok else check.error,
            total_health_checks=self.total_health_checks + 1,
            total_health_check_failures=self.total_health_check_failures + (not check.ok),
            failure_count=0 if check.ok else self.failure_count + 1,
        )


HEALTHS = st.builds(
    Health,
    st.sampled_from(HealthStatus),
    st.none() | MOMENTS.map(moment),
    *[st.integers(0, 9)] * 3,
    st.none() | MOMENTS.map(moment),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    *[st.integers(0, 9)] * 3,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, HEALTHS),
        st.tuples(st.just("check"), KEYS, CHECKS),
        st.tuples(st.just("fail"), KEYS, st.none()),
        st.tuples(st.sampled_from(["get", "get_many", "delete"]), KEYS, st.none()),
        st.tuples(st.sampled_from(["flush", "reopen"]), st.just(""), st.none()),
    ),
    max_size=15,
)


def put(cache: CacheManager, key: str, health: Health) -> None:
    """Put an entry with these fields."""
    fields = {name: getattr(health, name) for name in Health.__dataclass_fields__}
    entry = CacheEntry(
        key=key,
        proxy_url="http://192.0.2.1:80",
        source="s",
        fetch_time=moment(1e9),
        expires_at=moment(9e9),
        ttl_seconds=1,
        **fields,
    )
    assert cache.put(key, entry)


def act(cache: CacheManager, known: dict[str, Health], step: str, key: str, value: Any) -> None:
    """Do a step to the cache and to the model."""
    if step == "put":
        put(cache, key, value)
        known[key] = value
    elif step == "delete":
        assert cache.delete(key) is (known.pop(key, None) is not None)
    elif step == "check":
        assert cache.record_check(key, value) is (key in known)
        known |= {key: known[key].after(value)} if key in known else {}
    elif step == "fail":
        assert not cache.invalidate_by_health(key)
        if key in known:
            before = known[key]
            status = before.health_status
            if status in (HealthStatus.UNKNOWN, HealthStatus.HEALTHY):
                status = HealthStatus.DEGRADED
            known[key] = replace(before, failure_count=before.failure_count + 1, health_status=status)
    elif step == "get":
        got = cache.get(key)
        assert (None if got is None else Health.of(got)) == known.get(key)
    elif step == "get_many":
        assert {k: Health.of(got) for k, got in cache.get_many(list("abcd")).items()} == known
    else:
        cache.flush()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@settings(max_examples=15)
@given(steps=STEPS)
def test_health_is_what_was_written_last(arrangement: str, steps: list[tuple[str, str, Any]]) -> None:
    """After any puts, checks, failures, promotions, evictions and reopenings, every field is as it was written."""
    home = Path(tempfile.mkdtemp(prefix="proxywhirl-health-"))
    places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db"), "encryption_key": SEALING_KEY}
    config = CacheConfig.model_validate({**places, "failure_threshold": 99, **ARRANGEMENTS[arrangement]})
    cache, known = CacheManager(config, clock=ManualClock(now=2e9)), dict[str, Health]()
    try:
        for step, key, value in [*steps, ("get_many", "", None), ("reopen", "", None), ("get_many", "", None)]:
            if step == "reopen" and arrangement != "memory alone":
                cache.close()
                cache = CacheManager(config, clock=ManualClock(now=2e9))
            else:
                act(cache, known, step, key, value)
        assert {entry.key: Health.of(entry) for entry in cache.scan()} == known
    finally:
        cache.close()
        shutil.rmtree(home)
