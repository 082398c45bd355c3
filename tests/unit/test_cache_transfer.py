"""Exporting entries to a file and warming a cache from one."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from proxywhirl.cache import NEVER, CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.maintenance.transfer import export_entries, read_entries
from proxywhirl.errors import CacheError, ListFormatError
from proxywhirl.models import Attributes
from proxywhirl.testing import ManualClock
from proxywhirl.urls import parse

Opener = Callable[[str], CacheManager]

START = datetime(2025, 1, 1, tzinfo=UTC)
FORMATS = ["out.json", "out.jsonl", "out.csv", "out.backup"]


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `START`."""
    return ManualClock(now=START.timestamp())


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opener]:
    """Give a function that opens a cache in a home of its own."""
    caches: list[CacheManager] = []

    def opening(home: str) -> CacheManager:
        places = {"l2_cache_dir": str(tmp_path / home / "l2"), "l3_database_path": str(tmp_path / home / "l3.db")}
        key = Fernet.generate_key().decode()
        caches.append(CacheManager(CacheConfig.model_validate({**places, "encryption_key": key}), clock=clock))
        return caches[-1]

    yield opening
    for cache in caches:
        cache.close()


def entry(key: str, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


ENTRIES = [
    entry("a"),
    entry(
        "b",
        source='qu"ote, comma\nline ☃',
        username="bob",
        password="hun,ter\n2",
        expires_at=NEVER,
        health_status="degraded",
        failure_count=2,
        access_count=5,
        last_health_check=START - timedelta(microseconds=1),
        last_health_error="timed out",
        attributes=Attributes(country="DE", tags=("a", "b"), weight=0.5, asn=1),
    ),
    entry("c", username="bob"),
    entry("d", password="hunter2"),
]


def everything(cache: CacheManager) -> list[CacheEntry]:
    """List a cache."""
    return list(cache.scan())


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_exported_with_credentials_comes_back_equal(opened: Opener, tmp_path: Path, name: str) -> None:
    """Through every format, into an empty cache with another key, each field is as it was."""
    one, other = opened("one"), opened("other")
    one.put_many(ENTRIES)
    path = tmp_path / name
    assert one.export_to_file(path, with_credentials=True) == 4
    assert path.stat().st_mode & 0o777 == 0o600
    assert other.warm_from_file(path) == {"loaded": 4, "skipped": 0, "failed": 0}
    assert everything(other) == everything(one) == ENTRIES
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [name]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_holds_no_credential_unless_it_is_asked_for(opened: Opener, tmp_path: Path, name: str) -> None:
    """A secret reads `***`; warming the same cache keeps what is stored."""
    cache = opened("one")
    cache.put_many(ENTRIES)
    path = tmp_path / name
    assert cache.export_to_file(path) == 4
    text = path.read_text(encoding="utf-8")
    assert "hun" not in text
    assert "bob" not in text
    assert "***" in text
    assert cache.warm_from_file(path) == {"loaded": 0, "skipped": 4, "failed": 0}
    assert everything(cache) == ENTRIES


@pytest.mark.parametrize("name", FORMATS)
def test_entries_without_their_credentials_are_not_loaded_without(
    opened: Opener, tmp_path: Path, clock: ManualClock, name: str
) -> None:
    """Where they are not known, or no longer, they are counted as failed; those that never had any are loaded."""
    one, other = opened("one"), opened("other")
    one.put_many(ENTRIES)
    one.export_to_file(tmp_path / name)
    other.put("c", entry("c", username="old", ttl_seconds=1))
    clock.advance(1)
    assert other.warm_from_file(tmp_path / name) == {"loaded": 1, "skipped": 0, "failed": 3}
    assert [found.key for found in everything(other)] == ["a"]


def test_an_export_replaces_a_file_whole_or_not_at_all(opened: Opener, tmp_path: Path) -> None:
    """A file that cannot be written is an error that names it; what was there stays, and nothing is left over."""
    cache = opened("one")
    cache.put_many(ENTRIES)
    path = tmp_path / "out.json"
    path.write_text("old")
    path.with_name("out.json.tmp").write_text("left over, open to all")
    cache.export_to_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(path.read_text(encoding="utf-8"))) == 4
    with pytest.raises(CacheError, match="nowhere"):
        cache.export_to_file(tmp_path / "nowhere" / "out.json")
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(CacheError, match="directory"):
        cache.export_to_file(directory)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_cache_makes_a_file_that_can_be_read(opened: Opener, tmp_path: Path, name: str) -> None:
    """Nothing exported is nothing loaded."""
    cache = opened("one")
    assert cache.export_to_file(tmp_path / name) == 0
    assert cache.warm_from_file(tmp_path / name) == {"loaded": 0, "skipped": 0, "failed": 0}


