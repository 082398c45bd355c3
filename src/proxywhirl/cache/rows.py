"""The rows of the SQLite tier's tables: read and written in batches, the state counting along.

Everything runs in the transaction of the caller, who sees to the errors of the database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from typing import Any, cast

import apsw

from proxywhirl.cache import table
from proxywhirl.cache.record import Record
from proxywhirl.cache.standing import Standing
from proxywhirl.cache.storable import LARGEST, VALUE_FAULTS, refused
from proxywhirl.cache.table import State, as_record, as_row, as_standing
from proxywhirl.cache.tier import Access
from proxywhirl.errors import UnstorableValue
from proxywhirl.state.database import Database

__all__ = ["TOMBSTONES_KEPT", "Rows", "peek_many"]

TOMBSTONES_KEPT = 100_000

_ticks = attrgetter("arrived", "used", "passed", "lap")


class Rows:
    """The entries and the tombstones of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def peek_many(self, keys: Collection[str]) -> dict[str, Record]:
        """Return the records that are there."""
        return peek_many(self._database.connection, keys)

    def served(self, keys: Iterable[str]) -> dict[str, bool]:
        """Return whether it is served for each of the keys that is there."""
        asked = list(keys)
        rows = self._among("SELECT key, retired FROM entries WHERE ", asked) if asked else ()
        return {str(key): retired == 0 for key, retired in rows}

    def revisions(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the revision of each of the records that are there."""
        return dict(self._among("SELECT key, revision FROM entries WHERE ", list(keys)))

    def standings(self, keys: Iterable[str]) -> tuple[dict[str, bool], dict[str, Standing]]:
        """Return what `served` does, and the standing of each of these."""
        was_served: dict[str, bool] = {}
        standings: dict[str, Standing] = {}
        asked = list(keys)
        for key, retired, *standing in self._among(table.STANDINGS, asked) if asked else ():
            was_served[str(key)], standings[str(key)] = retired == 0, as_standing(standing)
        return was_served, standings

    def count(self) -> int:
        """Return how many records there are, looking at each."""
        ((number,),) = self._database.connection.execute("SELECT count(*) FROM entries")
        return cast("int", number)

    def in_order(self, policy: str) -> Generator[tuple[str, Standing]]:
        """Give all that is stored in the order in which a policy has it leave; nothing may be written meanwhile."""
        for key, *standing in self._database.connection.execute(table.IN_ORDER[policy]):
            yield str(key), as_standing(standing)

    def stand(self, standings: Mapping[str, Standing]) -> None:
        """Note what the standings of some keys are, but for the uses that their records count."""
        rows = ((*_ticks(standing), key) for key, standing in standings.items())
        self._database.connection.executemany(table.STAND, rows)

    def store(
        self,
        records: Sequence[Record],
        was_served: Mapping[str, bool],
        state: State,
        standings: Mapping[str, Standing] | None = None,
    ) -> None:
        """Write records; `was_served` has those of them that are there already.

        What is given no standing is used now, and comes now where it is new.

        Raises:
            UnstorableValue: one of them has a value that the table does not take.
        """
        now = state.ticked
        rows: Iterator[tuple[Any, ...]] = (
            ((*as_row(record), now, now, now, 0) for record in records)
            if standings is None
            else ((*as_row(record), *_ticks(standings[record.key])) for record in records)
        )
        try:
            if not isfinite(sum(map(_times, records))):  # the table would take it, and its readers for damage
                raise ValueError("a time is endless")
            if len(records) == 1:
                self._database.connection.execute(table.STORE, next(rows))
            elif records:
                self._database.connection.executemany(table.STORE, rows)
        except (apsw.ConstraintError, *VALUE_FAULTS) as exc:
            raise refused(records, exc) from None
        state.stored += sum(record.key not in was_served for record in records)
        state.served += sum(not record.retired for record in records)
        state.served -= sum(was_served.get(record.key, False) for record in records)

    def touch(self, accesses: Sequence[Access]) -> None:
        """Add hits to records. Raises as `store` does."""
        try:
            hits = ((access.count, access.at, access.key, access.generation) for access in accesses)
            self._database.connection.executemany(table.TOUCH, hits)
        except (apsw.ConstraintError, *VALUE_FAULTS):
            odd = next((access for access in accesses if not 0 <= access.count <= LARGEST), accesses[0])
            fault = UnstorableValue(f"entry {odd.key!a}: its hits cannot be stored")
            fault.key = odd.key
            raise fault from None

    def remove(self, keys: Collection[str], state: State) -> dict[str, bool]:
        """Delete records; return those that were there, and whether they were served."""
        if not keys:
            return {}
        rows = self._among("DELETE FROM entries WHERE ", list(keys), " RETURNING key, retired")
        removed = {str(key): retired == 0 for key, retired in rows}
        state.stored -= len(removed)
        state.served -= sum(removed.values())
        return removed

    def unbury(self, keys: Collection[str], state: State) -> None:
        """Take keys that came again out of the log of removals."""
        if state.buried and keys:
            self._among("DELETE FROM tombstones WHERE ", keys)
            state.buried -= self._database.connection.changes()

    def bury(self, keys: Sequence[str], state: State) -> None:
        """Log that keys were removed; where there are many too many removals forget the oldest."""
        if not keys:
            return
        rows = [(state.revision + n, key) for n, key in enumerate(keys, start=1)]
        self._database.connection.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", rows)
        state.revision += len(rows)
        state.buried += len(rows)
        if state.buried > TOMBSTONES_KEPT + TOMBSTONES_KEPT // 10:
            query = "SELECT revision FROM tombstones ORDER BY revision LIMIT 1 OFFSET ?"
            surplus = state.buried - TOMBSTONES_KEPT
            ((state.floor,),) = self._database.connection.execute(query, (surplus - 1,))
            self._database.connection.execute("DELETE FROM tombstones WHERE revision <= ?", (state.floor,))
            state.buried -= surplus

    def _among(self, query: str, keys: Collection[str], ending: str = "") -> apsw.Cursor:
        return _among(self._database.connection, query, keys, ending)


def _times(record: Record) -> float:
    checked, due = record.last_check_at or 0.0, record.next_check_at or 0.0
    return record.fetched_at + record.accessed_at + record.expires_at + checked + due


def peek_many(connection: apsw.Connection, keys: Collection[str]) -> dict[str, Record]:
    """Return the records that are there under some keys."""
    if not keys:
        return {}
    return {record.key: record for record in map(as_record, _among(connection, f"{table.SELECT} WHERE ", keys))}


def _among(connection: apsw.Connection, query: str, keys: Collection[str], ending: str = "") -> apsw.Cursor:
    """Run a query for the rows of some keys; of one key that takes half the time."""
    if len(keys) == 1:
        return connection.execute(f"{query}key = ?{ending}", tuple(keys))
    return connection.execute(f"{query}{table.AMONG}{ending}", (json.dumps(list(keys)),))
