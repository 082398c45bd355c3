"""How much this process can have under way at once: how many sockets, and whether its event loop keeps up.

A loop that is too busy looks at its sockets late. `LagMeter` sets a timer in turns: each comes late by as long as the
loop was held up. What fails while the loop stood still may have answered in time: nobody looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxywhirl.errors import SettingsError

_SPARE = 64  # descriptors for files, logs and databases that are opened meanwhile
_TURN = 0.02  # seconds between two looks at the loop


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


class LagMeter:
    """Adds up how late the running loop's timers come; belongs to one loop."""

    __slots__ = ("_due", "_late", "_timer", "_users")

    def __init__(self) -> None:
        self._late = 0.0
        self._due = 0.0
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measure for the length of a block; blocks may overlap."""
        self._users += 1
        if self._timer is None:
            self._set()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def stalled(self) -> float:
        """Return the seconds by which timers came late so far, the one that is late now included."""
        if self._timer is None:
            return self._late
        return self._late + max(0.0, asyncio.get_running_loop().time() - self._due)

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + _TURN
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._late = self.stalled()
        self._set()
