"""The proxies that are set aside, ordered by the moment at which each is due again. Pure.

A heap with lazy deletion: `_until` is the truth, and an entry of the heap that differs from it is stale and
skipped when it surfaces. Stale entries never outnumber the valid ones by more than a constant, so that the
same proxy may be set aside forever without memory growing.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

__all__ = ["SetAside"]

_SLACK = 64  # stale entries that are not worth rebuilding a heap for


class SetAside:
    """Keys with the time, on the caller's clock, until which each is set aside."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: str) -> bool:
        return key in self._until

    def until(self, key: str) -> float | None:
        """Return when the key is due, None where it is not set aside."""
        return self._until.get(key)

    def put(self, key: str, until: float) -> None:
        """Set a key aside, or change until when it is."""
        self._until[key] = until
        heapq.heappush(self._heap, (until, key))
        self._compact()

    def discard(self, key: str) -> bool:
        """Take a key out; tell whether it was set aside."""
        found = self._until.pop(key, None) is not None
        self._compact()
        return found

    def pop_due(self, now: float) -> str | None:
        """Take out and return the key that is due first, None where none is due at `now`."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._until[key]
        return key

    def first(self, exclude: Collection[str]) -> str | None:
        """Return the key that is due first and not excluded; it stays set aside."""
        passed: list[tuple[float, str]] = []
        found: str | None = None
        while found is None:
            self._drop_stale()
            if not self._heap:
                break
            if self._heap[0][1] in exclude:
                passed.append(heapq.heappop(self._heap))
            else:
                found = self._heap[0][1]
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def _drop_stale(self) -> None:
        while self._heap and self._until.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._until) + _SLACK:
            self._heap = [(until, key) for key, until in self._until.items()]
            heapq.heapify(self._heap)
