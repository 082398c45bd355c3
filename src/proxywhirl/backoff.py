"""How long to wait before something that failed is tried again: longer with each failure in a row, up to a limit. Pure.

`Backoff` says how long. Jitter spreads over time what failed together: many processes, or many proxies behind a network
that was away. `Trials` counts the failures of one thing, and says whether it is to be tried now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_STEPS = 64  # enough to reach every limit; a power of many more would overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits in seconds: the `first`, then each `growth` times as long as the one before, none over the `longest`.

    >>> [Backoff(1.0, 60.0).seconds(failures) for failures in (1, 2, 3, 1_000)]
    [1.0, 2.0, 4.0, 60.0]
    """

    first: float
    longest: float
    growth: float = 2.0

    def seconds(self, failures: int) -> float:
        """Return the wait after so many failures in a row, 1 or more."""
        return min(self.longest, self.first * self.growth ** min(failures - 1, _STEPS))

    def jittered(self, failures: int, rng: Random, *, least: float = 0.0) -> float:
        """Draw a wait evenly up to `seconds`; from zero (full jitter), or from this share of it."""
        longest = self.seconds(failures)
        return rng.uniform(longest * least, longest)


class Trials:
    """When something is tried again that failed, which it did `failures` times in a row. Only `due` is thread-safe."""

    def __init__(self, backoff: Backoff, monotonic: Callable[[], float]) -> None:
        self._backoff = backoff
        self._monotonic = monotonic
        self.failures = 0
        self._next_at = 0.0

    @property
    def due(self) -> bool:
        """Whether to try it: it did not fail, or the wait is over."""
        return not self.failures or self._monotonic() >= self._next_at

    def fail(self) -> float:
        """Begin the next wait; return its seconds."""
        self.failures += 1
        wait = self._backoff.seconds(self.failures)
        self._next_at = self._monotonic() + wait
        return wait

    def succeed(self) -> None:
        """Begin with the first wait the next time."""
        self.failures = 0
