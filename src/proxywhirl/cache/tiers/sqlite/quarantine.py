"""Rows of an SQLite tier that are not what was written: found, kept aside, and replaced where another tier has a copy.

A damaged row costs that row. An authority whose row was replaced by a copy of the same revision has lost nothing, and
its log needs no word; where there is none, the key is logged as removed, since that is what it is to all readers.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxywhirl.cache.record import COLUMNS, deep_fault_of, fault_of
from proxywhirl.cache.tiers.protocol import Rescue
from proxywhirl.cache.tiers.sqlite import schema as table
from proxywhirl.cache.tiers.sqlite.schema import Rows, State, as_record
from proxywhirl.state.database import Database

_log = logging.getLogger(__name__)

FIRST_REVISION = -(2**63)  # of a row whose number is damaged

_TEXTS = frozenset({"key", "url", "source", "status", "error", "attributes", "sealed"})
_RAW = ", ".join(f"CAST({name} AS BLOB)" if name in _TEXTS else name for name in COLUMNS)
_SELECT = f"SELECT {_RAW} FROM entries"  # noqa: S608  # the names are this package's own constants
_REVISION, _RETIRED = COLUMNS.index("revision"), COLUMNS.index("retired")


@dataclass(frozen=True, slots=True)
class Casualty:
    """A damaged row: its place in the log, its key, what is wrong, and what is in it."""

    revision: int
    key: str
    why: str
    served: bool
    values: dict[str, object]


class Casualties:
    """Those of one database. Everything runs in the transaction of the caller."""

    def __init__(self, database: Database, rows: Rows, *, authority: bool) -> None:
        self._database = database
        self._rows = rows
        self._authority = authority
        self._aside = Path(f"{database.name}.damaged-rows.jsonl")
        self.rescue: Rescue | None = None
        self.number = 0

    def among(self, keys: Collection[str], *, deep: bool = False) -> list[Casualty]:
        """Return the damaged ones of the rows of some keys."""
        query = f"{_SELECT} WHERE {table.AMONG}"
        rows = self._database.connection.execute(query, (json.dumps(list(keys)),))
        return [found for row in rows if (found := _examined(row, deep=deep)) is not None]

    def after(self, revision: int, limit: int, *, deep: bool) -> tuple[list[Casualty], int | None]:
        """Return the damaged ones of a page of rows, and the last revision of it; None at the end."""
        query = f"{_SELECT} WHERE revision > ? ORDER BY revision LIMIT ?"
        rows = self._database.connection.execute(query, (revision, limit)).fetchall()
        found = [found for row in rows if (found := _examined(row, deep=deep)) is not None]
        return found, int(str(rows[-1][_REVISION])) if len(rows) == limit else None

    def contain(self, casualties: Sequence[Casualty], state: State) -> list[str]:
        """Keep rows aside and take them out of the table, copies in their place; return their keys."""
        if not casualties:
            return []
        self._keep(casualties)
        lost: list[str] = []
        for casualty in casualties:
            self._database.connection.execute("DELETE FROM entries WHERE revision = ?", (casualty.revision,))
            state.served -= casualty.served
            state.stored -= 1
            copy = self.rescue(casualty.key, casualty.revision) if self.rescue is not None else None
            if copy is None:
                lost.append(casualty.key)
            else:
                self._rows.store([copy], {}, state)
        if self._authority:
            self._rows.bury(lost, state)
        self.number += len(casualties)
        return [casualty.key for casualty in casualties]

    def _keep(self, casualties: Sequence[Casualty]) -> None:
        lines = [json.dumps({"what": casualty.why, **casualty.values}) for casualty in casualties]
        first = casualties[0]
        told = self._database.name, len(casualties), first.key, first.why
        try:
            fd = os.open(self._aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as exc:
            _log.warning("%s: %d damaged rows, such as %s (%s), could not be kept: %s", *told, exc.strerror or exc)
        else:
            _log.warning("%s: %d damaged rows, such as %s (%s), were set aside in %s", *told, self._aside)


def _examined(row: Sequence[object], *, deep: bool) -> Casualty | None:
    """Return what is wrong with a row, whose texts are bytes; None where nothing is."""
    values = [_read(value) for value in row]
    spoiled = [name for name, value, raw in zip(COLUMNS, values, row, strict=True) if _is_spoiled(value, raw)]
    if spoiled:
        why: str | None = f"its {spoiled[0]} is no text"
    else:
        record = as_record(tuple(values))
        why = deep_fault_of(record) if deep else fault_of(record)
    if why is None:
        return None
    named = dict(zip(COLUMNS, values, strict=True))
    return Casualty(int(str(row[_REVISION])), str(named["key"]), why, row[_RETIRED] == 0, named)


def _read(value: object) -> object:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _is_spoiled(value: object, raw: object) -> bool:
    return isinstance(raw, bytes) and isinstance(value, str) and value.encode() != raw
