"""The SQLite tier's file, and the one way in which a database is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import apsw
import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.sqlite import TOMBSTONES_KEPT, SqliteTier
from proxywhirl.cache.tier import Batch
from proxywhirl.errors import FormatVersionError, TierError
from proxywhirl.state.database import Database


def record(key: str) -> Record:
    """Make a record."""
    return Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0)


def put(tier: SqliteTier, *keys: str) -> None:
    """Write records under keys."""
    tier.transact([], lambda _: Batch(puts=[record(key) for key in keys]))


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    """Database, log and index of the log have mode 0600, directories that are made 0700."""
    tier = SqliteTier(tmp_path / "a" / "b" / "tier.db", authority=True)
    put(tier, "a")
    made = sorted([tmp_path / "a", *(tmp_path / "a").rglob("*")])
    assert [path.name for path in made] == ["a", "b", "tier.db", "tier.db-shm", "tier.db-wal"]
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    tier.close()


@pytest.mark.parametrize(("fsync", "synchronous"), [(False, 1), (True, 2)])
def test_the_pragmas_are_those_that_are_safe(tmp_path: Path, *, fsync: bool, synchronous: int) -> None:
    """WAL, no mmap, NORMAL (or FULL where power cuts count), and SQLite's own busy handler."""
    database = Database(tmp_path / "a.db", [["CREATE TABLE t (x)"]], fsync=fsync)
    pragma = database.connection.pragma
    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == synchronous
    assert pragma("mmap_size") == 0
    assert int(str(pragma("busy_timeout"))) >= 1000
    database.close()
    database.close()


def test_a_place_that_refuses_a_pragma_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite answers is asserted: a database that cannot have a write-ahead log is refused."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TierError, match="journal_mode"):
        Database(Path(":memory:"), [["CREATE TABLE t (x)"]])


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    """An older format is brought to the newest, keeping what it holds."""
    path = tmp_path / "a.db"
    first = [["CREATE TABLE t (x)", "INSERT INTO t VALUES (1)"]]
    Database(path, first).close()
    Database(path, first).close()
    both = Database(path, [*first, ["ALTER TABLE t ADD COLUMN y DEFAULT 7"]])
    assert list(both.connection.execute("SELECT * FROM t")) == [(1, 7)]
    assert both.connection.pragma("user_version") == 2
    both.close()


def test_a_newer_version_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    """The error names file and versions; not a byte is changed."""
    path = tmp_path / "tier.db"
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 99)
    connection.close()
    content = path.read_bytes()
    with pytest.raises(FormatVersionError, match=rf"{path} has format version 99"):
        SqliteTier(path, authority=True)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["tier.db"]


def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Damage is a TierError that names the file."""
    path = tmp_path / "tier.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 40)
    with pytest.raises(TierError, match=rf"{path} is damaged or no database .*move it away"):
        SqliteTier(path, authority=True)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """The system's error leaves as a TierError."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TierError, match=r"file/tier\.db"):
        SqliteTier(tmp_path / "file" / "tier.db", authority=True)


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Rows, revision and eviction order are as before, and the next transaction works."""
    tier = SqliteTier(tmp_path / "tier.db", authority=True, max_entries=2)
    put(tier, "a", "b")
    bad = record("c")
    bad.source = None  # type: ignore[assignment]  # what the column refuses
    with pytest.raises(TierError, match="NOT NULL"):
        tier.transact([], lambda _: Batch(puts=[record("d"), bad]))
    assert (len(tier), tier.revision) == (2, 2)
    assert tier.transact([], lambda _: Batch(puts=[record("e")])).evicted == ["a"]
    tier.close()


def test_a_commit_that_fails_is_rolled_back(tmp_path: Path) -> None:
    """A constraint that speaks at the end of the transaction does not leave it open."""
    tables = ["CREATE TABLE a (x PRIMARY KEY)", "CREATE TABLE b (x REFERENCES a DEFERRABLE INITIALLY DEFERRED)"]
    database = Database(tmp_path / "a.db", [tables])
    database.connection.pragma("foreign_keys", 1)
    with pytest.raises(TierError, match="FOREIGN KEY"), database.writing() as connection:
        connection.execute("INSERT INTO b VALUES (1)")
    with database.writing() as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    assert list(database.connection.execute("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)")) == [(1, 0)]
    database.close()


def test_an_error_that_rolled_back_by_itself_is_told_as_it_is(tmp_path: Path) -> None:
    """A full database ends its transaction; what is told is that, and a smaller write succeeds."""
    database = Database(tmp_path / "a.db", [["CREATE TABLE t (x)"]])
    database.connection.pragma("max_page_count", 20)
    with pytest.raises(TierError, match="full"), database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    with database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    database.close()


def test_a_decision_reads_and_writes_in_one_transaction(tmp_path: Path) -> None:
    """While a decision is made no other connection can write: no update is lost."""
    tier = SqliteTier(tmp_path / "tier.db", authority=True)
    put(tier, "a")
    other = apsw.Connection(str(tmp_path / "tier.db"))

    def decide(present: Mapping[str, Record]) -> Batch:
        with pytest.raises(apsw.BusyError):
            other.execute("BEGIN IMMEDIATE")
        present["a"].failure_count += 1
        return Batch(puts=list(present.values()))

    tier.transact(["a"], decide)
    other.close()
    found = tier.get("a")
    assert found is not None
    assert found.failure_count == 1
    tier.close()


def test_the_log_is_a_range_of_the_primary_key_and_expiry_an_index(tmp_path: Path) -> None:
    """Neither the log nor the sweep looks at every row."""
    SqliteTier(tmp_path / "tier.db", authority=True).close()
    connection = apsw.Connection(str(tmp_path / "tier.db"))
    plans = {
        "SELECT * FROM entries WHERE revision > 5 ORDER BY revision LIMIT 9": "PRIMARY KEY",
        "SELECT key FROM entries WHERE expires_at < 253402300799.0 AND expires_at <= 7 ORDER BY expires_at": "expiring",
        "SELECT * FROM entries WHERE key = 'k'": "autoindex",
    }
    for query, index in plans.items():
        (detail,) = {row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")}
        assert str(detail).startswith("SEARCH"), query
        assert index in str(detail)
    connection.close()


def test_the_oldest_removals_are_forgotten_and_readers_from_before_start_anew(tmp_path: Path) -> None:
    """The log of removals has a bound; a reader from before it reads everything, in pages that come to an end."""
    tier = SqliteTier(tmp_path / "tier.db", authority=True)
    put(tier, *(f"old{n}" for n in range(5)))
    connection = apsw.Connection(str(tmp_path / "tier.db"))
    connection.execute(
        "WITH RECURSIVE n(i) AS (VALUES (6) UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO tombstones SELECT i, 'gone' || i FROM n",
        (TOMBSTONES_KEPT + 5,),
    )
    connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (str(TOMBSTONES_KEPT + 5),))
    batch = [f"k{n}" for n in range(TOMBSTONES_KEPT // 10 + 1)]
    put(tier, *batch)
    tier.transact([], lambda _: Batch(deletes=batch))
    ((count,),) = connection.execute("SELECT count(*) FROM tombstones")
    connection.close()
    assert count == TOMBSTONES_KEPT
    revision, seen, resets = 3, list[str](), 0
    for _ in range(10):
        changes = tier.changes_since(revision, 2)
        resets += changes.reset
        seen += [found.key for found in changes.records]
        revision = changes.revision
        if not changes.more:
            break
    assert (seen, resets, revision) == ([f"old{n}" for n in range(5)], 1, tier.revision)
    assert not tier.changes_since(tier.revision - 1, 2).reset
    tier.close()
