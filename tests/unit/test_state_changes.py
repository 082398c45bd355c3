"""What changed in the state, and what ended: told by revision and by moment, alike in memory and in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import TierError
from proxywhirl.state.store import MemoryStore, Perishable, StateStore, Store, Swept

FORMAT_1 = """CREATE TABLE records (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file in a directory that is not there yet."""
    return tmp_path / "db" / "state.db"


@pytest.fixture(params=["file", "memory"])
def store(path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Open a store of each sort."""
    with closing(StateStore(path) if request.param == "file" else MemoryStore()) as opened:
        yield opened


def read(store: Store, kind: str, revision: int = 0, limit: int = 1000) -> dict[str, str]:
    """Return what was written after a revision, all pages of it."""
    found: dict[str, str] = {}
    more = True
    while more:
        page = store.since(kind, revision, limit)
        found.update(page.values)
        revision, more = page.revision, page.more
    return found


def test_what_was_written_since_is_told(store: Store) -> None:
    """A revision parts what was there from what came after, of that kind alone, each key with its last value."""
    store.put_many("a", {"k": "1", "l": "2"})
    store.put_many("b", {"k": "3"})
    seen = store.since("a", 0, 1000)
    assert (seen.values, seen.more) == ({"k": "1", "l": "2"}, False)
    assert store.since("a", seen.revision, 1000).values == {}
    store.put_many("a", {"k": "4"})
    store.update("a", ["l", "m"], lambda held: {"m": held["l"] + "x"})
    assert store.since("a", seen.revision, 1000).values == {"k": "4", "m": "2x"}


@given(
    writes=st.lists(st.dictionaries(st.sampled_from("abcde"), st.text(max_size=3), max_size=5)), limit=st.integers(1, 4)
)
def test_pages_hold_everything_once_more_or_less(writes: list[dict[str, str]], limit: int) -> None:
    """Whatever was written in whatever batches, the pages end at what is there."""
    store = MemoryStore()
    for values in writes:
        store.put_many("a", values)
    assert read(store, "a", limit=limit) == store.items("a")


def test_pages_are_as_long_as_is_asked(store: Store) -> None:
    """A limit bounds a page, and the pages together miss nothing."""
    store.put_many("a", {str(n): "x" for n in range(10)})
    first = store.since("a", 0, 4)
    assert (len(first.values), first.more) == (4, True)
    assert {**first.values, **read(store, "a", first.revision, 4)} == store.items("a")


def test_it_is_cheap_to_know_that_nothing_changed(path: Path) -> None:
    """`changed` is true once after another connection wrote, and not after a write of its own."""
    with closing(StateStore(path)) as store, closing(StateStore(path)) as other:
        store.changed()
        store.put_many("a", {"k": "1"})
        assert not store.changed()
        other.put_many("a", {"k": "2"})
        assert store.changed()
        assert not store.changed()


def test_what_ended_is_swept_and_nothing_else(store: Store) -> None:
    """Records go after their end, soonest first and not more at once than is said; one without an end stays."""
    store.put_many("a", {"for ever": "x", **{str(n): Perishable("x", ends=float(n)) for n in range(10)}})
    store.put_many("b", {"0": Perishable("x", ends=0.0)})
    assert store.sweep("a", now=5.0, most=100, limit=4) == Swept(ended=4, surplus=0)
    assert set(store.items("a")) == {"for ever", "4", "5", "6", "7", "8", "9"}
    assert set(store.lasting("a", 7.0)) == {"8", "9"}
    assert store.sweep("a", now=5.0, most=100, limit=4) == Swept(ended=2, surplus=0)
    assert set(store.items("b")) == {"0"}


def test_too_many_are_swept_the_soonest_ending_first(store: Store) -> None:
    """A kind is brought down to its bound, and what was written without an end is not counted."""
    store.put_many("a", {"for ever": "x", **{str(n): Perishable("x", ends=100.0 + n) for n in range(10)}})
    assert store.sweep("a", now=5.0, most=6, limit=3) == Swept(ended=0, surplus=3)
    assert store.sweep("a", now=5.0, most=6, limit=3) == Swept(ended=0, surplus=1)
    assert store.sweep("a", now=5.0, most=6, limit=3) == Swept(ended=0, surplus=0)
    assert set(store.items("a")) == {"for ever", "4", "5", "6", "7", "8", "9"}


def test_a_record_that_is_kept_anew_has_its_new_end(store: Store) -> None:
    """The end goes with the last value, also where that has none."""
    store.put_many("a", {"k": Perishable("1", ends=1.0), "l": Perishable("1", ends=1.0)})
    store.put_many("a", {"k": Perishable("2", ends=9.0)})
    store.update("a", ["l"], lambda _: {"l": "2"})
    store.sweep("a", now=5.0, most=100, limit=100)
    assert store.items("a") == {"k": "2", "l": "2"}


def test_keys_are_found_by_how_they_begin(store: Store) -> None:
    """All keys below a text are found, and no other."""
    store.put_many("a", {"k@x": "1", "k@ÿ\U0010fffe": "2", "kk@x": "3", "k": "4", "l@": "5"})
    assert store.below("a", ["k@", "l@", "m@"]) == {"k@x": "1", "k@ÿ\U0010fffe": "2", "l@": "5"}
    assert store.below("a", []) == {}


def test_a_file_of_the_first_format_is_taken_over(path: Path) -> None:
    """Its records are there, each one is news to who has read nothing, and new ones come after them."""
    path.parent.mkdir()
    with closing(apsw.Connection(str(path))) as old:
        old.execute(FORMAT_1)
        old.executemany("INSERT INTO records VALUES (?, ?, ?)", [("a", str(n), f"v{n}") for n in range(5)])
        old.execute("INSERT INTO records VALUES ('b', 'k', 'other')")
        old.pragma("user_version", 1)
    with closing(StateStore(path)) as store:
        assert store.items("a") == {str(n): f"v{n}" for n in range(5)}
        assert store.items("b") == {"k": "other"}
        assert read(store, "a", limit=2) == store.items("a")
        reached = store.since("a", 0, 1000).revision
        store.put_many("a", {"new": "x"})
        assert store.since("a", reached, 1000).values == {"new": "x"}


def test_revisions_grow_over_a_damaged_file(path: Path) -> None:
    """Who read up to a revision of the file that was set aside misses nothing that is written to the new one."""
    with closing(StateStore(path)) as store:
        store.put_many("a", {str(n): "x" * 100 for n in range(1000)})
        reached = store.since("a", 0, 5000).revision
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = os.urandom(4096 * 2)
    content[18:20] = b"\x07\x07"
    path.write_bytes(content)
    with closing(StateStore(path)) as store:
        assert list(path.parent.glob("state.db.damaged-*"))
        store.put_many("a", {"new": "x"})
        assert store.since("a", reached, 5000).values == {"new": "x"}


def test_a_copy_from_before_is_read_from_its_beginning(path: Path) -> None:
    """Who read more than an older file holds, put in the place of the newer one, reads all of that."""
    with closing(StateStore(path)) as store:
        store.put_many("a", {"k": "old"})
    copy = path.read_bytes()
    with closing(StateStore(path)) as store:
        store.put_many("a", {"k": "new"})
        reached = store.since("a", 0, 100).revision
    path.write_bytes(copy)
    with closing(StateStore(path)) as store:
        assert store.since("a", reached, 100).values == {"k": "old"}


def test_damage_that_is_met_in_use_costs_one_call(path: Path) -> None:
    """The call that meets it fails; the next write sets the file aside and goes on."""
    with closing(StateStore(path)) as store:
        store.put_many("a", {str(n): "x" * 1000 for n in range(2000)})
    with closing(StateStore(path)) as store:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        with pytest.raises(TierError, match="damaged"):
            store.items("a")
        store.put_many("a", {"new": "x"})
        assert store.items("a")["new"] == "x"
        assert list(path.parent.glob("state.db.damaged-*"))
