"""The part of the cache in memory: L1, the promotion queue for L2, and the hits that are not written yet.

Three things follow the log together, under one lock that is never held while a durable tier works (`NearCache`):

- the records of L1;
- the promotion queue: records that wait to be written into L2, where promotions and single puts go in batches;
- the loads under way, which are told when the keys that they read were changed meanwhile (`RecentChanges`).

A hit takes this way (`HitLog`):

1. Noted: the record in L1 counts its own hits. This takes no lock. `noted` says that it has some to hand on, the
   difference between `access_count` and `saved_count`.
2. Gathered by key and generation: when the record leaves L1, or all is to be written.
3. Written in a batch (`take`, then `written` or `give_back`).

A hit is counted before `noted` is looked at, and `noted` is cleared before the count is read: no hit falls between.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from operator import attrgetter

from proxywhirl.cache.coordination.handoff import Handoff
from proxywhirl.cache.record import COLUMNS, Record, counted
from proxywhirl.cache.tiers.eviction import Hits, Uses
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Access, Followed, Stretch
from proxywhirl.validation import LARGEST

GATHERED_KEPT = 100_000
NEAR_THE_END = LARGEST - 2**32
EVICTIONS_REMEMBERED = 65_536
CHANGES_REMEMBERED = 16_384

_row = attrgetter(*COLUMNS)
_key = attrgetter("key")


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
        self._written: dict[tuple[str, int], int] = {}  # hits being written, as the count shown last

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

        Most records that are read from below leave L1 before they are hit there, so this is all that they need.
        """
        latest, written = self._latest, self._written  # read once: `_written` may be replaced at any moment
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
        """Return the hits to show while some are being written: the stored count may or may not have them."""
        return max(count, counted(shown, count - stored))

    def take(self) -> list[Access]:
        """Return everything that was gathered; `written` or `give_back` is to be called next."""
        with self._gathering:  # nothing is taken out without this lock
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


class RecentChanges:
    """Which keys were changed lately, by a number that grows with each change.

    A load remembers the number at which it began; what it read is current unless its key was changed after that.
    """

    def __init__(self) -> None:
        self.number = 0
        self._latest: dict[str, int] = {}
        self._whole_since = 0

    def note(self, keys: Iterable[str]) -> None:
        """Number the changes of keys."""
        for key in keys:
            self.number += 1
            self._latest[key] = self.number
        if len(self._latest) > CHANGES_REMEMBERED:
            self._whole_since = self.number - CHANGES_REMEMBERED // 2
            self._latest = {key: number for key, number in self._latest.items() if number > self._whole_since}

    def note_all(self) -> None:
        """Number a change of every key."""
        self.number += 1
        self._latest.clear()
        self._whole_since = self.number

    def include(self, key: str, since: int) -> bool:
        """Whether a key was changed after a number; true also where that is too long ago to tell."""
        return since < self._whole_since or self._latest.get(key, 0) > since


