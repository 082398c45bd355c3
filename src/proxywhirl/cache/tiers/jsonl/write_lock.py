"""The mark of a directory (see `format.Mark`), whose file is the lock of writers.

The line is written in place, and the file is never replaced: its lock is the directory's lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from proxywhirl.cache.tiers.jsonl.format import MARK_BYTES, Mark, encode_mark
from proxywhirl.errors import TierBusyError
from proxywhirl.state.contention import pauses
from proxywhirl.state.files import make_private_directory

LOCK_TIMEOUT_SECONDS = 10.0


class WriteLock:
    """The mark and the lock, made with mode 0600. Errors are `OSError`, except for a lock that stays taken.

    The lock belongs to the descriptor: a second one in the same process waits like another process does, and a
    child that closes its copy takes nothing from its parent. With `patient` false it does not wait.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.patient = True
        self._fd = -1
        self._open()

    def read(self) -> bytes:
        """Return the line as it is now, b"" where none was written yet."""
        return os.pread(self._fd, MARK_BYTES, 0)

    def write(self, mark: Mark, *, fsync: bool = False) -> bytes:
        """Replace the line, and return it."""
        line = encode_mark(mark)
        if os.pwrite(self._fd, line, 0) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fsync:
            os.fsync(self._fd)
        return line

    def is_gone(self) -> bool:
        """Whether the file was removed, most likely with its directory."""
        return os.fstat(self._fd).st_nlink == 0

    def lock(self) -> bool:
        """Wait until no other writer holds the lock; return whether the file had to be made anew.

        Raises:
            TierBusyError: another one kept it for `LOCK_TIMEOUT_SECONDS`, or has it where this is not `patient`.
        """
        if self._fd < 0:
            raise OSError(errno.EBADF, "it is closed")
        anew = False
        self._wait()
        while self.is_gone():  # the locked file must be the one that others see
            self.close()
            self._open()
            self._wait()
            anew = True
        return anew

    def unlock(self) -> None:
        """Let others write."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back, without unlocking what a parent process may hold. Idempotent."""
        fd, self._fd = self._fd, -1  # first: a fork may come between
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        make_private_directory(self.path.parent)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _wait(self) -> None:
        """Take the lock."""
        for _ in pauses(LOCK_TIMEOUT_SECONDS if self.patient else 0.0):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return
        waited = f" for {LOCK_TIMEOUT_SECONDS:g} s" if self.patient else ""
        raise TierBusyError(f"{self.path.parent} stayed locked by another process{waited}")
