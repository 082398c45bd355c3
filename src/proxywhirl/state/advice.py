"""What to do about an error of the file system: so that a message ends in a deed and not in an error number."""

from __future__ import annotations

import errno
from pathlib import Path

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
    """Say what failed at a place, of which file, why, and what to do where that is known."""
    reason = exc.strerror or str(exc)
    file = exc.filename if isinstance(exc.filename, str | Path) else None
    what = f"{doing} {place} failed: {reason}"
    if file is not None and str(file) != str(place):
        what += f" ({file})"
    deed = _DEEDS.get(exc.errno or 0)
    return f"{what}: {deed}" if deed else what
