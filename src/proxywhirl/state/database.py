"""Open an SQLite file the one way that is safe for several processes.

apsw carries its own SQLite: the system's may be older than 3.51.3, whose WAL-reset defect can damage a
database that several processes write. WAL, no mmap, every write in `BEGIN IMMEDIATE`. The version of the format is in
`user_version`: an older one is migrated, a newer one refused.

There are two connections, each with a lock of its own: one that writes, and reads while nobody writes, and one that
reads while somebody writes. In WAL mode that waits for no writer, however long its transaction takes. A holder of the
lock of reads takes no other one.

A damaged file is set aside under another name, and what can be read of it is taken into a new one. A file is
opened and replaced under the lock of its directory, and each write asks first whether the file is still in its
place, so that nothing is written to one that was set aside.

Every call holds a lock of its database, for which a fork waits (see `forking`).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from proxywhirl.errors import FormatVersionError, TierBusyError, TierError, UnstorableValue, WrongPlaceError
from proxywhirl.state.files import make_private_directory
from proxywhirl.state.forking import register
from proxywhirl.state.salvage import BESIDE, Salvaged, locked, opened_alone, put_aside, salvage, version_of

_log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000
CACHE_KIB = 65_536  # with less, a point read at 1,000,000 entries costs a fifth more
CHECKPOINT_PAGES = 4_000  # each checkpoint waits for the disk: so it is one write in a thousand that waits

Migrations = Sequence[Sequence[str]]

_CLOSED = apsw.Connection(":memory:")  # stands for the one that the parent of a forked process has
_CLOSED.close()

_OWNER = stat.S_IRUSR | stat.S_IWUSR
_DAMAGE = (apsw.NotADBError, apsw.CorruptError, UnicodeDecodeError)  # the last: text that was never written so


class Database:
    """A connection to one file, made with mode 0600 in a directory of mode 0700.

    `migrations[n]` are the statements that bring format n to n + 1; a new file runs them all. `connection` may be used
    within `writing` and `translated` alone, which hold `lock`, `reader` within `reading` alone. They are others after
    `reopen`, after a fork, and after a call that found that another process replaced the file. SQLite's errors leave as
    `TierError`. `make_whole` are the statements for what was saved from a damaged file; with None nothing is saved.

    Attributes:
        name: the file.
        lock: held by each write, and by an owner for several that belong together; may be taken again by its thread.
        reads: held by each read.
        damaged: a call met damage; `reopen` is the way out.
        patient: a write waits for other processes, up to 10 s; else `TierBusyError` says at once that one is writing.
        set_aside: where the last damaged file went that this object set aside.
        salvaged: what was saved of it.
    """

    connection: apsw.Connection
    reader: apsw.Connection

    def __init__(
        self, path: Path, migrations: Migrations, *, fsync: bool = False, make_whole: Sequence[str] | None = ()
    ) -> None:
        self.lock = threading.RLock()
        self.reads = threading.RLock()
        self.damaged = False
        self.patient = True
        self.set_aside: Path | None = None
        self.salvaged: Salvaged | None = None
        self._path = path
        self._fresh = Path(f"{path}.new")
        self.name = str(path)
        self._migrations = migrations
        self._fsync = fsync
        self._make_whole = make_whole
        self._data_version: object = None
        self._inode: tuple[int, int] | None = None
        self._closed = False
        self._closed_for_fork = False
        register(self)
        with self.lock:
            self._open()

    def reopen(self) -> None:
        """Set the file aside, copy all that can be read into a new one, and go on with that.

        One that another process has put in its place meanwhile is opened as it is.
        """
        with self.lock, self.reads:
            damaged = self._inode
            self._let_go()
            self._open(replace=damaged)

    def abandon(self) -> None:
        """Forget the connection without closing it, in a child after a fork: it is the parent's.

        Not even the end of the process may close it: that would wait for a lock that no thread of the child holds.
        """
        self._keep_for_ever()
        self._closed = True
        del self.connection, self.reader

    def _keep_for_ever(self) -> None:
        for connection in (self.connection, self.reader):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def close_for_fork(self) -> bool:
        """See `ForkAware`. The log stays as it is: closing waits for no disk."""
        with contextlib.suppress(AttributeError, apsw.ConnectionClosedError):  # not open yet, or no more
            if self.connection.in_transaction:
                return False
            with self.reads:
                self._let_go()
                self._closed_for_fork = True
        return True

    def reset_in_child(self) -> None:
        """See `ForkAware`."""
        self.lock, self.reads = threading.RLock(), threading.RLock()
        if not (self._closed_for_fork or self._closed):
            self._keep_for_ever()
            self.connection, self.reader, self._inode, self._closed_for_fork = _CLOSED, _CLOSED, None, True

    @contextlib.contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Run a write transaction: committed at the end, rolled back on any exception."""
        with self.translated("writing to"):
            self._begin()
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # some errors, such as a full disk, have rolled back already
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Hold the lock, and turn SQLite's errors into `TierError`, naming the file; a text can be at fault too."""
        with self.lock:
            try:
                if self._closed_for_fork:
                    self._rejoin()
                yield
            except UnicodeEncodeError:  # its text and its cause would show the value
                raise UnstorableValue(f"{doing} {self._path} failed: a text holds half a character") from None
            except (apsw.Error, UnicodeError) as exc:
                raise self.failure(doing, exc) from exc

    @contextlib.contextmanager
    def reading(self, doing: str = "reading") -> Iterator[apsw.Connection]:
        """Give a connection to read with, turning SQLite's errors into `TierError`; it waits for no writer."""
        lock, connection = self._free()
        error: Exception | None = None
        try:
            yield connection
        except UnicodeEncodeError:
            raise UnstorableValue(f"{doing} {self._path} failed: a text holds half a character") from None
        except (apsw.Error, UnicodeDecodeError) as exc:
            error = exc
        finally:
            lock.release()
        if error is not None:  # outside of the lock: it may need the other one
            raise self.failure(doing, error) from error

    def _free(self) -> tuple[threading.RLock, apsw.Connection]:
        """Take the lock of the connection that writes, if it is free: it has the last writes in memory.

        The one that reads has to read anew what was in memory before each write. Opens the file after a fork.
        """
        while True:
            if self.lock.acquire(False):
                if not self._closed_for_fork:
                    return self.lock, self.connection
                self.lock.release()
            else:
                self.reads.acquire()
                if not self._closed_for_fork:
                    return self.reads, self.reader
                self.reads.release()
            with self.translated("reading"):
                pass  # a fork has closed the file: it is open again

    def failure(self, doing: str, exc: Exception) -> TierError:
        """Return the `TierError` that tells of another library's error, naming the file and what to do."""
        if isinstance(exc, _DAMAGE):
            self.damaged = True
            return TierError(f"{self._path} is damaged or no database ({_plain(exc)})")
        if isinstance(exc, apsw.ConnectionClosedError) and not self._closed:
            with self.lock, self.reads:  # the file could not be opened at the last try
                if not _is_open(self.reader):
                    self._open()
        if isinstance(exc, apsw.BusyError):
            waited = f" for more than {BUSY_TIMEOUT_MS // 1000} s" if self.patient else ""
            return TierBusyError(f"{doing} {self._path} failed: another process holds it{waited} ({exc})")
        if isinstance(exc, (apsw.FullError, apsw.IOError)):
            return TierError(f"{doing} {self._path} failed: {exc}: make room on the disk, or see whether it is well")
        if isinstance(exc, (apsw.ReadOnlyError, apsw.CantOpenError, PermissionError)):
            closed = [
                str(path)
                for path in self._files()
                if os.access(path, os.F_OK) and not os.access(path, os.R_OK | os.W_OK)
            ]
            return TierError(
                f"{doing} {self._path} failed ({exc}): let this user write to "
                f"{' and '.join(closed) or 'the file and its directory'}, or name another home"
            )
        why = exc.strerror or exc if isinstance(exc, OSError) else exc
        return TierError(f"{doing} {self._path} failed: {why}")

    def changed_elsewhere(self) -> bool:
        """Whether another connection committed since the last call: one pragma and one look at the file's name.

        Raises:
            TierError: the file is gone.
        """
        with self.translated("reading"):
            replaced = self._follow_file()
            version = self.connection.pragma("data_version")
        changed = replaced or version != self._data_version
        self._data_version = version
        return changed

    def faults(self) -> list[str]:
        """Return what SQLite finds wrong with the pages of the file, up to ten faults; reads all of it."""
        try:
            with self.reading("examining") as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(10)")]
        except TierError as exc:
            return [str(exc)]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self.lock:
            if not self._closed:
                self._closed = True
                with self.reads:
                    self.reader.close()
                self.connection.close()

    def _rejoin(self) -> None:
        """Open the file again after a fork; what others wrote since the last look is not to be missed."""
        self._follow_file()
        self._closed_for_fork = False
        self._data_version = None

    def _begin(self) -> None:
        """Begin a write transaction on the file that is in place: one that was set aside meanwhile takes no more."""
        self._take_lock()
        try:
            if self._follow_file():
                self._take_lock()
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _take_lock(self) -> None:
        """Take SQLite's lock of writers. Reads wait for nobody, so that they keep the long time-out."""
        if self.patient:
            self.connection.execute("BEGIN IMMEDIATE")
            return
        self.connection.set_busy_timeout(0)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        finally:
            self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)

    def _follow_file(self) -> bool:
        """Open the file anew where another process has put another one in its place; return whether it did."""
        try:
            status = os.stat(self.name)  # noqa: PTH116  # on the way of every write; a Path is slower
        except OSError as exc:
            raise TierError(f"{self._path} is gone ({exc.strerror}): put it back, or start again without it") from exc
        if (status.st_dev, status.st_ino) == self._inode:
            return False
        with self.reads:
            self._let_go()
            self._open()
        return True

    def _let_go(self) -> None:
        """Close a connection to a file that may have another name now: SQLite would remove the log of the new one."""
        self._inode = None
        with self.reads:
            for connection in (self.reader, self.connection):
                with contextlib.suppress(apsw.ConnectionClosedError):
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                    connection.close(True)  # apsw's own signature

    def _open(self, replace: tuple[int, int] | None = None) -> None:
        """Open the file in place, a new one where it is damaged; without a look where it is the one to `replace`."""
        try:
            make_private_directory(self._path.parent)
            with locked(self._path.parent):
                if self._fresh.exists() and not self._path.exists():  # a process died while it replaced the file
                    self._fresh.replace(self._path)
                if replace is not None and _inode(self._path) == replace:
                    self._connect_anew("met while it was in use")
                elif _is_emptied(self._path):
                    self._connect_anew("it is empty")
                else:
                    try:
                        self._connect()
                    except (*_DAMAGE, _DamagedError) as exc:
                        self._connect_anew(_plain(exc))
                self._inode = _inode(self._path)
        except (OSError, apsw.Error) as exc:
            raise self.failure("opening", exc) from exc
        self.damaged = False

    def _connect_anew(self, why: str) -> None:
        """Make a new file of what can be read, and put it in the place of the damaged one when it is whole."""
        for suffix in ("", "-journal"):  # the remains of a process that died here
            Path(f"{self._fresh}{suffix}").unlink(missing_ok=True)
        self._fresh.touch(mode=0o600)
        self.salvaged = None
        with contextlib.closing(apsw.Connection(str(self._fresh))) as fresh, opened_alone(self._path) as damaged:
            self._migrate(fresh, 0, damaged)
            fresh.close()
            self.set_aside = put_aside(self._path)
            self._fresh.replace(self._path)
        _log.warning("%s is damaged (%s): it was set aside as %s", self._path, why, self.set_aside)
        self._connect()
        _log.warning("%s was made anew: %s", self._path, self.salvaged or "nothing was taken over")

    def _files(self) -> list[Path]:
        return [self._path.parent, *(Path(f"{self._path}{suffix}") for suffix in BESIDE)]

    def _open_side_files(self) -> None:
        """Let our own user write to what belongs to a file that may be written to.

        SQLite makes them with the mode that the file has then, and does not change it with that.
        """
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if mode & _OWNER != _OWNER:
            return
        for path in self._files()[2:]:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_uid == os.geteuid() and status.st_mode & _OWNER != _OWNER:
                    path.chmod(mode)

    def _connect(self) -> None:
        self._path.touch(mode=0o600)
        self._open_side_files()
        self.connection = self.reader = apsw.Connection(self.name)
        try:
            self._prepare()
            self._open_reader()
        except (*_DAMAGE, _DamagedError):
            self._let_go()
            raise
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        version = self._check_version()  # before anything is written
        self._check_schema(version)
        self._pragma("journal_mode", "wal")
        self._pragma("synchronous", 2 if self._fsync else 1)
        self._pragma("mmap_size", 0)
        self._pragma("cache_size", -CACHE_KIB)
        self.connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        if version != len(self._migrations):
            self._migrate(self.connection, version, None)
        self._data_version = self.connection.pragma("data_version")

    def _open_reader(self) -> None:
        """Open the connection that reads."""
        reader = apsw.Connection(self.name)
        try:
            reader.set_busy_timeout(BUSY_TIMEOUT_MS)
            for name, value in (("query_only", 1), ("mmap_size", 0), ("cache_size", -CACHE_KIB)):
                reader.pragma(name, value)
        except BaseException:
            reader.close()
            raise
        self.reader = reader

    def _pragma(self, name: str, value: str | int) -> None:
        self.connection.pragma(name, value)
        if (now := self.connection.pragma(name)) != value:
            raise TierError(f"{self._path}: SQLite keeps {name} at {now!r}; the file system may not allow {value!r}")

    def _check_version(self) -> int:
        version = self.connection.pragma("user_version")
        if not isinstance(version, int) or version > len(self._migrations):
            raise FormatVersionError(
                f"{self._path} has format version {version}; this program knows versions up to "
                f"{len(self._migrations)}: upgrade ProxyWhirl, or name another home"
            )
        return version

    def _check_schema(self, version: int) -> None:
        """Compare the tables with those that the migrations make: another program's file is never set aside."""
        found = _schema(self.connection)
        if version == 0 and not found:
            return
        model = apsw.Connection(":memory:")
        for statement in (statement for step in self._migrations[:version] for statement in step):
            model.execute(statement)
        expected = _schema(model)
        model.close()
        if version == 0 or not {name for name, _ in found} & {name for name, _ in expected}:
            raise WrongPlaceError(f"{self._path} is another program's database: name another path")
        if not expected <= found:
            raise _DamagedError("its tables are not those that were made")

    def _migrate(self, connection: apsw.Connection, version: int, damaged: apsw.Connection | None) -> None:
        """Bring a file to the newest format; a new one takes in what can be read of the damaged one on the way."""
        newest, salvaged_at = len(self._migrations), None
        connection.execute("BEGIN IMMEDIATE")
        if damaged is not None and self._make_whole is not None:
            salvaged_at = min(version_of(damaged) or newest, newest)
        for number, statements in enumerate(self._migrations[version:], start=version + 1):
            for statement in statements:
                connection.execute(statement)
            if number == salvaged_at and damaged is not None:
                self.salvaged = salvage(damaged, connection)
        for statement in (self._make_whole or ()) if salvaged_at is not None else ():
            connection.execute(statement)
        connection.pragma("user_version", newest)
        connection.execute("COMMIT")


class _DamagedError(Exception):
    """The file is not what was written."""


def _is_open(connection: apsw.Connection) -> bool:
    try:
        return connection.pragma("query_only") is not None
    except apsw.ConnectionClosedError:
        return False


def _plain(exc: Exception) -> str:
    """Say what is damaged without what was read."""
    return "text that cannot be read" if isinstance(exc, UnicodeDecodeError) else str(exc)


def _is_emptied(path: Path) -> bool:
    """Whether a file lost its content: a database is never empty once the lock of its directory is given back."""
    if path.exists():
        return path.stat().st_size == 0
    return any(Path(f"{path}{suffix}").exists() for suffix in BESIDE)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _schema(connection: apsw.Connection) -> set[tuple[str, str]]:
    rows = connection.execute("SELECT name, ifnull(sql, '') FROM sqlite_schema")
    return {(str(name), str(sql)) for name, sql in rows}
