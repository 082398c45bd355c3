"""The tier in SQLite: the methods of a tier as statements."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from operator import attrgetter
from typing import cast

import apsw

from proxywhirl.cache.record import Record, UnsoundError, fault_of
from proxywhirl.cache.tiers.change_log import Position
from proxywhirl.cache.tiers.eviction import Admission, Standing
from proxywhirl.cache.tiers.protocol import (
    REPAIR,
    Access,
    Applied,
    Changes,
    Decision,
    Finding,
    Followed,
    Sketches,
    SketchRow,
    Stretch,
)
from proxywhirl.cache.tiers.sqlite import schema as table
from proxywhirl.cache.tiers.sqlite.file import SqliteFile, state_of
from proxywhirl.cache.tiers.sqlite.inspect import disagreements
from proxywhirl.cache.tiers.sqlite.schema import Known, State, as_record, peek_many

_by_key = attrgetter("key")


class SqliteTier(SqliteFile):
    """Records in one database file."""

    def peek(self, key: str) -> Record | None:
        before = self._database.set_aside
        record = self.get(key)
        if record is None or (record.key == key and fault_of(record) is None):
            return record
        self._heal(before)
        return self.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`. The records are not checked, as `peek` does."""
        asked = list(keys)
        return self._read(lambda reader: peek_many(reader, asked))

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        before = self._database.set_aside
        try:
            return self._transact(keys, decide)
        except UnsoundError:  # nothing was written yet
            self._heal(before)
            return self._transact(keys, decide)

    def _transact(self, keys: Collection[str], decide: Decision) -> Applied:
        with self._writing() as state:
            applied = Applied(revision_before=state.revision)
            present = self._present(keys) if keys else {}
            was_served = {}
            for key, record in present.items():  # a decision may change records
                was_served[key] = not record.retired
            batch = decide(present)
            if batch.deletes:
                removed = self._rows.remove(batch.deletes, state)
                applied.deletes = [key for key in batch.deletes if key in removed]
            asked = set(keys) if self._bound is None else ()  # no standing decides about these
            puts = [record for record in batch.puts if record.key not in asked]
            known = None
            with contextlib.suppress(UnicodeDecodeError):
                known = self._rows.known(puts)
            if known is None:
                raise UnsoundError(", ".join(record.key for record in puts))
            for key, held in known.items():
                was_served[key] = held.served
            applied.puts, standings, applied.evicted = self._admit(batch.puts, was_served, known, state)
            if state.buried:
                self._rows.unbury([*map(_by_key, applied.puts), *applied.evicted], state)
            if applied.deletes or applied.evicted:
                self._rows.bury([*applied.deletes, *applied.evicted], state)
            if (
                self._bound is None and len(applied.puts) > 1
            ):  # no order of arrival counts: that of the keys touches each page of the index once
                applied.puts.sort(key=_by_key)
            state.number(applied.puts)
            self._rows.store(applied.puts, was_served, state, standings)
            applied.revision = state.revision
        return applied

    def follow(self, stretch: Stretch) -> Followed | None:
        with self._writing() as state:
            if state.revision != stretch.since:
                return None
            removed = self._rows.remove(stretch.removed, state)
            followed = Followed([key for key in stretch.removed if removed.get(key)])
            known = self._rows.known(stretch.records)
            was_served = {key: held.served for key, held in known.items()}
            wanted = stretch.records if stretch.admit else [r for r in stretch.records if r.key in known]
            kept, standings, followed.evicted = self._admit(wanted, was_served, known, state)
            self._rows.store(kept, was_served, state, standings)
            state.revision = state.floor = stretch.revision  # a window logs no removals
        return followed

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        with self._writing() as state:
            if state.revision > revision:
                return None
            known = self._rows.known(records)
            news = [r for r in records if (held := known.get(r.key)) is None or held.revision < r.revision]
            replaced = {record.key: known[record.key] for record in news if record.key in known}
            was_served = {key: held.served for key, held in replaced.items()}
            kept, standings, evicted = self._admit(news, was_served, replaced, state)
            self._rows.store(kept, was_served, state, standings)
        return evicted

    def drop(self, keys: Collection[str]) -> list[str]:
        with self._writing() as state:
            removed = self._rows.remove(keys, state)
            return [key for key in keys if removed.get(key)]

    def touch_many(self, accesses: Sequence[Access]) -> None:
        with self._writing() as state:
            self._rows.touch(accesses)
            state.ticked = max([state.ticked, *(access.at for access in accesses)])

    def standings(self) -> dict[str, Standing]:
        with self._database.translated("reading"):
            return dict(self._rows.in_order(self._policy))

    def take_standings(self, standings: Mapping[str, Standing]) -> None:
        with self._writing() as state:
            self._rows.stand(standings)
            state.ticked = max([state.ticked, *(standing.used for standing in standings.values())])

    def expired(self, now: float, limit: int) -> list[str]:
        """See `Tier`."""

        def read(reader: apsw.Connection) -> list[str]:
            rows = reader.execute(table.EXPIRED, (limit,))
            return [key for key, _ in takewhile(lambda row: row[1] <= now, rows)]

        return self._reading(read)

    def scan(self, after: str, limit: int) -> list[Record]:
        query = f"{table.SELECT} WHERE key > ? ORDER BY key LIMIT ?"

        def read(reader: apsw.Connection) -> list[Record]:
            return [as_record(row) for row in reader.execute(query, (after, limit))]

        return self._read(read, lambda found: found)

    def changes_since(self, revision: int, limit: int) -> Changes:
        return self._read(lambda reader: _changes(reader, revision, limit), lambda changes: changes.records)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: one pragma."""
        return self._database.changed_elsewhere()

    def clear(self, revision: int | None = None) -> int:
        with self._writing() as state:
            held = state.served
            self._database.connection.execute("DELETE FROM entries")
            self._database.connection.execute("DELETE FROM tombstones")
            state.served = state.stored = state.buried = 0
            if self._authority:
                state.revision = max(state.revision + 1, revision or 0)
            elif revision is not None:
                state.revision = revision
            state.floor = state.revision
        return held

    def get_meta(self, name: str) -> str | None:
        query = "SELECT value FROM meta WHERE name = ?"
        row = self._reading(lambda reader: reader.execute(query, (name,)).fetchone())
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str | None) -> None:
        with self._writing():
            if value is None:
                self._database.connection.execute("DELETE FROM meta WHERE name = ?", (name,))
            else:
                self._database.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def metas(self, prefix: str) -> dict[str, str]:
        query = "SELECT name, value FROM meta WHERE name >= ? AND name < ?"
        names = prefix, f"{prefix}~"  # `~` is after all that a name is made of
        return self._reading(lambda reader: {str(name): str(value) for name, value in reader.execute(query, names)})

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """See `Tier`: the pages of the file, then its counts. `reopen` mends damaged pages."""
        where = self._database.name
        faults = self._database.faults()
        if faults:
            if repair:
                self.reopen()
            return [
                Finding(where, fault, f"{REPAIR}: it is set aside, and what can be read is saved", repair)
                for fault in faults
            ]
        found = self._reading(partial(_disagreements, authority=self._authority))
        if found and repair:  # only a repair takes the lock of writers
            try:
                with self._database.writing() as connection:
                    found = list(disagreements(connection, authority=self._authority, repair=True))
            finally:
                self._state = None
        return [Finding(where, what, f"{REPAIR}: it is counted anew", repair) for what in found]

    def __len__(self) -> int:
        return self._reading(state_of).served

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        query = "SELECT 1 FROM entries WHERE key = ? AND retired = 0"
        return self._reading(lambda reader: reader.execute(query, (key,)).fetchone()) is not None

    def sketches_since(self, revision: int, limit: int, now: float) -> Sketches:
        """See `Sketching`."""

        def read(reader: apsw.Connection) -> Sketches:
            with reader:  # one snapshot for all
                state = state_of(reader)
                position = Position.of(revision, floor=state.floor, last=state.revision)
                rows = cast("list[SketchRow]", reader.execute(table.SKETCHES, (now, position.since, limit)).fetchall())
                more = len(rows) == limit
                reached = rows[-1][-1] if more else state.revision
                removed = _removed(reader, position.since, reached)
            after = position.after(reached, more=more)
            return Sketches(rows, after, removed, position.reset, more)

        return self._reading(read)

    def _admit(
        self, records: Sequence[Record], was_served: dict[str, bool], held: Mapping[str, Known], state: State
    ) -> tuple[list[Record], Mapping[str, Standing] | None, list[str]]:
        """Take out what leaves for these records; return those to store, their standings, and the keys that left.

        `was_served` and `held` tell of those of them that are stored; what leaves and comes again is new.
        """
        if self._bound is None:
            state.ticked = self._uses.tick(state.ticked)
            return list({record.key: record for record in records}.values()), None, []
        if state.stored > self._bound:  # the bound was larger, or the number is damaged
            state.stored = self._rows.count()
        if not records and state.stored <= self._bound:
            return [], {}, []

        stored = self._rows.in_order(self._policy)
        known = {key: each.standing for key, each in held.items()}
        number, ticked = state.stored, state.ticked
        admitted = Admission(
            self._policy, self._bound, self._uses, number=number, ticked=ticked, known=known, stored=stored
        ).admit(records)
        stored.close()
        state.ticked = admitted.ticked
        came_again = [
            key for key in known if key in admitted.kept and admitted.standings[key].arrived != known[key].arrived
        ]
        if admitted.left or came_again:
            for key in self._rows.remove([*admitted.left, *came_again], state):
                was_served.pop(key, None)
        if admitted.spared:
            self._rows.stand(admitted.spared)
        return list(admitted.kept.values()), admitted.standings, list(admitted.left)


def _changes(reader: apsw.Connection, revision: int, limit: int) -> Changes:
    with reader:  # one snapshot for all queries
        state = state_of(reader)
        position = Position.of(revision, floor=state.floor, last=state.revision)
        query = f"{table.SELECT} WHERE revision > ? ORDER BY revision LIMIT ?"
        records = [as_record(row) for row in reader.execute(query, (position.since, limit))]
        more = len(records) == limit
        reached = records[-1].revision if more else state.revision
        removed = _removed(reader, position.since, reached)
    return Changes(position.after(reached, more=more), records, removed, position.reset, more)


def _removed(reader: apsw.Connection, since: int, reached: int) -> list[str]:
    query = "SELECT key FROM tombstones WHERE revision > ? AND revision <= ?"
    return [str(key) for (key,) in reader.execute(query, (since, reached))]


def _disagreements(reader: apsw.Connection, *, authority: bool) -> list[str]:
    found: list[str] = []
    with reader:  # one snapshot
        found += disagreements(reader, authority=authority, repair=False)
    return found
