"""What this process keeps in memory and in line with the log: the first tier, and what is on its way up.

Three things follow the log together, under one lock that is never held while a durable tier works: the records of L1,
those that wait to be written into L2 (promotions and single puts go there in batches), and the loads under way, which
are told when what they read was changed meanwhile.

Writing into the durable windows what waits for them in the near cache: promotions and single puts, in batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter

from proxywhirl.cache.coordination.breaker import BreakerTier, may_wait
from proxywhirl.cache.coordination.following import bring_in_line, filled, followed
from proxywhirl.cache.coordination.handoff import Handoff
from proxywhirl.cache.coordination.hit_counts import HitLog
from proxywhirl.cache.coordination.replicas import Ladder
from proxywhirl.cache.record import COLUMNS, Record, counted, fault_of
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Access, Followed, Stretch

EVICTIONS_REMEMBERED = 65_536
CHANGES_REMEMBERED = 16_384

_row = attrgetter(*COLUMNS)


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

    def concern(self, key: str, since: int) -> bool:
        """Whether a key was changed after a number; true also where that is too long ago to tell."""
        return since < self._whole_since or self._latest.get(key, 0) > since


class NearCache:
    """L1 (None where it is off, or where it is the authority itself) and what belongs to it.

    `revision` is up to where all of it has followed the log. What the log says of
    a key that has a hint in `handoff` is older than that.
    """

    def __init__(self, l1: MemoryTier | None, hits: HitLog, *, revision: int, handoff: Handoff | None = None) -> None:
        self.l1 = l1
        self.revision = revision
        self._handoff = handoff
        self._hits = hits
        self._lock = threading.RLock()
        self._changes = RecentChanges()
        self._rising: dict[str, Record] = {}
        self._leaving: dict[str, Record] = {}
        self._untold_since: int | None = None
        self._evicted: dict[str, None] = {}
        if l1 is not None:
            l1.clear(revision)
            l1.leaving = hits.let_go

    def begin(self) -> int:
        """Announce a load from below: return what `end` or `end_many` is to be told."""
        return self._changes.number

    def end(self, began: int, record: Record, *, rises: bool) -> str | None:
        """Take what a load found into L1, unless it was changed meanwhile; return the key evicted for it.

        One that `rises` waits to be written into L2 as well.
        """
        with self._lock:
            key = record.key
            if began != self._changes.number and self._changes.concern(key, began):
                return None
            if rises:
                self._rising[key] = _as_stored(record)
            self._evicted.pop(key, None)
            if self.l1 is None:
                return None
            victim = self.l1.take(record)
            if victim is not None:
                self._evicted[victim] = None
                if len(self._evicted) > 2 * EVICTIONS_REMEMBERED:
                    self._note_evictions(())
            return victim

    def end_many(self, began: int, found: Sequence[Record], *, rise: Sequence[Record]) -> list[str]:
        """Do as `end` for several keys; return the keys evicted for them."""
        with self._lock:
            if began != self._changes.number:
                found = [record for record in found if not self._changes.concern(record.key, began)]
                rise = [record for record in rise if not self._changes.concern(record.key, began)]
            self._rising.update([(record.key, _as_stored(record)) for record in rise])
            return self._take_in(found)

    def rising(self, key: str) -> Record | None:
        """Return a copy of the record that waits to be written into L2, where an older one may be until then.

        To be asked before L2 is: what waits no more by then is in L2, and what changes after that is told to the load.
        """
        record = self._rising.get(key) or self._leaving.get(key)
        return None if record is None else Record(*_row(record))

    def rising_among(self, keys: Iterable[str]) -> dict[str, Record]:
        """Do as `rising` for several keys."""
        if not self._rising and not self._leaving:
            return {}
        return {key: record for key in keys if (record := self.rising(key)) is not None}

    @property
    def waiting(self) -> int:
        """How many records wait to be written into L2."""
        return len(self._rising)

    def take_rising(self) -> tuple[list[Record], int | None, int]:
        """Hand out what waits for L2; `risen` is to be called when it is there.

        Returns the records, where L2 stands if it was not told of changes among them, and the revision they are from.
        """
        with self._lock:
            records = [Record(*_row(record)) for record in self._rising.values()]
            self._leaving = self._rising  # before it is taken from there: a reader that looks meanwhile finds it
            self._rising = {}
            since, self._untold_since = self._untold_since, None
            return records, since, self.revision

    def touched(self, accesses: Iterable[Access]) -> None:
        """Note that the authority has these hits now. What waits for L2 was not there to be told of them."""
        with self._lock:
            for access in accesses:
                record = self._rising.get(access.key)
                if record is not None and record.generation == access.generation:
                    record.access_count = counted(record.access_count, access.count)
                    record.accessed_at = max(record.accessed_at, access.at)
                known = None if self.l1 is None else self.l1.peek(access.key)
                if known is not None and known.generation == access.generation:
                    known.stored_count = counted(known.stored_count, access.count)

    def risen(self) -> None:
        """Forget what was handed out."""
        self._leaving = {}

    def rise_again(self, since: int | None) -> None:
        """Let what was handed out wait again, from where L2 stands."""
        with self._lock:
            self._rising = {**self._leaving, **self._rising}
            self._leaving = {}
            self._untold_since = since if since is not None else self._untold_since

    def follow(self, stretch: Stretch, *, rises: bool = False) -> Followed | None:
        """Apply a part of the log and return what it did to L1; None where this is not at its start.

        Its records wait to be written into L2 if it `rises`, so that L2 need not be told of it now.
        """
        with self._lock:
            if stretch.since != self.revision:
                return None
            news = {record.key: record for record in stretch.records}
            if rises:  # first: a reader that does not find the old one must find the new one
                self._rising.update([(record.key, Record(*_row(record))) for record in stretch.records])
                self._untold_since = stretch.since if self._untold_since is None else self._untold_since
            self._outdate([*stretch.removed, *news], rising=rises)
            followed = Followed()
            if self.l1 is not None:
                for record in stretch.records:
                    self._keep_hits(record)
                followed = self.l1.follow(self._without_owed(stretch)) or followed
                self._note_evictions(followed.evicted)
            for key in [*stretch.removed, *(key for key in news if self.l1 is not None and key in self.l1)]:
                self._evicted.pop(key, None)
            self.revision = stretch.revision
            return followed

    def _without_owed(self, stretch: Stretch) -> Stretch:
        if self._handoff is None or not self._handoff.waiting:
            return stretch
        owed = {record.key for record in stretch.records if record.key in self._handoff}
        if not owed:
            return stretch
        kept = [record for record in stretch.records if record.key not in owed]
        return replace(stretch, records=kept, removed=[*stretch.removed, *owed])

    def replace(self, records: Sequence[Record], removed: Collection[str]) -> list[str]:
        """Put changes in that are not in the log yet; return the keys evicted for them."""
        with self._lock:
            keys = [*removed, *(record.key for record in records)]
            self._outdate(keys)
            for record in records:
                self._keep_hits(record)
            if self.l1 is not None:
                self.l1.drop(keys)
            return self._take_in(records)

    def forget(self, revision: int) -> None:
        """Forget everything and stand at a revision: what was here can be read from below again."""
        with self._lock:
            self._changes.note_all()
            self._rising, self._leaving, self._untold_since = {}, {}, None
            self._evicted.clear()
            if self.l1 is not None:
                self.l1.clear(revision)
            self.revision = revision

    def was_evicted(self, key: str) -> bool:
        """Whether a key left L1 for another one and has not been back."""
        return key in self._evicted

    def evicted_among(self, records: Iterable[Record]) -> Collection[str]:
        """Return the keys of those records of which `was_evicted` is true."""
        evicted = self._evicted
        return {record.key for record in records if record.key in evicted} if evicted else ()

    def _outdate(self, keys: Collection[str], *, rising: bool = False) -> None:
        """Tell loads that keys were changed, and forget what waits of them, unless that is what is `rising` now."""
        self._changes.note(keys)
        for key in keys:
            self._leaving.pop(key, None)
            if not rising:
                self._rising.pop(key, None)

    def _take_in(self, records: Sequence[Record]) -> list[str]:
        if self.l1 is None or not records:
            return []
        if self._evicted:
            for record in records:
                self._evicted.pop(record.key, None)
        evicted = self.l1.fill(records, self.revision) or []
        self._note_evictions(evicted)
        return evicted

    def _note_evictions(self, keys: Collection[str]) -> None:
        self._evicted.update(dict.fromkeys(keys))
        if len(self._evicted) > 2 * EVICTIONS_REMEMBERED:
            self._evicted = dict.fromkeys(islice(self._evicted, EVICTIONS_REMEMBERED, None))

    def _keep_hits(self, record: Record) -> None:
        """Carry hits over that were not written yet when a record in L1 is replaced by a changed one."""
        known = None if self.l1 is None else self.l1.peek(record.key)
        if known is not None and known.noted:
            self._hits.let_go(known)
        self._hits.add_to(record)


def _as_stored(record: Record) -> Record:
    """Return a copy without the hits that the authority does not have yet."""
    copy = Record(*_row(record))
    copy.access_count = record.stored_count
    return copy


RISING_KEPT = 500
RISING_MOST = 2 * RISING_KEPT  # while the windows cannot be written to
NO_KEYS: list[str] = []
NO_RECORDS: dict[str, Record] = {}


class Lift:
    """Empties what waits: where it is much, and whenever it must be below.

    `writing` is the lock of changes, `notice` follows what other processes wrote and sets `counted_elsewhere` where
    they did: hits are not in the log, and may have been written since a record was read that waits here.
    """

    def __init__(
        self, ladder: Ladder, near_cache: NearCache, *, writing: threading.RLock, notice: Callable[[], None]
    ) -> None:
        self.counted_elsewhere = False
        self._ladder = ladder
        self._near_cache = near_cache
        self._writing = writing
        self._notice = notice

    def let_rise(self, *, at_once: bool = False) -> None:
        """Write what waits for L2 in a batch. What cannot be written now is read from below again."""
        if not self._near_cache.waiting or (self._near_cache.waiting < RISING_KEPT and not at_once):
            return
        if not self._writing.acquire(blocking=may_wait()):  # so that no change of this process comes between
            return
        try:
            self._notice()
            rising, since, revision = self._near_cache.take_rising()
            records = [record for record in rising if fault_of(record) is None]  # damage is not to spread
            if self.counted_elsewhere:
                self.counted_elsewhere = False
                self._count_again(records)
            if all([self._raise_into(window, records, since, revision) for window in self._ladder.windows]):  # noqa: C419  # none is left out
                self._near_cache.risen()
            else:
                self._near_cache.rise_again(since)
        finally:
            self._writing.release()

    def _count_again(self, records: Sequence[Record]) -> None:
        """Give records the hits that other processes have written since these were read."""
        keys = [record.key for record in records]
        authority = self._ladder.authority
        stored = self._ladder.ask(authority, lambda tier: tier.get_many(keys), NO_RECORDS, len(keys))
        for record in records:
            known = stored.get(record.key)
            if known is not None and known.generation == record.generation:
                record.access_count = max(record.access_count, known.access_count)

    def _raise_into(self, window: BreakerTier, records: list[Record], since: int | None, revision: int) -> bool:
        """Write into a durable window what waits for it, and that it has followed the log with this.

        Returns False where another process is writing to it: what waits goes on waiting then.
        """
        if since is not None and not window.behind:
            stretch = Stretch(since, revision, records, (), admit=True)
            done = window.write(partial(followed, stretch), None, len(records))
            if done is not None:
                self._ladder.note_evictions(window.name, len(done.evicted))
                return True
            if not window.sick and window.call(lambda tier: tier.revision, -1) == since:
                return False
        if since is not None:
            window.behind = True
            bring_in_line(window, self._ladder.authority)
        evicted = self._ladder.write(window, partial(filled, records, revision), None, len(records))
        self._ladder.note_evictions(window.name, len(evicted or NO_KEYS))
        return True
