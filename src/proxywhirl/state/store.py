"""Records beside the cache: small values by kind and key, in one database that processes share, or in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import apsw

from proxywhirl.state.database import Database

__all__ = ["Change", "MemoryStore", "StateStore", "Store"]

Change = Callable[[dict[str, str]], Mapping[str, str | None]]
"""From the values that are there, by key, to those to keep from now on: None to forget a key."""

_MIGRATIONS = (
    (
        """CREATE TABLE records (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID""",
    ),
)


class Store(Protocol):
    """Values by kind and key. Thread-safe; each call is one transaction."""

    def put_many(self, kind: str, values: Mapping[str, str]) -> None:
        """Keep values, replacing those of the same key."""
        ...

    def update(self, kind: str, keys: Iterable[str], change: Change) -> None:
        """Change values by what they are: no other thread or process comes between.

        `change` gets those of the keys that are there; what it does not name stays.
        """
        ...

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """Forget keys; those that are not there are no error."""
        ...

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """Return those of the keys that are there, with their values."""
        ...

    def items(self, kind: str) -> dict[str, str]:
        """Return everything of one kind, by key."""
        ...

    def close(self) -> None:
        """Give back what is held. Idempotent."""
        ...


class MemoryStore:
    """A `Store` that ends with the process."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def put_many(self, kind: str, values: Mapping[str, str]) -> None:
        """See `Store`."""
        with self._lock:
            self._kinds.setdefault(kind, {}).update(values)

    def update(self, kind: str, keys: Iterable[str], change: Change) -> None:
        """See `Store`."""
        with self._lock:
            held = self._kinds.setdefault(kind, {})
            for key, value in change({key: held[key] for key in keys if key in held}).items():
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """See `Store`."""
        with self._lock:
            for key in keys:
                self._kinds.get(kind, {}).pop(key, None)

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        with self._lock:
            held = self._kinds.get(kind, {})
            return {key: held[key] for key in keys if key in held}

    def items(self, kind: str) -> dict[str, str]:
        """See `Store`."""
        with self._lock:
            return dict(self._kinds.get(kind, {}))

    def close(self) -> None:
        """See `Store`: memory is all there is."""


class StateStore:
    """A `Store` in a file of mode 0600. After a fork parent and child go on with it.

    Raises:
        TierError: the file cannot be opened, read or written (from every method).
        FormatVersionError: it was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)

    def put_many(self, kind: str, values: Mapping[str, str]) -> None:
        """See `Store`."""
        with self._database.writing() as connection:
            rows = [(kind, key, value) for key, value in values.items()]
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)

    def update(self, kind: str, keys: Iterable[str], change: Change) -> None:
        """See `Store`."""
        with self._database.writing() as connection:
            changed = change(_selected(connection, kind, keys))
            kept = [(kind, key, value) for key, value in changed.items() if value is not None]
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", kept)
            gone = [(kind, key) for key, value in changed.items() if value is None]
            connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        with self._database.translated("reading"):
            return _selected(self._database.connection, kind, keys)

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """See `Store`."""
        with self._database.writing() as connection:
            connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", [(kind, key) for key in keys])

    def items(self, kind: str) -> dict[str, str]:
        """See `Store`."""
        with self._database.translated("reading"):
            rows = self._database.connection.execute("SELECT key, value FROM records WHERE kind = ?", (kind,))
            return {str(key): str(value) for key, value in rows}

    def examine(self, *, repair: bool = False) -> list[str]:
        """Return what is wrong with the file; with `repair` it is set aside then, and what can be read is saved."""
        with self._database.lock:
            faults = self._database.faults()
            if faults and repair:
                self._database.reopen()
            return faults

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._database.close()


def _selected(connection: apsw.Connection, kind: str, keys: Iterable[str]) -> dict[str, str]:
    query = "SELECT key, value FROM records WHERE kind = ? AND key IN (SELECT value FROM json_each(?))"
    return {str(key): str(value) for key, value in connection.execute(query, (kind, json.dumps(list(keys))))}
