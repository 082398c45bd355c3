"""The least that the work of the cache could cost: the same rows, the same library, nothing around it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
from cryptography.fernet import Fernet

from benchmarks.cache.homes import Home

__all__ = ["BareReader", "BareWriter"]

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
        columns = [name for _, name, *_ in connection.pragma("table_info", "entries")]
        self._query = f"SELECT {', '.join(columns)} FROM entries WHERE key = ?"

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


class BareWriter:
    """What a put cannot do without: seal the credential and write the row, once or twice, durably.

    The table has the columns and the rows of a home's third tier, and an index by key.
    """

    def __init__(self, home: Home, folder: Path, *, second: str) -> None:
        folder.mkdir()
        self._fernet = Fernet(Fernet.generate_key())
        self._databases = [self._copy(home.database, folder / f"{n}.db") for n in range(1 + (second == "commit"))]
        self._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if second == "append" else None
        cursor = self._databases[0].execute("SELECT * FROM bare LIMIT 1")
        names = [name for name, _ in cursor.get_description()]
        self._row: Row = cursor.fetchone() or ()
        self._key, self._sealed = names.index("key"), names.index("sealed")
        self._insert = f"INSERT OR REPLACE INTO bare VALUES ({', '.join('?' * len(names))})"

    @staticmethod
    def _copy(source: Path, path: Path) -> apsw.Connection:
        connection = _connect(path)
        connection.execute("ATTACH ? AS source", (str(source),))
        connection.execute("CREATE TABLE bare AS SELECT * FROM source.entries")
        connection.execute("CREATE UNIQUE INDEX bare_by_key ON bare (key)")
        connection.execute("DETACH source")
        return connection

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
                os.write(self._log, (json.dumps(row) + "\n").encode())

    def put_many(self, puts: Sequence[tuple[str, tuple[str, str] | None]]) -> None:
        """Seal the rows, sorted by key, commit them at once and append them at once."""
        rows = [self.row(key, credential) for key, credential in sorted(puts)]
        for database in self._databases:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(self._insert, rows)
            database.execute("COMMIT")
        if self._log is not None:
            os.write(self._log, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def close(self) -> None:
        """Give the files back."""
        for database in self._databases:
            database.close()
        if self._log is not None:
            os.close(self._log)
