"""The file of an SQLite tier: transactions that know where the tier stands, and reads that leave out what is damaged.

Every write is one transaction that reads where the tier stands and says where it stands then. What it reads is
remembered between writes for as long as SQLite's own version of the data is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import apsw

from proxywhirl.cache.record import Record, fault_of
from proxywhirl.cache.tiers.eviction import Uses
from proxywhirl.cache.tiers.protocol import Rescue
from proxywhirl.cache.tiers.sqlite import schema as table
from proxywhirl.cache.tiers.sqlite.quarantine import FIRST_REVISION, Casualties
from proxywhirl.cache.tiers.sqlite.schema import Rows, State, as_record
from proxywhirl.errors import TierError
from proxywhirl.state.database import Database

PAGE = 1_000

T = TypeVar("T")


class SqliteFile:
    """What `SqliteTier` is built on."""

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
        self._database = Database(path, table.MIGRATIONS, fsync=fsync, settle=table.SETTLE if authority else None)
        self._rows = Rows(self._database)
        self._bound = max_entries
        self._authority = authority
        self._policy = policy
        self._uses = uses or Uses()
        self._state: State | None = None
        self._state_version: tuple[apsw.Connection, int] | None = None
        self._casualties = Casualties(self._database, self._rows, authority=authority)
        try:
            if self._database.salvaged is not None:
                self._sift_all()
            self._start()
        except TierError:
            if not self.damaged:
                self.close()
                raise
            self.reopen()
            self._start()

    @property
    def revision(self) -> int:
        """See `Tier`."""
        return self._reading(state_of).revision

    @property
    def corrupted(self) -> int:
        """See `Tier`."""
        return self._casualties.number

    @property
    def patient(self) -> bool:
        """See `Patient`."""
        return self._database.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._database.patient = patient

    @property
    def rescue(self) -> Rescue | None:
        """See `Sifting`."""
        return self._casualties.rescue

    @rescue.setter
    def rescue(self, rescue: Rescue | None) -> None:
        self._casualties.rescue = rescue

    def sift(self, keys: Collection[str], *, deep: bool = False) -> list[str]:
        """See `Sifting`. Where the indexes do not agree with the row the file is set aside as `reopen` does."""
        try:
            with self._writing() as state:
                return self._casualties.contain(self._casualties.among(keys, deep=deep), state)
        except TierError:
            if not self.damaged:
                raise
        self.reopen()
        return list(keys)

    def unsound(self, after: int, limit: int) -> tuple[dict[str, str], int | None]:
        """See `Sifting`."""
        with self._database.translated("examining"):
            found, reached = self._casualties.after(after, limit, deep=True)
        return {casualty.key: casualty.why for casualty in found}, reached

    @property
    def damaged(self) -> bool:
        """Whether a call met damage in the file: `reopen` is the way out."""
        return self._database.damaged

    @property
    def set_aside(self) -> Path | None:
        """Where the damaged file went that this tier found, at its opening or since; None where it found none."""
        return self._database.set_aside

    def reopen(self) -> None:
        """Set the damaged file aside and go on with a new one; an authority takes over what can be read of it.

        Readers of its log start anew. Raises `TierError` where there can be no new file.
        """
        with self._database.lock:
            self._state = None
            self._database.reopen()
            self._sift_all()
            self._put_in_order()

    def abandon(self) -> None:
        """Forget the connection without closing it, in a child after a fork."""
        self._database.abandon()

    def close(self) -> None:
        """See `Tier`."""
        self._database.close()

    def _find(self, key: str) -> Record | None:
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
        row = self._read(lambda reader: reader.execute(table.SELECT_ONE, (key,)).fetchone(), [key])
        return None if row is None else as_record(row)

    def _reading(self, read: Callable[[apsw.Connection], T]) -> T:
        """Read beside whoever writes."""
        try:
            with self._database.reading() as connection:
                return read(connection)
        except UnicodeDecodeError as exc:
            raise self._database.failure("reading", exc) from exc

    def _read(self, read: Callable[[apsw.Connection], T], keys: Collection[str]) -> T:
        """Read, and once more without what has text that cannot be read among some keys."""
        with contextlib.suppress(UnicodeDecodeError), self._database.reading() as connection:
            return read(connection)
        self.sift(keys)  # out here: while the error is at hand, so is its cursor, which sees what was there before
        return self._reading(read)

    def _read_sound(self, read: Callable[[apsw.Connection], T], records: Callable[[T], Iterable[Record]]) -> T:
        """Read, and once more where damaged records were among what was read, without them."""
        found = None
        with contextlib.suppress(UnicodeDecodeError), self._database.reading() as connection:
            found = read(connection)
        if found is None:
            self._sift_all()
            found = self._reading(read)
        bad = [record.key for record in records(found) if fault_of(record) is not None]
        if bad:
            self.sift(bad)
            found = self._reading(read)
        return found

    def _present(self, keys: Collection[str], state: State) -> Mapping[str, Record]:
        """Return the sound ones of the records that a transaction asks for; the others are contained."""
        try:
            present = self._rows.peek_many(keys)
            if all(fault_of(record) is None for record in present.values()):
                return present
        except UnicodeDecodeError:
            pass
        self._casualties.contain(self._casualties.among(keys), state)
        return self._rows.peek_many(keys)

    def _sift_all(self) -> None:
        """Look at every row, after damage whose place is not known."""
        after: int | None = FIRST_REVISION
        with self._writing() as state:
            while after is not None:
                found, after = self._casualties.after(after, PAGE, deep=False)
                self._casualties.contain(found, state)

    def _start(self) -> None:
        with self._database.translated("reading"):
            for _ in self._database.connection.execute("SELECT name, value FROM meta"):
                pass  # few, and without those that are damaged nothing can be opened: now is the time to find that out
            ((newest,),) = self._database.connection.execute("SELECT ifnull(max(revision), 0) FROM entries")
            self._uses.see(state_of(self._database.connection).ticked)
        self._put_in_order()
        if self._authority and newest > self.revision:  # it was a window, and held what was filled in ahead of it
            with self._writing() as state:
                state.revision = state.floor = max(newest, state.revision)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[State]:
        """Run a write transaction; the state that it changes is stored at its end."""
        with self._database.lock:
            if self.damaged:  # an earlier call met it
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
        """Have the index by which a bounded tier finds who leaves, and none that another policy needed.

        Of what was stored before arrivals were, the generation is the best that there is.
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
