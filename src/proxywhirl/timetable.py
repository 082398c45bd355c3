"""Keys ordered by the moment at which each is due: proxies that are set aside, checks to come. Pure.

A heap with lazy deletion: `at` is the truth, and an entry of the heap that differs from it is stale and
skipped when it surfaces. Stale entries never outnumber the valid ones by more than a constant, so that the
same key may be put in forever without memory growing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", str, tuple[str, str])

_PASSED = 32  # keys that are not admitted, until it is cheaper to look at all than to take more from the heap
_SLACK = 64  # stale entries that are not worth rebuilding a heap for


class Timetable(Generic[K]):
    """Keys with the time, on the caller's clock, at which each is due: `at`, which is read and never written to."""

    def __init__(self) -> None:
        self.at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self.at)

    def __iter__(self) -> Iterator[K]:
        return iter(self.at)

    def __contains__(self, key: K) -> bool:
        return key in self.at

    def put(self, key: K, at: float) -> None:
        """Put a key in, or change when it is due."""
        self.at[key] = at
        heapq.heappush(self._heap, (at, key))
        self._compact()

    def discard(self, key: K) -> bool:
        """Take a key out; tell whether it was in."""
        if self.at.pop(key, None) is None:
            return False
        self._compact()
        return True

    def pop_due(self, now: float) -> K | None:
        """Take out and return the key that is due first, None where none is due at `now`."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self.at[key]
        return key

    def next_at(self) -> float | None:
        """Return when the first key is due, None where there is none."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def first(self, admits: Callable[[K], bool]) -> K | None:
        """Return the key that is due first of those that `admits` says yes to; it stays in."""
        passed: list[tuple[float, K]] = []
        found: K | None = None
        while found is None and len(passed) < _PASSED:
            self._drop_stale()
            if not self._heap:
                break
            if admits(self._heap[0][1]):
                found = self._heap[0][1]
            else:
                passed.append(heapq.heappop(self._heap))
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return self._search(admits) if len(passed) == _PASSED else found

    def _search(self, admits: Callable[[K], bool]) -> K | None:
        best: tuple[float, K] | None = None
        for key, at in self.at.items():
            if (best is None or (at, key) < best) and admits(key):
                best = (at, key)
        return None if best is None else best[1]

    def _drop_stale(self) -> None:
        while self._heap and self.at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self.at) + _SLACK:
            self._heap = [(at, key) for key, at in self.at.items()]
            heapq.heapify(self._heap)
