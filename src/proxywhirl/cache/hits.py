"""Cache hits that were not written yet. Noting one takes no lock.

A record counts its own hits; what was handed on is remembered beside the count, so the difference is what is
still to be written. Counting before looking at `noted`, and clearing `noted` before reading the count, is
what lets no hit fall between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Access

__all__ = ["HitLog"]

OWED_KEPT = 100_000


class HitLog:
    """Hits by key and generation, until they are written in a batch. With `durable` false none are gathered."""

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable
        self._taking = threading.Lock()
        self._noted: deque[Record] = deque()
        self._latest: dict[str, Record] = {}
        self._owed: dict[tuple[str, int], Access] = {}

    def note(self, record: Record, now: float) -> None:
        """Count a hit on a record that is handed out."""
        record.access_count += 1
        record.accessed_at = max(record.accessed_at, now)
        if not record.noted:
            self.note_first(record)

    def note_first(self, record: Record) -> None:
        """Remember a record whose hits are to be written."""
        record.noted = True
        if self._durable:
            self._noted.append(record)
            self._latest[record.key] = record

    def add_to(self, record: Record) -> None:
        """Add the hits that are not in the store yet to a record that was read from it."""
        self.carry(self._latest.get(record.key), record)
        owed = self._owed.get((record.key, record.generation))
        if owed is not None:
            record.access_count += owed.count
            record.accessed_at = max(record.accessed_at, owed.at)
        record.saved_count = record.access_count

    def renew(self, known: Record | None, record: Record) -> None:
        """Show on a changed record the hits of the `known` one in L1, or of the one that was there last."""
        self.carry(known or self._latest.get(record.key), record)

    @staticmethod
    def carry(known: Record | None, record: Record) -> None:
        """Show on a record from the store the hits of the one that was handed out until now, if it is the same entry.

        That one has some of its own to save, and may show more, which others before it have.
        """
        if known is not None and known.generation == record.generation:
            unsaved = known.access_count - known.saved_count
            record.access_count = max(record.access_count + unsaved, known.access_count)
            record.accessed_at = max(record.accessed_at, known.accessed_at)
        record.saved_count = record.access_count

    def take(self) -> list[Access]:
        """Return everything that was gathered, and forget it."""
        with self._taking:
            taken, self._owed = self._owed, {}
            while self._noted:
                record = self._noted.popleft()
                record.noted = False
                total = record.access_count
                count, record.saved_count = total - record.saved_count, total
                if count:
                    self._add(taken, Access(record.key, record.generation, count, record.accessed_at))
            self._latest.clear()
            return list(taken.values())

    def give_back(self, accesses: Iterable[Access]) -> None:
        """Take hits back that the store could not take; they are written with the next ones."""
        with self._taking:
            for access in accesses:
                if len(self._owed) < OWED_KEPT:
                    self._add(self._owed, access)

    @staticmethod
    def _add(into: dict[tuple[str, int], Access], access: Access) -> None:
        place = (access.key, access.generation)
        known = into.get(place)
        if known is not None:
            access = Access(*place, known.count + access.count, max(known.at, access.at))
        into[place] = access
