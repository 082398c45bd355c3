"""Cache hits that were not written yet. Noting one takes no lock.

A record counts its own hits; what was handed on is remembered beside the count, so the difference is what is
still to be handed on: when the record leaves L1, or all that is gathered is to be written. Counting before looking
at `noted`, and clearing `noted` before reading the count, is what lets no hit fall between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from proxywhirl.cache.record import Record
from proxywhirl.cache.standing import Hits, Uses
from proxywhirl.cache.storable import LARGEST, counted
from proxywhirl.cache.tier import Access

__all__ = ["HitLog"]

GATHERED_KEPT = 100_000
NEAR_THE_END = LARGEST - 2**32


class HitLog:
    """Hits by key and generation, until they are written in a batch. With `durable` false none are gathered."""

    def __init__(self, *, durable: bool, uses: Uses | None = None) -> None:
        self._durable = durable
        self._uses = uses or Uses()
        self._uses.unsaved = self._unsaved
        self._gathering = threading.Lock()
        self._noted: dict[int, Record] = {}  # by the identity of the record, of which a key may have had several
        self._latest: dict[str, Record] = {}
        self._gathered: dict[tuple[str, int], Hits] = {}

    def note(self, record: Record, now: float) -> None:
        """Count a hit on a record that is handed out."""
        record.access_count += 1
        record.accessed_at = max(record.accessed_at, now)
        if not record.noted:
            self.note_first(record)

    def note_first(self, record: Record) -> None:
        """Remember a record whose hits are to be written. One whose count nears its end comes here with each hit."""
        record.access_count = counted(record.access_count, 0)
        record.noted = record.access_count < NEAR_THE_END
        if self._durable:
            self._noted[id(record)] = record
            self._latest[record.key] = record

    def let_go(self, record: Record) -> None:
        """Gather the hits of a record that leaves L1. One that another thread still counts for is noted again."""
        with self._gathering:
            if self._noted.pop(id(record), None) is not None:
                self._gather(record)

    def add_to(self, record: Record, known: Record | None = None) -> None:
        """Show on a record from the store the hits that are not in the store yet.

        `known` is the one in L1, else it is the one that was handed out last: it has some of its own to hand on, and
        may show more, which others before it have.
        """
        record.stored_count = record.access_count
        gathered = self._gathered.get((record.key, record.generation))
        if gathered is not None:
            record.access_count = counted(record.access_count, gathered[0])
            record.accessed_at = max(record.accessed_at, gathered[1])
        known = known or self._latest.get(record.key)
        if known is not None and known.generation == record.generation:
            unsaved = known.access_count - known.saved_count
            record.access_count = max(counted(record.access_count, unsaved), known.access_count)
            record.accessed_at = max(record.accessed_at, known.accessed_at)
        record.saved_count = record.access_count

    def hand_out(self, records: Sequence[Record], now: float) -> None:
        """Do as `add_to` with records that were read from below, and count a hit on each, which is handed on at once.

        Most of what is read from below leaves L1 before it is hit there, so that this is all there is to its hits.
        """
        latest = self._latest
        with self._gathering:
            gathered, tick = self._gathered, self._uses.tick
            for record in records:
                key, stored = record.key, record.access_count
                count = stored + 1
                if self._durable:
                    place = key, record.generation
                    known = gathered.get(place)
                    if known is None:
                        gathered[place] = 1, tick()
                    else:
                        gathered[place] = known[0] + 1, tick()
                        count += known[0]
                if key in latest:
                    count = self._shown(record, latest[key], count)
                if count > LARGEST:  # noqa: PLR1730  # the call of `min` would cost each read more than it does
                    count = LARGEST
                record.stored_count, record.access_count, record.saved_count = stored, count, count
                record.accessed_at = max(record.accessed_at, now)

    @staticmethod
    def _shown(record: Record, known: Record, count: int) -> int:
        """Return the hits to show on a record with `count`, when `known` was handed out last under its key."""
        if known.generation != record.generation:
            return count
        return max(count + known.access_count - known.saved_count, known.access_count + 1)

    def take(self) -> list[Access]:
        """Return everything that was gathered, and forget it."""
        with self._gathering:  # without which nothing is taken out
            while self._noted:
                self._gather(self._noted.popitem()[1])
            self._latest.clear()
            taken, self._gathered = self._gathered, {}
        return [Access(*place, *hits) for place, hits in taken.items()]

    def give_back(self, accesses: Iterable[Access]) -> None:
        """Take hits back that the store could not take; they are written with the next ones."""
        with self._gathering:
            for access in accesses:
                place = access.key, access.generation
                count, at = self._gathered.get(place, (0, access.at))
                if count or len(self._gathered) < GATHERED_KEPT:
                    self._gathered[place] = count + access.count, max(at, access.at)

    def _unsaved(self, key: str, generation: int) -> Hits | None:
        """See `Uses`: what was gathered, and what the record that was handed out last has of its own."""
        hits, known = self._gathered.get((key, generation)), self._latest.get(key)
        if known is None or known.generation != generation:
            return hits
        count, at = hits or (0, 0.0)
        return count + known.access_count - known.saved_count, max(at, known.accessed_at)

    def _gather(self, record: Record) -> None:
        key = record.key
        if self._latest.get(key) is record:
            del self._latest[key]
        record.noted = False
        total = record.access_count
        count, record.saved_count = total - record.saved_count, total
        if count:
            place, at = (key, record.generation), record.accessed_at
            known = self._gathered.get(place)
            self._gathered[place] = (count, at) if known is None else (known[0] + count, max(known[1], at))
