"""Cache hits that were not written yet. Noting one takes no lock.

A record counts its own hits; what was handed on is remembered beside the count, so the difference is what is
still to be handed on: when the record leaves L1, or all that is gathered is to be written. Counting before looking
at `noted`, and clearing `noted` before reading the count, is what lets no hit fall between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from proxywhirl.cache.record import Record, counted
from proxywhirl.cache.tiers.eviction import Hits, Uses
from proxywhirl.cache.tiers.protocol import Access
from proxywhirl.validation import LARGEST

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
        self._gathered: dict[tuple[str, int], tuple[int, float, int]] = {}  # how many, when last, the count then shown
        self._written: dict[tuple[str, int], int] = {}  # that is being written, by the count that was shown last

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

    def add_to(self, record: Record) -> None:
        """Show on a record from the store the hits that are not in the store yet."""
        record.stored_count = stored = record.access_count
        key, place = record.key, (record.key, record.generation)
        if key in self._latest or place in self._gathered:
            count, at = self._unsaved(*place) or (0, 0.0)
            record.access_count = counted(stored, count)
            record.accessed_at = max(record.accessed_at, at)
        shown = self._written.get(place)
        if shown is not None:
            record.access_count = self._at_least(shown, record.access_count, stored)
        record.saved_count = record.access_count

    def hand_out(self, records: Sequence[Record], now: float) -> None:
        """Do as `add_to` with records that were read from below, and count a hit on each, which is handed on at once.

        Most of what is read from below leaves L1 before it is hit there, so that this is all there is to its hits.
        """
        latest, written = self._latest, self._written  # the latter may be another one at any moment
        with self._gathering:
            gathered, tick = self._gathered, self._uses.tick
            for record in records:
                key, generation, stored = record.key, record.generation, record.access_count
                count = stored + 1
                place = key, generation
                known = gathered.get(place)
                if known is not None:
                    count += known[0]
                if key in latest and latest[key].generation == generation:
                    count += latest[key].access_count - latest[key].saved_count
                if place in written:
                    count = self._at_least(written[place], count, stored)
                if count > LARGEST:  # noqa: PLR1730  # the call of `min` would cost each read more than it does
                    count = LARGEST
                if self._durable:
                    gathered[place] = 1 if known is None else known[0] + 1, tick(), count
                record.stored_count, record.access_count, record.saved_count = stored, count, count
                record.accessed_at = max(record.accessed_at, now)

    @staticmethod
    def _at_least(shown: int, count: int, stored: int) -> int:
        """Return the hits to show while some are being written: nobody knows whether the stored count has them."""
        return max(count, counted(shown, count - stored))

    def take(self) -> list[Access]:
        """Return everything that was gathered; `written` or `give_back` is to be called next."""
        with self._gathering:  # without which nothing is taken out
            while self._noted:
                self._gather(self._noted.popitem()[1])
            self._latest.clear()
            self._written = {place: shown for place, (_, _, shown) in self._gathered.items()}
            taken, self._gathered = self._gathered, {}
        return [Access(*place, count, at) for place, (count, at, _) in taken.items()]

    def written(self) -> None:
        """Forget what was taken: it is in the store."""
        self._written = {}

    def give_back(self, accesses: Iterable[Access]) -> None:
        """Take hits back that the store could not take; they are written with the next ones."""
        with self._gathering:
            for access in accesses:
                place = access.key, access.generation
                count, at, shown = self._gathered.get(place, (0, access.at, self._written.get(place, 0)))
                if count or len(self._gathered) < GATHERED_KEPT:
                    self._gathered[place] = count + access.count, max(at, access.at), shown
            self._written = {}

    def _unsaved(self, key: str, generation: int) -> Hits | None:
        """See `Uses`: what was gathered, and what the record that was handed out last has of its own."""
        gathered, known = self._gathered.get((key, generation)), self._latest.get(key)
        if known is None or known.generation != generation:
            return None if gathered is None else gathered[:2]
        count, at, _ = gathered or (0, 0.0, 0)
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
            before, latest, _ = known or (0, at, 0)
            self._gathered[place] = before + count, max(latest, at), total