@pytest.mark.parametrize("layout", ["after blank lines", "indented", "one line", "single", "bom"])
def test_json_of_any_layout_is_read(opened: Opener, tmp_path: Path, layout: str) -> None:
    """An array that another program has laid out is an array all the same."""
    fields = [json.loads(made.model_dump_json()) for made in (entry("a"), entry("b"))]
    texts = {
        "after blank lines": "\n \n" + json.dumps(fields, indent=2),
        "indented": json.dumps(fields, indent=2),
        "one line": json.dumps(fields),
        "single": json.dumps(fields[0], indent=2),
        "bom": "\ufeff" + "\n".join(map(json.dumps, fields)),
    }
    path = tmp_path / "in.json"
    path.write_text(texts[layout], encoding="utf-8")
    expected = 1 if layout == "single" else 2
    assert opened("one").warm_from_file(path) == {"loaded": expected, "skipped": 0, "failed": 0}


def test_a_damaged_line_fails_alone(opened: Opener, tmp_path: Path) -> None:
    """Lines that are no entry are counted as failed, expired ones as skipped, the rest is loaded."""
    lines = [
        entry("a").model_dump_json(),
        '{"key": "torn", "proxy_',
        "[1, 2]",
        '"text"',
        json.dumps({**json.loads(entry("b").model_dump_json()), "ttl_seconds": -1}),
        json.dumps({**json.loads(entry("c").model_dump_json()), "attributes": {"country": "Germany"}}),
        entry("old", expires_at=START).model_dump_json(),
        entry("z").model_dump_json(),
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    cache = opened("one")
    assert cache.warm_from_file(path) == {"loaded": 2, "skipped": 1, "failed": 5}
    assert [found.key for found in everything(cache)] == ["a", "z"]


@pytest.mark.parametrize(
    "content",
    [
        b"http://192.0.2.1:80\nhttp://192.0.2.2:80\n",
        b"\xff\xfe\x00",
        b'[1, 2, {"a": 3}]',
        b"[{",
        b'key,key\n"' + b"x" * 200_000,
    ],
)
def test_what_is_no_export_is_an_error(opened: Opener, tmp_path: Path, content: bytes) -> None:
    """A file in which nothing is an entry is a ListFormatError that names it."""
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    cache = opened("one")
    with pytest.raises(ListFormatError, match=r"in\.txt"):
        cache.warm_from_file(path)
    with pytest.raises(ListFormatError, match="missing"):
        cache.warm_from_file(tmp_path / "missing")
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("ttl", "expires_at"),
    [(60, START + timedelta(seconds=160)), (math.inf, NEVER), (1e18, NEVER)],
)
def test_a_time_to_live_can_be_given_to_all(
    opened: Opener, tmp_path: Path, clock: ManualClock, ttl: float, expires_at: datetime
) -> None:
    """It begins now, replaces that of the file, and brings expired entries back."""
    one, other = opened("one"), opened("other")
    one.put_many([entry("a", ttl_seconds=50), entry("b")])
    one.export_to_file(tmp_path / "out.csv")
    clock.advance(100)
    assert other.warm_from_file(tmp_path / "out.csv", ttl_override=ttl) == {"loaded": 2, "skipped": 0, "failed": 0}
    assert {found.expires_at for found in everything(other)} == {expires_at}
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="time to live"):
            other.warm_from_file(tmp_path / "out.csv", ttl_override=wrong)


def test_warming_merges(opened: Opener, tmp_path: Path) -> None:
    """A password that changed counts as loaded; health and counters of what is known are kept."""
    one, other = opened("one"), opened("other")
    one.put_many([entry("a", username="bob", password="new", failure_count=2), entry("b")])
    one.export_to_file(tmp_path / "out.jsonl", with_credentials=True)
    other.put_many([entry("a", username="bob", password="old", failure_count=1), entry("b", health_status="healthy")])
    assert other.warm_from_file(tmp_path / "out.jsonl") == {"loaded": 1, "skipped": 1, "failed": 0}
    a, b = everything(other)
    assert (a.password, a.failure_count) == (SecretStr("new"), 1)
    assert b.is_healthy


