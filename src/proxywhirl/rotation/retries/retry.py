"""How far requests are pursued: the attempts at one, and a budget of retries for all. Pure but for its clock.

Without a budget, a target that is down gets as many times its load as there are attempts, just when it can bear the
least. With one of a fifth it never gets more than six for five, whatever each request would like. A floor lets a
program that sends little retry at all.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.validation import require


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How far a request is pursued.

    Attributes:
        attempts: How many are made at one request at the most, the first included.
        rounds: How often each proxy may be tried for one request.
        unsafe: Whether methods that are not idempotent are sent again too, though they may have had their effect.

    Raises:
        TypeError: A value is of another kind.
        ValueError: `attempts` or `rounds` is less than 1.
    """

    attempts: int = 20
    rounds: int = 1
    unsafe: bool = False

    def __post_init__(self) -> None:
        """Refuse what would mean no attempt at all."""
        for name in ("attempts", "rounds"):
            require(name, getattr(self, name), int, "a whole number")
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        require("unsafe", self.unsafe, bool, "True or False")


_SLICES = 10
"""Pieces of the window: what leaves it does so a piece at a time, and every call costs the same."""


@dataclass(slots=True)
class _Slice:
    number: int = -1
    requests: int = 0
    retries: int = 0


class RetryBudget:
    """Allows retries up to a share of the requests within a window, or to a floor. Thread-safe; each call is O(1).

    Args:
        share: Retries for each request, 0.2 for a fifth.
        floor: Retries that are allowed in each window however few the requests.
        window: Seconds that are looked back on.
        clock: Its monotonic time moves the window.

    Raises:
        ValueError: `share` or `floor` is below 0, or `window` is not above it.
    """

    def __init__(
        self, *, share: float = 0.2, floor: int = 10, window: float = 10.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if not share >= 0 or not floor >= 0 or not window > 0:
            raise ValueError(f"share and floor must be 0 or more and window above 0, not {share}, {floor}, {window}")
        self._share = share
        self._floor = floor
        self._clock = clock
        self._width = window / _SLICES
        self._ring = [_Slice() for _ in range(_SLICES)]
        self._requests = 0
        self._retries = 0
        self._lock = threading.Lock()

    def note_request(self) -> None:
        """Count a request, its first attempt."""
        with self._lock:
            self._slice().requests += 1
            self._requests += 1

    def take(self) -> bool:
        """Count a retry where the budget allows one more, and tell whether it does."""
        with self._lock:
            current = self._slice()
            if self._retries + 1 > max(self._floor, self._share * self._requests):
                return False
            current.retries += 1
            self._retries += 1
            return True

    def give_back(self) -> None:
        """Uncount a retry that was allowed and not made."""
        with self._lock:
            current = self._slice()
            if current.retries:
                current.retries -= 1
                self._retries -= 1

    def spent(self) -> tuple[int, int]:
        """Return the retries and the requests of the window."""
        with self._lock:
            self._slice()
            return self._retries, self._requests

    def _slice(self) -> _Slice:
        """Let what is too old leave the window, and return the piece of now."""
        now = int(self._clock.monotonic() / self._width)
        for piece in self._ring:
            if piece.number <= now - _SLICES and piece.number >= 0:
                self._requests -= piece.requests
                self._retries -= piece.retries
                piece.number, piece.requests, piece.retries = -1, 0, 0
        current = self._ring[now % _SLICES]
        current.number = now
        return current
