"""What is taken can be stored, by every tier, is read back as it was taken, and is damage to nobody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.models import NEVER
from proxywhirl.cache.record import Record, check_storable, fault_of
from proxywhirl.errors import UnstorableValue
from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Outcome
from proxywhirl.testing import ManualClock

LARGEST = 2**63 - 1
NOW = datetime(2025, 1, 1, tzinfo=UTC)
OFF = {"enabled": False}
STORES: dict[str, dict[str, Any]] = {
    "jsonl": {"l1_config": OFF, "l3_config": OFF},
    "sqlite": {"l1_config": OFF, "l2_config": OFF},
    "jsonl over sqlite": {"l1_config": OFF},
    "sqlite over sqlite": {"l1_config": OFF, "l2_backend": "sqlite"},
}

counts = st.integers(0, LARGEST) | st.sampled_from([0, 1, LARGEST - 1, LARGEST])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [FIRST, LAST, NEVER, datetime(1969, 12, 31, tzinfo=UTC)]
)
later = st.datetimes(datetime(2026, 1, 1), timezones=st.just(UTC)) | st.just(LAST)  # noqa: DTZ001  # made aware
attributes = st.builds(
    Attributes,
    label=st.none() | texts,
    country=st.none() | st.sampled_from(["DE", "us"]),
    region=st.none() | texts,
    asn=st.none() | counts,
    anonymity=st.sampled_from([None, "elite"]),
    tags=st.lists(texts, max_size=3).map(tuple),
    weight=st.none() | st.floats(0),
    price_per_gb=st.none() | st.floats(0, allow_infinity=False),
)
entries = st.builds(
    CacheEntry,
    key=texts.filter(bool),
    proxy_url=st.sampled_from(["http://192.0.2.1:80", "socks5://[2001:db8::1]:1080", "https://proxy.example:443"]),
    username=st.none() | texts,
    password=st.none() | texts,
    source=texts,
    fetch_time=moments,
    ttl_seconds=counts,
    last_accessed=moments,
    expires_at=later,
    access_count=counts,
    health_status=st.sampled_from(HealthStatus),
    failure_count=counts,
    last_health_check=st.none() | moments,
    consecutive_health_failures=counts,
    consecutive_health_successes=counts,
    recovery_attempt=counts,
    next_check_time=st.none() | moments,
    last_health_error=st.none() | texts,
    total_health_checks=counts,
    total_health_check_failures=counts,
    attributes=attributes,
)
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([LARGEST, LARGEST + 1, -1, 10**400]),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["\ud800", "healthy", b"x", (), {}]),
)
SOUND = Record("k", "http://192.0.2.1:80", "s", 1.0, 60, 61.0, 1.0)
NOT_THEIRS = {"url", "attributes", "retired", "sealed", "plain", "revision", "generation"}
RECORD_FIELDS = [f.name for f in fields(Record) if f.init and f.name not in NOT_THEIRS]


@contextmanager
def opened(store: str, folder: str) -> Iterator[CacheManager]:
    """Open a cache on the files of a folder."""
    places = {"l2_cache_dir": f"{folder}/l2", "l3_database_path": f"{folder}/l3.db"}
    with CacheManager(
        CacheConfig.model_validate({**places, **STORES[store]}), clock=ManualClock(now=NOW.timestamp())
    ) as cache:
        yield cache


@settings(max_examples=300)
@given(entries)
def test_what_is_taken_is_no_damage(entry: CacheEntry) -> None:
    """A record of any entry, over the whole range of every field, can be stored, has no fault and is read again."""
    mapping = EntryMapping(None)
    record = mapping.record(entry)
    assert check_storable(record) is record
    assert fault_of(record) is None
    again = mapping.entry(record)
    assert abs((again.fetch_time - entry.fetch_time).total_seconds()) <= 1


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(RECORD_FIELDS), odd, max_size=3))
def test_whatever_is_no_damage_to_doctor_is_what_the_check_takes(changed: dict[str, Any]) -> None:
    """A record with values of any kind is refused by name, or it has no fault."""
    assume(not any(isinstance(value, bool) for value in changed.values()))  # they are stored as 0 and 1
    record = replace(SOUND, **changed)
    try:
        check_storable(record)
    except (TypeError, UnstorableValue):
        return
    assert fault_of(record) is None


@pytest.mark.parametrize("store", STORES)
@settings(max_examples=25)
@given(st.lists(entries, min_size=1, max_size=4, unique_by=lambda entry: entry.key))
def test_what_is_taken_is_there_after_reopening_and_well(store: str, made: list[CacheEntry]) -> None:
    """Every field of every entry comes back, times to the microsecond that a float holds; nothing is repaired."""
    with TemporaryDirectory() as folder:
        with opened(store, folder) as cache:
            assert cache.put_many(made) == len(made)
            taken = {entry.key: cache.look(entry.key) for entry in made}
        with opened(store, folder) as cache:
            assert [finding.what for finding in cache.verify(repair=True)] == []
            assert {entry.key: entry for entry in cache.scan()} == taken
            path = Path(folder) / "export.jsonl"
            assert cache.export_to_file(path, with_credentials=True) == len(made)
        for entry in made:
            known = taken[entry.key]
            assert known is not None
            for name in ("fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time"):
                assert is_near(getattr(known, name), getattr(entry, name)), name
            assert known.model_copy(update=times(entry)).model_dump() == entry.model_dump()
        with TemporaryDirectory() as other, opened(store, other) as cache:
            assert cache.warm_from_file(path) == {"loaded": len(made), "skipped": 0, "failed": 0}
            assert {entry.key: entry for entry in cache.scan()} == taken


def times(entry: CacheEntry) -> dict[str, Any]:
    """Return the times of an entry by name."""
    names = ("fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time")
    return {name: getattr(entry, name) for name in names}


def is_near(one: datetime | None, other: datetime | None) -> bool:
    """Whether two times are one but for what a float cannot hold, or but for the last second of the last year."""
    if one is None or other is None:
        return one is other
    return abs(min(one, NEVER) - min(other, NEVER)) <= timedelta(microseconds=50)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["ok", "status", "at", "next_check", "recovery_attempt", "error"]), odd))
def test_a_health_check_is_refused_by_name_or_recorded(changed: dict[str, Any]) -> None:
    """What is taken is stored by the database and read again; what is not names its field."""
    known: dict[str, Any] = {"ok": True, "status": HealthStatus.HEALTHY, "at": 1.0}
    try:
        check = HealthCheck(**{**known, **changed})
    except (TypeError, ValueError) as exc:
        assert any(str(exc).startswith(f"{name} must be") for name in changed)  # noqa: PT017  # it may be right as well
        return
    assert type(check.ok) is bool
    assert isinstance(check.status, HealthStatus)
    assert all(at is None or math.isfinite(at) for at in (check.at, check.next_check))
    with CacheManager(
        CacheConfig.model_validate({"l2_config": OFF, "l3_config": OFF}), clock=ManualClock(now=NOW.timestamp())
    ) as cache:
        cache.put("k", CacheEntry(key="k", proxy_url=SOUND.url, source="s", fetch_time=NOW, ttl_seconds=60))
        assert cache.record_check("k", check)
        assert [entry.key for entry in cache.scan()] == ["k"]


@settings(max_examples=300)
@example(Outcome, {"status": 10**400})
@example(Attributes, {"weight": 10**400})
@given(
    st.sampled_from([Attributes, Outcome]),
    st.dictionaries(
        st.sampled_from([*Attributes.__slots__, "latency", "status", "error", "rule", "retry_after", "bytes_up"]), odd
    ),
)
def test_other_values_are_refused_by_name(kind: type[Attributes | Outcome], given_: dict[str, Any]) -> None:
    """What is known of a proxy and what became of a use of it have the kinds that they say, and finite numbers."""
    fitting = {name: value for name, value in given_.items() if name in kind.__slots__}
    needed: dict[str, Any] = {"ok": True} if kind is Outcome else {}
    try:
        made = kind(**needed, **fitting)
    except (TypeError, ValueError) as exc:
        assert any(name in str(exc) for name in fitting)  # noqa: PT017  # it may be right as well
        return
    for name in fitting:
        value = getattr(made, name)
        assert not isinstance(value, bool | bytes)
        assert not isinstance(value, float | int) or math.isfinite(value) or (name, value) == ("weight", math.inf)
