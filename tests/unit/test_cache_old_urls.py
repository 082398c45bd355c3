"""URLs that an earlier release stored and this one would not: they bring nothing down, and `verify` puts them right."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxywhirl.cache import CacheManager
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch
from proxywhirl.testing import ManualClock
from tests.unit.stores import Opener

NOW = 1_700_000_000.0
OFF = {"enabled": False}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "three tiers": {},
    "SQLite twice": {"l2_backend": "sqlite"},
    "the database": {"l2_config": OFF},
    "JSON lines": {"l3_config": OFF},
    "SQLite as L2": {"l3_config": OFF, "l2_backend": "sqlite"},
}
LONG, DOT = "http://[2001:db8:0:0:0:0:0:1]:8080", "http://gate.example.com.:8080"
KEY = CacheManager.generate_cache_key(LONG)
SPELLING = "its URL is not in the form in which URLs are stored"
SECRET = "hunter2PW"


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `NOW`."""
    return ManualClock(now=NOW)


@pytest.fixture(params=ARRANGEMENTS)
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    """Open with each arrangement of tiers."""
    return partial(opened, **ARRANGEMENTS[request.param])


def store(cache: CacheManager, *records: Record) -> None:
    """Store records as they are, as a release did that looked at nothing."""
    mapping = cache._running().mapping
    cache._write((), lambda _: Batch(puts=[mapping.sealed(replace(record)) for record in records]), records)


def record(key: str, url: str, **fields: Any) -> Record:
    """Make a record that lives for an hour."""
    return Record(key, url, "s", NOW, 3600, NOW + 3600, NOW, **fields)


def test_another_spelling_is_written_anew_and_loses_nothing(opened: Opener) -> None:
    """With its credential and history, whatever its key; after that there is nothing to say."""
    cache = opened()
    history = {"plain": ("u", SECRET), "status": "degraded", "failure_count": 2, "access_count": 5}
    store(cache, record(KEY, LONG, **history), record("h.", DOT, plain=("v", "x")), record("well", "http://a.b:80"))
    cache.close()
    cache = opened()
    assert cache.get(KEY) is not None
    where = [(f"{cache._running().stack.authority.name}: entry {key}", SPELLING) for key in sorted((KEY, "h."))]
    assert [(found.where, found.what) for found in cache.verify()] == where
    assert {(found.where, found.repaired) for found in cache.verify(repair=True)} == {(each, True) for each, _ in where}
    assert cache.verify() == []
    cache.close()
    cache = opened()
    assert cache.verify() == []
    one, other = cache.get(KEY), cache.get("h.")
    assert one is not None
    assert other is not None
    assert (one.proxy_url, one.username, one.password) == (
        "http://[2001:db8::1]:8080",
        SecretStr("u"),
        SecretStr(SECRET),
    )
    assert (one.health_status.value, one.failure_count) == ("degraded", 2)
    assert (other.proxy_url, other.password) == ("http://gate.example.com:8080", SecretStr("x"))
    assert len(cache) == 3


def test_a_credential_in_a_url_becomes_one(opened: Opener) -> None:
    """It is sealed where there is no other, and no part of the URL any more."""
    cache = opened()
    url = f"http://u:{SECRET}@192.0.2.1:80"
    store(cache, record("bare", url), record("known", url, plain=("u", "real")))
    findings = cache.verify(repair=True)
    assert [(found.what, found.repaired) for found in findings] == [("its URL holds a credential", True)] * 2
    assert SECRET not in repr(findings)
    cache.close()
    cache = opened()
    kept = cache.get_many(["bare", "known"])
    assert [entry.proxy_url for entry in kept.values()] == ["http://192.0.2.1:80"] * 2
    assert [entry.password for entry in kept.values()] == [SecretStr(SECRET), SecretStr("real")]
    assert cache.verify() == []


def test_a_url_that_is_none_brings_nothing_else_down(opened: Opener, tmp_path: Path) -> None:
    """The others are read, listed, exported and imported; `verify` names it, once."""
    cache = opened()
    good = [record(f"k{n}", f"http://192.0.2.{n}:80") for n in range(3)]
    store(cache, *good, record("bad", "http://a:70000", plain=("u", SECRET)))
    cache.close()
    cache = opened()
    assert len(cache.get_many(["k0", "k1", "k2", "bad"])) == 4
    assert {entry.key for entry in cache.scan()} == {"k0", "k1", "k2", "bad"}
    assert cache.to_check(["k0", "bad"]).keys() >= {"k0"}
    assert cache.export_to_file(tmp_path / "out.jsonl", with_credentials=True) == 4
    assert {found.where.partition(": ")[2] for found in cache.verify()} == {"entry bad"}
    for _ in range(2):
        cache.verify(repair=True)
        assert {key for key in ("k0", "k1", "k2") if key in cache} == {"k0", "k1", "k2"}
    held = "bad" in cache
    assert held == ([found.where.partition(": ")[2] for found in cache.verify()] == ["entry bad"])
    assert cache.delete("bad") is held
    cache.clear()
    assert cache.warm_from_file(tmp_path / "out.jsonl") == {"loaded": 3, "skipped": 0, "failed": 1}
