"""Whatever stands in a file that is imported: it is taken or counted as failed, and the store works on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck as Slow
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.errors import ListFormatError
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

NOW = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
LARGEST = 2**63 - 1
OFF = {"enabled": False}
STORES: dict[str, dict[str, Any]] = {
    "jsonl over sqlite": {"flush_interval_seconds": 1e-9},
    "jsonl": {"l1_config": OFF, "l3_config": OFF},
}
SOUND: dict[str, Any] = {
    "key": "k",
    "proxy_url": "http://192.0.2.1:80",
    "source": "s",
    "fetch_time": "2026-11-30T00:00:00Z",
    "ttl_seconds": 10**9,
    "expires_at": "9999-12-31T23:59:59Z",
    "username": None,
    "password": None,
}
TIMES = ("fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time")

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1, LARGEST - 1, LARGEST, LARGEST + 1, 2**64, 10**400, 253402300800, -62135596801]),
    st.floats(),
    st.booleans(),
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "\x00", "a\x00b", "\ud800", "'", '"', "1", "-1", "1e400", "nan", "inf", "9" * 5000, "x" * 70_000]
    ),
    st.sampled_from(["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "2026-11-30T00:00:00", "never"]),
    st.sampled_from(["healthy", "dead", "http://u:S3CRET@192.0.2.9:80", "http://192.0.2.9:99999", "socks5://[::1]:1"]),
)
values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
attributes = st.dictionaries(
    st.sampled_from(["label", "country", "asn", "anonymity", "tags", "weight", "price_per_gb", "provider", "later"]),
    values,
)
objects = st.dictionaries(st.sampled_from(sorted(CacheEntry.model_fields)), values, max_size=4).map(
    lambda changed: {**SOUND, **changed}
)
lines = st.one_of(
    objects,
    st.builds(lambda fields, known: {**fields, "attributes": known}, objects, attributes),
    st.builds(lambda fields, name, at: {**fields, name: at}, objects, st.sampled_from(TIMES), numbers),
    values,
)


@contextmanager
def opened(store: str, folder: str) -> Iterator[CacheManager]:
    """Open a cache on the files of a folder."""
    places = {"l2_cache_dir": f"{folder}/l2", "l3_database_path": f"{folder}/l3.db"}
    config = CacheConfig.model_validate({**places, **STORES[store]})
    with CacheManager(config, clock=ManualClock(now=NOW)) as cache:
        yield cache


def as_file(form: str, things: list[Any], path: Path) -> None:
    """Write things as `export` writes entries, whatever they are."""
    if form == "csv":
        table = io.StringIO()
        writer = csv.DictWriter(table, list(CacheEntry.model_fields), extrasaction="ignore")
        writer.writeheader()
        for thing in things:
            fields = thing if isinstance(thing, dict) else {"key": thing}
            writer.writerow(
                {name: json.dumps(value) if isinstance(value, dict) else value for name, value in fields.items()}
            )
        text = table.getvalue()
    elif form == "json":
        text = "[\n" + ",\n".join(json.dumps(thing) for thing in things) + "\n]\n"
    else:
        text = "".join(json.dumps(thing) + "\n" for thing in things)
    path.write_bytes(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize("store", STORES)
@settings(max_examples=60, suppress_health_check=[Slow.too_slow, Slow.data_too_large])
@example("jsonl", [{**SOUND, "total_health_checks": LARGEST}], None)
@example("jsonl", [{**SOUND, "attributes": "[" * 100_000}], None)
@example("jsonl", [{**SOUND, "key": "a\x00b"}, {**SOUND, "key": "a"}], None)
@example("json", [{**SOUND, "access_count": LARGEST, "failure_count": LARGEST}], 10.0**300)
@given(
    st.sampled_from(["jsonl", "json", "csv"]), st.lists(lines, min_size=1, max_size=4), st.none() | st.floats(0, 1e300)
)
def test_no_import_disables_a_store(store: str, form: str, things: list[Any], ttl: float | None) -> None:
    """Every later call works, after a restart too; no tier is sick, nothing is damaged, all of it can be removed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{form}"
        with opened(store, folder) as cache:
            cache.add("http://10.0.0.3:80", source="user", ttl=float("inf"))
            as_file(form, things, path)
            try:
                counts = cache.warm_from_file(path, ttl_override=ttl)
            except ListFormatError:
                counts = {"loaded": 0, "skipped": 0}
            keys = [entry.key for entry in cache.scan()]
            assert len(keys) <= counts["loaded"] + counts["skipped"] + 1
            use(cache, keys)
        with opened(store, folder) as cache:
            use(cache, keys)
            assert sum(cache.delete(key) for key in keys) == len(keys)
            assert [*cache.scan(), *cache.scan(retired=True)] == []
            assert cache.verify() == []


def use(cache: CacheManager, keys: list[str]) -> None:
    """Do with the entries what commands do with them."""
    for ok in (True, False):
        status = HealthStatus.HEALTHY if ok else HealthStatus.DEGRADED
        for key in keys:
            assert cache.record_check(key, HealthCheck(ok, status, NOW, next_check=NOW + 60))
    for key in keys:
        assert cache.get(key) is not None
        assert cache.endpoint(key) is not None
    assert sorted(cache.to_check(keys)) == keys
    cache.flush()
    cache.refresh()
    assert [entry.key for entry in cache.scan()] == keys
    assert len(cache) == len(keys)
    with TemporaryDirectory() as folder:
        for suffix in (".jsonl", ".csv"):
            path = Path(folder) / f"out{suffix}"
            assert cache.export_to_file(path, with_credentials=True) == len(keys)
            assert cache.warm_from_file(path)["failed"] == 0
    assert cache.verify(repair=True) == []
    figures = cache.get_statistics()
    assert (figures.l1_degraded, figures.l2_degraded, figures.l3_degraded) == (False, False, False)
