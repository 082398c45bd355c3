"""Cache hits that were not written yet. Noting one takes no lock; the rest is called under the manager's lock."""

from __future__ import annotations

from collections import deque

from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Access

__all__ = ["HitLog"]


class HitLog:
    """Hits by key and generation, gathered until they are written in a batch.

    With `durable` false nothing outlives the process, and nothing is gathered.
    """

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable
        self._fresh: deque[tuple[str, int, float]] = deque()
        self._gathered: dict[tuple[str, int], tuple[int, float]] = {}

    def note(self, record: Record, now: float) -> None:
        """Count a hit on a record that is handed out."""
        record.access_count += 1
        record.accessed_at = max(record.accessed_at, now)
        if self._durable:
            self._fresh.append((record.key, record.generation, now))

    def add_to(self, record: Record) -> None:
        """Add the hits that are not in the store yet to a record that was read from it."""
        self._gather()
        count, at = self._gathered.get((record.key, record.generation), (0, 0.0))
        record.access_count += count
        record.accessed_at = max(record.accessed_at, at)

    def take(self) -> list[Access]:
        """Return everything that was gathered, and forget it."""
        self._gather()
        accesses = [Access(key, generation, *hits) for (key, generation), hits in self._gathered.items()]
        self._gathered = {}
        return accesses

    def _gather(self) -> None:
        while self._fresh:
            key, generation, at = self._fresh.popleft()
            count, _ = self._gathered.get((key, generation), (0, 0.0))
            self._gathered[key, generation] = (count + 1, at)
