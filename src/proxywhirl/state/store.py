"""Records beside the cache: small values by kind and key, in one database that processes share, or in memory.

Who keeps a kind in memory too follows it: `changed` says cheaply whether there may be news, and `since` reads them. A
deletion is not told: what followers are to know of is written as a record that says so, with an end of its own
(`Perishable`), after which `sweep` deletes it; and followers forget what has ended by themselves.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Protocol

import apsw

from proxywhirl.state import records
from proxywhirl.state.database import Database
from proxywhirl.state.records import Changes, Perishable

Change = Callable[[dict[str, str]], Mapping[str, str | Perishable | None]]
"""From the values that are there, by key, to those to keep from now on: None to forget a key."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many records were deleted since they had ended, and how many since there were too many."""

    ended: int
    surplus: int


class Store(Protocol):
    """Values by kind and key. Thread-safe; each call is one transaction."""

    def put_many(self, kind: str, values: Mapping[str, str | Perishable]) -> None:
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

    def below(self, kind: str, prefixes: Iterable[str]) -> dict[str, str]:
        """Return what has a key that begins with one of some texts. A search in an index for each."""
        ...

    def lasting(self, kind: str, now: float) -> dict[str, str]:
        """Return those of the `Perishable` values that end after a moment (Unix seconds)."""
        ...

    def changed(self) -> bool:
        """Whether others may have written since the last call: two system calls, about 2 µs."""
        ...

    def since(self, kind: str, revision: int, limit: int) -> Changes:
        """Return what was written of a kind after a revision, oldest first, at most `limit`; 0 for everything."""
        ...

    def sweep(self, kind: str, *, now: float, most: int, limit: int) -> Swept:
        """Delete at most `limit` records: those that have ended, then those that end soonest of more than `most`.

        What was written without an end stays, and is not counted.
        """
        ...

    def close(self) -> None:
        """Give back what is held. Idempotent."""
        ...


class MemoryStore:
    """A `Store` that ends with the process."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, Perishable]] = {}
        self._revisions: dict[tuple[str, str], int] = {}  # in the order in which they were given
        self._next = count(1)
        self._lock = threading.Lock()

    def put_many(self, kind: str, values: Mapping[str, str | Perishable]) -> None:
        """See `Store`."""
        with self._lock:
            self._keep(kind, values)

    def update(self, kind: str, keys: Iterable[str], change: Change) -> None:
        """See `Store`."""
        with self._lock:
            self._keep(kind, change(self._selected(kind, keys)))

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """See `Store`."""
        with self._lock:
            self._keep(kind, dict.fromkeys(keys))

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        with self._lock:
            return self._selected(kind, keys)

    def items(self, kind: str) -> dict[str, str]:
        """See `Store`."""
        with self._lock:
            return {key: held.value for key, held in self._kinds.get(kind, {}).items()}

    def below(self, kind: str, prefixes: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        wanted = tuple(prefixes)
        return {key: value for key, value in self.items(kind).items() if key.startswith(wanted)}

    def lasting(self, kind: str, now: float) -> dict[str, str]:
        """See `Store`."""
        with self._lock:
            held = self._kinds.get(kind, {})
            return {key: each.value for key, each in held.items() if now < each.ends < math.inf}

    def changed(self) -> bool:
        """See `Store`: there are no others."""
        return False

    def since(self, kind: str, revision: int, limit: int) -> Changes:
        """See `Store`."""
        with self._lock:
            held = self._kinds.get(kind, {})
            later = takewhile(lambda item: item[1] > revision, reversed(self._revisions.items()))
            news = [(key, n) for (each, key), n in later if each == kind][::-1][:limit]
            reached = news[-1][1] if news else revision
            return Changes(reached, {key: held[key].value for key, _ in news}, more=len(news) == limit)

    def sweep(self, kind: str, *, now: float, most: int, limit: int) -> Swept:
        """See `Store`."""
        with self._lock:
            held = sorted((each.ends, key) for key, each in self._kinds.get(kind, {}).items() if each.ends < math.inf)
            ended = [key for ends, key in held[:limit] if ends <= now]
            surplus = [key for _, key in held[len(ended) : min(limit, len(held) - most)]]
            self._keep(kind, dict.fromkeys([*ended, *surplus]))
            return Swept(len(ended), len(surplus))

    def close(self) -> None:
        """See `Store`: memory is all there is."""

    def _keep(self, kind: str, values: Mapping[str, str | Perishable | None]) -> None:
        held = self._kinds.setdefault(kind, {})
        for key, value in values.items():
            self._revisions.pop((kind, key), None)
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value if isinstance(value, Perishable) else Perishable(value, math.inf)
                self._revisions[kind, key] = next(self._next)

    def _selected(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        held = self._kinds.get(kind, {})
        return {key: held[key].value for key in keys if key in held}


class StateStore:
    """A `Store` in a file of mode 0600. After a fork parent and child go on with it.

    A file that is found damaged is set aside at the next write; what can be read of it is taken into a new one.

    Raises:
        TierError: the file cannot be opened, read or written (from every method).
        FormatVersionError: it was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, records.MIGRATIONS, settle=records.SETTLE)

    def put_many(self, kind: str, values: Mapping[str, str | Perishable]) -> None:
        """See `Store`."""
        with self._writing() as connection:
            records.keep(connection, kind, values)

    def update(self, kind: str, keys: Iterable[str], change: Change) -> None:
        """See `Store`."""
        with self._writing() as connection:
            records.keep(connection, kind, change(records.selected(connection, kind, keys)))

    def delete_many(self, kind: str, keys: Iterable[str]) -> None:
        """See `Store`."""
        with self._writing() as connection:
            records.keep(connection, kind, dict.fromkeys(keys))

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        with self._reading() as connection:
            return records.selected(connection, kind, keys)

    def items(self, kind: str) -> dict[str, str]:
        """See `Store`."""
        with self._reading() as connection:
            return records.whole(connection, kind)

    def below(self, kind: str, prefixes: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        with self._reading() as connection:
            return records.below(connection, kind, prefixes)

    def lasting(self, kind: str, now: float) -> dict[str, str]:
        """See `Store`."""
        with self._reading() as connection:
            return records.lasting(connection, kind, now)

    def changed(self) -> bool:
        """See `Store`."""
        return self._database.changed_elsewhere()

    def since(self, kind: str, revision: int, limit: int) -> Changes:
        """See `Store`."""
        with self._reading() as connection:
            return records.changed(connection, kind, revision, limit)

    def sweep(self, kind: str, *, now: float, most: int, limit: int) -> Swept:
        """See `Store`."""
        with self._writing() as connection:
            return Swept(*records.swept(connection, kind, now, most, limit))

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

    @contextlib.contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        try:
            with self._database.reading() as connection:
                yield connection
        except UnicodeDecodeError as exc:
            raise self._database.failure("reading", exc) from exc
