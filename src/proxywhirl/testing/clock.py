"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """A `proxywhirl.clock.Clock` for tests.

    Args:
        now: The wall-clock time in seconds since the Unix epoch; the default is 2025-01-01T00:00:00Z.
        monotonic: The monotonic time in seconds.

    >>> clock = ManualClock(now=100.0)
    >>> clock.advance(5)
    >>> clock.now(), clock.monotonic()
    (105.0, 5.0)
    """

    __slots__ = ("_monotonic", "_now")

    def __init__(self, now: float = 1_735_689_600.0, monotonic: float = 0.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        """Return the wall-clock time in seconds since the Unix epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises:
            ValueError: `seconds` is negative: a monotonic clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"a clock cannot be advanced by {seconds} seconds")
        self._now += seconds
        self._monotonic += seconds
