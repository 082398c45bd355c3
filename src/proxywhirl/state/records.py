"""The records of the state file as rows: the only place that knows the tables.

Every change of a row gets the next revision, a number that only grows, also over a file that was damaged or put in the
place of a lost one: it begins at the time of day in microseconds, ahead of whatever was counted in the file before. So
who remembers the last one that it read finds what came after by an index.

A deletion leaves nothing behind, and is not told. Who follows a kind learns of an end by a record that says so; a
record that ends by itself says when, and is deleted after that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apsw

MIGRATIONS = (
    (
        """CREATE TABLE records (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE records RENAME TO former",
        """CREATE TABLE records (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, revision INTEGER NOT NULL, ends REAL,
            PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID""",
        "INSERT INTO records SELECT kind, key, value, row_number() OVER (ORDER BY kind, key), NULL FROM former",
        "DROP TABLE former",
        "CREATE INDEX changed ON records (kind, revision)",
        "CREATE INDEX ending ON records (kind, ends) WHERE ends IS NOT NULL",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO counters VALUES ('revision', CAST(unixepoch('subsec') * 1000000 AS INTEGER))",
    ),
)

SETTLE = (
    # what was saved of a damaged file may hold an old count, or none
    """INSERT OR REPLACE INTO counters SELECT 'revision', max(
        CAST(unixepoch('subsec') * 1000000 AS INTEGER),
        ifnull((SELECT max(revision) FROM records), 0), ifnull((SELECT max(value) FROM counters), 0)
    )""",
)


@dataclass(frozen=True, slots=True)
class Perishable:
    """A value that may be forgotten after a moment (Unix seconds); until it is, it is read as any other."""

    value: str
    ends: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What was written of a kind after a revision: `revision` is where to go on, and `more` that there is something."""

    revision: int
    values: dict[str, str]
    more: bool = False


def keep(connection: apsw.Connection, kind: str, values: Mapping[str, str | Perishable | None]) -> None:
    """Write values, and delete those keys that have None."""
    kept = [(key, value) for key, value in values.items() if value is not None]
    if kept:
        last = _last(connection)
        rows = [
            (
                kind,
                key,
                *((value.value, last + n, value.ends) if isinstance(value, Perishable) else (value, last + n, None)),
            )
            for n, (key, value) in enumerate(kept, start=1)
        ]
        connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("UPDATE counters SET value = ? WHERE name = 'revision'", (last + len(kept),))
    gone = [(kind, key) for key, value in values.items() if value is None]
    connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)


def selected(connection: apsw.Connection, kind: str, keys: Iterable[str]) -> dict[str, str]:
    """Return those of the keys that are there, with their values."""
    query = "SELECT key, value FROM records WHERE kind = ? AND key IN (SELECT value FROM json_each(?))"
    return _pairs(connection.execute(query, (kind, json.dumps(list(keys)))))


def whole(connection: apsw.Connection, kind: str) -> dict[str, str]:
    """Return everything of one kind."""
    return _pairs(connection.execute("SELECT key, value FROM records WHERE kind = ?", (kind,)))


def below(connection: apsw.Connection, kind: str, prefixes: Iterable[str]) -> dict[str, str]:
    """Return what has a key that begins with one of some texts: a search in the index for each."""
    query = "SELECT key, value FROM records WHERE kind = ? AND key >= ? AND key < ?"
    found: dict[str, str] = {}
    for prefix in prefixes:
        found.update(_pairs(connection.execute(query, (kind, prefix, prefix + "\U0010ffff"))))
    return found


def changed(connection: apsw.Connection, kind: str, revision: int, limit: int) -> Changes:
    """Return what was written after a revision, oldest first; of an older file than that revision's, everything."""
    if revision > _last(connection):
        revision = 0
    query = "SELECT key, value, revision FROM records WHERE kind = ? AND revision > ? ORDER BY revision LIMIT ?"
    rows = connection.execute(query, (kind, revision, limit)).fetchall()
    reached = int(str(rows[-1][2])) if rows else revision
    return Changes(reached, {str(key): str(value) for key, value, _ in rows}, more=len(rows) == limit)


def lasting(connection: apsw.Connection, kind: str, now: float) -> dict[str, str]:
    """Return what ends after a moment."""
    query = "SELECT key, value FROM records WHERE kind = ? AND ends > ?"
    return _pairs(connection.execute(query, (kind, now)))


def swept(connection: apsw.Connection, kind: str, now: float, most: int, limit: int) -> tuple[int, int]:
    """Delete what has ended, then what ends soonest of more than `most`; return how many of each.

    Both together are at most `limit`.
    """
    query = (
        "DELETE FROM records WHERE kind = ? AND key IN "
        "(SELECT key FROM records WHERE kind = ? AND ends <= ? ORDER BY ends LIMIT ?)"
    )
    connection.execute(query, (kind, kind, now, limit))
    ended = connection.changes()
    ((count,),) = connection.execute("SELECT count(*) FROM records WHERE kind = ? AND ends IS NOT NULL", (kind,))
    surplus = min(int(str(count)) - most, limit - ended)
    if surplus <= 0:
        return ended, 0
    connection.execute(query, (kind, kind, float("inf"), surplus))
    return ended, connection.changes()


def _last(connection: apsw.Connection) -> int:
    ((last,),) = connection.execute("SELECT value FROM counters WHERE name = 'revision'")
    return int(str(last))


def _pairs(rows: Iterable[tuple[object, ...]]) -> dict[str, str]:
    return {str(key): str(value) for key, value in rows}
