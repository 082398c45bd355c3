"""Notes beside the shards: each a small file of its own, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

from proxywhirl.cache.replacing import replace_file

__all__ = ["SUFFIX", "Notes"]

SUFFIX = ".meta"


class Notes:
    """The notes in a directory. Errors are `OSError`; the directory's lock is held for `write`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> str | None:
        """Return a note, None where there is none; what damage made unreadable is unlike all that was written."""
        try:
            return self._path(name).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None

    def write(self, name: str, value: str | None) -> None:
        """Replace a note, or remove it."""
        path = self._path(name)
        if value is None:
            path.unlink(missing_ok=True)
        else:
            temporary = path.with_name(f"{path.name}.tmp")
            os.close(replace_file(path, value.encode(), temporary=temporary))

    def beginning_with(self, prefix: str) -> dict[str, str]:
        """Return the notes whose names begin with something."""
        names = sorted(path.name.removesuffix(SUFFIX) for path in self._directory.glob(f"*{SUFFIX}"))
        notes = {name: self.read(name) for name in names if name.startswith(prefix)}
        return {name: value for name, value in notes.items() if value is not None}

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{SUFFIX}"