def test_a_large_file_is_taken_in_pages(opened: Opener, tmp_path: Path) -> None:
    """More entries than a page holds are all loaded."""
    one, other = opened("one"), opened("other")
    one.put_many([entry(f"k{n:04}") for n in range(2300)])
    assert one.export_to_file(tmp_path / "out.json") == 2300
    assert other.warm_from_file(tmp_path / "out.json") == {"loaded": 2300, "skipped": 0, "failed": 0}
    assert len(other) == 2300


ITEMS: list[dict[str, str]] = [
    {"proxy_url": "http://192.0.2.1:80"},
    {"proxy_url": "192.0.2.2:80", "source": "mine"},
    {"proxy_url": "SOCKS5://Proxy.Example:1080", "source": "list", "username": "bob", "password": "hunter2"},
    {"proxy_url": "http://eve:hunter3@192.0.2.4:80"},
    {"proxy_url": "http://eve:***@192.0.2.5:80", "password": "hunter4"},
    {"proxy_url": "http://eve:hunter5@192.0.2.6:80", "password": "***"},
]
TAKEN = {
    "http://192.0.2.1:80": ("", None, None, 600),
    "http://192.0.2.2:80": ("mine", None, None, 90),
    "socks5://proxy.example:1080": ("list", "bob", "hunter2", 600),
    "http://192.0.2.4:80": ("", "eve", "hunter3", 600),
    "http://192.0.2.5:80": ("", "eve", "hunter4", 600),
    "http://192.0.2.6:80": ("", "eve", "hunter5", 600),
}


def items_as(name: str) -> str:
    """Write the items in a format."""
    if name.endswith(".csv"):
        columns = ("proxy_url", "source", "username", "password")
        return "\n".join([",".join(columns), *(",".join(item.get(name, "") for name in columns) for item in ITEMS), ""])
    return json.dumps(ITEMS) if name.endswith(".json") else "\n".join(map(json.dumps, ITEMS))


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("name", FORMATS)
def test_items_need_no_more_than_a_url(tmp_path: Path, clock: ManualClock, name: str, start: str) -> None:
    """The rest has its default: the source is the file's name; a credential in the URL is stored as one."""
    off = {"enabled": False}
    fields = {"l2_config": off, "l3_config": off, "default_ttl_seconds": 600, "per_source_ttl": {"mine": 90}}
    path = tmp_path / name
    path.write_text(start + items_as(name), encoding="utf-8")
    with CacheManager(CacheConfig.model_validate(fields), clock=clock) as cache:
        assert cache.warm_from_file(path) == {"loaded": len(ITEMS), "skipped": 0, "failed": 0}
        found = {made.proxy_url: made for made in everything(cache)}
    assert found.keys() == TAKEN.keys()
    for url, (source, username, password, ttl) in TAKEN.items():
        made = found[url]
        secrets = [None if secret is None else secret.get_secret_value() for secret in (made.username, made.password)]
        assert (made.source, secrets, made.ttl_seconds) == (source or name, [username, password], ttl)
        assert (made.fetch_time, made.expires_at) == (START, START + timedelta(seconds=ttl))
        assert made.key == parse(url).with_credential(username, None).key


