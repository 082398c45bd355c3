"""How many sockets this process may have open at once, and how to be allowed more."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from proxywhirl.errors import SettingsError

_SPARE = 64  # descriptors for files, logs and databases that are opened meanwhile


@dataclass(frozen=True, slots=True)
class Room:
    """How many sockets there is room for; `note` says what was changed, None where nothing had to be."""

    sockets: int
    note: str | None = None


def make_room(wanted: int, in_use: int | None = None) -> Room:
    """Make room for so many sockets: raise the soft limit as far as the hard one allows, and settle for less beyond it.

    Args:
        wanted: How many sockets will be open at the same time, 1 or more.
        in_use: How many descriptors are open already; None: count them.

    Raises:
        SettingsError: There is not room for one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = (_open_descriptors() if in_use is None else in_use) + _SPARE
    needed = wanted + taken
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return Room(wanted)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        except (OSError, ValueError):  # some systems have a lower ceiling than the hard limit says
            allowed = soft
    if allowed == needed:
        return Room(wanted, f"raised the limit of open files from {soft} to {allowed} for {wanted} sockets at once")
    room = max(allowed, soft) - taken
    if room < 1:
        raise SettingsError(f"the limit of open files is {allowed}, and {taken} are taken: raise it with `ulimit -n`")
    return Room(room, f"{room} at once instead of {wanted}: the limit of open files is {allowed} (`ulimit -n`)")


def _open_descriptors() -> int:
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:  # not every system shows them
        return _SPARE
