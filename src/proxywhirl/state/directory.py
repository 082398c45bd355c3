"""Make the directories that hold what only their owner may read."""

from __future__ import annotations

from pathlib import Path


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
