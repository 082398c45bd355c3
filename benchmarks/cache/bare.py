"""The least that the work of the cache could cost: the same rows, the same library, nothing around it."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
from cryptography.fernet import Fernet

from benchmarks.cache.homes import Home

__all__ = ["BareReader", "BareWindow", "BareWriter"]

Row = tuple[Any, ...]


def _connect(path: Path) -> apsw.Connection:
    """Open a database as the cache opens its own."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    for name, value in (("journal_mode", "wal"), ("synchronous", 1), ("mmap_size", 0)):
        connection.pragma(name, value)
    return connection


class BareReader:
    """A prepared point read of all columns of one row, from the same file through a second connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._query = f"SELECT {', '.join(_columns(connection))} FROM entries WHERE key = ?"

    @classmethod
    @contextmanager
    def of(cls, home: Home) -> Iterator[BareReader]:
        """Open the database of a home's third tier."""
        with closing(_connect(home.database)) as connection:
            connection.pragma("query_only", 1)
            yield cls(connection)

    def read(self, keys: Sequence[str]) -> None:
        """Read rows that are there."""
        execute, query = self._connection.execute, self._query
        row: Row | None = ()
        for key in keys:
            row = execute(query, (key,)).fetchone()
        if row is None:
            raise RuntimeError("the row that was to be read is not there")

    def read_into(self, window: BareWindow, keys: Sequence[str], batch: int) -> None:
        """Read rows that are there, and hand them on in batches."""
        execute, query = self._connection.execute, self._query
        for at in range(0, len(keys), batch):
            window.take([row for key in keys[at : at + batch] for row in execute(query, (key,))])


class BareWindow:
    """What a durable window cannot do without: each batch of rows is written at once, in the place of the oldest.

    A log needs no word of those that leave. A database has the columns of the store's, and an index by key.
    """

    def __init__(self, home: Home, folder: Path, *, backend: str, bound: int) -> None:
        folder.mkdir()
        self._bound, self._held = bound, deque[Row]()
        self._log = _log_in(folder) if backend == "jsonl" else None
        self._database = None if backend == "jsonl" else _copied(home.database, folder / "0.db", rows=0)
        self._key = _names(home.database).index("key")

    def take(self, rows: Sequence[Row]) -> None:
        """Write a batch."""
        if self._log is not None:
            os.write(self._log, _lines(rows))
        if self._database is not None:
            self._held.extend(rows)
            leaving = [(self._held.popleft()[self._key],) for _ in range(len(self._held) - self._bound)]
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("DELETE FROM bare WHERE key = ?", leaving)
            self._database.executemany(_insert(len(rows[0])), rows)
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Give the file back."""
        if self._log is not None:
            os.close(self._log)
        if self._database is not None:
            self._database.close()


class BareWriter:
    """What a put cannot do without: seal the credential and write the row, once or twice, durably.

    The table has the columns and the rows of a home's third tier, and an index by key.
    """

    def __init__(self, home: Home, folder: Path, *, second: str) -> None:
        folder.mkdir()
        self._fernet = Fernet(Fernet.generate_key())
        self._databases = [_copied(home.database, folder / f"{n}.db") for n in range(1 + (second == "commit"))]
        self._log = _log_in(folder) if second == "append" else None
        self._row: Row = self._databases[0].execute("SELECT * FROM bare LIMIT 1").fetchone() or ()
        names = _names(home.database)
        self._key, self._sealed = names.index("key"), names.index("sealed")
        self._insert = _insert(len(names))

    def row(self, key: str, credential: tuple[str, str] | None) -> Row:
        """Return a row with a key of its own, its credential sealed."""
        token = None
        if credential is not None:
            token = self._fernet.encrypt(json.dumps([key, *credential]).encode()).decode()
        row = list(self._row)
        row[self._key], row[self._sealed] = key, token
        return tuple(row)

    def put(self, puts: Sequence[tuple[str, tuple[str, str] | None]]) -> None:
        """Seal, commit and (with a log) append each of the rows by itself."""
        for key, credential in puts:
            row = self.row(key, credential)
            for database in self._databases:
                database.execute("BEGIN IMMEDIATE")
                database.execute(self._insert, row)
                database.execute("COMMIT")
            if self._log is not None:
                os.write(self._log, _lines([row]))

    def put_many(self, puts: Sequence[tuple[str, tuple[str, str] | None]]) -> None:
        """Seal the rows, sorted by key, commit them at once and append them at once."""
        rows = [self.row(key, credential) for key, credential in sorted(puts)]
        for database in self._databases:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(self._insert, rows)
            database.execute("COMMIT")
        if self._log is not None:
            os.write(self._log, _lines(rows))

    def close(self) -> None:
        """Give the files back."""
        for database in self._databases:
            database.close()
        if self._log is not None:
            os.close(self._log)


def _columns(connection: apsw.Connection) -> list[str]:
    return [name for _, name, *_ in connection.pragma("table_info", "entries")]


def _names(database: Path) -> list[str]:
    with closing(_connect(database)) as connection:
        return _columns(connection)


def _copied(source: Path, path: Path, *, rows: int = -1) -> apsw.Connection:
    """Open a new database with some rows of another one (-1: all) and an index by key."""
    connection = _connect(path)
    connection.execute("ATTACH ? AS source", (str(source),))
    connection.execute("CREATE TABLE bare AS SELECT * FROM source.entries LIMIT ?", (rows,))
    connection.execute("CREATE UNIQUE INDEX bare_by_key ON bare (key)")
    connection.execute("DETACH source")
    return connection


def _insert(columns: int) -> str:
    return f"INSERT OR REPLACE INTO bare VALUES ({', '.join('?' * columns)})"


def _log_in(folder: Path) -> int:
    return os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
