"""Put a damaged database aside, and read from it what can still be read.

A file is only renamed under the lock of its directory: of several processes that meet the same damage one does the
work, and the others find a sound file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

BESIDE = ("", "-wal", "-shm")
MOST_FAILURES = 10_000
LAST_ROWID = 2**63 - 1

_KINDS = {"TEXT": (str, type(None)), "INTEGER": (int, type(None)), "REAL": (float, int, type(None))}
# Text as its bytes: so a row is read whose text is none. A blob, which no column has, as a number, which is no text.
_AS_READ = "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) WHEN 'blob' THEN 0 ELSE {0} END"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """How many rows were saved, and how many are known to be lost; None where not even that can be told.

    `refused` are those, by table, that were read and make no row: a text that cannot be read stands there as bytes.
    """

    saved: int
    lost: int | None
    refused: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.saved} rows were saved, {'an unknown number' if self.lost is None else self.lost} lost"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes, and other threads, from opening or replacing a database in a directory.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):  # else a child that was forked meanwhile would keep it locked
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def put_aside(path: Path) -> Path:
    """Rename a database and what belongs to it, which must not be open here; return its new name.

    Raises:
        OSError: it cannot be renamed.
    """
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside, count = path.with_name(f"{path.name}.damaged-{at}"), 1
    while any(Path(f"{aside}{suffix}").exists() for suffix in BESIDE):
        aside, count = path.with_name(f"{path.name}.damaged-{at}-{count}"), count + 1
    for suffix in reversed(BESIDE):  # the log first: without its database it is never taken for a new one's
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


@contextlib.contextmanager
def opened_alone(path: Path) -> Iterator[apsw.Connection | None]:
    """Open a damaged file for reading as much as SQLite allows, leaving it as it is; None where there is none.

    No other connection writes to it meanwhile, where its locks still work.
    """
    connection: apsw.Connection | None = None
    with contextlib.suppress(apsw.Error):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.pragma("writable_schema", 1)  # this also bears a file that is shorter than it says
        connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close(True)


def version_of(damaged: apsw.Connection) -> int | None:
    """Return the format version that a damaged file still tells."""
    with contextlib.suppress(apsw.Error):
        version = damaged.pragma("user_version")
        return version if isinstance(version, int) else None
    return None


def salvage(damaged: apsw.Connection, into: apsw.Connection) -> Salvaged:
    """Copy each row that can be read into the same tables of a new database, in one transaction that is open there."""
    tables = _strings(into, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'")
    begun = sum(_count(into, table) for table in tables)  # the rows of every new file
    known = True
    lost = 0
    refused: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        copy = _Copy(damaged, into, table)
        copy.run()
        refused[table] = copy.refused
        there = copy.expected()
        known = known and there is not None
        lost += max(0, (there or 0) - _count(into, table))
    saved = sum(_count(into, table) for table in tables) - begun
    return Salvaged(max(0, saved), lost if known else None, refused)


class _Copy:
    """One table on its way from a damaged database to a new one."""

    def __init__(self, source: apsw.Connection, target: apsw.Connection, table: str) -> None:
        self._source = source
        self._target = target
        self._table = table
        self.refused: list[dict[str, Any]] = []
        self._columns = _strings(target, "SELECT name FROM pragma_table_info(?)", table)
        types = _strings(target, "SELECT type FROM pragma_table_info(?)", table)
        self._kinds = [_KINDS[each] for each in types]
        self._values = ", ".join(map(_AS_READ.format, self._columns))
        self._key = ", ".join(_strings(target, "SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", table))
        names, marks = ", ".join(self._columns), ", ".join("?" * len(self._columns))
        self._insert = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  # from the schema
        self._failures = 0

    def expected(self) -> int | None:
        """Return how many rows there were, where an index or the table still tells."""
        try:
            return _count(self._source, self._table)
        except apsw.Error:
            return None

    def run(self) -> None:
        """Copy what can be read."""
        ((without_rowid,),) = self._target.execute("SELECT wr FROM pragma_table_list(?)", (self._table,))
        if without_rowid:
            query = f"SELECT 0, {self._values} FROM {self._table}"  # noqa: S608  # from the schema
            if not self._copy(query, ())[1]:  # from the front up to the damage, then from the back
                self._copy(f"{query} ORDER BY {self._key} DESC", ())
            return
        first: int | None = 1
        while first is not None and self._failures < MOST_FAILURES:
            last, whole = self._copy(self._by_rowid("ASC"), (first, LAST_ROWID))
            reached = first - 1 if last is None else last
            first = None if whole else self._beyond(reached)
            if first is not None:  # the rows between the damage and the next readable place
                self._copy(self._by_rowid("DESC"), (reached + 1, first - 1))

    def _by_rowid(self, direction: str) -> str:
        return (
            f"SELECT rowid, {self._values} FROM {self._table} NOT INDEXED "  # noqa: S608  # from the schema
            f"WHERE rowid BETWEEN ? AND ? ORDER BY rowid {direction}"
        )

    def _beyond(self, reached: int) -> int | None:
        """Return the next place from which can be read, looked for in growing steps; None where there is none."""
        query = f"SELECT rowid, {self._values} FROM {self._table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1"  # noqa: S608
        step = 1
        while (place := reached + 1 + step) < LAST_ROWID:
            with contextlib.suppress(apsw.Error):
                row = self._source.execute(query, (place,)).fetchone()
                return None if row is None else place
            self._failures += 1
            step *= 2
        return None

    def _copy(self, query: str, bounds: tuple[int, ...]) -> tuple[int | None, bool]:
        """Copy rows up to the end or to damage; return the last rowid, and whether it was the end."""
        last: int | None = None
        try:
            for row in self._source.execute(query, bounds):
                rowid = row[0]
                if not isinstance(rowid, int) or (bounds and not bounds[0] <= rowid <= bounds[1]):
                    raise apsw.CorruptError("a row that is not in its place")  # noqa: TRY301  # one way for all damage
                self._take([_decoded(value) for value in row[1:]])
                last = rowid
        except (apsw.CorruptError, apsw.IOError, apsw.NotADBError, apsw.SQLError):
            self._failures += 1
            return last, False
        return last, True

    def _take(self, row: Sequence[Any]) -> None:
        """Write a row, unless one of its values is of a kind that its column never had: SQLite converts some."""
        with contextlib.suppress(apsw.ConstraintError):  # a value that the column does not allow
            if all(isinstance(value, kinds) for value, kinds in zip(row, self._kinds, strict=True)):
                self._target.execute(self._insert, row)
                return
        self.refused.append(dict(zip(self._columns, row, strict=True)))


def _decoded(value: object) -> object:
    """Return the text whose bytes these are, or them where they are none's."""
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    return value


def _strings(connection: apsw.Connection, query: str, *arguments: str) -> list[str]:
    return [str(value) for (value,) in connection.execute(query, arguments)]


def _count(connection: apsw.Connection, table: str) -> int:
    ((count,),) = connection.execute(f"SELECT count(*) FROM {table}")  # noqa: S608  # from the schema
    return int(str(count))
