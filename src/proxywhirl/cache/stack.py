"""The three tiers as one: who is asked, who is written first, who follows the log.

A write goes to the authority (the lowest enabled tier), then upwards; the authority alone decides whether
it is acknowledged. The windows above it follow its log of changes, each from the revision where it stands, whoever
brought it there. While the authority is sick, `Debts` takes the writes.

Locks, in the order in which they are taken: one of `_loading` (a load of a key at a time), `_writing` (a change at a
time), a tier's own (a call at a time), the front's (in memory only). A hit in L1 takes none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from proxywhirl.cache.following import bring_in_line, sound_many, stretch_of
from proxywhirl.cache.front import Front
from proxywhirl.cache.guard import GuardedTier, LeftOut, guarded_decision, sound
from proxywhirl.cache.hits import HitLog
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.owing import Debts
from proxywhirl.cache.policy import Found, Movement, after_read, state_of
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tier import Access, Applied, Batch, Changes, Decision, Followed, Stretch, Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError

__all__ = ["Committed", "Reading", "TierStack"]

PAGE = 1_000
SWEEP_LIMIT = 500
RISING_KEPT = 500
FEW = 64
LOADING_LOCKS = 64
NO_KEYS: list[str] = []
NOTHING: tuple[Record | None, ...] = ()

T = TypeVar("T")


@dataclass(slots=True)
class Committed:
    """What the authority wrote, and which windows held keys that went with it."""

    applied: Applied
    held: dict[TierName, set[str]] = field(default_factory=dict)


class Reading(NamedTuple):
    """A live record, the tier that it came from, and whether it came from below after its eviction from L1."""

    record: Record
    tier: TierName
    evicted_from_l1: bool = False


class TierStack:
    """The enabled tiers, fastest first; the last one is the authority."""

    def __init__(
        self,
        tiers: Sequence[tuple[TierName, Tier]],
        *,
        clock: Clock,
        counters: Counters,
        hits: HitLog | None = None,
        debts: Debts | None = None,
    ) -> None:
        self.tiers = [GuardedTier(name, tier, clock) for name, tier in tiers]
        self.authority = self.tiers[-1]
        self.durable = [guarded for guarded in self.tiers if guarded.name != "l1"]
        self.windows = [guarded for guarded in self.durable[:-1] if guarded is not self.authority]
        self._hits = hits if hits is not None else HitLog(durable=False)
        first = tiers[0][1]
        self.front = Front(
            first if isinstance(first, MemoryTier) and self.tiers[0].name == "l1" and self.durable else None,
            self._hits,
            revision=self.authority.tier.revision,
        )
        self._above: tuple[TierName, ...] = () if self.front.l1 is None else ("l1",)
        self._askable = self.durable or self.tiers
        self._counters = counters
        self._clock = clock
        self._debts = debts
        self._writing = threading.RLock()
        self._noticing = threading.RLock()
        self._news = False
        self._loading = [threading.RLock() for _ in range(LOADING_LOCKS)]
        self._make_room()
        for window in self.windows:
            bring_in_line(window, self.authority)

    def read(self, key: str, now: float) -> Reading | None:
        """Return what is alive under a key; fill the tiers above."""
        front = self.front
        with self._loading[hash(key) % LOADING_LOCKS]:
            if front.l1 is not None:
                record = front.l1.get(key)  # another thread may have loaded it meanwhile
                if record is not None and now < record.expires_at:
                    self._counters.add("l1.hits")
                    return Reading(record, "l1")
            load = front.begin(key)
            record, asked = self._find(key)
            state = state_of(record, now)
            movement = after_read(asked, state)
            self._counters.add_movement(movement)
            reading = None
            if record is not None and state is Found.LIVE:
                reading = self._hand_out(record, movement)
                victim = front.end(load, key, record, rises=self._rises(movement))
                if victim is not None:
                    self._note_evictions("l1", (victim,))
                if front.waiting >= RISING_KEPT:
                    self._let_rise()
            else:
                front.end(load, key, None, rises=False)
        if movement.remove:
            self.remove_expired([key], now)
        return reading

    def read_many(self, keys: Collection[str], now: float) -> dict[str, Reading]:
        """Return what is alive under keys that L1 does not have; fill the tiers above, a tier at a time."""
        load = self.front.begin_many(keys)
        readings: dict[str, Reading] = {}
        expired: list[str] = []
        missing = list(keys)
        asked = self._above
        rise: set[str] = set()
        for guarded in self._askable:
            answer = self._ask(guarded, lambda tier: sound_many(tier.get_many(missing)), None, len(missing))  # noqa: B023  # called at once
            if answer is None:
                continue
            asked = (*asked, guarded.name)
            if guarded in self.windows and self.front.waiting:
                answer |= {key: record for key in missing if (record := self.front.rising(key)) is not None}
            movement = after_read(asked, Found.LIVE)
            alive = [record for record in answer.values() if now < record.expires_at and not record.retired]
            for record in alive:
                readings[record.key] = self._hand_out(record, movement)
            if self._rises(movement):
                rise.update(record.key for record in alive)
            if len(alive) < len(answer):
                expired += [key for key, record in answer.items() if state_of(record, now) is Found.EXPIRED]
            self._counters.add_movement(movement, len(alive))
            if len(answer) == len(missing):
                missing = []
                break
            missing = [key for key in missing if key not in answer]
        self._counters.add_movement(after_read(asked, Found.NOTHING), len(keys) - len(readings))
        found = [reading.record for reading in readings.values()]
        self._note_evictions("l1", self.front.end_many(load, keys, found, rise=rise))
        self._let_rise()
        if expired:
            self.remove_expired(expired, now)
        return readings

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
        decided = guarded_decision(decide if sealing is None else sealing(decide))
        with self._writing:
            if self._debts is None or not self._debts.outstanding() or self.settle():
                applied = self._ask(self.authority, lambda tier: tier.transact(keys, decided), None, size)
                if applied is not None:
                    return self._spread(applied, admit=admit)
            return self._owe(keys, decide, merge=merge)

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
        with self._writing:
            held = self._ask(self.authority, lambda tier: (tier.clear(), tier.revision), None, PAGE * PAGE)
            if held is None:
                raise TierError(f"nothing was removed: tier {self.authority.name} is degraded; try again later")
            if self._debts is not None:
                self._debts.forget()
            for window in self.windows:
                bring_in_line(window, self.authority)
            self.front.forget(held[1])
            return held[0]

    def touch(self, accesses: Sequence[Access]) -> bool:
        """Write hits to the tiers that outlive the process; return whether the authority took them."""

        def touched(tier: Tier) -> bool:
            tier.touch_many(accesses)
            return True

        taken = False
        for guarded in self.durable:
            taken = self._ask(guarded, touched, False, len(accesses))
        return taken

    def refresh(self) -> None:
        """Follow what other processes wrote, where they did, and bring back what was left out."""
        self._let_rise(at_once=True)
        self._notice()
        for window in self.windows:
            if window.behind:
                bring_in_line(window, self.authority)
        if self._debts is not None and self._debts.outstanding():
            self.settle()

    def _notice(self) -> None:
        """Follow the log where others have written to it; who comes meanwhile waits for that."""
        with self._noticing:
            self._news = self._ask(self.authority, lambda tier: tier.changed_elsewhere(), False) or self._news
            if self._news:
                self._news = not self._follow_log()

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Return a page of the log; an empty one where the authority is sick."""
        self._notice()
        empty = Changes(revision, [], [])
        return self._ask(self.authority, lambda tier: tier.changes_since(revision, limit), empty, limit)

    def page(self, after: str) -> list[Record]:
        """Return the next records in the order of the keys.

        Raises:
            TierError: the authority is sick, and no other tier holds everything.
        """
        self._notice()
        page = self._ask(self.authority, lambda tier: tier.scan(after, PAGE), None, PAGE)
        if page is None:
            raise TierError(f"the entries cannot be listed while tier {self.authority.name} is degraded")
        return page

    def peek(self, key: str) -> Record | None:
        """Return what is stored under a key, counting nothing."""
        self._notice()
        if self._debts is not None and (debt := self._debts.get(key)) is not None:
            return debt.record
        for guarded in reversed(self.tiers):
            answer = self._ask(guarded, lambda tier: (sound(key, tier.peek(key)),), NOTHING)
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
        return all([self._ask(guarded, act, False) for guarded in self.durable])  # noqa: C419  # none is left out

    def measure(self) -> tuple[dict[TierName, int], dict[TierName, int], dict[TierName, bool]]:
        """Return each tier's size, how many damaged records it found, and whether it is degraded."""
        self._let_rise(at_once=True)
        self._notice()
        sizes = {guarded.name: self._ask(guarded, len, 0, PAGE * PAGE) for guarded in self.tiers}
        corrupted = {guarded.name: guarded.tier.corrupted for guarded in self.tiers}
        return sizes, corrupted, {guarded.name: guarded.degraded for guarded in self.tiers}

    def ask_authority(self, ask: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Ask the lowest tier about `size` records; `default` where it is sick."""
        return self._ask(self.authority, ask, default, size)

    def size(self) -> int:
        """How many entries the authority holds."""
        self._notice()
        return self._ask(self.authority, len, 0, PAGE * PAGE)

    def settle(self) -> bool:
        """Write what is owed to the authority; return whether nothing is owed any more."""
        if self._debts is None:
            return True
        with self._writing:
            return self._debts.settle(self._pay) if self.authority.available else False

    def owed(self) -> int:
        """How many changes wait until the authority is well."""
        return self._debts.number() if self._debts is not None else 0

    def close(self) -> None:
        """Write what waits for L2, and close every tier."""
        self._let_rise(at_once=True)
        for guarded in self.tiers:
            guarded.tier.close()
        if self._debts is not None:
            self._debts.close()

    def abandon(self) -> None:
        """Let go, in a forked child, of what is shared with the parent."""
        if self._debts is not None:
            self._debts.abandon()

    def _ask(self, guarded: GuardedTier, ask: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Ask a tier; a window that was left out of a change follows the log first."""
        if guarded.behind and not self._is_in_line(guarded):
            return default
        return guarded.call(ask, default, size)

    def _is_in_line(self, window: GuardedTier) -> bool:
        """Try to bring a window in line that was left out of a change; return whether it is."""
        if window.available:
            bring_in_line(window, self.authority)
        return not window.behind

    def _find(self, key: str) -> tuple[Record | None, tuple[TierName, ...]]:
        """Return what the durable tiers have under a key, and which were asked."""
        asked = self._above
        if self._debts is not None and (debt := self._debts.get(key)) is not None:
            return debt.record, (*asked, self.durable[0].name)
        for guarded in self._askable:
            if guarded.behind and not self._is_in_line(guarded):
                continue
            answer: Record | LeftOut | None = self.front.rising(key) if guarded is not self.authority else None
            if answer is None:
                answer = guarded.get(key)
            if isinstance(answer, LeftOut):
                continue
            asked = (*asked, guarded.name)
            if answer is not None:
                return answer, asked
        return None, asked

    def _hand_out(self, record: Record, movement: Movement) -> Reading:
        """Make a record that was read below ready for L1, where other threads can hit it from then on."""
        self._hits.add_to(record)
        tier = movement.hit or self.authority.name
        return Reading(record, tier, tier != "l1" and self.front.was_evicted(record.key))

    def _rises(self, movement: Movement) -> bool:
        """Whether such a read fills a durable window."""
        return bool(self.windows) and len(movement.fill) > len(self._above)

    def _make_room(self) -> None:
        """Let those go that are too many since a tier has a smaller bound."""
        applied = self._ask(self.authority, lambda tier: tier.transact((), lambda _: Batch()), None, PAGE * PAGE)
        self._note_evictions(self.authority.name, applied.evicted if applied is not None else NO_KEYS)
        for window in self.windows:
            evicted = self._ask(window, lambda tier: tier.fill((), tier.revision), None, PAGE * PAGE)
            self._note_evictions(window.name, evicted or NO_KEYS)

    def _let_rise(self, *, at_once: bool = False) -> None:
        """Write what waits for L2 in a batch. What cannot be written now is read from below again."""
        if not self.front.waiting or (self.front.waiting < RISING_KEPT and not at_once):
            return
        with self._writing:  # so that no change of this process comes between
            records, since, revision = self.front.take_rising()
            for window in self.windows:
                self._raise_into(window, records, since, revision)
            self.front.risen()

    def _raise_into(self, window: GuardedTier, records: list[Record], since: int | None, revision: int) -> None:
        """Write into a durable window what waits for it, and that it has followed the log with this."""
        evicted = None
        if since is not None and not window.behind:
            stretch = Stretch(since, revision, records, (), admit=True)
            followed = window.call(lambda tier: tier.follow(stretch), None, len(records))
            if followed is not None:
                self._note_evictions(window.name, followed.evicted)
                return
        if since is not None:
            bring_in_line(window, self.authority)
        evicted = self._ask(window, lambda tier: tier.fill(records, revision), None, len(records))
        self._note_evictions(window.name, evicted or NO_KEYS)

    def _spread(self, applied: Applied, *, admit: bool) -> Committed:
        """Bring the windows in line with what the authority has written: a durable one later, where that is little."""
        served = [record for record in applied.puts if not record.retired]
        gone = [*applied.deletes, *(record.key for record in applied.puts if record.retired), *applied.evicted]
        stretch = Stretch(applied.revision_before, applied.revision, served, gone, admit)
        committed = Committed(applied)
        rises = admit and not gone and len(served) <= FEW and bool(self.windows)
        if not rises:
            self._let_rise(at_once=True)
            for window in self.windows:
                committed.held[window.name] = self._tell(window, stretch)
        front = self.front.follow(stretch, rises=rises)
        if front is None:
            self._follow_log()
        else:
            if self.front.l1 is not None:
                committed.held["l1"] = set(front.held)
            self._note_evictions("l1", front.evicted)
        self._note_evictions(self.authority.name, applied.evicted)
        self._let_rise()
        return committed

    def _tell(self, window: GuardedTier, stretch: Stretch) -> set[str]:
        """Have a durable window follow a change now; return which of the removed keys it held."""
        followed = None
        if not window.behind:
            size = len(stretch.records) + len(stretch.removed)
            followed = window.call(lambda tier: tier.follow(stretch), None, size)
        if followed is None:
            followed = Followed(bring_in_line(window, self.authority))
        self._note_evictions(window.name, followed.evicted)
        return set(followed.held)

    def _follow_log(self) -> bool:
        """Bring the windows, and then what is in memory, in line with the log; return whether it could be read."""
        for window in self.windows:
            bring_in_line(window, self.authority)
        while True:
            since = self.front.revision
            changes = self._ask(self.authority, lambda tier: tier.changes_since(since, PAGE), None, PAGE)  # noqa: B023  # called at once
            if changes is None:
                return False
            if changes.reset:
                self.front.forget(self.authority.call(lambda tier: tier.revision, since))
                return True
            if changes.revision == since:
                return True
            if self.front.follow(stretch_of(since, changes)) is not None and not changes.more:
                return True

    def _owe(self, keys: Collection[str], decide: Decision, *, merge: bool) -> Committed | None:
        """Let the debts take a change while the authority is sick; None where they cannot."""
        if self._debts is None:
            return None
        present = {key: record for key in keys if (record := self._known(key)) is not None}
        batch = decide(present)
        if not self._debts.note(batch, base=self.front.revision, at=self._clock.now(), merge=merge):
            return None
        changed = [*batch.deletes, *(record.key for record in batch.puts)]
        for window in self.windows:
            self._ask(window, lambda tier: tier.drop(changed), NO_KEYS, len(changed))
        served = [record for record in batch.puts if not record.retired]
        self._note_evictions("l1", self.front.replace(served, changed))
        revision = self.front.revision
        deletes = [key for key in batch.deletes if key in present]
        return Committed(Applied(list(batch.puts), deletes, revision_before=revision, revision=revision))

    def _known(self, key: str) -> Record | None:
        """Return what is known of a key while the authority is sick."""
        debt = self._debts.get(key) if self._debts is not None else None
        if debt is not None:
            return debt.record
        for guarded in self.tiers[:-1]:
            answer = self._ask(guarded, lambda tier: (sound(key, tier.peek(key)),), NOTHING)
            if answer and answer[0] is not None:
                return answer[0]
        return None

    def _pay(self, keys: Collection[str], decide: Decision) -> bool:
        """Write a page of debts to the authority; return whether it took them."""
        decided = guarded_decision(decide)
        applied = self._ask(self.authority, lambda tier: tier.transact(keys, decided), None, len(keys) + 100)
        if applied is not None:
            self._spread(applied, admit=False)
        return applied is not None

    def _note_evictions(self, tier: TierName, keys: Sequence[str]) -> None:
        if not keys:
            return
        self._counters.add(f"{tier}.evictions_lru", len(keys))
        if tier != self.authority.name:
            self._counters.add("demotions", len(keys))
