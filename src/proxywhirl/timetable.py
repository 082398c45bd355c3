"""Keys ordered by the moment at which each is due: proxies that are set aside, checks to come. Pure.

A heap with lazy deletion: `_at` is the truth, and an entry of the heap that differs from it is stale and
skipped when it surfaces. Stale entries never outnumber the valid ones by more than a constant, so that the
same key may be put in forever without memory growing.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

__all__ = ["Timetable"]

_SLACK = 64  # stale entries that are not worth rebuilding a heap for


class Timetable:
    """Keys with the time, on the caller's clock, at which each is due."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __contains__(self, key: str) -> bool:
        return key in self._at

    def due_at(self, key: str) -> float | None:
        """Return when the key is due, None where it is not in."""
        return self._at.get(key)

    def put(self, key: str, at: float) -> None:
        """Put a key in, or change when it is due."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        self._compact()

    def discard(self, key: str) -> bool:
        """Take a key out; tell whether it was in."""
        found = self._at.pop(key, None) is not None
        self._compact()
        return found

    def pop_due(self, now: float) -> str | None:
        """Take out and return the key that is due first, None where none is due at `now`."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._at[key]
        return key

    def next_at(self) -> float | None:
        """Return when the first key is due, None where there is none."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def first(self, exclude: Collection[str]) -> str | None:
        """Return the key that is due first and not excluded; it stays in."""
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
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)
