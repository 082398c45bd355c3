"""Open an SQLite file the one way that is safe for several processes.

apsw carries its own SQLite: the system's may be older than 3.51.3, whose WAL-reset defect can damage a
database that several processes write. WAL, no mmap, one connection, every write in `BEGIN IMMEDIATE`. The version of
the format is in `user_version`: an older one is migrated, a newer one refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from proxywhirl.errors import FormatVersionError, TierError
from proxywhirl.state.directory import make_private_directory

__all__ = ["Database"]

BUSY_TIMEOUT_MS = 10_000


class Database:
    """A connection to one file, made with mode 0600 in a directory of mode 0700.

    `migrations[n]` are the statements that bring format n to n + 1; a new file runs them all. Not
    thread-safe: the owner's lock guards it. SQLite's errors leave as `TierError`.
    """

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]], *, fsync: bool = False) -> None:
        self._path = path
        self._data_version = 0
        with self.translated("opening"):
            make_private_directory(path.parent)
            path.touch(mode=0o600)
            self.connection = apsw.Connection(str(path))
            try:
                self._prepare(migrations, fsync=fsync)
            except BaseException:
                self.connection.close()
                raise

    def _prepare(self, migrations: Sequence[Sequence[str]], *, fsync: bool) -> None:
        self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._check_version(migrations)  # before anything is written
        self._pragma("journal_mode", "wal")
        self._pragma("synchronous", 2 if fsync else 1)
        self._pragma("mmap_size", 0)
        if self.connection.pragma("user_version") != len(migrations):
            with self.writing():
                self._migrate(migrations)
        self.changed_elsewhere()

    def _pragma(self, name: str, value: str | int) -> None:
        self.connection.pragma(name, value)
        if (now := self.connection.pragma(name)) != value:
            raise TierError(f"{self._path}: SQLite keeps {name} at {now!r}; the file system may not allow {value!r}")

    def _check_version(self, migrations: Sequence[Sequence[str]]) -> int:
        version = self.connection.pragma("user_version")
        if not isinstance(version, int) or version > len(migrations):
            raise FormatVersionError(
                f"{self._path} has format version {version}; this program knows versions up to {len(migrations)}: "
                "upgrade ProxyWhirl, or name another home"
            )
        return version

    def _migrate(self, migrations: Sequence[Sequence[str]]) -> None:
        for statements in migrations[self._check_version(migrations) :]:
            for statement in statements:
                self.connection.execute(statement)
        self.connection.pragma("user_version", len(migrations))

    @contextlib.contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Run a write transaction: committed at the end, rolled back on any exception."""
        with self.translated("writing to"):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # some errors, such as a full disk, have rolled back already
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn SQLite's and the system's errors into `TierError`, naming the file."""
        try:
            yield
        except (apsw.NotADBError, apsw.CorruptError) as exc:
            raise TierError(f"{self._path} is damaged or no database ({exc}): move it away to start anew") from exc
        except apsw.Error as exc:
            raise TierError(f"{doing} {self._path} failed: {exc}") from exc
        except OSError as exc:
            raise TierError(f"{doing} {self._path} failed: {exc.strerror or exc}") from exc

    def changed_elsewhere(self) -> bool:
        """Whether another connection committed since the last call: one pragma, about 2 µs."""
        with self.translated("reading"):
            version = self.connection.pragma("data_version")
        changed = bool(version != self._data_version)
        self._data_version = version
        return changed

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self.connection.close()
