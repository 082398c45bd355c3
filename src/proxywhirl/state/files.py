"""Files and directories that only their owner may read, written so that others see the old content or the new one.

Also what to do about an error of the file system, so that a message ends in a deed and not in an error number.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_END = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_DEEDS = {
    errno.EACCES: "let this user read and write it (`proxywhirl doctor --repair` can, where it is this user's own)",
    errno.EPERM: "let this user read and write it",
    errno.EEXIST: "a file stands where a directory belongs: move it away",
    errno.ENOTDIR: "a file stands where a directory belongs: move it away",
    errno.EISDIR: "a directory stands where a file belongs: move it away",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EROFS: "its file system is mounted read-only: name another home",
}


def explained(exc: OSError, doing: str, place: Path) -> str:
    """Say what failed, of which file, why, and what to do where that is known."""
    reason = exc.strerror or str(exc)
    file = exc.filename if isinstance(exc.filename, str | Path) else None
    what = f"{doing} {place} failed: {reason}"
    if file is not None and str(file) != str(place):
        what += f" ({file})"
    deed = _DEEDS.get(exc.errno or 0)
    return f"{what}: {deed}" if deed else what


def make_private_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, each with mode 0700; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path]
    while not (above := missing[-1].parent).exists():
        missing.append(above)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def replacing(
    path: Path, *, temporary: Path | None = None, mode: int = 0o600, sync_name: bool = False
) -> Iterator[BinaryIO]:
    """Give a new file to write to, which has the place of a path at the end; if anything is raised the old one stays.

    The content is on the disk before it has the name, or a power cut could leave the name with nothing in it; with
    `sync_name` the name is there for good as well. `temporary` is the name until then, else that with `.tmp`.

    Raises:
        OSError: the old file stands.
    """
    temporary = temporary or path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o600), "wb") as stream:
            if mode != 0o600:  # noqa: PLR2004  # as it was made
                os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_directory(path.parent)


def replace_file(
    path: Path, data: bytes, *, temporary: Path | None = None, mode: int = 0o600, sync_name: bool = False
) -> None:
    """Put a new file with some content in the place of a path, as `replacing` does."""
    with replacing(path, temporary=temporary, mode=mode, sync_name=sync_name) as stream:
        stream.write(data)


def append_file(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Write at the end of a file, which is made with mode 0600 where there is none. Raises `OSError`."""
    fd = os.open(path, _END, 0o600)
    try:
        write_all(fd, data)
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, in one system call where the system allows."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(directory: Path) -> None:
    """Make it durable that names came to a directory or went from it. Raises `OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
