"""The state beside the cache: kept by kind and key, shared by processes, refused where it is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from proxywhirl.errors import FormatVersionError, TierError
from proxywhirl.state.store import Block, Blocklist, StateStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file in a directory that is not there yet."""
    return tmp_path / "db" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    """Open a store."""
    with closing(StateStore(path)) as opened:
        yield opened


def test_values_are_kept_by_kind_and_key(store: StateStore, path: Path) -> None:
    """Kinds do not mix, a value of the same key is replaced, and all of it is there after reopening."""
    store.put_many("a", {"k": "1", "l": "2"})
    store.put_many("b", {"k": "3"})
    store.put_many("a", {"k": "4"})
    store.delete_many("a", ["l", "never there"])
    store.close()
    with closing(StateStore(path)) as reopened:
        assert (reopened.items("a"), reopened.items("b"), reopened.items("c")) == ({"k": "4"}, {"k": "3"}, {})


def test_another_process_sees_it_at_once(store: StateStore, path: Path) -> None:
    """Two stores on one file agree without a word between them."""
    with closing(StateStore(path)) as other:
        other.put_many("a", {"k": "1"})
        assert store.items("a") == {"k": "1"}


def test_threads_may_write_at_once(store: StateStore) -> None:
    """No write of many threads is lost."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: store.put_many("a", {str(n): "x"}), range(200)))
    assert len(store.items("a")) == 200


def test_a_write_is_whole_or_not_at_all(store: StateStore) -> None:
    """A transaction that fails in the middle leaves nothing of it."""
    with pytest.raises(TypeError):
        store.put_many("a", {"k": "1", "l": object()})  # type: ignore[dict-item]  # the wrong value is the point
    assert store.items("a") == {}


def test_file_and_directory_are_the_owners_alone(store: StateStore, path: Path) -> None:
    """The file has mode 0600, its directory 0700."""
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_newer_format_is_refused_and_left_alone(store: StateStore, path: Path) -> None:
    """A file that a newer version wrote is named, with its version."""
    store.close()
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("user_version", 99)
    with pytest.raises(FormatVersionError, match=r"state\.db has format version 99"):
        StateStore(path)


def test_a_file_that_is_no_database_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is set aside under a name that the log tells, and the store begins anew."""
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    store = StateStore(path)
    (aside,) = path.parent.glob("state.db.damaged-*")
    assert aside.read_bytes() == b"not a database" * 100
    assert str(aside) in caplog.text
    assert store.items("kind") == {}
    store.close()


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file where a directory should be is a `TierError`, not the system's own."""
    (tmp_path / "file").touch()
    with pytest.raises(TierError, match=r"file"):
        StateStore(tmp_path / "file" / "state.db")


def test_blocks_are_kept_until_they_are_lifted(store: StateStore, path: Path) -> None:
    """A block holds address and reason, is replaced by a new one, and survives reopening."""
    blocklist = Blocklist(store)
    assert blocklist.blocks() == {}
    blocklist.block({"k": Block("http://203.0.113.1:80", "slow"), "l": Block("", 'a "quoted" reason')})
    blocklist.block({"k": Block("http://203.0.113.1:80", "slower")})
    with closing(StateStore(path)) as other:
        assert Blocklist(other).blocks() == {
            "k": Block("http://203.0.113.1:80", "slower"),
            "l": Block("", 'a "quoted" reason'),
        }
    blocklist.lift(["k", "never there"])
    assert list(blocklist.blocks()) == ["l"]
