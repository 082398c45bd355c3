"""Durable records beside the cache: small values by kind and key, in one database that processes share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from proxywhirl.state.database import Database

__all__ = ["StateStore"]

_MIGRATIONS = (
    (
        """CREATE TABLE records (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID""",
    ),
)


class StateStore:
    """Values by kind and key, in a file of mode 0600. Thread-safe; each call is one transaction.

    Raises:
        TierError: the file cannot be opened, read or written (from every method).
        FormatVersionError: it was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)
        self._lock = threading.Lock()

    def put_many(self, kind: str, values: Mapping[str, str]) -> None:
        """Keep values, replacing those of the same key."""
        with self._lock, self._database.writing() as connection:
            rows = [(kind, key, value) for key, value in values.items()]
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """Forget keys; those that are not there are no error."""
        with self._lock, self._database.writing() as connection:
            connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", [(kind, key) for key in keys])

    def items(self, kind: str) -> dict[str, str]:
        """Return everything of one kind, by key."""
        with self._lock, self._database.translated("reading"):
            rows = self._database.connection.execute("SELECT key, value FROM records WHERE kind = ?", (kind,))
            return {str(key): str(value) for key, value in rows}

    def examine(self, *, repair: bool = False) -> list[str]:
        """Return what is wrong with the file; with `repair` it is set aside then, and what can be read is saved."""
        with self._lock:
            faults = self._database.faults()
            if faults and repair:
                self._database.reopen()
            return faults

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._database.close()
