"""The SQLite tier, for the second and the third place.

The table is clustered by revision, so the log of changes is a range of its primary key and a bulk import
appends; the key has a unique index. Removals stay as tombstones up to a bound. Only entries that expire
are in the index of expiry times.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import apsw

from proxywhirl.cache.eviction import ORDERS, Usage, admit
from proxywhirl.cache.journal import Position
from proxywhirl.cache.record import COLUMNS, NEVER_TIMESTAMP, Record
from proxywhirl.cache.tier import Access, Applied, Changes, Decision
from proxywhirl.state.database import Database

__all__ = ["SqliteTier"]

TOMBSTONES_KEPT = 100_000

_MIGRATIONS = (
    (
        """CREATE TABLE entries (
            revision INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, url TEXT NOT NULL, source TEXT NOT NULL,
            fetched_at REAL NOT NULL, ttl INTEGER NOT NULL, expires_at REAL NOT NULL, accessed_at REAL NOT NULL,
            access_count INTEGER NOT NULL, status TEXT NOT NULL, failure_count INTEGER NOT NULL,
            last_check_at REAL, check_failures INTEGER NOT NULL, check_successes INTEGER NOT NULL,
            recovery_attempt INTEGER NOT NULL, next_check_at REAL, error TEXT, checks INTEGER NOT NULL,
            failed_checks INTEGER NOT NULL, attributes TEXT NOT NULL, sealed TEXT, retired INTEGER NOT NULL,
            generation INTEGER NOT NULL
        ) STRICT""",
        f"CREATE INDEX entries_expiring ON entries (expires_at) WHERE expires_at < {NEVER_TIMESTAMP}",
        "CREATE INDEX entries_retired ON entries (retired) WHERE retired = 1",
        "CREATE TABLE tombstones (revision INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO meta VALUES ('revision', '0'), ('floor', '0')",
    ),
)
_NAMES = ", ".join(COLUMNS)
_SELECT = f"SELECT {_NAMES} FROM entries"  # noqa: S608  # the names are this package's own constants
_AMONG = "key IN (SELECT value FROM json_each(?))"
_REPLACE = f"INSERT OR REPLACE INTO entries ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # as above
_RETIRED = COLUMNS.index("retired")


_row = attrgetter(*COLUMNS)


def _record(row: tuple[object, ...]) -> Record:
    record = Record(*row)  # type: ignore[arg-type]  # the table is STRICT: the columns have the fields' types
    record.retired = bool(record.retired)
    return record


class SqliteTier:
    """Records in one database file."""

    def __init__(
        self,
        path: Path,
        *,
        max_entries: int | None = None,
        policy: str = "lru",
        authority: bool = False,
        fsync: bool = False,
    ) -> None:
        self._database = Database(path, _MIGRATIONS, fsync=fsync)
        self._connection = self._database.connection
        self._bound = max_entries
        self._authority = authority
        self._policy = policy
        self._order = ORDERS[policy]()
        self._order_is_stale = True
        self._changed = False
        self._buried = 0
        self.corrupted = 0
        with self._database.translated("reading"):
            self._follow_others()

    @property
    def revision(self) -> int:
        """See `Tier`."""
        with self._database.translated("reading"):
            return int(self._meta("revision"))

    def get(self, key: str) -> Record | None:
        """See `Tier`."""
        record = self.peek(key)
        if record is not None:
            self._order.touch(key)
        return record

    def peek(self, key: str) -> Record | None:
        """See `Tier`."""
        with self._database.translated("reading"):
            row = self._connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
        return None if row is None else _record(row)

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`."""
        asked = list(keys)
        with self._database.translated("reading"):
            found = self._peek_many(asked)
        for key in asked:
            self._order.touch(key)
        return found

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """See `Tier`."""
        with self._writing():
            before = int(self._meta("revision"))
            applied = Applied(revision_before=before, revision=before)
            batch = decide(self._peek_many(keys))
            applied.deletes = [key for key in batch.deletes if self._exists(key)]
            self._bury(applied, applied.deletes)
            for record in batch.puts:
                applied.revision += 1
                record.revision = applied.revision
                record.generation = record.generation or record.revision
            applied.puts, applied.evicted = self._admit(batch.puts)
            self._bury(applied, applied.evicted)
            self._set_meta("revision", str(applied.revision))
        return applied

    def fill(self, records: Sequence[Record], revision: int | None = None) -> list[str]:
        """See `Tier`."""
        with self._writing():
            _, evicted = self._admit(records)
            self._follow(revision)
        return evicted

    def drop(self, keys: Collection[str], revision: int | None = None) -> list[str]:
        """See `Tier`."""
        with self._writing():
            held = [key for key in keys if self._exists(key)]
            self._delete(held)
            self._follow(revision)
        return held

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """See `Tier`."""
        statement = (
            "UPDATE entries SET access_count = access_count + ?, accessed_at = max(accessed_at, ?) "
            "WHERE key = ? AND generation = ?"
        )
        with self._writing() as connection:
            for access in accesses:
                connection.execute(statement, (access.count, access.at, access.key, access.generation))
                if connection.changes():
                    self._order.touch(access.key)

    def expired(self, now: float, limit: int) -> list[str]:
        """See `Tier`."""
        query = (
            f"SELECT key FROM entries WHERE expires_at < {NEVER_TIMESTAMP} AND expires_at <= ? "  # noqa: S608  # a constant
            "ORDER BY expires_at LIMIT ?"
        )
        with self._database.translated("reading"):
            return [key for (key,) in self._connection.execute(query, (now, limit))]

    def scan(self, after: str, limit: int) -> list[Record]:
        """See `Tier`."""
        with self._database.translated("reading"):
            rows = self._connection.execute(f"{_SELECT} WHERE key > ? ORDER BY key LIMIT ?", (after, limit))
            return [_record(row) for row in rows]

    def changes_since(self, revision: int, limit: int) -> Changes:
        """See `Tier`."""
        with self._database.translated("reading"), self._connection:  # one snapshot for all queries
            last = int(self._meta("revision"))
            position = Position.of(revision, floor=int(self._meta("floor")), last=last)
            query = f"{_SELECT} WHERE revision > ? ORDER BY revision LIMIT ?"
            records = [_record(row) for row in self._connection.execute(query, (position.since, limit))]
            more = len(records) == limit
            reached = records[-1].revision if more else last
            query = "SELECT key FROM tombstones WHERE revision > ? AND revision <= ?"
            removed = [key for (key,) in self._connection.execute(query, (position.since, reached))]
        return Changes(position.after(reached, more=more), records, removed, position.reset, more)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: one pragma."""
        self._poll()
        changed, self._changed = self._changed, False
        return changed

    def clear(self, revision: int | None = None) -> int:
        """See `Tier`."""
        with self._writing() as connection:
            held = len(self)
            connection.execute("DELETE FROM entries")
            connection.execute("DELETE FROM tombstones")
            self._order = ORDERS[self._policy]()
            if self._authority:
                floor = str(int(self._meta("revision")) + 1)
                self._set_meta("floor", floor)
                self._set_meta("revision", floor)
            else:
                self._follow(revision)
        return held

    def get_meta(self, name: str) -> str | None:
        """See `Tier`."""
        with self._database.translated("reading"):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """See `Tier`."""
        with self._writing():
            self._set_meta(name, value)

    def close(self) -> None:
        """See `Tier`."""
        self._database.close()

    def __len__(self) -> int:
        with self._database.translated("reading"):
            return self._count("SELECT count(*) FROM entries") - self._count(
                "SELECT count(*) FROM entries WHERE retired = 1"
            )

    def __contains__(self, key: object) -> bool:
        with self._database.translated("reading"):
            query = "SELECT 1 FROM entries WHERE key = ? AND retired = 0"
            return self._connection.execute(query, (str(key),)).fetchone() is not None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """Run a write transaction. One that fails may leave the order with keys that are not there."""
        try:
            with self._database.writing() as connection:
                yield connection
        except BaseException:
            self._order_is_stale = True
            raise

    def _peek_many(self, keys: Iterable[str]) -> dict[str, Record]:
        rows = self._connection.execute(f"{_SELECT} WHERE {_AMONG}", (json.dumps(list(keys)),))
        return {record.key: record for record in map(_record, rows)}

    def _exists(self, key: str) -> bool:
        return self._connection.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def _count(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])  # type: ignore[index]  # count(*) gives one row

    def _meta(self, name: str) -> str:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row is not None else "0"

    def _set_meta(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _admit(self, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
        """Write records, take out what leaves for them; return those that stay in, and the keys that left."""
        self._follow_others()
        kept, victims = admit(records, self._order, self._bound)
        self._delete(victims)
        if self._authority and self._count("SELECT count(*) FROM (SELECT 1 FROM tombstones LIMIT 1)"):
            self._connection.executemany("DELETE FROM tombstones WHERE key = ?", [(record.key,) for record in kept])
        self._connection.executemany(_REPLACE, [_row(record) for record in kept])
        return kept, victims

    def _delete(self, keys: Sequence[str]) -> None:
        self._connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
        for key in keys:
            self._order.discard(key)

    def _bury(self, applied: Applied, keys: Sequence[str]) -> None:
        """Delete keys and log it; from time to time forget the oldest removals where there are too many."""
        self._delete(keys)
        rows = [(applied.revision + n, key) for n, key in enumerate(keys, start=1)]
        applied.revision += len(rows)
        self._connection.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", rows)
        self._buried += len(rows)
        if self._buried > TOMBSTONES_KEPT // 10:
            self._buried = 0
            surplus = self._count("SELECT count(*) FROM tombstones") - TOMBSTONES_KEPT
            if surplus > 0:
                query = "SELECT revision FROM tombstones ORDER BY revision LIMIT 1 OFFSET ?"
                floor = self._connection.execute(query, (surplus - 1,)).fetchone()
                self._connection.execute("DELETE FROM tombstones WHERE revision <= ?", floor)
                self._set_meta("floor", str(floor[0]))  # type: ignore[index]  # there are more rows than the offset

    def _follow(self, revision: int | None) -> None:
        """Remember up to where a window has applied the log."""
        if revision is not None and revision > int(self._meta("revision")):
            self._set_meta("revision", str(revision))

    def _poll(self) -> None:
        if self._database.changed_elsewhere():
            self._changed = self._order_is_stale = True

    def _follow_others(self) -> None:
        """Bring the order in line with what is stored; a tier without a bound keeps none."""
        self._poll()
        if self._order_is_stale and self._bound is not None:
            query = "SELECT key, generation, revision, accessed_at, access_count FROM entries"
            self._order = ORDERS[self._policy]()
            self._order.restore(Usage(*row) for row in self._connection.execute(query))
        self._order_is_stale = False
