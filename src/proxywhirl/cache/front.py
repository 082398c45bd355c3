"""What this process keeps in memory and in line with the log: the first tier, and what is on its way up.

Three things follow the log together, under one lock that is never held while a durable tier works: the records of L1,
those that wait to be written into L2 (promotions and single puts go there in batches), and the loads under way, which
are told when what they read was changed meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

from proxywhirl.cache.hits import HitLog
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.record import COLUMNS, Record
from proxywhirl.cache.tier import Access, Followed, Stretch

__all__ = ["Front", "Load"]

EVICTIONS_REMEMBERED = 65_536

_row = attrgetter(*COLUMNS)


class Load:
    """A read from the tiers below that is under way, known by its identity."""

    __slots__ = ()


class Front:
    """L1 (None where it is off, or where it is the authority itself) and what belongs to it.

    `revision` is up to where all of it has followed the log.
    """

    def __init__(self, l1: MemoryTier | None, hits: HitLog, *, revision: int) -> None:
        self.l1 = l1
        self.revision = revision
        self._hits = hits
        self._lock = threading.RLock()
        self._loads: dict[str, Load] = {}
        self._rising: dict[str, Record] = {}
        self._leaving: dict[str, Record] = {}
        self._untold_since: int | None = None
        self._evicted: OrderedDict[str, None] = OrderedDict()
        if l1 is not None:
            l1.clear(revision)
            l1.leaving = hits.let_go

    def begin(self, key: str) -> Load:
        """Announce a load of a key from below; see `end`."""
        load = self._loads[key] = Load()
        return load

    def begin_many(self, keys: Iterable[str]) -> Load:
        """Announce a load of keys from below; see `end_many`."""
        load = Load()
        self._loads.update(dict.fromkeys(keys, load))
        return load

    def end(self, load: Load, key: str, record: Record | None, *, rises: bool) -> str | None:
        """Take what a load found into L1, unless it was changed meanwhile; return the key evicted for it.

        One that `rises` waits to be written into L2 as well.
        """
        with self._lock:
            if self._loads.get(key) is not load:
                return None
            del self._loads[key]
            if record is None:
                return None
            if rises:
                self._rising[key] = record
            self._evicted.pop(key, None)
            if self.l1 is None:
                return None
            victim = self.l1.take(record)
            if victim is not None:
                self._note_eviction(victim)
            return victim

    def end_many(
        self, load: Load, keys: Collection[str], found: Sequence[Record], *, rise: Sequence[Record]
    ) -> list[str]:
        """Do as `end` for several keys; return the keys evicted for them."""
        with self._lock:
            loads = self._loads
            fresh = [key for key in keys if loads.get(key) is load]
            for key in fresh:
                del loads[key]
            if len(fresh) < len(keys):
                kept = set(fresh)
                found = [record for record in found if record.key in kept]
                rise = [record for record in rise if record.key in kept]
            self._rising.update([(record.key, record) for record in rise])
            return self._take_in(found)

    def rising(self, key: str) -> Record | None:
        """Return a copy of the record that waits to be written into L2, where an older one may be until then."""
        record = self._rising.get(key) or self._leaving.get(key)
        return None if record is None else _as_stored(record)

    @property
    def waiting(self) -> int:
        """How many records wait to be written into L2."""
        return len(self._rising)

    def take_rising(self) -> tuple[list[Record], int | None, int]:
        """Hand out what waits for L2; `risen` is to be called when it is there.

        Returns the records, where L2 stands if it was not told of changes among them, and the revision they are from.
        """
        with self._lock:
            records = [_as_stored(record) for record in self._rising.values()]
            self._leaving = self._rising  # before it is taken from there: a reader that looks meanwhile finds it
            self._rising = {}
            since, self._untold_since = self._untold_since, None
            return records, since, self.revision

    def touched(self, accesses: Iterable[Access]) -> None:
        """Note that the authority has these hits now. What waits for L2 was not there to be told of them."""
        if not self._rising:
            return
        with self._lock:
            for access in accesses:
                record = self._rising.get(access.key)
                if record is not None and record.generation == access.generation:
                    record.stored_count += access.count

    def risen(self) -> None:
        """Forget what was handed out."""
        self._leaving = {}

    def follow(self, stretch: Stretch, *, rises: bool = False) -> Followed | None:
        """Apply a part of the log and return what it did to L1; None where this is not at its start.

        Its records wait to be written into L2 if it `rises`, so that L2 need not be told of it now.
        """
        with self._lock:
            if stretch.since != self.revision:
                return None
            self._outdate([*stretch.removed, *(record.key for record in stretch.records)])
            followed = Followed()
            if self.l1 is not None:
                for record in stretch.records:
                    self._keep_hits(record)
                followed = self.l1.follow(stretch) or followed
                self._note_evictions(followed.evicted)
            for record in stretch.records:
                self._evicted.pop(record.key, None)
            for key in stretch.removed:
                self._evicted.pop(key, None)
            if rises:
                self._rising.update((record.key, record) for record in stretch.records)
                if self._untold_since is None:
                    self._untold_since = stretch.since
            self.revision = stretch.revision
            return followed

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
            self._loads.clear()
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

    def _outdate(self, keys: Iterable[str]) -> None:
        """Tell loads that keys were changed, and forget what waits of them."""
        for key in keys:
            self._loads.pop(key, None)
            self._leaving.pop(key, None)
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

    def _note_eviction(self, key: str) -> None:
        self._evicted[key] = None
        if len(self._evicted) > EVICTIONS_REMEMBERED:
            self._evicted.popitem(last=False)

    def _note_evictions(self, keys: Sequence[str]) -> None:
        self._evicted.update(dict.fromkeys(keys))
        while len(self._evicted) > EVICTIONS_REMEMBERED:
            self._evicted.popitem(last=False)

    def _keep_hits(self, record: Record) -> None:
        """Carry hits over that were not written yet when a record in L1 is replaced by a changed one."""
        self._hits.add_to(record, self.l1.peek(record.key) if self.l1 is not None else None)


def _as_stored(record: Record) -> Record:
    """Return a copy without the hits that the authority does not have yet."""
    copy = Record(*_row(record))
    copy.access_count = record.stored_count
    return copy
