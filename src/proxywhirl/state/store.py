"""Records beside the cache: small values by kind and key, in one database that processes share, or in memory.

- Every change of a row gets the next revision, a number that only grows, also over a file that was damaged or put in
  the place of a lost one: it begins at the time of day in microseconds, ahead of what was counted in the file before.
- A process that keeps a kind in memory too follows it: `changed` says cheaply whether there may be news, and `since`
  reads what came after the last revision that it read.
- A deletion leaves nothing behind, and is not told. What followers are to know of is written as a record that says so,
  with an end of its own (`Perishable`), after which `sweep` deletes it; followers forget what has ended by themselves.
"""

from __future__ import annotations

import contextlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import apsw

from proxywhirl.errors import UnstorableValue
from proxywhirl.state.database import Database

_MIGRATIONS = (
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

_MAKE_WHOLE = (
    # what was saved of a damaged file may hold an old count, or none
    """INSERT OR REPLACE INTO counters SELECT 'revision', max(
        CAST(unixepoch('subsec') * 1000000 AS INTEGER),
        ifnull((SELECT max(revision) FROM records), 0), ifnull((SELECT max(value) FROM counters), 0)
    )""",
)


@dataclass(frozen=True, slots=True)
class Perishable:
    """A value that may be forgotten after a moment (Unix seconds); until then it is read as any other."""

    value: str
    ends: float


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """The writes of a kind after a revision: `revision` is where to go on, `more` says that more follows."""

    revision: int
    values: dict[str, str]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Swept:
    """How many records were deleted since they had ended, and how many since there were too many."""

    ended: int
    surplus: int


Written = Mapping[str, str | Perishable | None]
"""Values to keep from now on, by key: None to forget a key."""

Change = Callable[[dict[str, str]], Written]
"""From the values that are there, by key, to those that are to be written."""


class Store(ABC):
    """Values by kind and key. Thread-safe; each call is one transaction."""

    def put_many(self, kind: str, values: Mapping[str, str | Perishable]) -> None:
        """Keep values, replacing those of the same key."""
        with self._writing() as connection:
            _keep(connection, kind, values)

    def update(self, kind: str, keys: Iterable[str], change: Change) -> Written:
        """Change values by what they are, and return what `change` gave: no other thread or process comes between.

        `change` gets those of the keys that are there; what it does not name stays.
        """
        with self._writing() as connection:
            written = change(_selected(connection, kind, keys))
            _keep(connection, kind, written)
        return written

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """Forget keys; those that are not there are no error."""
        with self._writing() as connection:
            _keep(connection, kind, dict.fromkeys(keys))

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """Return those of the keys that are there, with their values."""
        with self._reading() as connection:
            return _selected(connection, kind, keys)

    def items(self, kind: str) -> dict[str, str]:
        """Return everything of one kind, by key."""
        with self._reading() as connection:
            return _pairs(connection.execute("SELECT key, value FROM records WHERE kind = ?", (kind,)))

    def below(self, kind: str, prefixes: Iterable[str]) -> dict[str, str]:
        """Return the records whose keys begin with one of some texts. A search in an index for each."""
        query = "SELECT key, value FROM records WHERE kind = ? AND key >= ? AND key < ?"
        found: dict[str, str] = {}
        with self._reading() as connection:
            for prefix in prefixes:
                found.update(_pairs(connection.execute(query, (kind, prefix, prefix + "\U0010ffff"))))
        return found

    def lasting(self, kind: str, now: float) -> dict[str, str]:
        """Return those of the `Perishable` values that end after a moment (Unix seconds)."""
        query = "SELECT key, value FROM records WHERE kind = ? AND ends > ?"
        with self._reading() as connection:
            return _pairs(connection.execute(query, (kind, now)))

    def since(self, kind: str, revision: int, limit: int) -> RecordChanges:
        """Return the writes of a kind after a revision, oldest first, at most `limit`; 0 for everything.

        If the file is older than that revision, everything is returned.
        """
        query = "SELECT key, value, revision FROM records WHERE kind = ? AND revision > ? ORDER BY revision LIMIT ?"
        with self._reading() as connection:
            since = 0 if revision > _last(connection) else revision
            rows = connection.execute(query, (kind, since, limit)).fetchall()
        reached = int(str(rows[-1][2])) if rows else since
        return RecordChanges(reached, {str(key): str(value) for key, value, _ in rows}, more=len(rows) == limit)

    def sweep(self, kind: str, *, now: float, most: int, limit: int) -> Swept:
        """Delete at most `limit` records: those that have ended, then those that end soonest of more than `most`.

        What was written without an end stays, and is not counted.
        """
        query = (
            "DELETE FROM records WHERE kind = ? AND key IN "
            "(SELECT key FROM records WHERE kind = ? AND ends <= ? ORDER BY ends LIMIT ?)"
        )
        counting = "SELECT count(*) FROM records WHERE kind = ? AND ends IS NOT NULL"
        with self._writing() as connection:
            connection.execute(query, (kind, kind, now, limit))
            ended = connection.changes()
            ((count,),) = connection.execute(counting, (kind,))
            surplus = max(0, min(int(str(count)) - most, limit - ended))
            if surplus:
                connection.execute(query, (kind, kind, float("inf"), surplus))
            return Swept(ended, surplus)

    def changed(self) -> bool:
        """Whether others may have written since the last call: two system calls, about 2 µs."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Give back what is held. Idempotent."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]:
        """Run a write transaction."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[apsw.Connection]:
        """Give a connection to read with."""


class MemoryStore(Store):
    """A `Store` that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection = apsw.Connection(":memory:")
        for statement in (statement for step in _MIGRATIONS for statement in step):
            self._connection.execute(statement)

    def close(self) -> None:
        """See `Store`: what is in memory stays to be read."""

    @contextlib.contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        with self._lock, self._connection:
            try:
                yield self._connection
            except UnicodeEncodeError:
                raise UnstorableValue("a text holds half a character") from None

    _reading = _writing


class StateStore(Store):
    """A `Store` in a file of mode 0600. After a fork parent and child go on with it.

    A file that is found damaged is set aside at the next write; what can be read of it is taken into a new one.

    Raises:
        TierError: the file cannot be opened, read or written (from every method).
        FormatVersionError: it was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS, make_whole=_MAKE_WHOLE)

    def changed(self) -> bool:
        """See `Store`."""
        return self._database.changed_elsewhere()

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

    @contextlib.contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        with self._database.lock:
            if self._database.damaged:  # an earlier call met it
                self._database.reopen()
            with self._database.writing() as connection:
                yield connection

    def _reading(self) -> AbstractContextManager[apsw.Connection]:
        return self._database.reading()


