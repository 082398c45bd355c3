"""The tiers as one: writes, lists and counts. Reads by key are in `reads`, the plan is in the package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from proxywhirl.cache.coordination.breaker import guarded_decision, in_passing, may_wait, sound
from proxywhirl.cache.coordination.handoff import Handoff, Removals
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.coordination.replicas import PAGE, Committed, Replicas, catch_up, touched
from proxywhirl.cache.policy import Found, state_of
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.protocol import Applied, Batch, Decision, Tier, TierName, pages
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError

SWEEP_LIMIT = 500
HITS_AT_ONCE = 250
NO_KEYS: list[str] = []
NO_RECORDS: list[Record] = []
NOTHING: tuple[Record | None, ...] = ()

T = TypeVar("T")


class TierStack(Replicas):
    """The enabled tiers, fastest first; the last one is the authority, and decides whether a write is acknowledged.

    While the authority is sick, `handoff` keeps the writes. While L2 is the authority in L3's place, `removals` notes
    the removals for L3.
    """

    def __init__(
        self,
        tiers: Sequence[tuple[TierName, Tier]],
        *,
        clock: Clock,
        counters: Counters,
        hits: HitLog | None = None,
        handoff: Handoff | None = None,
        removals: Removals | None = None,
    ) -> None:
        self.hits = hits if hits is not None else HitLog(durable=False)
        self._clock = clock
        self.handoff = handoff
        self._removals = removals
        super().__init__(tiers, clock=clock, counters=counters, hits=self.hits, handoff=handoff)

    def commit(
        self,
        keys: Collection[str],
        decide: Decision,
        *,
        admit: bool,
        merge: bool = False,
        size: int = PAGE,
        sealing: Callable[[Decision], Decision] | None = None,
    ) -> Committed | None:
        """Let the authority decide and write, then bring the windows in line; None where nothing durable took it.

        With `admit`, the records enter the windows; else only windows that hold them follow. `merge`: records that were
        decided on without the stored ones are merged with these later. `size`: how many records there are. `sealing`
        makes sure of the key in the authority's transaction.
        """
        noted = decide if self._removals is None else self._removals.noting(decide)
        decided = guarded_decision(noted if sealing is None else sealing(noted))
        waits = may_wait()
        if not self._writing.acquire(blocking=waits):
            return None  # another thread changes something, and this one is in passing
        try:
            # in passing, there are as many hints as this process has seen
            hinted = self.handoff is not None and (self.handoff.look() if waits else self.handoff.waiting)
            if not hinted or self.replay():
                applied = self.authority.write(lambda tier: tier.transact(keys, decided), None, size)
                if applied is not None:
                    return self.spread(applied, admit=admit)
                self._news = True  # only the log tells whether it was written nevertheless
            return self._keep(keys, decide, merge=merge) if waits else None
        finally:
            self._writing.release()

    def remove_expired(self, keys: Collection[str], now: float) -> None:
        """Delete the keys that are still expired, counting each tier that served one."""
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
        self.counters.add(f"{self.authority.name}.{name}", len(gone))
        for tier, held in committed.held.items():
            self.counters.add(f"{tier}.{name}", len(held & set(gone)))

    def clear(self) -> int:
        """Forget everything; return how many entries there were.

        Raises:
            TierError: the authority is sick: everything would come back when it is well.
        """

        def clear(tier: Tier) -> tuple[int, int]:
            if self._removals is not None:
                self._removals.note_all(tier)
            return tier.clear(), tier.revision

        with self._writing:
            held = self.authority.write(clear, None, PAGE * PAGE)
            if held is None:
                self._news = True  # as in `commit`
                raise TierError(f"nothing was removed: tier {self.authority.name} is degraded; try again later")
            if self.handoff is not None:
                self.handoff.forget()
            for window in self.windows:
                window.behind = True
                catch_up(window, self.authority)
            self.near_cache.forget(held[1])
            return held[0]

    def flush(self) -> None:
        """Write the gathered hits to the durable tiers."""
        with self._writing:  # a promotion meanwhile would count these hits twice
            accesses = self.hits.take()
            if not accesses:
                return
            if not self.authority.write(partial(touched, accesses), False, len(accesses)):
                self.hits.give_back(accesses)
                return
            for window in self.windows:
                for first in range(0, len(accesses), HITS_AT_ONCE):  # reads of the window come in between
                    few = accesses[first : first + HITS_AT_ONCE]
                    if not self.write(window, partial(touched, few), False, len(few)):
                        window.behind = window.miscounts = True
                        break
            self.near_cache.touched(accesses)
            self.hits.written()

    def refresh(self, *, promote: bool = True) -> None:
        """Follow the writes of other processes, and bring back tiers that were left out.

        Without `promote`, the promotion queue goes on waiting: evictions do not depend on a thread's moment.
        """
        if promote:
            self.promote(at_once=True)
        self.notice()
        for window in self.windows:
            if window.behind:
                catch_up(window, self.authority)
        if self.handoff is not None and self.handoff.look():
            self.replay()

    def _look(self) -> None:
        """Notice what others wrote, in passing, before a read."""
        with in_passing():
            self.notice()

    def page(self, after: str) -> list[Record]:
        """Return the next records in the order of the keys.

        Raises:
            TierError: the authority is sick, and no other tier holds everything.
        """
        self._look()
        while True:
            page = self.authority.call(lambda tier: tier.scan(after, PAGE), None, PAGE)  # noqa: B023  # called at once
            if page is None:
                raise TierError(f"the entries cannot be listed while tier {self.authority.name} is degraded")
            last = page[-1].key if len(page) == PAGE else None
            shown = page if self.handoff is None else self.handoff.over(page, after, last)
            if shown or last is None:
                return shown
            after = last

    def peek(self, key: str) -> Record | None:
        """Return what is stored under a key, counting nothing."""
        self._look()
        return self._known(key)

    def sweep(self, now: float) -> bool:
        """Remove a bounded batch of expired entries; return whether there may be more."""
        keys = self.authority.call(lambda tier: tier.expired(now, SWEEP_LIMIT), NO_KEYS)
        if keys:
            self.remove_expired(keys, now)
        return len(keys) == SWEEP_LIMIT

    def each_durable(self, act: Callable[[Tier], bool]) -> bool:
        """Do something to each tier that outlives the process; whether all of them have answered True."""
        return all([self.write(each, act, False) for each in self.durable])  # noqa: C419  # none is left out

    def measure(self, *, promote: bool = True) -> tuple[dict[TierName, int], dict[TierName, int], dict[TierName, bool]]:
        """Return each tier's size, how many damaged records it found, and whether it is degraded.

        With `promote`, the promotion queue is written first and so counts.
        """
        with in_passing():
            if promote:
                self.promote(at_once=True)
            self.notice()
        sizes = {each.name: self.ask(each, len, 0, PAGE * PAGE) for each in self.tiers}
        corrupted = {each.name: each.tier.corrupted for each in self.tiers}
        return sizes, corrupted, {each.name: each.sick for each in self.tiers}

    def stand_in(self) -> list[Record] | None:
        """Return the records known while the authority cannot be opened, with the hints; None while it is open."""
        if self.authority.absent is None:
            return None
        known: dict[str, Record] = {}
        for window in self.windows:
            for page in pages(lambda after: self.ask(window, lambda tier: tier.scan(after, PAGE), NO_RECORDS, PAGE)):  # noqa: B023  # called at once
                known |= {record.key: record for record in page}
        return list(known.values()) if self.handoff is None else self.handoff.over(list(known.values()), "", None)

    def size(self) -> int:
        """How many entries the authority holds, or will hold with the hints; without it, how many are known."""
        self._look()
        if (standing_in := self.stand_in()) is not None:
            return sum(not record.retired for record in standing_in)
        waiting = {} if self.handoff is None else self.handoff.records()
        kept = self.authority.call(lambda tier: len(tier) - sum(key in tier for key in waiting), 0, PAGE * PAGE)
        return kept + sum(record is not None and not record.retired for record in waiting.values())

    def replay(self) -> bool:
        """Write the hints to the authority; return whether none is left."""
        if self.handoff is None:
            return True
        with self._writing:
            return self.handoff.replay(self._write_hints) if self.authority.writable else False

    def waiting(self) -> int:
        """How many changes wait until the authority is well. Raises `CacheError` if that cannot be told."""
        if self.handoff is None:
            return 0
        self.handoff.catch_up()
        return len(self.handoff)

    def refused(self) -> dict[str, str]:
        """Return the keys of changes that the authority could not take, with the reasons. Raises as `waiting` does."""
        return {} if self.handoff is None else {key: why for key, (_, why) in self.handoff.refused().items()}

    def retry_refused(self) -> None:
        """Try again to write the changes that the authority could not take; a key removed since stays removed."""
        with self._writing:
            refused = {} if self.handoff is None else self.handoff.refused()
            gone = self._removed_since(min(hint.base for hint, _ in refused.values())) if refused else None
            if self.handoff is not None and gone is not None:
                self.handoff.retry(refused.keys() - gone)
                self.replay()

    def _removed_since(self, revision: int) -> set[str] | None:
        """Return the keys removed since a revision, None where the log does not tell."""
        gone: set[str] = set()
        more = True
        while more:
            changes = self.authority.call(lambda tier: tier.changes_since(revision, PAGE), None, PAGE)  # noqa: B023  # called at once
            if changes is None or changes.reset:
                return None
            gone = (gone | set(changes.removed)) - {record.key for record in changes.records}
            revision, more = changes.revision, changes.more
        return gone

    def close(self) -> None:
        """Write what waits for L2, and close every tier."""
        self.promote(at_once=True)
        self.release()

    def release(self) -> None:
        """Close every tier."""
        super().release()
        for file in (self.handoff, self._removals):
            if file is not None:
                file.close()

    def abandon(self) -> None:
        """Let go, in a forked child, of everything shared with the parent."""
        for file in (self.handoff, self._removals):
            if file is not None:
                file.abandon()

    def _keep(self, keys: Collection[str], decide: Decision, *, merge: bool) -> Committed | None:
        """Keep a change as hints while the authority is sick; None where they cannot."""
        if self.handoff is None:
            return None
        present = {key: record for key in keys if (record := self._known(key)) is not None}
        batch = decide(present)
        if not self.handoff.keep(batch, base=self.near_cache.revision, at=self._clock.now(), merge=merge):
            return None
        changed = [*batch.deletes, *(record.key for record in batch.puts)]
        self.put_ahead([record for record in batch.puts if not record.retired], changed)
        revision = self.near_cache.revision
        deletes = [key for key in batch.deletes if key in present]
        return Committed(Applied(list(batch.puts), deletes, revision_before=revision, revision=revision))

    def _known(self, key: str) -> Record | None:
        """Return the record of a key: from the hints, else from the authority, else from above it."""
        if self.handoff is not None and self.handoff.waiting and (hint := self.handoff.get(key)) is not None:
            return hint.record
        for breaker in reversed(self.tiers):
            queued = None if breaker is self.authority else self.near_cache.queued(key)
            if queued is not None:
                return queued
            answer = self.ask(breaker, lambda tier: (sound(key, tier.peek(key)),), NOTHING)
            if answer and (answer[0] is not None or breaker is self.authority):
                return answer[0]
        return None

    def _write_hints(self, keys: Collection[str], decide: Decision) -> bool:
        """Write a page of hints to the authority; return whether it took them."""
        decided = guarded_decision(decide)
        applied = self.authority.write(lambda tier: tier.transact(keys, decided), None, len(keys) + 100)
        if applied is None:
            self._news = True  # as in `commit`
            return False
        self.spread(applied, admit=False)
        return True
