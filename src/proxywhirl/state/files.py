"""Write files so that others see the old content or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path

_NEW = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def replace_file(path: Path, data: bytes, *, temporary: Path, sync_name: bool = False) -> int:
    """Put a new file of mode 0600 in the place of a path; return its descriptor, which appends.

    The content is on the disk before it has the name, or a power cut could leave the name with nothing in it; with
    `sync_name` the name is there for good as well.

    Raises:
        OSError: the old file stands.
    """
    fd = os.open(temporary, _NEW, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
        temporary.replace(path)
        if sync_name:
            _sync(path.parent)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_all(fd: int, data: bytes) -> None:
    """Write everything, in one system call where the system allows."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
