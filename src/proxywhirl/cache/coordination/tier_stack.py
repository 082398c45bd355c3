"""The three tiers as one: who is asked, who is written first, who follows the log.

A write goes to the authority (the lowest enabled tier), then upwards; the authority alone decides whether
it is acknowledged. The windows above it follow its log of changes, each from the revision where it stands, whoever
brought it there. While the authority is sick, `Handoff` keeps the writes. While a tier that was a window is the
authority, `Removals` notes what goes, for the tier that is off.

Locks, in the order in which they are taken: one of `_loading` (a load of a key at a time), `_writing` (a change at a
time), a tier's own (a call at a time; beside a write one read, where the tier allows it), the near cache's (in memory
only). A hit in L1 takes none. Who reads takes `_writing` only where it is free: see `guard.in_passing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from proxywhirl.cache.coordination.breaker import BreakerTier, guarded_decision, in_passing, may_wait, sound
from proxywhirl.cache.coordination.following import bring_in_line, followed, stretch_of, touched
from proxywhirl.cache.coordination.handoff import Handoff, Removals
from proxywhirl.cache.coordination.hit_counts import HitLog
from proxywhirl.cache.coordination.near_cache import Lift, NearCache
from proxywhirl.cache.coordination.reads import Reader
from proxywhirl.cache.coordination.replicas import Committed, Ladder, connect
from proxywhirl.cache.policy import Found, state_of
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Applied, Batch, Changes, Decision, Followed, Stretch, Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError

PAGE = 1_000
SWEEP_LIMIT = 500
FEW = 64
HITS_AT_ONCE = 250
NO_KEYS: list[str] = []
NO_RECORDS: list[Record] = []
NOTHING: tuple[Record | None, ...] = ()

T = TypeVar("T")


class TierStack:
    """The enabled tiers, fastest first; the last one is the authority."""

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
        self._ladder = ladder = Ladder(tiers, clock=clock, counters=counters)
        self.tiers, self.authority = ladder.tiers, ladder.authority
        self.durable, self.windows = ladder.durable, ladder.windows
        self._ask, self._write = ladder.ask, ladder.write
        self._hits = hits = hits if hits is not None else HitLog(durable=False)
        first = tiers[0][1]
        self.near_cache = NearCache(
            first if isinstance(first, MemoryTier) and self.tiers[0].name == "l1" and self.durable else None,
            hits,
            revision=next(each for each in reversed(self.tiers) if each.absent is None).tier.revision,
            handoff=handoff,
        )
        self._counters = counters
        self._clock = clock
        self._handoff = handoff
        if handoff is not None:
            handoff.hear = partial(self._put_ahead, ())
        self._removals = removals
        self.authority.alone = handoff is None
        self._writing = threading.RLock()
        self._noticing = threading.RLock()
        self._news = False
        self._lift = Lift(ladder, self.near_cache, writing=self._writing, notice=self._notice)
        reader = Reader(
            ladder,
            self.near_cache,
            counters=counters,
            hits=hits,
            handoff=handoff,
            lift=self._lift.let_rise,
            remove_expired=self.remove_expired,
        )
        self.read, self.read_many = reader.read, reader.read_many
        with in_passing():  # to open a cache is to read
            self._make_room()
            for window in self.windows:
                bring_in_line(window, self.authority)

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

        With `admit`, what was written enters the windows; else only those that hold it follow. `merge` says
        that records decided on without the stored ones are to be merged with these later, `size` how many there are,
        `sealing` what makes sure of the key in the authority's transaction.
        """
        noted = decide if self._removals is None else self._removals.noting(decide)
        decided = guarded_decision(noted if sealing is None else sealing(noted))
        if not self._writing.acquire(blocking=may_wait()):
            return None  # another thread changes something, and this one is in passing
        try:
            if not self._is_owed() or self.replay():
                applied = self._write(self.authority, lambda tier: tier.transact(keys, decided), None, size)
                if applied is not None:
                    return self._spread(applied, admit=admit)
                self._news = True  # only the log tells whether it was written nevertheless
            return self._owe(keys, decide, merge=merge) if may_wait() else None
        finally:
            self._writing.release()

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
            self._counters.add(f"{tier}.{name}", len(held & set(gone)))

    def clear(self) -> int:
        """Forget everything; return how many entries there were.

        Raises:
            TierError: the authority is sick, so that everything would be back when it is well.
        """

        def clear(tier: Tier) -> tuple[int, int]:
            if self._removals is not None:
                self._removals.note_all(tier)
            return tier.clear(), tier.revision

        with self._writing:
            held = self._write(self.authority, clear, None, PAGE * PAGE)
            if held is None:
                self._news = True  # as in `commit`
                raise TierError(f"nothing was removed: tier {self.authority.name} is degraded; try again later")
            if self._handoff is not None:
                self._handoff.forget()
            for window in self.windows:
                window.behind = True
                bring_in_line(window, self.authority)
            self.near_cache.forget(held[1])
            return held[0]

    def flush(self) -> None:
        """Write the hits that were gathered to the tiers that outlive the process."""
        with self._writing:  # so that nothing rises meanwhile with hits that it would be told of again
            accesses = self._hits.take()
            if not accesses:
                return
            if not self._write(self.authority, partial(touched, accesses), False, len(accesses)):
                self._hits.give_back(accesses)
                return
            for window in self.windows:
                for first in range(0, len(accesses), HITS_AT_ONCE):  # reads of the window come in between
                    few = accesses[first : first + HITS_AT_ONCE]
                    if not self._write(window, partial(touched, few), False, len(few)):
                        window.behind = window.miscounts = True
                        break
            self.near_cache.touched(accesses)
            self._hits.written()

    def refresh(self, *, lift: bool = True) -> None:
        """Follow what other processes wrote, where they did, and bring back what was left out.

        Without `lift`, what waits for L2 goes on waiting: who leaves for it is not to depend on when a thread comes by.
        """
        if lift:
            self._lift.let_rise(at_once=True)
        self._notice()
        for window in self.windows:
            if window.behind:
                bring_in_line(window, self.authority)
        if self._handoff is not None and self._handoff.look():
            self.replay()

    def _notice(self) -> None:
        """Follow the log where others have written to it; who comes meanwhile waits for that, but not in passing."""
        if self._ask(self.authority, lambda tier: tier.changed_elsewhere(), False):
            self._news = self._lift.counted_elsewhere = True
        if not self._noticing.acquire(blocking=may_wait()):
            return
        try:
            if self._news:
                self._news = False  # before the log is read: what comes after that is news again
                self._news = not self._follow_log() or self._news
        finally:
            self._noticing.release()

    def _look(self) -> None:
        """Notice what others wrote, in passing: for who reads."""
        with in_passing():
            self._notice()

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Return a page of the log; an empty one where the authority is sick."""
        self._look()
        empty = Changes(revision, [], [])
        return self._ask(self.authority, lambda tier: tier.changes_since(revision, limit), empty, limit)

    def page(self, after: str) -> list[Record]:
        """Return the next records in the order of the keys.

        Raises:
            TierError: the authority is sick, and no other tier holds everything.
        """
        self._look()
        while True:
            page = self._ask(self.authority, lambda tier: tier.scan(after, PAGE), None, PAGE)  # noqa: B023  # called at once
            if page is None:
                raise TierError(f"the entries cannot be listed while tier {self.authority.name} is degraded")
            last = page[-1].key if len(page) == PAGE else None
            shown = page if self._handoff is None else self._handoff.over(page, after, last)
            if shown or last is None:
                return shown
            after = last

    def peek(self, key: str) -> Record | None:
        """Return what is stored under a key, counting nothing."""
        self._look()
        return self._known(key)

    def sweep(self, now: float) -> bool:
        """Remove a bounded batch of expired entries; return whether there may be more."""
        keys = self._ask(self.authority, lambda tier: tier.expired(now, SWEEP_LIMIT), NO_KEYS)
        if keys:
            self.remove_expired(keys, now)
        return len(keys) == SWEEP_LIMIT

    def each_durable(self, act: Callable[[Tier], bool]) -> bool:
        """Do something to each tier that outlives the process; whether all of them have answered True."""
        return all([self._write(breaker, act, False) for breaker in self.durable])  # noqa: C419  # none is left out

    def measure(self, *, lift: bool = True) -> tuple[dict[TierName, int], dict[TierName, int], dict[TierName, bool]]:
        """Return each tier's size, how many damaged records it found, and whether it is degraded.

        What waits for L2 counts there where it is to `lift`.
        """
        with in_passing():
            if lift:
                self._lift.let_rise(at_once=True)
            self._notice()
        sizes = {breaker.name: self._ask(breaker, len, 0, PAGE * PAGE) for breaker in self.tiers}
        corrupted = {breaker.name: breaker.tier.corrupted for breaker in self.tiers}
        return sizes, corrupted, {breaker.name: breaker.sick for breaker in self.tiers}

    def ask_authority(self, ask: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Ask the lowest tier about `size` records; `default` where it is sick."""
        return self._ask(self.authority, ask, default, size)

    def rejoin(self, authority: Tier) -> None:
        """Use an authority that could be opened at last: what it says is news to all."""
        connect(authority, self.tiers[:-1])
        self._news = True

    def stand_in(self) -> list[Record] | None:
        """Return what is known while the authority cannot be opened, or will be there then; None where it is open."""
        if self.authority.absent is None:
            return None
        known: dict[str, Record] = {}
        for window in self.windows:
            page = self._ask(window, lambda tier: tier.scan("", PAGE), NO_RECORDS, PAGE)
            while page:
                known |= {record.key: record for record in page}
                after = page[-1].key
                page = self._ask(window, lambda tier: tier.scan(after, PAGE), NO_RECORDS, PAGE)  # noqa: B023  # called at once
        return list(known.values()) if self._handoff is None else self._handoff.over(list(known.values()), "", None)

    def write_authority(self, change: Callable[[Tier], T], default: T) -> T:
        """Change the lowest tier beside its records; `default` where it is sick."""
        return self._write(self.authority, change, default)

    def size(self) -> int:
        """How many entries the authority holds, or will hold when it has what it is owed; those known without it."""
        self._look()
        if (standing_in := self.stand_in()) is not None:
            return sum(not record.retired for record in standing_in)
        owed = {} if self._handoff is None else self._handoff.records()
        kept = self._ask(self.authority, lambda tier: len(tier) - sum(key in tier for key in owed), 0, PAGE * PAGE)
        return kept + sum(record is not None and not record.retired for record in owed.values())

    def replay(self) -> bool:
        """Write what is owed to the authority; return whether nothing is owed any more."""
        if self._handoff is None:
            return True
        with self._writing:
            return self._handoff.replay(self._write_hints) if self.authority.writable else False

    def _is_owed(self) -> bool:
        """Whether the authority is owed anything; in passing, as far as this process has looked."""
        return self._handoff is not None and (self._handoff.look() if may_wait() else self._handoff.waiting)

    def owed(self) -> int:
        """How many changes wait until the authority is well. Raises `CacheError` where that cannot be told."""
        if self._handoff is None:
            return 0
        self._handoff.catch_up()
        return len(self._handoff)

    def refused(self) -> dict[str, str]:
        """Return the keys of changes that the authority could not take, with the reasons. Raises as `owed` does."""
        return {} if self._handoff is None else {key: why for key, (_, why) in self._handoff.refused().items()}

    def retry_refused(self) -> None:
        """Try once more to write what the authority could not take; what was removed since stays removed."""
        with self._writing:
            refused = {} if self._handoff is None else self._handoff.refused()
            gone = self._removed_since(min(hint.base for hint, _ in refused.values())) if refused else None
            if self._handoff is not None and gone is not None:
                self._handoff.retry(refused.keys() - gone)
                self.replay()

    def _removed_since(self, revision: int) -> set[str] | None:
        """Return what is gone since a revision, None where the log does not tell."""
        gone: set[str] = set()
        more = True
        while more:
            changes = self._ask(self.authority, lambda tier: tier.changes_since(revision, PAGE), None, PAGE)  # noqa: B023  # called at once
            if changes is None or changes.reset:
                return None
            gone = (gone | set(changes.removed)) - {record.key for record in changes.records}
            revision, more = changes.revision, changes.more
        return gone

    def close(self) -> None:
        """Write what waits for L2, and close every tier."""
        self._lift.let_rise(at_once=True)
        self.release()

    def release(self) -> None:
        """Close every tier."""
        self._ladder.close()
        for file in (self._handoff, self._removals):
            if file is not None:
                file.close()

    def abandon(self) -> None:
        """Let go, in a forked child, of what is shared with the parent."""
        for file in (self._handoff, self._removals):
            if file is not None:
                file.abandon()

    def _make_room(self) -> None:
        """Let those go that are too many since a tier has a smaller bound."""
        applied = self._write(self.authority, lambda tier: tier.transact((), lambda _: Batch()), None, PAGE * PAGE)
        self._ladder.note_evictions(self.authority.name, len(applied.evicted if applied is not None else NO_KEYS))
        for window in self.windows:
            evicted = self._write(window, lambda tier: tier.fill((), tier.revision), None, PAGE * PAGE)
            self._ladder.note_evictions(window.name, len(evicted or NO_KEYS))

    def _spread(self, applied: Applied, *, admit: bool) -> Committed:
        """Bring the windows in line with what the authority has written: a durable one later, where that is little."""
        served = [record for record in applied.puts if not record.retired]
        gone = [*applied.deletes, *(record.key for record in applied.puts if record.retired), *applied.evicted]
        stretch = Stretch(applied.revision_before, applied.revision, served, gone, admit)
        committed = Committed(applied)
        rises = admit and not gone and len(served) <= FEW and bool(self.windows)
        if not rises:
            self._lift.let_rise(at_once=True)
            for window in self.windows:
                committed.held[window.name] = self._tell(window, stretch)
        near_cache = self.near_cache.follow(stretch, rises=rises)
        if near_cache is None:
            if not self._follow_log():
                self._put_ahead(served if admit else (), [*gone, *(record.key for record in served)])
        else:
            if self.near_cache.l1 is not None:
                committed.held["l1"] = set(near_cache.held)
            self._ladder.note_evictions("l1", len(near_cache.evicted))
        self._ladder.note_evictions(self.authority.name, len(applied.evicted))
        self._lift.let_rise()
        return committed

    def _tell(self, window: BreakerTier, stretch: Stretch) -> set[str]:
        """Have a durable window follow a change now; return which of the removed keys it held."""
        done = None
        if not window.behind:
            size = len(stretch.records) + len(stretch.removed)
            done = window.write(partial(followed, stretch), None, size)
        if done is None:
            window.behind = True  # until it has followed the log as far as this
            done = Followed(bring_in_line(window, self.authority))
        self._ladder.note_evictions(window.name, len(done.evicted))
        return set(done.held)

    def _put_ahead(self, records: Sequence[Record], changed: Collection[str]) -> None:
        """Have memory and windows stand by what this process wrote, where the log cannot be followed as far as that."""
        self._news = True
        for window in self.windows:
            if self._write(window, lambda tier: tier.drop(changed), None, len(changed)) is None:
                window.behind = True
        self._ladder.note_evictions("l1", len(self.near_cache.replace(records, changed)))

    def _follow_log(self) -> bool:
        """Bring the windows, and then what is in memory, in line with the log; return whether that could be done.

        What is in memory never stands later in the log than a window that is asked: a load could take from there what
        the log has told the loads of before.
        """
        while True:
            since = self.near_cache.revision
            changes = self._ask(self.authority, lambda tier: tier.changes_since(since, PAGE), None, PAGE)  # noqa: B023  # called at once
            if changes is None:
                return False
            reached = self._ask(self.authority, lambda tier: tier.revision, -1) if changes.reset else changes.revision
            if reached < 0 or not self._bring_windows_to(reached):
                return False
            if changes.reset:
                self.near_cache.forget(reached)
                return True
            if changes.revision == since:
                return True
            if self.near_cache.follow(stretch_of(since, changes)) is not None and not changes.more:
                return True

    def _bring_windows_to(self, revision: int) -> bool:
        """Bring the windows in line with the log; whether each stands at a revision or later, or is asked no more."""
        for window in self.windows:
            bring_in_line(window, self.authority)
            if not window.behind and not 0 <= revision <= window.call(lambda tier: tier.revision, -1):
                return False
        return True

    def _owe(self, keys: Collection[str], decide: Decision, *, merge: bool) -> Committed | None:
        """Keep a change as hints while the authority is sick; None where they cannot."""
        if self._handoff is None:
            return None
        present = {key: record for key in keys if (record := self._known(key)) is not None}
        batch = decide(present)
        if not self._handoff.keep(batch, base=self.near_cache.revision, at=self._clock.now(), merge=merge):
            return None
        changed = [*batch.deletes, *(record.key for record in batch.puts)]
        self._put_ahead([record for record in batch.puts if not record.retired], changed)
        revision = self.near_cache.revision
        deletes = [key for key in batch.deletes if key in present]
        return Committed(Applied(list(batch.puts), deletes, revision_before=revision, revision=revision))

    def _known(self, key: str) -> Record | None:
        """Return what is known of a key: what is owed, else the word of the authority, else what is above it."""
        if self._handoff is not None and self._handoff.waiting and (hint := self._handoff.get(key)) is not None:
            return hint.record
        for breaker in reversed(self.tiers):
            rising = None if breaker is self.authority else self.near_cache.rising(key)
            if rising is not None:
                return rising
            answer = self._ask(breaker, lambda tier: (sound(key, tier.peek(key)),), NOTHING)
            if answer and (answer[0] is not None or breaker is self.authority):
                return answer[0]
        return None

    def _write_hints(self, keys: Collection[str], decide: Decision) -> bool:
        """Write a page of hints to the authority; return whether it took them."""
        decided = guarded_decision(decide)
        applied = self._write(self.authority, lambda tier: tier.transact(keys, decided), None, len(keys) + 100)
        if applied is None:
            self._news = True  # as in `commit`
            return False
        self._spread(applied, admit=False)
        return True
