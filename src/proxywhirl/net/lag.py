"""How much of the time the event loop was too busy to look at its sockets.

A timer is set in turns; each comes late by as long as the loop was held up. What fails while the loop stood still may
have answered in time: nobody looked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

_TURN = 0.02  # seconds between two looks


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
