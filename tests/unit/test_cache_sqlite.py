"""The SQLite tier's file, and the one way in which a database is opened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch, Changes, Stretch, Tier
from proxywhirl.cache.tiers.sqlite.schema import MIGRATIONS, TOMBSTONES_KEPT
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import FormatVersionError, TierError, UnstorableValue
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
    with pytest.raises(UnstorableValue, match="entry 'c': source must be a text, not NoneType"):
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
    connection.execute("UPDATE state SET revision = ?, buried = ?", (TOMBSTONES_KEPT + 5, TOMBSTONES_KEPT))
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


def test_the_first_format_is_brought_to_the_present_one(tmp_path: Path) -> None:
    """Entries, removals, revision, floor and notes of a file of version 1 are there after it is opened."""
    path = tmp_path / "tier.db"
    old = Database(path, MIGRATIONS[:1])
    row = [(f"k{n}", n, int(n == 3)) for n in range(1, 4)]
    old.connection.executemany(
        "INSERT INTO entries VALUES (?2, ?1, 'http://192.0.2.1:80', 's', 1, 1, 9, 1, 0, 'unknown', 0, NULL, 0, 0, 0, "
        "NULL, NULL, 0, 0, '', NULL, ?3, ?2)",
        row,
    )
    old.connection.execute("INSERT INTO tombstones VALUES (4, 'gone')")
    old.connection.execute("INSERT INTO meta VALUES ('store_id', 'x')")
    old.connection.execute("UPDATE meta SET value = '5' WHERE name = 'revision'")
    old.connection.execute("UPDATE meta SET value = '2' WHERE name = 'floor'")
    old.close()
    tier = SqliteTier(path, authority=True)
    assert (len(tier), tier.revision, tier.metas("")) == (2, 5, {"store_id": "x"})
    assert tier.changes_since(1, 10).reset
    changes = tier.changes_since(2, 10)
    assert ([found.key for found in changes.records], changes.removed, changes.reset) == (["k3"], ["gone"], False)
    put(tier, "k3", "new")
    assert (len(tier), tier.revision) == (4, 7)
    tier.close()


def test_a_window_that_becomes_the_authority_takes_no_revision_twice(tmp_path: Path) -> None:
    """What was filled into a window ahead of its revision keeps its own; readers of the log start anew."""
    window = SqliteTier(tmp_path / "tier.db")
    ahead = record("ahead")
    ahead.revision = ahead.generation = 9
    assert window.follow(Stretch(0, 5)) is not None
    assert window.fill([ahead], 9) == []
    window.close()
    tier = SqliteTier(tmp_path / "tier.db", authority=True)
    put(tier, "new")
    assert (tier.revision, len(tier)) == (10, 2)
    assert tier.changes_since(6, 10).reset
    tier.close()


KEYS = st.sampled_from(["a", "b", "c", "d", "e"])
MARKS = st.dictionaries(KEYS, st.booleans(), max_size=4)  # records by key, retired or not
KEY_SETS = st.frozensets(KEYS, max_size=3)


class Twins(RuleBasedStateMachine):
    """A tier in memory and one in a file that are told the same answer the same and hold the same."""

    authority = True

    @initialize(bound=st.sampled_from([None, 1, 3]), policy=st.sampled_from(["lru", "lfu", "fifo"]))
    def open(self, bound: int | None, policy: str) -> None:
        """Begin with two empty tiers."""
        self.directory = tempfile.TemporaryDirectory()
        self.memory = MemoryTier(max_entries=bound, policy=policy, authority=self.authority)
        path = Path(self.directory.name) / "tier.db"
        self.file = SqliteTier(path, max_entries=bound, policy=policy, authority=self.authority)
        self.log = 0

    def teardown(self) -> None:
        """Close the file."""
        self.file.close()
        self.directory.cleanup()

    def both(self, ask: Callable[[Tier], object]) -> None:
        """Compare one answer."""
        assert ask(self.file) == ask(self.memory)

    def records(self, marks: Mapping[str, bool]) -> list[Record]:
        """Make records in the order of their keys; a window's have their place in the log."""
        made = []
        for key, retired in sorted(marks.items()):
            self.log += 1
            made.append(replace(record(key), retired=retired, fetched_at=float(self.log)))
            if not self.authority:
                made[-1].revision = made[-1].generation = self.log
        return made

    @rule(key=KEYS)
    def peek(self, key: str) -> None:
        """What is there; a hit is noted here by one and told to the other."""
        self.both(lambda tier: tier.peek(key))

    @rule(revision=st.none() | st.integers(0, 40))
    def clear(self, revision: int | None) -> None:
        """Everything goes."""
        self.both(lambda tier: tier.clear(revision))

    @invariant()
    def agree(self) -> None:
        """Contents, size, revision."""
        self.both(lambda tier: (tier.scan("", 99), len(tier), tier.revision, [key in tier for key in "abcde"]))


def told(changes: Changes) -> tuple[object, ...]:
    """Tell a page of the log without the order of its removals."""
    return changes.records, sorted(changes.removed), changes.revision, changes.reset, changes.more


class AuthorityTwins(Twins):
    """What an authority is told."""

    @rule(marks=MARKS, deletes=KEY_SETS, asked=KEY_SETS)
    def transact(self, marks: Mapping[str, bool], deletes: frozenset[str], asked: frozenset[str]) -> None:
        """Write and delete."""
        made = self.records(marks)

        def ask(tier: Tier) -> object:
            shown = []
            puts = [replace(each) for each in made]

            def decide(present: Mapping[str, Record]) -> Batch:
                shown.extend(sorted(present))
                return Batch(puts, sorted(deletes - set(marks)))

            return shown, tier.transact(sorted(asked), decide)

        self.both(ask)

    @invariant()
    def log_agrees(self) -> None:
        """The log from everywhere."""
        for since in range(self.memory.revision + 2):
            self.both(lambda tier: told(tier.changes_since(since, 99)))  # noqa: B023  # called at once


class WindowTwins(Twins):
    """What a window is told."""

    authority = False

    @rule(marks=MARKS, removed=KEY_SETS, off=st.sampled_from([0, 0, 0, -1, 1]), admit=st.booleans())
    def follow(self, marks: Mapping[str, bool], removed: frozenset[str], off: int, *, admit: bool) -> None:
        """Apply a stretch that begins where the window stands, or not."""
        made, since = self.records(marks), self.memory.revision + off
        gone = sorted(removed - set(marks))

        def ask(tier: Tier) -> object:
            return tier.follow(Stretch(since, max(since, self.log), [replace(each) for each in made], gone, admit))

        self.both(ask)

    @rule(marks=MARKS, late=st.sampled_from([0, 0, 1, 5]))
    def fill(self, marks: Mapping[str, bool], late: int) -> None:
        """Promote what was read from the log at some time."""
        made = self.records(marks)
        self.both(lambda tier: tier.fill([replace(each) for each in made], self.log - late))

    @rule(keys=KEY_SETS)
    def drop(self, keys: frozenset[str]) -> None:
        """Forget keys."""
        self.both(lambda tier: sorted(tier.drop(sorted(keys))))


AuthorityTwins.TestCase.settings = WindowTwins.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
TestAuthorityTwins = AuthorityTwins.TestCase
TestWindowTwins = WindowTwins.TestCase