def _keep(connection: apsw.Connection, kind: str, values: Written) -> None:
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


def _selected(connection: apsw.Connection, kind: str, keys: Iterable[str]) -> dict[str, str]:
    query = "SELECT key, value FROM records WHERE kind = ? AND key IN (SELECT value FROM json_each(?))"
    return _pairs(connection.execute(query, (kind, json.dumps(list(keys)))))


def _last(connection: apsw.Connection) -> int:
    ((last,),) = connection.execute("SELECT value FROM counters WHERE name = 'revision'")
    return int(str(last))


def _pairs(rows: Iterable[tuple[object, ...]]) -> dict[str, str]:
    return {str(key): str(value) for key, value in rows}


_KIND = "blocked"


@dataclass(frozen=True, slots=True)
class Block:
    """Why a proxy is kept out. `proxy_url` is without a credential, and empty where only the key was known."""

    proxy_url: str
    reason: str


class Blocklist:
    """Keys of proxies that the user removed: when a list offers them again they are not taken in.

    Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def block(self, blocks: Mapping[str, Block]) -> None:
        """Keep proxies out from now on, by key."""
        self._store.put_many(_KIND, {key: json.dumps([block.proxy_url, block.reason]) for key, block in blocks.items()})

    def lift(self, keys: Iterable[str]) -> None:
        """Let proxies in again; keys that are not blocked are no error."""
        self._store.delete_many(_KIND, keys)

    def blocks(self) -> dict[str, Block]:
        """Return what is kept out, by key."""
        return {key: Block(*json.loads(value)) for key, value in self._store.items(_KIND).items()}