class NearCache:
    """L1 (None where it is off, or where it is the authority itself), the promotion queue, and the loads under way.

    `revision`: how far all of it has followed the log. A hint in `handoff` is newer than the log's word on its key.
    `queue` has the records that wait for L2, `promoting` those that are being written there. A reader looks into both
    before it asks L2, which may have an older record until then; a change after that is told to the load. `evicted` has
    the keys that left L1 for others and have not been back.

    A load keeps the number of `changes` at which it began for `load` or `load_many`.
    """

    def __init__(self, l1: MemoryTier | None, hits: HitLog, *, revision: int, handoff: Handoff | None = None) -> None:
        self.l1 = l1
        self.revision = revision
        self.changes = RecentChanges()
        self.queue: dict[str, Record] = {}
        self.promoting: dict[str, Record] = {}
        self.evicted: dict[str, None] = {}
        self._handoff = handoff
        self._hits = hits
        self._lock = threading.RLock()
        self._untold_since: int | None = None
        if l1 is not None:
            l1.clear(revision)
            l1.leaving = hits.let_go

    def load(self, began: int, record: Record, *, promotes: bool) -> str | None:
        """Take what a load found into L1, unless it was changed meanwhile; return the key evicted for it.

        Where it `promotes`, the record waits to be written into L2 as well.
        """
        with self._lock:
            key = record.key
            if began != self.changes.number and self.changes.include(key, began):
                return None
            if promotes:
                self.queue[key] = _as_stored(record)
            if self.evicted:
                self.evicted.pop(key, None)
            if self.l1 is None:
                return None
            victim = self.l1.take(record)
            if victim is not None:
                self.evicted[victim] = None
                if len(self.evicted) > 2 * EVICTIONS_REMEMBERED:
                    self._note_evictions(())
            return victim

    def load_many(self, began: int, found: Sequence[Record], *, promote: Sequence[Record]) -> list[str]:
        """Do as `load` for several records, some of them to be promoted; return the keys evicted for them."""
        with self._lock:
            if began != self.changes.number:
                found = [record for record in found if not self.changes.include(record.key, began)]
                promote = [record for record in promote if not self.changes.include(record.key, began)]
            self.queue.update([(record.key, _as_stored(record)) for record in promote])
            return self._take_in(found)

    def queued(self, key: str) -> Record | None:
        """Return a copy of the record that waits to be written into L2, or is being written."""
        record = self.queue.get(key) or self.promoting.get(key)
        return None if record is None else Record(*_row(record))

    def queued_among(self, keys: Iterable[str]) -> dict[str, Record]:
        """Do as `queued` for several keys."""
        if not self.queue and not self.promoting:
            return {}
        return {key: record for key in keys if (record := self.queued(key)) is not None}

    def take_queue(self) -> tuple[list[Record], int | None, int]:
        """Hand out what waits for L2; `promoted` or `requeue` is to be called next.

        Returns the records, where L2 stands if it was not told of changes among them, and the revision they are from.
        """
        with self._lock:
            records = [Record(*_row(record)) for record in self.queue.values()]
            self.promoting = self.queue  # first: a reader that looks meanwhile finds the records
            self.queue = {}
            since, self._untold_since = self._untold_since, None
            return records, since, self.revision

    def promoted(self) -> None:
        """Forget what was handed out: it is in L2."""
        self.promoting = {}

    def requeue(self, since: int | None) -> None:
        """Let what was handed out wait again, from where L2 stands."""
        with self._lock:
            self.queue = {**self.promoting, **self.queue}
            self.promoting = {}
            self._untold_since = since if since is not None else self._untold_since

    def touched(self, accesses: Iterable[Access]) -> None:
        """Note that the authority has these hits now. Records that wait for L2 were not told of them."""
        with self._lock:
            for access in accesses:
                record = self.queue.get(access.key)
                if record is not None and record.generation == access.generation:
                    record.access_count = counted(record.access_count, access.count)
                    record.accessed_at = max(record.accessed_at, access.at)
                known = None if self.l1 is None else self.l1.peek(access.key)
                if known is not None and known.generation == access.generation:
                    known.stored_count = counted(known.stored_count, access.count)

    def follow(self, stretch: Stretch, *, promotes: bool = False) -> Followed | None:
        """Apply a part of the log and return what it did to L1; None where this is not at its start.

        Where it `promotes`, its records wait to be written into L2, so that L2 need not be told of it now.
        """
        with self._lock:
            if stretch.since != self.revision:
                return None
            records = stretch.records
            if promotes:  # first: a reader that does not find the old one must find the new one
                for record in records:
                    self.queue[record.key] = Record(*_row(record))
                if self._untold_since is None:
                    self._untold_since = stretch.since
            changed = [*stretch.removed, *map(_key, records)]
            self._outdate(changed, queued=promotes)
            followed = Followed()
            if self.l1 is not None:
                self._keep_hits(records)
                if self._handoff is not None and self._handoff.waiting:
                    stretch = self._without_hints(stretch)
                followed = self.l1.follow(stretch) or followed
                if followed.evicted:
                    self._note_evictions(followed.evicted)
            if self.evicted:
                self._forget_evictions(changed, {*stretch.removed})
            self.revision = stretch.revision
            return followed

    def _without_hints(self, stretch: Stretch) -> Stretch:
        hinted = {record.key for record in stretch.records if self._handoff is not None and record.key in self._handoff}
        kept = [record for record in stretch.records if record.key not in hinted]
        return replace(stretch, records=kept, removed=[*stretch.removed, *hinted])

    def replace(self, records: Sequence[Record], removed: Collection[str]) -> list[str]:
        """Put changes in that are not in the log yet; return the keys evicted for them."""
        with self._lock:
            keys = [*removed, *map(_key, records)]
            self._outdate(keys)
            self._keep_hits(records)
            if self.l1 is not None:
                self.l1.drop(keys)
            return self._take_in(records)

    def forget(self, revision: int) -> None:
        """Forget everything and stand at a revision: all of it can be read from below again."""
        with self._lock:
            self.changes.note_all()
            self.queue, self.promoting, self._untold_since = {}, {}, None
            self.evicted.clear()
            if self.l1 is not None:
                self.l1.clear(revision)
            self.revision = revision

    def evicted_among(self, records: Iterable[Record]) -> Collection[str]:
        """Return the keys of those records that are in `evicted`."""
        evicted = self.evicted
        return {record.key for record in records if record.key in evicted} if evicted else ()

    def _outdate(self, keys: Collection[str], *, queued: bool = False) -> None:
        """Tell loads that keys were changed, and take the keys out of the queue, unless they were `queued` just now."""
        self.changes.note(keys)
        for key in keys:
            self.promoting.pop(key, None)
            if not queued:
                self.queue.pop(key, None)

    def _take_in(self, records: Sequence[Record]) -> list[str]:
        if self.l1 is None or not records:
            return []
        if self.evicted:
            for record in records:
                self.evicted.pop(record.key, None)
        evicted = self.l1.fill(records, self.revision) or []
        self._note_evictions(evicted)
        return evicted

    def _note_evictions(self, keys: Collection[str]) -> None:
        self.evicted.update(dict.fromkeys(keys))
        if len(self.evicted) > 2 * EVICTIONS_REMEMBERED:
            self.evicted = dict.fromkeys(islice(self.evicted, EVICTIONS_REMEMBERED, None))

    def _forget_evictions(self, changed: Iterable[str], removed: Collection[str]) -> None:
        for key in changed:
            if key in removed or (self.l1 is not None and key in self.l1):
                self.evicted.pop(key, None)

    def _keep_hits(self, records: Iterable[Record]) -> None:
        """Carry hits over that were not written yet when records in L1 are replaced by changed ones."""
        for record in records:
            known = None if self.l1 is None else self.l1.look_up(record.key)
            if known is not None and known.noted:
                self._hits.let_go(known)
            self._hits.add_to(record)


def _as_stored(record: Record) -> Record:
    """Return a copy without the hits that the authority does not have yet."""
    copy = Record(*_row(record))
    copy.access_count = record.stored_count
    return copy
