"""The three tiers as one: who is asked, who is written first, who follows the log.

A write goes to the authority (the lowest enabled tier), then upwards; the authority alone decides whether
it is acknowledged. The windows above it follow its log of changes: `seen` is up to where. A window that was left
out while it was sick is emptied before it is used again, since all it holds can be read from below.
Not thread-safe: the manager's lock guards it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from proxywhirl.cache.guard import GuardedTier
from proxywhirl.cache.policy import Found, after_read, state_of
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tier import Access, Applied, Batch, Changes, Decision, Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError

__all__ = ["Committed", "Reading", "TierStack"]

_log = logging.getLogger(__name__)

EVICTIONS_REMEMBERED = 65_536
PAGE = 1_000
SWEEP_LIMIT = 500
NO_KEYS: list[str] = []

T = TypeVar("T")


@dataclass(slots=True)
class Committed:
    """What the authority wrote, and which windows held keys that went with it."""

    applied: Applied
    held: dict[TierName, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """A live record, the tier that it came from, and whether it came from below after its eviction from L1."""

    record: Record | None
    tier: TierName | None = None
    evicted_from_l1: bool = False


class TierStack:
    """The enabled tiers, fastest first; the last one is the authority."""

    def __init__(self, tiers: Sequence[tuple[TierName, Tier]], *, clock: Clock, counters: Counters) -> None:
        self.tiers = [GuardedTier(name, tier, clock) for name, tier in tiers]
        self.authority = self.tiers[-1]
        self.windows = self.tiers[-2::-1]  # the one next to the authority first
        self._counters = counters
        self._evicted_from_l1: OrderedDict[str, None] = OrderedDict()
        self._seen = next(guarded for guarded in self.tiers if guarded.name != "l1" or len(tiers) == 1).tier.revision
        self._rebuild_authority()
        if self._seen == self.authority.tier.revision:
            return
        if any(len(guarded.tier) for guarded in self.windows):
            self._replay()
        else:
            self._start_anew()

    def read(self, key: str, now: float) -> Reading:
        """Return what is alive under a key; fill the tiers above."""
        self.refresh()
        record: Record | None = None
        asked: list[TierName] = []
        for guarded in self.tiers:
            nothing: tuple[Record | None, ...] = ()
            answer = self._ask(guarded, lambda tier: (tier.get(key),), nothing)
            if not answer:
                continue
            asked.append(guarded.name)
            record = answer[0]
            if record is not None:
                break
        movement = after_read(asked, state_of(record, now))
        self._counters.add_each(movement.misses, "misses")
        if movement.remove:
            self.remove_expired([key], now)
        if movement.hit is None or record is None:
            return Reading(None)
        self._counters.add(f"{movement.hit}.hits")
        reading = Reading(record, movement.hit, evicted_from_l1=movement.hit != "l1" and key in self._evicted_from_l1)
        for guarded in self.windows:
            if guarded.name in movement.fill:
                self._fill(guarded, [record], None)
                self._counters.add("promotions")
        return reading

    def commit(self, keys: Collection[str], decide: Decision, *, admit: bool) -> Committed | None:
        """Let the authority decide and write, then bring the windows in line; None where it is sick.

        With `admit`, what was written enters the windows; else only those that hold it follow.
        """
        self.refresh()
        applied = self._ask(self.authority, lambda tier: tier.transact(keys, decide), None)
        if applied is None:
            return None
        if applied.revision_before != self._seen:
            self._replay()
        served = [record for record in applied.puts if not record.retired]
        gone = [
            *applied.deletes,
            *(record.key for record in applied.puts if record.retired),
            *applied.evicted,
        ]
        committed = Committed(applied)
        for guarded in self.windows:
            if gone:
                committed.held[guarded.name] = self._ask(guarded, lambda tier: tier.drop(gone, applied.revision), [])
            wanted = served if admit else self._held(guarded, served)
            if wanted:
                self._fill(guarded, wanted, applied.revision)
        self._forget_evictions(gone)
        self._note_evictions(self.authority, applied.evicted)
        self._seen = applied.revision
        return committed

    def remove_expired(self, keys: Collection[str], now: float) -> None:
        """Delete those of the keys that are expired still, counting each tier that served one."""
        served: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            expired = {key: record for key, record in present.items() if state_of(record, now) is Found.EXPIRED}
            served.extend(key for key, record in expired.items() if not record.retired)
            return Batch(deletes=list(expired))

        committed = self.commit(keys, decide, admit=False)
        if committed is not None:
            self.count_held(committed, served, "evictions_ttl")

    def count_held(self, committed: Committed, gone: Sequence[str], name: str) -> None:
        """Count keys that went in the authority and in each window that held them."""
        self._counters.add(f"{self.authority.name}.{name}", len(gone))
        for tier, held in committed.held.items():
            self._counters.add(f"{tier}.{name}", len(set(held) & set(gone)))

    def clear(self) -> int:
        """Forget everything; return how many entries there were."""
        held = self._ask(self.authority, lambda tier: (tier.clear(), tier.revision), (0, self._seen))
        self._seen = held[1]
        for guarded in self.windows:
            self._ask(guarded, lambda tier: tier.clear(self._seen), 0)
        self._evicted_from_l1.clear()
        return held[0]

    def touch(self, accesses: Sequence[Access]) -> None:
        """Write hits to the tiers that outlive the process."""
        for guarded in self.tiers:
            if guarded.name != "l1":
                self._ask(guarded, lambda tier: tier.touch_many(accesses), None)

    def refresh(self) -> None:
        """Follow what other processes wrote, where they did."""
        if self._ask(self.authority, lambda tier: tier.changed_elsewhere(), False):  # a method of the tier
            self._replay()

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Return a page of the log; an empty one where the authority is sick."""
        self.refresh()
        return self._changes_since(revision, limit)

    def page(self, after: str) -> list[Record]:
        """Return the next records in the order of the keys.

        Raises:
            TierError: the authority is sick, and no other tier holds everything.
        """
        self.refresh()
        nothing: tuple[list[Record], ...] = ()
        answer = self._ask(self.authority, lambda tier: (tier.scan(after, PAGE),), nothing)
        if not answer:
            raise TierError(f"the entries cannot be listed while tier {self.authority.name} is degraded")
        return answer[0]

    def peek(self, key: str) -> Record | None:
        """Return what is stored under a key, counting nothing."""
        self.refresh()
        nothing: tuple[Record | None, ...] = ()
        for guarded in reversed(self.tiers):
            answer = self._ask(guarded, lambda tier: (tier.peek(key),), nothing)
            if answer and (answer[0] is not None or guarded is self.authority):
                return answer[0]
        return None

    def sweep(self, now: float) -> bool:
        """Remove a bounded batch of expired entries; return whether there may be more."""
        keys = self._ask(self.authority, lambda tier: tier.expired(now, SWEEP_LIMIT), NO_KEYS)
        if keys:
            self.remove_expired(keys, now)
        return len(keys) == SWEEP_LIMIT

    def each_durable(self, act: Callable[[Tier], bool]) -> bool:
        """Do something to each tier that outlives the process; whether all of them have answered True."""
        return all([self._ask(guarded, act, False) for guarded in self.tiers if guarded.name != "l1"])  # noqa: C419  # none is left out

    def sizes(self) -> dict[TierName, int]:
        """How many entries each tier holds."""
        self.refresh()
        return {guarded.name: self._ask(guarded, len, 0) for guarded in self.tiers}

    def measure(self) -> tuple[dict[TierName, int], dict[TierName, int], dict[TierName, bool]]:
        """Return each tier's size, how many damaged records it found, and whether it is degraded."""
        sizes = self.sizes()
        corrupted = {guarded.name: guarded.tier.corrupted for guarded in self.tiers}
        return sizes, corrupted, {guarded.name: guarded.degraded for guarded in self.tiers}

    def close(self) -> None:
        """Close every tier."""
        for guarded in self.tiers:
            guarded.tier.close()

    def _ask(self, guarded: GuardedTier, ask: Callable[[Tier], T], default: T) -> T:
        """Ask a tier; a window that missed changes is emptied first, one that fails now has missed this."""
        if guarded.missed and guarded.available:
            guarded.missed = guarded.call(lambda tier: tier.clear(self._seen), -1) < 0
        if guarded.missed:
            return default
        answer = guarded.call(ask, default)
        guarded.missed = guarded.degraded and guarded is not self.authority
        return answer

    def _fill(self, guarded: GuardedTier, records: Sequence[Record], revision: int | None) -> None:
        if guarded.name == "l1":
            for record in records:
                if record.generation != record.revision:  # an update, not an insertion
                    self._keep_hits(guarded, record)
                self._evicted_from_l1.pop(record.key, None)
        evicted = self._ask(guarded, lambda tier: tier.fill(records, revision), NO_KEYS)
        self._note_evictions(guarded, evicted)

    def _keep_hits(self, l1: GuardedTier, record: Record) -> None:
        """Carry hits over that were not flushed yet when a record in L1 is replaced by a changed one."""
        known = l1.tier.peek(record.key)
        if known is not None and known.generation == record.generation:
            record.access_count = max(record.access_count, known.access_count)
            record.accessed_at = max(record.accessed_at, known.accessed_at)

    def _note_evictions(self, guarded: GuardedTier, keys: Sequence[str]) -> None:
        if not keys:
            return
        self._counters.add(f"{guarded.name}.evictions_lru", len(keys))
        if guarded is not self.authority:
            self._counters.add("demotions", len(keys))
        if guarded.name == "l1":
            self._evicted_from_l1.update(dict.fromkeys(keys))
            while len(self._evicted_from_l1) > EVICTIONS_REMEMBERED:
                self._evicted_from_l1.popitem(last=False)

    def _held(self, guarded: GuardedTier, records: Sequence[Record]) -> list[Record]:
        return self._ask(guarded, lambda tier: [record for record in records if record.key in tier], [])

    def _changes_since(self, revision: int, limit: int) -> Changes:
        empty = Changes(revision, [], [])
        return self._ask(self.authority, lambda tier: tier.changes_since(revision, limit), empty)

    def _replay(self) -> None:
        """Bring the windows in line with the log after `seen`."""
        more = True
        while more:
            changes = self._changes_since(self._seen, PAGE)
            if changes.reset:
                self._start_anew()
                return
            more = changes.more
            gone = [*changes.removed, *(record.key for record in changes.records if record.retired)]
            served = [record for record in changes.records if not record.retired]
            for guarded in self.windows:
                if gone:
                    self._ask(guarded, lambda tier: tier.drop(gone, changes.revision), NO_KEYS)  # noqa: B023  # called at once
                if held := self._held(guarded, served):
                    self._fill(guarded, held, changes.revision)
            self._forget_evictions(gone)
            self._seen = changes.revision

    def _start_anew(self) -> None:
        """Empty the windows: what they hold can be read from below again."""
        self._seen = self._ask(self.authority, lambda tier: tier.revision, self._seen)
        for guarded in self.windows:
            self._ask(guarded, lambda tier: tier.clear(self._seen), 0)
        self._evicted_from_l1.clear()

    def _forget_evictions(self, gone: Sequence[str]) -> None:
        for key in gone:
            self._evicted_from_l1.pop(key, None)

    def _rebuild_authority(self) -> None:
        """Fill an authority that was lost or is new from the window below L1, which may have outlived it."""
        durable = [guarded for guarded in self.tiers if guarded.name != "l1"]
        window = durable[0].tier if durable and durable[0] is not self.authority else None
        if window is None or self.authority.tier.revision or not len(window):
            return
        records, page = [], window.scan("", PAGE)
        while page:
            records += page
            page = window.scan(page[-1].key, PAGE)
        for record in records:
            record.generation = 0
        applied = self.authority.tier.transact((), lambda _: Batch(puts=records))
        window.clear()
        window.fill([record for record in applied.puts if not record.retired], applied.revision)
        self._seen = applied.revision
        _log.warning(
            "tier %s was empty and was rebuilt from %s: %d entries",
            self.authority.name,
            durable[0].name,
            len(records),
        )
