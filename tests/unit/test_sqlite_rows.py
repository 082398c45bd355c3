"""A damaged row of SQLite costs that row, wherever it is met, and nothing where another tier has a copy.

The file is set aside as it is, and everything else that is in it goes into a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxywhirl.cache import CacheManager
from proxywhirl.cache.coordination.replicas import QUEUE_KEPT
from proxywhirl.cache.record import Record, fault_of
from proxywhirl.models import Attributes
from proxywhirl.urls import parse
from tests.unit.stores import Opener

OFF = {"enabled": False}
NAMES = ("one", "two", "three")
HARM = {
    "status": "status = 'hea' || char(0) || 'thy'",
    "status that is no text": "status = CAST(x'ff756e6b6e6f776e' AS TEXT)",
    "time": "fetched_at = 1e300",
    "time before all": "fetched_at = -1e18",
    "attributes": "attributes = '{bad'",
    "attributes of another kind": """attributes = '{"countrx":"DE"}'""",
    "time of use that is none": "accessed_at = 'noon'",
    "end that is none": "expires_at = 'noon'",
    "count that is none": "access_count = 'many'",
    "count that is no text": "access_count = CAST(x'ff41' AS TEXT)",
}


def url(name: str) -> str:
    """Name a proxy."""
    return f"http://{name}.example:80"


def key(name: str) -> str:
    """Return the key of a proxy."""
    return CacheManager.generate_cache_key(url(name))


def fill(cache: CacheManager) -> None:
    """Add every proxy."""
    for name in NAMES:
        cache.add(url(name), source="test", ttl=1e6, attributes=Attributes(country="DE"))


def set_aside(home: Path) -> Path:
    """Return the database that was set aside; there is one."""
    (aside,) = home.glob("l3.db.damaged-*[Z0-9]")
    return aside


def harm(path: Path, change: str, name: str = "one") -> None:
    """Change a row behind the back of its tier, and of SQLite, which allows no other kinds in a column."""
    ((schema,),) = _on(path, "SELECT sql FROM sqlite_schema WHERE name = 'entries'")
    _on(path, "UPDATE sqlite_schema SET sql = ? WHERE name = 'entries'", str(schema).removesuffix(" STRICT"))
    _on(path, f"UPDATE entries SET {change} WHERE key = ?", key(name))
    _on(path, "UPDATE sqlite_schema SET sql = ? WHERE name = 'entries'", schema)


def _on(path: Path, statement: str, *values: Any) -> list[Any]:
    other = apsw.Connection(str(path))
    other.pragma("writable_schema", 1)
    rows = other.execute(statement, values).fetchall()
    other.close()
    return rows


READS: dict[str, Callable[[CacheManager], object]] = {
    "get": lambda cache: cache.get(key("one")),
    "get_many": lambda cache: cache.get_many([key(name) for name in NAMES]),
    "scan": lambda cache: list(cache.scan()),
    "look": lambda cache: cache.look(key("one")),
    "endpoint": lambda cache: (cache.endpoint(key("one")), cache.get(key("one"))),
    "changes": lambda cache: cache.check_times_since(0),
    "add": lambda cache: cache.record_checks([]) or cache.describe({key("one"): Attributes(city="Bonn")}),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("change", HARM.values(), ids=HARM)
def test_a_damaged_row_is_lost_alone_however_it_is_met(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, change: str, read: str
) -> None:
    """It is counted, the log names the file that has it; the others are there, and the tier is well."""
    cache = opened(l2_config=OFF)
    fill(cache)
    cache.close()
    harm(tmp_path / "l3.db", change)
    cache = opened(l2_config=OFF)
    caplog.set_level(logging.WARNING)
    READS[read](cache)
    aside = set_aside(tmp_path)
    assert f"it was set aside as {aside}" in caplog.text
    assert key("one").encode() in aside.read_bytes()
    assert aside.stat().st_mode & 0o777 == 0o600
    assert cache.get(key("one")) is None
    assert set(cache.get_many([key(name) for name in NAMES])) == {key("two"), key("three")}
    assert {entry.proxy_url for entry in cache.scan()} == {url("two"), url("three")}
    figures = cache.get_statistics()
    assert (figures.l3_stats.evictions_corruption, figures.l3_degraded, len(cache)) == (1, False, 2)
    assert [finding.where for finding in cache.verify()] == [str(aside)]
    assert cache.add(url("one"), source="again") is not None
    assert (len(cache), cache.get_statistics().l3_stats.evictions_corruption) == (3, 1)


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
@pytest.mark.parametrize("read", ["scan", "changes", "add"])
@pytest.mark.parametrize("change", ["status", "status that is no text", "count that is none", "end that is none"])
def test_the_authority_takes_a_copy_from_another_tier(
    tmp_path: Path, opened: Opener, backend: str, read: str, change: str
) -> None:
    """Nothing is lost then: the row is what it was, in the same revision, for this and every other process."""
    cache = opened(l2_backend=backend)
    fill(cache)
    cache.get(key("one"))
    cache.close()
    harm(tmp_path / "l3.db", HARM[change])
    cache = opened(l2_backend=backend)
    READS[read](cache)
    assert cache.get_statistics().l3_stats.evictions_corruption == 1
    assert len(list(cache.scan())) == len(cache) == len(NAMES)
    cache.close()
    cache = opened(l1_config=OFF, l2_config=OFF)
    entry = cache.get(key("one"))
    assert entry is not None
    assert entry.attributes.country == "DE"


@pytest.mark.parametrize("change", HARM.values(), ids=HARM)
def test_a_damaged_row_is_written_over(tmp_path: Path, opened: Opener, change: str) -> None:
    """What is put in its place is taken at once."""
    cache = opened(l2_config=OFF)
    fill(cache)
    entry = cache.get(key("one"))
    assert entry is not None
    harm(tmp_path / "l3.db", change)
    assert cache.put(entry.key, entry)
    cache.close()
    cache = opened(l2_config=OFF)
    assert {each.proxy_url for each in cache.scan()} == {url(name) for name in NAMES}


@pytest.mark.parametrize("column", ["check_failures", "check_successes", "recovery_attempt", "generation"])
def test_numbers_of_another_kind_are_found_by_verify(tmp_path: Path, opened: Opener, column: str) -> None:
    """No read meets them, and `verify` stumbles over none."""
    cache = opened(l2_config=OFF)
    fill(cache)
    cache.close()
    harm(tmp_path / "l3.db", f"{column} = 'many'")
    cache = opened(l2_config=OFF)
    cache.verify(repair=True)
    assert [finding.where for finding in cache.verify()] == [str(set_aside(tmp_path))]
    assert {entry.proxy_url for entry in cache.scan()} == {url("two"), url("three")}
    assert not cache.get_statistics().l3_degraded


def test_texts_that_are_none_cost_their_rows_alone(tmp_path: Path, opened: Opener) -> None:
    """However they lie among the others."""
    names = [f"n{n}" for n in range(24)]
    spoiled = {f"n{n}" for n in (1, 2, 3, 5, 8, 9, 11, 14, 16, 17, 18, 19, 21)}
    cache = opened(l2_config=OFF)
    for name in names:
        cache.add(url(name), source="test", ttl=1e6)
    cache.close()
    for name in spoiled:
        harm(tmp_path / "l3.db", HARM["status that is no text"], name)
    cache = opened(l2_config=OFF)
    assert {entry.proxy_url for entry in cache.scan()} == {url(name) for name in names if name not in spoiled}
    assert cache.get_statistics().l3_stats.evictions_corruption == len(spoiled)


def test_a_damaged_window_is_read_past(tmp_path: Path, opened: Opener) -> None:
    """The entry comes from below, and fills the window again."""
    settings = {"l1_config": OFF, "l2_backend": "sqlite"}
    cache = opened(**settings)
    fill(cache)
    cache.close()
    harm(tmp_path / "l2" / "l2.db", HARM["attributes"])
    cache = opened(**settings)
    entry = cache.get(key("one"))
    assert entry is not None
    assert entry.attributes.country == "DE"
    figures = cache.get_statistics()
    assert (figures.l2_stats.evictions_corruption, figures.l3_stats.evictions_corruption) == (1, 0)
    assert [cache.get(key(name)) is not None for name in NAMES] == [True] * 3
    assert cache.get_statistics().l2_stats.current_size == len(NAMES)


def test_damage_does_not_rise(tmp_path: Path, opened: Opener) -> None:
    """What is read damaged from below enters no tier above, and makes none sick, however many are read at once."""
    many = [f"n{n}" for n in range(4 * QUEUE_KEPT)]
    small = {"l2_config": {"max_entries": 2 * QUEUE_KEPT}}
    cache = opened(**small)
    cache.add_many([(parse(url(name)), Attributes(country="DE")) for name in many], source="test", ttl=1e6)
    cache.close()
    assert all(key("n7") not in shard.read_text() for shard in (tmp_path / "l2").glob("shard-*"))
    harm(tmp_path / "l3.db", HARM["attributes"], "n7")
    cache = opened(**small)
    assert len(cache.get_many([key(name) for name in many])) == len(many) - 1
    figures = cache.get_statistics()
    assert (figures.l2_stats.evictions_corruption, figures.l2_degraded) == (0, False)
    assert all("{bad" not in shard.read_text() for shard in (tmp_path / "l2").glob("*"))


def test_a_url_that_leads_nowhere_is_met_when_it_is_connected_to(tmp_path: Path, opened: Opener) -> None:
    """Its row is lost then, and there is no such entry."""
    cache = opened(l2_config=OFF)
    fill(cache)
    cache.close()
    harm(tmp_path / "l3.db", "url = 'http://one.example:8o'")
    cache = opened(l2_config=OFF)
    assert cache.endpoint(key("one")) is None
    assert cache.get(key("one")) is None
    assert cache.get_statistics().l3_stats.evictions_corruption == 1


@pytest.mark.parametrize(
    ("change", "what", "mended"),
    [
        ("url = 'http://one..example:80'", "its URL is no proxy's", False),
        ("checks = -4611686018427387904", "counts is negative", True),
    ],
)
def test_verify_finds_what_no_read_meets(
    tmp_path: Path, opened: Opener, change: str, what: str, *, mended: bool
) -> None:
    """It says so; with `repair` it writes a count anew, and of a URL that is none it says what to do."""
    cache = opened(l2_config=OFF)
    fill(cache)
    cache.close()
    harm(tmp_path / "l3.db", change)
    cache = opened(l2_config=OFF)
    for repair in (False, True):
        (finding,) = (found for found in cache.verify(repair=repair) if "entry" in found.where)
        assert finding.where == f"l3: entry {key('one')}"
        assert what in finding.what
        assert finding.repaired is (repair and mended)
    assert len(cache) == len(NAMES)
    assert bool(cache.verify()) is not mended
    entry = cache.look(key("one"))
    assert entry is not None
    assert entry.total_health_checks == 0


def test_a_sound_record_has_no_fault() -> None:
    """Neither has one under a key of one's own, nor one that never expires."""
    record = Record(key("one"), url("one"), "s", 1.0, 60, 61.0, 1.0)
    assert fault_of(record) is None
    own = Record("my-own", "http://[2001:db8::1]:80", "s", 1.0, 60, float("inf"), 1.0)
    assert fault_of(own) is None
    kind = Record("my-own", url("one"), "s", 1.0, 60, 61.0, 1.0, sealed=b"blob")  # type: ignore[arg-type]  # the point
    assert fault_of(kind) == "one of its texts is none"
    zero = Record("my-own", url("one"), "s", 1.0, 60, 61.0, 1.0, sealed=0)  # type: ignore[arg-type]  # the point
    assert fault_of(zero) == "one of its texts is none"
    other = Record("my-own", "HTTP://192.0.2.1:80", "s", 1.0, 60, 61.0, 1.0)
    assert fault_of(other) == "its URL is none"
