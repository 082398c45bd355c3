"""The first tier: records in a dictionary, and a heap of their expiry times.

`get` takes no lock and may run beside any other call; everything else is called under the lock of the tier.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence

from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.change_log import ChangeLog
from proxywhirl.cache.tiers.eviction import admit, order_for
from proxywhirl.cache.tiers.protocol import Access, Applied, Changes, Decision, Finding, Followed, Stretch


class Expiries:
    """A heap of expiry times. Times that were renewed or removed are skipped when they surface."""

    def __init__(self, current: Callable[[str], float | None]) -> None:
        """Take a function that gives the present expiry time of a key, None where it is gone."""
        self._current = current
        self._heap: list[tuple[float, str]] = []
        self._compact_at = 1024

    def add(self, key: str, expires_at: float) -> None:
        """Note when a key expires; one that never does is not noted."""
        if expires_at >= NEVER_TIMESTAMP:
            return
        heapq.heappush(self._heap, (expires_at, key))
        if len(self._heap) > self._compact_at:
            self._heap = [item for item in set(self._heap) if self._current(item[1]) == item[0]]
            heapq.heapify(self._heap)
            self._compact_at = 2 * len(self._heap) + 1024

    def due(self, now: float, limit: int) -> list[str]:
        """Return up to `limit` expired keys; they stay noted until they are gone."""
        found: dict[str, float] = {}
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            expires_at, key = heapq.heappop(self._heap)
            if self._current(key) == expires_at:
                found[key] = expires_at
        for key, expires_at in found.items():
            heapq.heappush(self._heap, (expires_at, key))
        return list(found)


class MemoryTier:
    """A window in memory, or the authority of a cache that lives in memory alone.

    `leaving` is told of each record with hits that is taken out, for any reason.
    """

    def __init__(self, *, max_entries: int | None = None, policy: str = "lru", authority: bool = False) -> None:
        self._records: dict[str, Record] = {}
        self._bound = max_entries
        self._order = order_for(policy, max_entries)
        self._changes = ChangeLog()
        self._authority = authority
        self._expiries = Expiries(self._expires_at)
        self._retired = 0
        self._meta: dict[str, str] = {}
        self.corrupted = 0
        self.look_up: Callable[[str], Record | None] = self._records.get
        """The first half of `get`, for those who count nanoseconds."""
        self.touch = self._order.touch_known
        """The second half: it may raise `KeyError` where another thread took the record out meanwhile."""
        self.leaving: Callable[[Record], object] | None = None

    @property
    def revision(self) -> int:
        return self._changes.revision

    def get(self, key: str) -> Record | None:
        record = self._records.get(key)
        if record is not None:
            self._order.touch(key)
        return record

    def peek(self, key: str) -> Record | None:
        return self._records.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        found = ((key, self.get(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        applied = Applied(revision_before=self.revision)
        batch = decide({key: self._records[key] for key in keys if key in self._records})
        for key in batch.deletes:
            self._order.discard(key)
        applied.deletes = [record.key for record in self._forget(batch.deletes)]
        applied.puts, applied.evicted = self._admit(batch.puts)
        for key in (*applied.deletes, *applied.evicted):
            self._changes.note(key, self._changes.next(), removed=True)
        for record in applied.puts:
            record.revision = self._changes.next()
            record.generation = record.generation or record.revision
            self._store(record)
        applied.revision = self.revision
        return applied

    def follow(self, stretch: Stretch) -> Followed | None:
        if stretch.since != self._changes.revision:
            return None
        if stretch.admit and len(stretch.records) == 1 and not stretch.removed:
            (record,) = stretch.records
            if record.key not in self._records:
                victim = self.take(record)
                self._changes.revision = stretch.revision
                return Followed([], [] if victim is None else [victim])
        followed = Followed(self.drop(stretch.removed))
        records = stretch.records if stretch.admit else [r for r in stretch.records if r.key in self._records]
        if records:
            kept, followed.evicted = self._admit(records)
            for record in kept:
                self._store(record)
        self._changes.revision = stretch.revision
        return followed

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        if self._changes.revision > revision:
            return None
        known = self._records
        news = [record for record in records if record.key not in known or known[record.key].revision < record.revision]
        kept, evicted = self._admit(news)
        if self._authority or self._retired or any(record.retired for record in kept):
            for record in kept:
                self._store(record)
        else:
            known.update([(record.key, record) for record in kept])
        return evicted

    def take(self, record: Record) -> str | None:
        """Do as `fill` with one record, which the caller knows to be current; return the key evicted for it."""
        key = record.key
        known = self._records.get(key)
        if known is not None:
            if known.revision < record.revision:
                self._store(record)
            return None
        victim = None
        if self._bound is not None:
            if len(self._records) >= self._bound:
                victim = self._order.exchange(key)
                left = self._records.pop(victim)
                self._retired -= left.retired
                if left.noted and self.leaving is not None:
                    self.leaving(left)
            else:
                self._order.add(key)
            self._order.set_uses(key, record.access_count, record.accessed_at)
        self._store(record)
        return victim

    def drop(self, keys: Collection[str]) -> list[str]:
        held = [key for key in keys if key in self]
        for key in keys:
            self._order.discard(key)
        self._forget(keys)
        return held

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """See `Tier`: records in memory are counted when they are hit."""

    def expired(self, now: float, limit: int) -> list[str]:
        return self._expiries.due(now, limit)

    def scan(self, after: str, limit: int) -> list[Record]:
        """See `Tier`. May run beside anything, like `get`."""
        keys = heapq.nsmallest(limit, (key for key in list(self._records) if key > after))
        return [record for key in keys if (record := self._records.get(key)) is not None]

    def changes_since(self, revision: int, limit: int) -> Changes:
        return self._changes.page(revision, limit, self.peek)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: memory is this process's own."""
        return False

    def clear(self, revision: int | None = None) -> int:
        held = len(self)
        keys = list(self._records)
        for key in keys:
            self._order.discard(key)
        self._forget(keys)
        if self._authority:
            self._changes.restart(revision or 0)
        elif revision is not None:
            self._changes.revision = revision
        return held

    def get_meta(self, name: str) -> str | None:
        return self._meta.get(name)

    def set_meta(self, name: str, value: str | None) -> None:
        if value is None:
            self._meta.pop(name, None)
        else:
            self._meta[name] = value

    def metas(self, prefix: str) -> dict[str, str]:
        return {name: value for name, value in self._meta.items() if name.startswith(prefix)}

    def examine(self, *, repair: bool = False) -> list[Finding]:  # noqa: ARG002  # there is nothing to mend
        """See `Tier`: what is in memory is all there is."""
        return []

    def close(self) -> None:
        """See `Tier`: there is nothing to give back."""

    def __len__(self) -> int:
        return len(self._records) - self._retired

    def __contains__(self, key: object) -> bool:
        record = self._records.get(key) if isinstance(key, str) else None
        return record is not None and not record.retired

    def _admit(self, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
        """Take out what leaves for these records; return those to store, and the keys that left."""
        kept, victims = admit(records, self._order, self._bound)
        if victims:
            self._forget(victims)
        return kept, victims

    def _store(self, record: Record) -> None:
        old = self._records.get(record.key)
        self._records[record.key] = record
        if record.retired or old is not None:
            self._retired += record.retired - (old is not None and old.retired)
        if self._authority:
            self._expiries.add(record.key, record.expires_at)
            self._changes.note(record.key, record.revision, removed=False)

    def _forget(self, keys: Collection[str]) -> list[Record]:
        """Take records out that the order no longer has; return those that were there."""
        take = self._records.pop
        gone = [record for key in keys if (record := take(key, None)) is not None]
        if self._retired:
            self._retired -= sum(record.retired for record in gone)
        if self.leaving is not None:
            for record in gone:
                if record.noted:
                    self.leaving(record)
        return gone

    def _expires_at(self, key: str) -> float | None:
        record = self._records.get(key)
        return None if record is None else record.expires_at
