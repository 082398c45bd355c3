"""Which keys of an in-memory index have expired, found without looking at the others."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from proxywhirl.cache.record import NEVER_TIMESTAMP

__all__ = ["Expiries"]


class Expiries:
    """A heap of expiry times. Times that were renewed or removed are skipped when they surface."""

    def __init__(self, current: Callable[[str], float | None]) -> None:
        """Take a function that gives the present expiry time of a key, None where it is gone."""
        self._current = current
        self._heap: list[tuple[float, str]] = []
        self._compact_at = 1024

    def add(self, key: str, expires_at: float) -> None:
        """Note when a key expires; one that never does is not noted."""
        if expires_at >= NEVER_TIMESTAMP:
            return
        heapq.heappush(self._heap, (expires_at, key))
        if len(self._heap) > self._compact_at:
            self._heap = [item for item in set(self._heap) if self._current(item[1]) == item[0]]
            heapq.heapify(self._heap)
            self._compact_at = 2 * len(self._heap) + 1024

    def due(self, now: float, limit: int) -> list[str]:
        """Return up to `limit` expired keys; they stay noted until they are gone."""
        found: dict[str, float] = {}
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            expires_at, key = heapq.heappop(self._heap)
            if self._current(key) == expires_at:
                found[key] = expires_at
        for key, expires_at in found.items():
            heapq.heappush(self._heap, (expires_at, key))
        return list(found)
