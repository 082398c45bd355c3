"""What is exported comes back as it was, whatever stands in the fields, and without credentials takes none away."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.cache import NEVER, CacheConfig, CacheEntry, CacheManager, HealthStatus
from proxywhirl.cache.models import WITHHELD
from proxywhirl.models import Attributes
from proxywhirl.testing import ManualClock

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FORMATS = st.sampled_from([".json", ".jsonl", ".csv"])
COUNTS = st.integers(0, 2**40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", '"', '""', "null", "***x", "a,b", "\r", "\n", "\r\n", "\x00", "\u2028", " x ", "{", "[", "'", "=1"]
)
SECRETS = st.none() | TEXTS.filter(lambda text: text != WITHHELD)
PAST = st.datetimes(datetime(1971, 1, 1), datetime(2024, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # made aware
FUTURE = st.integers(1, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)) | st.just(NEVER)
ATTRIBUTES = st.builds(
    Attributes,
    label=st.none() | st.just('a, "label"'),
    country=st.none() | st.just("DE"),
    asn=st.none() | st.integers(1, 2**32 - 1),
    tags=st.lists(st.sampled_from(["a", "b,c", '"'])).map(tuple),
    weight=st.none() | st.floats(0.01, 100),
)
ENTRIES = st.builds(
    CacheEntry,
    key=st.text("0123456789abcdef", min_size=1, max_size=3),
    proxy_url=st.sampled_from(["http://192.0.2.1:80", "socks5h://[2001:db8::1]:1080", "https://proxy.example:443"]),
    username=SECRETS,
    password=SECRETS,
    source=TEXTS,
    fetch_time=PAST,
    last_accessed=PAST,
    ttl_seconds=COUNTS,
    expires_at=FUTURE,
    access_count=COUNTS,
    health_status=st.sampled_from(HealthStatus),
    failure_count=st.integers(0, 2),
    last_health_check=st.none() | PAST,
    consecutive_health_failures=COUNTS,
    next_check_time=st.none() | FUTURE,
    last_health_error=st.none() | TEXTS,
    total_health_checks=COUNTS,
    attributes=ATTRIBUTES,
)


def filled(entries: list[CacheEntry]) -> CacheManager:
    """Make a cache in memory that holds entries."""
    off: dict[str, Any] = {"enabled": False}
    config = CacheConfig.model_validate({"l1_config": {}, "l2_config": off, "l3_config": off})
    cache = CacheManager(config, clock=ManualClock(now=NOW.timestamp()))
    cache.put_many(entries)
    return cache


@given(st.lists(ENTRIES, max_size=5), FORMATS)
def test_an_export_with_credentials_comes_back_equal(entries: list[CacheEntry], form: str) -> None:
    """Another cache holds the same entries afterwards, field by field."""
    with tempfile.TemporaryDirectory() as directory, filled(entries) as one, filled([]) as other:
        path = Path(directory) / f"out{form}"
        count = one.export_to_file(path, with_credentials=True)
        assert other.warm_from_file(path) == {"loaded": count, "skipped": 0, "failed": 0}
        assert list(other.scan()) == list(one.scan())


@given(st.lists(ENTRIES, max_size=5), FORMATS)
def test_an_export_without_credentials_changes_nothing_where_it_came_from(entries: list[CacheEntry], form: str) -> None:
    """Imported over the same cache it leaves every entry as it was, credentials included."""
    with tempfile.TemporaryDirectory() as directory, filled(entries) as cache:
        before = list(cache.scan())
        path = Path(directory) / f"out{form}"
        count = cache.export_to_file(path)
        assert cache.warm_from_file(path) == {"loaded": 0, "skipped": count, "failed": 0}
        assert list(cache.scan()) == before
