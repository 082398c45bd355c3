"""The file of a tier in SQLite: transactions that know where the tier stands, reads, and what happens on damage.

A write reads where the tier stands and says where it stands then. What it reads is remembered between writes for as
long as SQLite's own version of the data is the same.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw

from proxywhirl.cache.record import Record, UnsoundError, fault_of
from proxywhirl.cache.tiers.eviction import Uses
from proxywhirl.cache.tiers.protocol import CopyOf
from proxywhirl.cache.tiers.sqlite import schema as table
from proxywhirl.cache.tiers.sqlite.schema import Rows, State, as_record, peek_many
from proxywhirl.errors import TierError
from proxywhirl.state.database import Database

_log = logging.getLogger(__name__)

T = TypeVar("T")


class SqliteFile:
    """The file under `SqliteTier`."""

    reads_beside_writes = True

    def __init__(
        self,
        path: Path,
        *,
        max_entries: int | None = None,
        policy: str = "lru",
        authority: bool = False,
        fsync: bool = False,
        uses: Uses | None = None,
    ) -> None:
        self._database = Database(
            path, table.MIGRATIONS, fsync=fsync, make_whole=table.MAKE_WHOLE if authority else None
        )
        self._rows = Rows(self._database)
        self._bound = max_entries
        self._authority = authority
        self._policy = policy
        self._uses = uses or Uses()
        self._state: State | None = None
        self._state_version: tuple[apsw.Connection, int] | None = None
        self.corrupted = 0
        self.copy_of: CopyOf | None = None
        try:
            if self.set_aside is not None:
                self._clean()
            self._start()
        except TierError:
            if not self.damaged:
                self.close()
                raise
            self.reopen()
            self._start()

    @property
    def revision(self) -> int:
        return self._reading(state_of).revision

    @property
    def patient(self) -> bool:
        return self._database.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._database.patient = patient

    @property
    def damaged(self) -> bool:
        """Whether a call met damage in the file: `reopen` is the way out."""
        return self._database.damaged

    @property
    def set_aside(self) -> Path | None:
        """Where the damaged file is that this tier found, at its opening or since; None where it found none."""
        return self._database.set_aside

    def reopen(self) -> None:
        """Set the damaged file aside and go on with a new one; an authority takes over what can be read of it.

        Readers of its log start anew. Raises `TierError` where there can be no new file.
        """
        with self._database.lock:
            before, self._state = self.set_aside, None
            self._database.reopen()
            if self.set_aside != before:  # else another process has put a sound one in its place
                self._clean()
            self._put_in_order()

    def _heal(self, before: Path | None) -> None:
        """Reopen after damage that was met since `set_aside` was this one, unless another thread has done it."""
        with self._database.lock:
            if self.set_aside == before:
                self.reopen()

    def abandon(self) -> None:
        """Forget the connection without closing it, in a child after a fork."""
        self._database.abandon()

    def close(self) -> None:
        self._database.close()

    def get(self, key: str) -> Record | None:
        """See `Tier`. The record is not checked, as `peek` does."""
        database = self._database
        try:
            if not database.lock.acquire(False):  # somebody writes
                return self._find_beside(key)
            try:  # `reading` takes as long as the rest
                row = database.connection.execute(table.SELECT_ONE, (key,)).fetchone()
            finally:
                database.lock.release()
        except (apsw.ConnectionClosedError, UnicodeError):  # the process has forked; damage; no text for a key
            return self._find_beside(key)
        except apsw.Error as exc:
            raise database.failure("reading", exc) from exc
        return None if row is None else as_record(row)

    def _find_beside(self, key: str) -> Record | None:
        row = self._read(lambda reader: reader.execute(table.SELECT_ONE, (key,)).fetchone())
        return None if row is None else as_record(row)

    def _reading(self, read: Callable[[apsw.Connection], T]) -> T:
        """Read beside a writer."""
        with self._database.reading() as connection:
            return read(connection)

    def _read(self, read: Callable[[apsw.Connection], T], records: Callable[[T], Iterable[Record]] = lambda _: ()) -> T:
        """Read; if a text or a record makes no sense, read again from what is saved of the file."""
        before = self.set_aside
        try:
            found = self._reading(read)
            if all(fault_of(record) is None for record in records(found)):
                return found
        except TierError as exc:
            if not isinstance(exc.__cause__, UnicodeDecodeError):
                raise
        self._heal(before)  # outside of `except`: the error keeps its cursor, which sees the old state
        return self._reading(read)

    def _present(self, keys: Collection[str]) -> dict[str, Record]:
        """Return the records that a transaction asks for. Raises `UnsoundError` if one makes no sense."""
        present: dict[str, Record] | None = None
        with contextlib.suppress(UnicodeDecodeError):
            present = peek_many(self._database.connection, keys)
        if present is None or any(fault_of(record) is not None for record in present.values()):
            raise UnsoundError(", ".join(keys))
        return present

    def _clean(self) -> None:
        """Count the losses of a file that was set aside, and leave rows that make no sense out of the new one.

        A copy that another tier has takes the place of such a row, in the same revision.
        """
        saved = self._database.salvaged
        refused = saved.refused.get("entries", ()) if saved is not None else ()
        lost = {(row["key"], row["revision"]): "one of its values is of another kind" for row in refused}
        with self._writing() as state:
            rows = map(as_record, self._database.connection.execute(table.SELECT))
            unsound = {(record.key, record.revision): why for record in rows if (why := fault_of(record)) is not None}
            self._rows.drop([revision for _, revision in unsound], state)
            lost |= unsound
            copies = (
                [self.copy_of(key, revision) for key, revision in lost if type(key) is str and type(revision) is int]
                if self.copy_of
                else []
            )
            found = [copy for copy in copies if copy is not None]
            known = self._rows.known(found)
            self._rows.store([copy for copy in found if copy.key not in known], {}, state)
        self.corrupted += max(1, len(unsound) + ((saved and saved.lost) or 0))
        if lost:
            ((key, _), why), number = next(iter(lost.items())), len(lost)
            told = self._database.name, number, key, why, self.set_aside
            _log.warning("%s: %d rows, such as %s (%s), make no sense and are left in %s alone", *told)

    def _start(self) -> None:
        with self._database.translated("reading"):
            for _ in self._database.connection.execute("SELECT name, value FROM meta"):
                pass  # few, and without those that are damaged nothing can be opened: now is the time to find that out
            ((newest,),) = self._database.connection.execute("SELECT ifnull(max(revision), 0) FROM entries")
            self._uses.see(state_of(self._database.connection).ticked)
        self._put_in_order()
        if self._authority and newest > self.revision:  # as a window it was filled ahead of its revision
            with self._writing() as state:
                state.revision = state.floor = max(newest, state.revision)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[State]:
        """Run a write transaction; the state that it changes is stored at its end."""
        with self._database.lock:
            if self._database.damaged:  # an earlier call met it
                self.reopen()
            try:
                with self._database.writing() as connection:
                    state = self._follow_others()
                    before = table.as_state(state)
                    yield state
                    after = table.as_state(state)
                    if after != before:
                        connection.execute(table.WRITE_STATE, after)
                self._state_version = connection, connection.data_version()
            except BaseException:
                self._state = None
                raise

    def _follow_others(self) -> State:
        """Return the state that a transaction begins with."""
        version = self._database.connection, self._database.connection.data_version()
        state = self._state
        if state is None or version != self._state_version:
            state = self._state = state_of(self._database.connection)
            self._uses.see(state.ticked)
        return state

    def _put_in_order(self) -> None:
        """Make the index by which a bounded tier evicts, and drop that of another policy.

        The generation stands for the arrival in rows of releases that stored none.
        """
        if self._bound is None:
            return
        with self._database.translated("reading"):
            names = self._database.connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'entries_by_%'")
            wanted, found = f"entries_by_{self._policy}", {str(name) for (name,) in names}
        if found != {wanted}:
            with self._database.writing() as connection:
                for name in found - {wanted}:
                    connection.execute(f"DROP INDEX IF EXISTS {name}")
                connection.execute(table.ARRIVED)
                connection.execute(table.INDEXES[wanted])


def state_of(connection: apsw.Connection) -> State:
    """Return where the tier stands."""
    row = connection.execute(table.READ_STATE).fetchone()
    return State(*row)  # type: ignore[misc]  # there is one row
