"""What `put` makes of entries that were changed after their validation, or never had any."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.keys.sealing import LazyPassword
from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Attributes, HealthStatus
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL

START = datetime(2025, 1, 1, tzinfo=UTC)
SECRET = "hunter2-secret"
OFF = {"enabled": False}
NOT_PROXIES = (
    "http://a:99999",
    "http://1.2.3.999:80",
    "http://a..b:80",
    "http://[:::::]:80",
    "http://127.1:80",
    "-a:80",
)
SPELLINGS = {
    "HTTP://192.0.2.1:80/": "http://192.0.2.1:80",
    "http://[2001:db8:0:0:0:0:0:1]:80": "http://[2001:db8::1]:80",
    "http://gate.example.com.:80": "http://gate.example.com:80",
    "http://localhost:80": "http://localhost:80",
    "192.0.2.1:80": "http://192.0.2.1:80",
}


def entry(key: str = "k", **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


def assigned(fields: dict[str, Any]) -> CacheEntry:
    """Change an entry field by field."""
    made = entry()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Own(CacheEntry):
    """An entry of a program's own kind."""

    note: str = ""


WAYS: dict[str, Callable[[dict[str, Any]], CacheEntry]] = {
    "setattr": assigned,
    "model_copy": lambda fields: entry().model_copy(update=fields),
    "model_construct": lambda fields: CacheEntry.model_construct(**{**dict(entry()), **fields}),
    "model_construct of the least": lambda fields: CacheEntry.model_construct(
        **{**entry().model_dump(include={"key", "proxy_url", "source", "fetch_time", "ttl_seconds"}), **fields}
    ),
    "deepcopy": lambda fields: copy.deepcopy(assigned(fields)),
    "pickle": lambda fields: pickle.loads(pickle.dumps(assigned(fields))),  # our own
    "subclass": lambda fields: Own.model_construct(**{**dict(entry()), "note": "mine", **fields}),
    "attributes": lambda fields: CacheEntry.model_validate(Own(**dict(entry()))).model_copy(update=fields),
}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CacheManager]:
    """Give a cache of three tiers."""
    places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "db" / "l3.db")}
    with CacheManager(CacheConfig.model_validate(places), clock=ManualClock(now=START.timestamp())) as opened:
        yield opened


def stored_bytes(directory: Path) -> bytes:
    """Read all that is on the disk."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", WAYS)
def test_no_credential_reaches_the_disk_in_a_url(
    cache: CacheManager, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """It is refused in words that do not show it, in whichever spelling it stands."""
    caplog.set_level(logging.DEBUG)
    for url in (f"http://bob:{SECRET}@192.0.2.1:80", f"192.0.2.1:80:bob:{SECRET}", f"http://bob:{SECRET}@h:99999"):
        changed = WAYS[way]({"proxy_url": url})
        with pytest.raises(ValueError, match="proxy_url") as one:
            cache.put("k", changed)
        with pytest.raises(ValueError, match="proxy_url") as many:
            cache.put_many([entry("other"), changed])
        for caught in (one.value, many.value):
            assert SECRET not in str(caught) + repr(caught)
    cache.flush()
    assert len(cache) == 0
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("url", NOT_PROXIES)
def test_what_is_no_proxys_url_is_refused(cache: CacheManager, way: str, url: str) -> None:
    """By the model where it looks, by `put` where it did not."""
    with pytest.raises(ValueError, match="proxy_url"):
        entry(proxy_url=url)
    with pytest.raises(ValueError, match="proxy_url"):
        cache.put("k", WAYS[way]({"proxy_url": url}))
    assert "k" not in cache


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("url", SPELLINGS)
def test_what_is_stored_is_canonical(cache: CacheManager, way: str, url: str) -> None:
    """Another spelling is stored in the canonical one; neither the caller's entry nor the key changes."""
    given = WAYS[way]({"proxy_url": url})
    assert cache.put("k", given)
    got = cache.get("k")
    assert got is not None
    assert (got.proxy_url, given.proxy_url) == (SPELLINGS[url], url)
    assert cache.verify() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({}, {}),
        ({"health_status": "healthy"}, {"health_status": HealthStatus.HEALTHY}),
        ({"password": SECRET, "username": "bob"}, {"password": SecretStr(SECRET), "username": SecretStr("bob")}),
        ({"last_accessed": "2025-01-01T02:00:00+02:00"}, {"last_accessed": START}),
        ({"last_health_check": START.astimezone(timezone(timedelta(hours=2)))}, {"last_health_check": START}),
        ({"attributes": {"country": "de"}}, {"attributes": Attributes(country="DE")}),
        ({"access_count": True, "failure_count": "3"}, {"access_count": 2, "failure_count": 3}),
    ],
)
def test_what_is_clear_is_taken(cache: CacheManager, way: str, fields: dict[str, Any], stored: dict[str, Any]) -> None:
    """A value that the model would have taken is stored as the model would have kept it."""
    assert cache.put("k", WAYS[way](fields))
    cache.flush()
    got = cache.get("k")
    assert got is not None
    expected = entry(access_count=1).model_copy(update=stored)
    assert {**dict(got), "last_accessed": START} == dict(expected)
    assert cache.verify() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", 5),
        ("password", 5),
        ("username", SecretStr(5)),  # type: ignore[arg-type]  # it takes whatever it is given
        ("fetch_time", datetime(2025, 1, 1)),  # noqa: DTZ001  # the error under test
        ("expires_at", None),
        ("next_check_time", datetime(2025, 1, 1)),  # noqa: DTZ001  # as above
        ("ttl_seconds", -1),
        ("access_count", -1),
        ("failure_count", 1.5),
        ("health_status", "well"),
        ("last_health_error", 5),
        ("attributes", {"country": "Germany"}),
        ("proxy_url", None),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(cache: CacheManager, way: str, name: str, value: object) -> None:
    """The error names the field, nothing is written and no tier is taken for sick."""
    with pytest.raises((TypeError, ValueError), match=name):
        cache.put("k", WAYS[way]({name: value}))
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded, len(cache)) == (False, False, False, 0)


