"""The two clocks, as one object that can be injected.

Nothing else in the package reads the time. Tests pass `proxywhirl.testing.ManualClock`.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> float:
        """Return the wall-clock time in seconds since the Unix epoch (UTC)."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin; never goes back."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


SYSTEM_CLOCK = SystemClock()
