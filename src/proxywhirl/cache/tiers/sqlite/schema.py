"""The format of the tier in SQLite: its tables, its statements, and the rows that become records.

The state counts along with each write. Everything runs in the transaction of the caller, which handles the errors of
the database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple, cast

import apsw

from proxywhirl.cache.record import COLUMNS, NEVER_TIMESTAMP, VALUE_FAULTS, Record, refused
from proxywhirl.cache.tiers.eviction import POLICIES, Standing
from proxywhirl.cache.tiers.protocol import ASIDE, GONE, SERVING, Access
from proxywhirl.errors import UnstorableValue
from proxywhirl.state.database import Database
from proxywhirl.validation import FIRST_MOMENT, LARGEST

MIGRATIONS = (
    (
        """CREATE TABLE entries (
            revision INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, url TEXT NOT NULL, source TEXT NOT NULL,
            fetched_at REAL NOT NULL, ttl INTEGER NOT NULL, expires_at REAL NOT NULL, accessed_at REAL NOT NULL,
            access_count INTEGER NOT NULL, status TEXT NOT NULL, failure_count INTEGER NOT NULL,
            last_check_at REAL, check_failures INTEGER NOT NULL, check_successes INTEGER NOT NULL,
            recovery_attempt INTEGER NOT NULL, next_check_at REAL, error TEXT, checks INTEGER NOT NULL,
            failed_checks INTEGER NOT NULL, attributes TEXT NOT NULL, sealed TEXT, retired INTEGER NOT NULL,
            generation INTEGER NOT NULL
        ) STRICT""",
        f"CREATE INDEX entries_expiring ON entries (expires_at) WHERE expires_at < {NEVER_TIMESTAMP}",
        "CREATE INDEX entries_retired ON entries (retired) WHERE retired = 1",
        "CREATE TABLE tombstones (revision INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO meta VALUES ('revision', '0'), ('floor', '0')",
    ),
    (
        """CREATE TABLE state (
            id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, floor INTEGER NOT NULL,
            served INTEGER NOT NULL, buried INTEGER NOT NULL
        ) STRICT""",
        """INSERT INTO state SELECT 1, (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'revision'),
            (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'floor'),
            (SELECT count(*) FROM entries WHERE retired = 0), (SELECT count(*) FROM tombstones)""",
        "DELETE FROM meta WHERE name IN ('revision', 'floor')",
        "DROP INDEX entries_retired",
    ),
    (
        "ALTER TABLE entries ADD COLUMN arrived REAL NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN used REAL NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN passed REAL NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN lap INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE state ADD COLUMN stored INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE state ADD COLUMN ticked REAL NOT NULL DEFAULT 0",
        "UPDATE state SET stored = (SELECT count(*) FROM entries)",
    ),
    (  # times that are refused now and were not always: endless ones, and those that a float rounded out of all years
        f"""UPDATE entries SET fetched_at = max({FIRST_MOMENT}, min({NEVER_TIMESTAMP}, fetched_at)),
            accessed_at = max({FIRST_MOMENT}, min({NEVER_TIMESTAMP}, accessed_at)),
            last_check_at = max({FIRST_MOMENT}, min({NEVER_TIMESTAMP}, last_check_at)),
            next_check_at = max({FIRST_MOMENT}, min({NEVER_TIMESTAMP}, next_check_at))
            WHERE max(fetched_at, accessed_at, ifnull(last_check_at, 0), ifnull(next_check_at, 0)) > {NEVER_TIMESTAMP}
            OR min(ifnull(last_check_at, 0), ifnull(next_check_at, 0)) < {FIRST_MOMENT}""",  # noqa: S608  # constants
    ),
)

SALVAGED = "salvaged"
"""The note that says that other notes may be lost; their readers then make them anew."""

# After a damaged file: the log has holes, so its readers start anew. Where nothing was saved the file is as new.
MAKE_WHOLE = (
    """INSERT OR REPLACE INTO state SELECT 1, news, news, (SELECT count(*) FROM entries WHERE retired = 0),
        (SELECT count(*) FROM tombstones), (SELECT count(*) FROM entries),
        (SELECT max(used) FROM entries) FROM (SELECT 1 + max(
            (SELECT ifnull(max(revision), 0) FROM state), (SELECT ifnull(max(revision), 0) FROM entries),
            (SELECT ifnull(max(revision), 0) FROM tombstones)) AS news) WHERE EXISTS (SELECT 1 FROM entries)""",
    """INSERT OR REPLACE INTO state SELECT 1, 0, 0, 0, 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM entries)""",
    f"INSERT OR REPLACE INTO meta VALUES ('{SALVAGED}', '1')",  # noqa: S608  # a constant
)

_NAMES = ", ".join(COLUMNS)
SELECT = f"SELECT {_NAMES} FROM entries"  # noqa: S608  # the names are this package's own constants
SELECT_ONE = f"{SELECT} WHERE key = ?"
AMONG = "key IN (SELECT value FROM json_each(?))"
STORE = (  # a known entry keeps its arrival
    f"INSERT INTO entries ({_NAMES}, arrived, used, passed, lap) "  # noqa: S608  # as above
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 4))}) ON CONFLICT (key) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in COLUMNS if name != 'key')}, used = excluded.used"
)
EXPIRED = (
    f"SELECT key, expires_at FROM entries WHERE expires_at < {NEVER_TIMESTAMP} "  # noqa: S608  # a constant
    "ORDER BY expires_at LIMIT ?"  # a second bound would be tried on each row up to the first one
)
SKETCHES = f"""SELECT key, url, status || ' ' || (sealed IS NOT NULL) || ' ' || attributes || char(10) || source,
    CASE WHEN expires_at <= ? THEN {GONE} WHEN retired OR status = 'dead' THEN {ASIDE} ELSE {SERVING} END, revision
    FROM entries WHERE revision > ? ORDER BY revision LIMIT ?"""  # noqa: S608  # as above
TOUCH = (
    f"UPDATE entries SET access_count = min(access_count + ?1, {LARGEST}), accessed_at = max(accessed_at, ?2), "  # noqa: S608  # as above
    "used = max(used, ?2) WHERE key = ?3 AND generation = ?4"
)
_STANDING = ", ".join(Standing._fields)
KNOWN = f"SELECT key, retired, revision, {_STANDING} FROM entries WHERE "  # noqa: S608  # as above
IN_ORDER = {
    policy: f"SELECT key, {_STANDING} FROM entries ORDER BY {', '.join(row.columns)}, revision"  # noqa: S608  # as above
    for policy, row in POLICIES.items()
}
INDEXES = {
    f"entries_by_{policy}": f"CREATE INDEX IF NOT EXISTS entries_by_{policy} ON entries ({', '.join(row.columns)})"
    for policy, row in POLICIES.items()
}
ARRIVED = "UPDATE entries SET arrived = generation WHERE arrived = 0"
STAND = "UPDATE entries SET arrived = ?, used = ?, passed = ?, lap = ? WHERE key = ?"
READ_STATE = "SELECT revision, floor, served, buried, stored, ticked FROM state"
WRITE_STATE = "UPDATE state SET revision = ?, floor = ?, served = ?, buried = ?, stored = ?, ticked = ? WHERE id = 1"
_RETIRED = COLUMNS.index("retired")

as_row = attrgetter(*COLUMNS)
as_state = attrgetter("revision", "floor", "served", "buried", "stored", "ticked")


@dataclass(slots=True)
class State:
    """The position of the tier: the log is whole from `floor` to `revision`, with `buried` tombstones.

    `stored` are all records, `served` those that are not retired; `ticked` is the latest tick of a use.
    """

    revision: int
    floor: int
    served: int
    buried: int
    stored: int
    ticked: float

    def number(self, records: Iterable[Record]) -> None:
        """Give each record its revision, and a new one its generation."""
        for record in records:
            self.revision += 1
            record.revision = self.revision
            if not record.generation:
                record.generation = record.revision


class Known(NamedTuple):
    """The facts of a stored record that a write needs: whether it is served, its revision and its standing."""

    served: bool
    revision: int
    standing: Standing


def as_standing(columns: Sequence[object]) -> Standing:
    """Make a standing of its columns."""
    return Standing(*columns)  # type: ignore[arg-type]  # as for a record


def as_record(row: tuple[object, ...]) -> Record:
    """Make the record of a row of `SELECT`."""
    record = Record(*row)  # type: ignore[arg-type]  # the table is STRICT: the columns have the fields' types
    record.retired = row[_RETIRED] == 1
    return record


TOMBSTONES_KEPT = 100_000

_ticks = attrgetter("arrived", "used", "passed", "lap")


class Rows:
    """The entries and the tombstones of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, records: Iterable[Record]) -> dict[str, Known]:
        """Return the facts of the records that are stored, by key."""
        keys = [record.key for record in records]
        rows = _among(self._database.connection, KNOWN, keys) if keys else ()
        return {
            str(key): Known(retired == 0, cast("int", revision), as_standing(standing))
            for key, retired, revision, *standing in rows
        }

    def count(self) -> int:
        """Return how many records there are, looking at each."""
        ((number,),) = self._database.connection.execute("SELECT count(*) FROM entries")
        return cast("int", number)

    def in_order(self, policy: str) -> Generator[tuple[str, Standing]]:
        """Give all stored entries in a policy's order of leaving; nothing may be written meanwhile."""
        for key, *standing in self._database.connection.execute(IN_ORDER[policy]):
            yield str(key), as_standing(standing)

    def stand(self, standings: Mapping[str, Standing]) -> None:
        """Store the standings of some keys, except for the uses that their records count."""
        rows = ((*_ticks(standing), key) for key, standing in standings.items())
        self._database.connection.executemany(STAND, rows)

    def store(
        self,
        records: Sequence[Record],
        was_served: Mapping[str, bool],
        state: State,
        standings: Mapping[str, Standing] | None = None,
    ) -> None:
        """Write records; `was_served` has those that are there already.

        A record without a standing is used now; a new one arrives now.

        Raises:
            UnstorableValue: one of them has a value that the table does not take.
        """
        ticks = (state.ticked, state.ticked, state.ticked, 0)
        rows: list[tuple[Any, ...]] = []
        stored, served, times = 0, 0, 0.0
        try:
            for record in records:
                if standings is not None:
                    ticks = _ticks(standings[record.key])
                rows.append((*as_row(record), *ticks))
                times += record.fetched_at + record.accessed_at + record.expires_at
                times += (record.last_check_at or 0.0) + (record.next_check_at or 0.0)
                before = was_served.get(record.key)
                stored += before is None
                served += (not record.retired) - (before or False)
            if not isfinite(times):  # the table would take it, and its readers for damage
                raise ValueError("a time is endless")  # as what the table does not take
            if len(rows) == 1:
                self._database.connection.execute(STORE, rows[0])
            elif rows:
                self._database.connection.executemany(STORE, rows)
        except (apsw.ConstraintError, *VALUE_FAULTS) as exc:
            raise refused(records, exc) from None
        state.stored += stored
        state.served += served

    def touch(self, accesses: Sequence[Access]) -> None:
        """Add hits to records. Raises as `store` does."""
        try:
            hits = ((access.count, access.at, access.key, access.generation) for access in accesses)
            self._database.connection.executemany(TOUCH, hits)
        except (apsw.ConstraintError, *VALUE_FAULTS):
            odd = next((access for access in accesses if not 0 <= access.count <= LARGEST), accesses[0])
            fault = UnstorableValue(f"entry {odd.key!a}: its hits cannot be stored")
            fault.key = odd.key
            raise fault from None

    def remove(self, keys: Collection[str], state: State) -> dict[str, bool]:
        """Delete records; return those that were there, and whether they were served."""
        if not keys:
            return {}
        rows = _among(self._database.connection, "DELETE FROM entries WHERE ", keys, " RETURNING key, retired")
        removed = {str(key): retired == 0 for key, retired in rows}
        state.stored -= len(removed)
        state.served -= sum(removed.values())
        return removed

    def drop(self, revisions: Sequence[int], state: State) -> None:
        """Delete rows by their place in the table: their columns cannot be trusted."""
        for revision in revisions:
            query = "DELETE FROM entries WHERE revision = ? RETURNING retired"
            ((retired,),) = self._database.connection.execute(query, (revision,))
            state.stored -= 1
            state.served -= retired == 0

    def unbury(self, keys: Collection[str], state: State) -> None:
        """Take keys that came again out of the log of removals."""
        if state.buried and keys:
            _among(self._database.connection, "DELETE FROM tombstones WHERE ", keys)
            state.buried -= self._database.connection.changes()

    def bury(self, keys: Sequence[str], state: State) -> None:
        """Log that keys were removed; when there are many too many removals, forget the oldest."""
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


def peek_many(connection: apsw.Connection, keys: Collection[str]) -> dict[str, Record]:
    """Return the records that are there under some keys."""
    if not keys:
        return {}
    return {record.key: record for record in map(as_record, _among(connection, f"{SELECT} WHERE ", keys))}


def _among(connection: apsw.Connection, query: str, keys: Collection[str], ending: str = "") -> apsw.Cursor:
    """Run a query for the rows of some keys; of one key that takes half the time."""
    if len(keys) == 1:
        return connection.execute(f"{query}key = ?{ending}", tuple(keys))
    return connection.execute(f"{query}{AMONG}{ending}", (json.dumps(list(keys)),))