def test_an_entry_that_lacks_a_field_is_refused_by_its_name(cache: CacheManager) -> None:
    """`model_construct` makes one of whatever it is given."""
    made: Callable[..., CacheEntry] = CacheEntry.model_construct
    with pytest.raises(ValueError, match="source"):
        cache.put("k", made(key="k", proxy_url="http://192.0.2.1:80"))
    with pytest.raises(ValueError, match="key"):
        cache.put("k", made())
    with pytest.raises(TypeError, match="key"):
        cache.put_many([made()])
    with pytest.raises(ValueError, match="key"):
        cache.put("", entry().model_copy(update={"key": ""}))


def test_an_entry_that_was_got_can_be_put_again(cache: CacheManager) -> None:
    """With its sealed secrets, unread, in another spelling of its URL as well."""
    cache.put("k", entry(username="bob", password=SECRET))
    cache.close()
    with CacheManager(cache.config, clock=ManualClock(now=START.timestamp())) as opened:
        got = opened.get("k")
        assert got is not None
        assert isinstance(got.password, LazyPassword)
        for again in (got, copy.deepcopy(got), got.model_copy(update={"proxy_url": "HTTP://192.0.2.1:80"})):
            assert opened.put("k", again)
            found = opened.get("k")
            assert found is not None
            assert found.password == SecretStr(SECRET)


def test_a_url_that_was_made_by_hand_is_looked_at(cache: CacheManager) -> None:
    """`add_many` takes `ProxyURL` values, which check nothing."""
    with pytest.raises(ProxyURLError, match="port"):
        cache.add_many([(ProxyURL("http", "a", 99999), Attributes())], source="s")
    assert cache.add_many([(ProxyURL("http", "Proxy.Example", 80, "u", "p"), Attributes())], source="s")
    assert [(found.proxy_url, found.key) for found in cache.scan()] == [
        ("http://proxy.example:80", ProxyURL("http", "proxy.example", 80, "u").key)
    ]


WITHHELD = [
    {"username": "***", "password": "***"},
    {"username": "bob", "password": "***"},
    {"username": SecretStr("***"), "password": SECRET},
]


@pytest.mark.parametrize("fields", WITHHELD)
def test_a_withheld_credential_is_not_stored_over_the_real_one(cache: CacheManager, fields: dict[str, Any]) -> None:
    """What went through JSON keeps what is stored, and brings the rest."""
    cache.put("k", entry(username="bob", password=SECRET))
    assert cache.put_many([entry("other"), entry(health_status="healthy", **fields)]) == 2
    got = cache.get("k")
    assert got is not None
    assert (got.username, got.password) == (SecretStr("bob"), SecretStr(SECRET))
    assert got.is_healthy


@pytest.mark.parametrize("fields", WITHHELD)
@pytest.mark.parametrize("before", ["nothing", "no credentials", "expired"])
def test_a_withheld_credential_is_refused_where_none_is_stored(
    cache: CacheManager, fields: dict[str, Any], before: str
) -> None:
    """The error names what is withheld; nothing is written."""
    if before == "no credentials":
        cache.put("k", entry())
    if before == "expired":
        cache.put("k", entry(username="bob", password=SECRET, expires_at=START))
    held = len(cache)
    name = next(name for name, value in fields.items() if "***" in (value, getattr(value, "_secret_value", None)))
    with pytest.raises(ValueError, match=rf"{name} of entry k reads '\*\*\*'"):
        cache.put_many([entry("other"), entry(health_status="healthy", **fields)])
    assert len(cache) == held
    assert "other" not in cache


def test_a_withheld_credential_is_not_added(cache: CacheManager) -> None:
    """`add` refuses it; of a list, such a line renews what is known and is left out else."""
    cache.add("http://bob@192.0.2.1:80", source="s", password=SECRET)
    for given in ({"password": "***"}, {"username": SecretStr("***"), "password": "x"}):
        with pytest.raises(ValueError, match="withheld"):
            cache.add("http://bob@192.0.2.1:80", source="s", **given)
    with pytest.raises(ValueError, match="withheld"):
        cache.add("http://bob:***@192.0.2.1:80", source="s")
    lines = [ProxyURL("http", f"192.0.2.{n}", 80, "bob", "***") for n in (1, 2)]
    merge = cache.add_many([(url, Attributes()) for url in lines], source="t")
    assert merge is not None
    assert (merge.loaded, merge.skipped) == (0, 1)
    (kept,) = cache.scan()
    assert (kept.source, kept.password) == ("t", SecretStr(SECRET))
