"""The SQLite tier, for the second and the third place.

The table is clustered by revision, so the log of changes is a range of its primary key and a bulk import
appends; the key has a unique index. Removals stay as tombstones up to a bound. Only entries that expire
are in the index of expiry times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from pathlib import Path

from proxywhirl.cache.eviction import ORDERS, admit
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
            self._restore_order()

    @property
    def revision(self) -> int:
        """See `Tier`."""
        with self._database.translated("reading"):
            return int(self._meta("revision"))

    def get(self, key: str) -> Record | None:
        """See `Tier`."""
        with self._database.translated("reading"):
            row = self._connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        self._order.touch(key)
        return _record(row)

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`."""
        found = ((key, self.get(key)) for key in sorted(keys))
        return {key: record for key, record in found if record is not None}

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """See `Tier`."""
        with self._database.writing():
            before = int(self._meta("revision"))
            applied = Applied(revision_before=before, revision=before)
            batch = decide(self.get_many(keys))
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
        with self._database.writing():
            _, evicted = self._admit(records)
            self._follow(revision)
        return evicted

    def drop(self, keys: Collection[str], revision: int | None = None) -> list[str]:
        """See `Tier`."""
        with self._database.writing():
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
        with self._database.writing() as connection:
            rows = sorted((a.count, a.at, a.key, a.generation) for a in accesses)
            connection.executemany(statement, rows)
        for access in accesses:
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
            reset = revision < int(self._meta("floor")) or revision > last
            since = 0 if reset else revision
            rows = list(
                self._connection.execute(f"{_SELECT} WHERE revision > ? ORDER BY revision LIMIT ?", (since, limit))
            )
            more = len(rows) == limit
            records = [_record(row) for row in rows]
            upto = records[-1].revision if more else last
            query = "SELECT key FROM tombstones WHERE revision > ? AND revision <= ?"
            removed = [key for (key,) in self._connection.execute(query, (since, upto))]
        return Changes(upto, records, removed, reset, more)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: one pragma."""
        self._poll()
        changed, self._changed = self._changed, False
        return changed

    def clear(self, revision: int | None = None) -> int:
        """See `Tier`."""
        with self._database.writing() as connection:
            held = len(self)
            connection.execute("DELETE FROM entries")
            connection.execute("DELETE FROM tombstones")
            if self._authority:
                revision = int(self._meta("revision")) + 1
                self._set_meta("floor", str(revision))
            self._set_meta("revision", str(revision or self._meta("revision")))
            self._order = ORDERS[self._policy]()
        return held

    def get_meta(self, name: str) -> str | None:
        """See `Tier`."""
        with self._database.translated("reading"):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """See `Tier`."""
        with self._database.writing():
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
        kept = list(records)
        victims: list[str] = []
        if self._bound is not None:
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
        """Delete keys and log it, forgetting the oldest half of the log's removals when there are too many."""
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
                floor = self._connection.execute(query, (surplus,)).fetchone()
                self._connection.execute("DELETE FROM tombstones WHERE revision <= ?", floor)
                self._set_meta("floor", str(floor[0]))  # type: ignore[index]  # there are more rows than the offset

    def _follow(self, revision: int | None) -> None:
        """Remember up to where a window has applied the log."""
        if revision is not None and revision > int(self._meta("revision")):
            self._set_meta("revision", str(revision))

    def _poll(self) -> None:
        if self._database.changed_elsewhere():
            self._changed = True
            self._order_is_stale = self._bound is not None

    def _follow_others(self) -> None:
        self._poll()
        if self._order_is_stale:
            self._restore_order()

    def _restore_order(self) -> None:
        """Order the keys as they are stored to have been used; an unbounded tier keeps no order."""
        self._order = ORDERS[self._policy]()
        self._order_is_stale = False
        if self._bound is not None:
            for (key,) in self._connection.execute("SELECT key FROM entries ORDER BY accessed_at, revision"):
                self._order.add(key)