def test_a_url_with_a_credential_loses_nothing_and_shows_nothing(opened: Opener, tmp_path: Path) -> None:
    """An export of an earlier release may hold one: it is stored sealed, under the key that it had."""
    fields = json.loads(entry("old").model_dump_json()) | {"proxy_url": "http://bob:hunter2@192.0.2.1:80"}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(fields), encoding="utf-8")
    cache = opened("one")
    assert cache.warm_from_file(path) == {"loaded": 1, "skipped": 0, "failed": 0}
    (made,) = everything(cache)
    assert made.model_copy(update={"username": None, "password": None}) == entry("old")
    assert (made.username, made.password) == (SecretStr("bob"), SecretStr("hunter2"))
    cache.close()
    assert not any(b"hunter2" in file.read_bytes() for file in (tmp_path / "one").rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.json", b"proxy_url\nhttp://192.0.2.1:80\n"),
        ("in.json", b""),
        ("in.json", b" \n"),
        ("in.json", b"["),
        ("in.json", b"null"),
        ("in.json", b"[" * 100_000),
        ("in.json", b'{"proxies": []}'),
        ("in.jsonl", b"http://192.0.2.1:80\n"),
        ("in.jsonl", b"proxy_url\nhttp://192.0.2.1:80\n"),
        ("in.jsonl", b"\x00\x01\x02"),
        ("in.csv", b'{"proxy_url": "http://192.0.2.1:80"}\n'),
        ("in.csv", b"http://192.0.2.1:80\n"),
        ("in.csv", b""),
        ("in.csv", b"\x00\x01\x02"),
        ("in.csv", b"PK\x03\x04\x00\xff"),
        ("in.txt", b"http://192.0.2.1:80\n"),
        ("in.txt", b"\x00"),
        ("in.json", "[]".encode("utf-16")),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_an_error(
    opened: Opener, tmp_path: Path, name: str, content: bytes
) -> None:
    """It is named, and never passes for an empty list."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ListFormatError, match=re.escape(str(path))):
        opened("one").warm_from_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.json", "[]"), ("in.json", "[\n]\n"), ("in.jsonl", ""), ("in.jsonl", "\n"), ("in.csv", "proxy_url\n")],
)
def test_a_list_of_nothing_is_nothing(opened: Opener, tmp_path: Path, name: str, content: str) -> None:
    """What says itself that it is empty is no error."""
    path = tmp_path / name
    path.write_text(content)
    assert opened("one").warm_from_file(path) == {"loaded": 0, "skipped": 0, "failed": 0}


@pytest.mark.parametrize("name", ["out.json", "out.jsonl", "out.csv"])
def test_a_file_that_was_cut_off_gives_nothing_that_was_not_in_it(tmp_path: Path, name: str) -> None:
    """Wherever it ends, what is read is whole, and unless that is at the end of a line the rest counts as failed."""
    path = tmp_path / name
    export_entries(ENTRIES, path, with_credentials=True)
    whole = path.read_bytes()
    heading = whole.index(b"\n") if name == "out.csv" else 0  # of which a part is another heading
    for end in range(heading + 1, len(whole) - 1):
        if name == "out.csv" and whole[end:].startswith(b'"{'):
            continue  # a last cell may be empty
        path.write_bytes(whole[:end])
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        read: list[CacheEntry] = []
        with contextlib.suppress(ListFormatError):
            for page in read_entries(path, counts, now=START.timestamp(), ttl=None, lifetime=lambda _: 0.0):
                read += page
            at_an_end = name != "out.json" and whole[end - 1 : end + 1].count(b"\n")
            assert counts["failed"] == 1 or at_an_end, whole[:end]
        assert read == ENTRIES[: len(read)], whole[:end]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_read_and_written_in_a_stream(tmp_path: Path, name: str) -> None:
    """Four thousand entries, which would take more than 10 MB at once, pass through 5 MB in each direction."""
    many = 4_000
    path = tmp_path / name
    tracemalloc.start()
    try:
        made = (entry(f"{n:06}", username="bob", password=f"pass{n}") for n in range(many))
        assert export_entries(made, path, with_credentials=True) == many
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        pages = read_entries(path, counts, now=START.timestamp(), ttl=None, lifetime=lambda _: 0.0)
        assert sum(map(len, pages)) == many
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


STREAMING = """
import json, resource, sys
from pathlib import Path
from proxywhirl.cache import CacheConfig, CacheManager

def lines(first, count):
    for n in range(first, first + count):
        line = {"key": f"{n:016x}", "proxy_url": "http://192.0.2.1:80", "source": "s", "ttl_seconds": 3600}
        yield json.dumps({**line, "fetch_time": "2025-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}) + "\\n"

home = Path(sys.argv[1])
places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db")}
peaks = []
with CacheManager(CacheConfig.model_validate(places)) as cache:
    for first, count in ((0, 6_000), (6_000, 44_000)):
        with (home / "in.jsonl").open("w") as stream:
            stream.writelines(lines(first, count))
        assert cache.warm_from_file(home / "in.jsonl")["loaded"] == count
        assert cache.export_to_file(home / "out.jsonl") == first + count
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(peaks[1] - peaks[0])
"""


def test_a_cache_is_warmed_and_exported_in_a_stream(tmp_path: Path) -> None:
    """Fifty thousand entries, more than 120 MB if they were held, add less than 40 MB to the process."""
    command = [sys.executable, "-c", STREAMING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40
