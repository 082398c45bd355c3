"""The lock of the second tier's directory, and the note that names the backend with its entries.

Each open cache holds a shared lock on the directory; a move of the entries needs it exclusively. The death of a process
frees its lock. After a move a note names the backend that has the entries: else the place that they left would be taken
for an empty store.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from proxywhirl.cache.manifest import BACKEND, IN_USE
from proxywhirl.cache.models import CacheConfig, L2BackendType
from proxywhirl.errors import TierError, WrongPlaceError
from proxywhirl.state.files import explained, make_private_directory, replace_file

BACKENDS = frozenset(backend.value for backend in L2BackendType)


def backend_of(config: CacheConfig) -> str | None:
    """Return the built-in backend of the second tier; None where it is off or another package's."""
    name = config.l2_tier or config.l2_backend.value
    return name if config.l2_config.holds_entries and name in BACKENDS else None


class DirectoryLock:
    """The lock, held until `close`; made with mode 0600. In a forked child, closing takes nothing from the parent.

    Raises:
        WrongPlaceError: it is held alone by another process or, where `alone` is asked for, by any other.
        TierError: it cannot be made.
    """

    def __init__(self, directory: Path, *, alone: bool = False) -> None:
        try:
            make_private_directory(directory)
            self._fd = os.open(directory / IN_USE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise TierError(explained(exc, "opening", directory)) from exc
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as exc:
            self.close()
            if not isinstance(exc, BlockingIOError):
                raise TierError(f"locking {directory / IN_USE} failed: {exc.strerror or exc}") from exc
            what = (
                "another process has the store open: stop what uses it, and run this again"
                if alone
                else "its entries are being moved by `proxywhirl migrate`: try again when that has ended"
            )
            raise WrongPlaceError(f"{directory}: {what}") from exc

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        fd, self._fd = self._fd, -1  # first: a fork may come between
        if fd >= 0:
            os.close(fd)


def moved_to(directory: Path) -> str | None:
    """Return the backend that has the entries of a directory after the last move; None where none was.

    Raises:
        TierError: that cannot be read.
    """
    path = directory / BACKEND
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise TierError(explained(exc, "reading", path)) from exc
    if text not in BACKENDS:
        names = " or ".join(sorted(BACKENDS))
        raise TierError(f"{path} is damaged: write {names} into it, whichever has the entries")
    return text


def note_backend(directory: Path, name: str) -> None:
    """Note which backend has the entries; when this returns, that survives a power cut.

    Raises:
        TierError: it cannot be written; the note before stays.
    """
    path = directory / BACKEND
    try:
        replace_file(path, f"{name}\n".encode(), temporary=path.with_suffix(".new"), sync_name=True)
    except OSError as exc:
        raise TierError(explained(exc, "writing", path)) from exc


def check_backend(directory: Path, name: str) -> None:
    """Refuse to open the place that the entries have left.

    Raises:
        WrongPlaceError: the message says what to set.
    """
    there = moved_to(directory)
    if there not in {None, name}:
        raise WrongPlaceError(
            f"the entries of {directory} were moved from {name} to {there}: set cache.l2_backend "
            f"(or PROXYWHIRL_CACHE_L2_BACKEND) to {there}, or move them back with `proxywhirl migrate --to {name}`"
        )
