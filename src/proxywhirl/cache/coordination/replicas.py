"""The tiers in order. Each of them follows the log of the lowest one.

- A window that was left out of a change is `behind`: it catches up with the log before it is asked again.
- The near cache is never ahead in the log of a window that is asked: else a load could take an old record from the
  window after the log has told of its change.
- Records of single puts and promotions wait for L2 in the promotion queue of the near cache; `promote` writes them in
  batches.
- A value that a window refuses to hold is left out of it: it is read from below.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from proxywhirl.cache.coordination.breaker import BreakerTier, in_passing, may_wait, sound
from proxywhirl.cache.coordination.handoff import Handoff
from proxywhirl.cache.coordination.near_cache import HitLog, NearCache
from proxywhirl.cache.record import Record, fault_of
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import (
    Access,
    Applied,
    Batch,
    Changes,
    Followed,
    Salvaging,
    Stretch,
    Tier,
    TierName,
)
from proxywhirl.clock import Clock
from proxywhirl.errors import TierError, UnstorableValue

PAGE = 1_000
MOST_PAGES = 100_000
FEW = 64
QUEUE_KEPT = 500
QUEUE_MOST = 2 * QUEUE_KEPT  # while the windows cannot be written to
QUIET_SECONDS = 60.0
WINDOW_PATIENCE_SECONDS = 1.0
NO_KEYS: list[str] = []
NO_RECORDS: dict[str, Record] = {}

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Committed:
    """What the authority wrote, and which windows held keys that went with it."""

    applied: Applied
    held: dict[TierName, set[str]] = field(default_factory=dict)


class Replicas:
    """The enabled tiers, fastest first: the last one is the authority, `windows` are the durable ones above it."""

    def __init__(
        self,
        tiers: Sequence[tuple[TierName, Tier]],
        *,
        clock: Clock,
        counters: Counters,
        hits: HitLog,
        handoff: Handoff | None,
    ) -> None:
        self.tiers = [BreakerTier(name, tier, clock) for name, tier in tiers]
        self.authority = self.tiers[-1]
        self.authority.behind = False  # the authority follows no tier
        self.authority.alone = handoff is None
        self.durable = [each for each in self.tiers if each.name != "l1"]
        self.windows = [each for each in self.durable if each is not self.authority]
        for window in self.windows:
            window.patience = WINDOW_PATIENCE_SECONDS  # a window can be left out
        first = tiers[0][1]
        self.near_cache = NearCache(
            first if isinstance(first, MemoryTier) and self.tiers[0].name == "l1" and self.durable else None,
            hits,
            revision=next(each for each in reversed(self.tiers) if each.absent is None).tier.revision,
            handoff=handoff,
        )
        if handoff is not None:
            handoff.hear = partial(self.put_ahead, ())
        self.counters = counters
        self._evictions = {each.name: counters.place(*self.eviction_counts(each.name)) for each in self.tiers}
        self._monotonic = clock.monotonic
        self._lost, self._quiet_until = 0, float("-inf")
        self._writing = threading.RLock()
        self._noticing = threading.RLock()
        self._news = False
        self._hits_elsewhere = False
        self._offer_copies(self.authority.tier)
        with in_passing():  # opening a cache counts as reading
            self._make_room()
            for window in self.windows:
                catch_up(window, self.authority)

    def ask(self, breaker: BreakerTier, ask: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Ask a tier about `size` records; a window that was left out of a change catches up first."""
        if breaker.behind:
            with in_passing():
                if not self.catches_up(breaker):
                    return default
        return breaker.call(ask, default, size)

    def write(self, breaker: BreakerTier, change: Callable[[Tier], T], default: T, size: int = 1) -> T:
        """Do as `ask` with what changes the tier."""
        if breaker.behind and not self.catches_up(breaker):
            return default
        return breaker.write(change, default, size)

    def catches_up(self, window: BreakerTier) -> bool:
        """Have a window catch up that was left out of a change; return whether it has."""
        if window.available:
            catch_up(window, self.authority)
        return not window.behind

    def notice(self) -> None:
        """Follow the log if others have written to it; other callers wait for that meanwhile, but not in passing."""
        if self.ask(self.authority, lambda tier: tier.changed_elsewhere(), False):
            self._news = self._hits_elsewhere = True  # hits are not in the log
        if not self._noticing.acquire(blocking=may_wait()):
            return
        try:
            if self._news:
                self._news = False  # before the log is read: later changes are news again
                self._news = not self.follow_log() or self._news
        finally:
            self._noticing.release()

    def follow_log(self) -> bool:
        """Bring the windows, and then what is in memory, in line with the log; return whether that could be done."""
        while True:
            since = self.near_cache.revision
            changes = self.ask(self.authority, lambda tier: tier.changes_since(since, PAGE), None, PAGE)  # noqa: B023  # called at once
            if changes is None:
                return False
            reached = self.ask(self.authority, lambda tier: tier.revision, -1) if changes.reset else changes.revision
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
        """Have the windows catch up; return whether each stands at a revision or later, or is left out."""
        for window in self.windows:
            catch_up(window, self.authority)
            if not window.behind and not 0 <= revision <= window.call(lambda tier: tier.revision, -1):
                return False
        return True

    def spread(self, applied: Applied, *, admit: bool) -> Committed:
        """Have the windows follow a write of the authority: a durable one later, if the write is small."""
        served, gone = _told(applied.puts, [*applied.deletes, *applied.evicted])
        stretch = Stretch(applied.revision_before, applied.revision, served, gone, admit)
        committed = Committed(applied)
        promotes = admit and not gone and len(served) <= FEW and bool(self.windows)
        if not promotes:
            self.promote(at_once=True)
            for window in self.windows:
                committed.held[window.name] = self._tell(window, stretch)
        followed = self.near_cache.follow(stretch, promotes=promotes)
        if followed is None:
            if not self.follow_log():
                self.put_ahead(served if admit else (), [*gone, *(record.key for record in served)])
        else:
            if self.near_cache.l1 is not None:
                committed.held["l1"] = set(followed.held)
            if followed.evicted:
                self.note_evictions("l1", len(followed.evicted))
        if applied.evicted:
            self.note_evictions(self.authority.name, len(applied.evicted))
        if len(self.near_cache.queue) >= QUEUE_KEPT:
            self.promote()
        return committed

    def _tell(self, window: BreakerTier, stretch: Stretch) -> set[str]:
        """Have a durable window follow a change now; return which of the removed keys it held."""
        done = None
        if not window.behind:
            size = len(stretch.records) + len(stretch.removed)
            done = window.write(partial(followed, stretch), None, size)
        if done is None:
            window.behind = True  # until it has followed the log as far as this
            done = Followed(catch_up(window, self.authority))
        self.note_evictions(window.name, len(done.evicted))
        return set(done.held)

    def put_ahead(self, records: Sequence[Record], changed: Collection[str]) -> None:
        """Have memory and windows take this process's write, though the log cannot be followed so far."""
        self._news = True
        for window in self.windows:
            if self.write(window, lambda tier: tier.drop(changed), None, len(changed)) is None:
                window.behind = True
        self.note_evictions("l1", len(self.near_cache.replace(records, changed)))

    def promote(self, *, at_once: bool = False) -> None:
        """Write the promotion queue into L2, if it is long, or `at_once`; the rest is read from below again."""
        waiting = len(self.near_cache.queue)
        if not waiting or (waiting < QUEUE_KEPT and not at_once):
            return
        if not self._writing.acquire(blocking=may_wait()):  # so that no change of this process comes between
            return
        try:
            self.notice()
            queued, since, revision = self.near_cache.take_queue()
            records = [record for record in queued if fault_of(record) is None]  # damage is not to spread
            if self._hits_elsewhere:
                self._hits_elsewhere = False
                self._count_again(records)
            if all([self._promote_into(window, records, since, revision) for window in self.windows]):  # noqa: C419  # none is left out
                self.near_cache.promoted()
            else:
                self.near_cache.requeue(since)
        finally:
            self._writing.release()

    def _count_again(self, records: Sequence[Record]) -> None:
        """Give records the hits that other processes have written since these were read."""
        keys = [record.key for record in records]
        stored = self.ask(self.authority, lambda tier: tier.get_many(keys), NO_RECORDS, len(keys))
        for record in records:
            known = stored.get(record.key)
            if known is not None and known.generation == record.generation:
                record.access_count = max(record.access_count, known.access_count)

    def _promote_into(self, window: BreakerTier, records: list[Record], since: int | None, revision: int) -> bool:
        """Write into a durable window what waits for it, and that it has followed the log with this.

        Returns False while another process is writing to it: the records go on waiting.
        """
        if since is not None and not window.behind:
            stretch = Stretch(since, revision, records, (), admit=True)
            done = window.write(partial(followed, stretch), None, len(records))
            if done is not None:
                self.note_evictions(window.name, len(done.evicted))
                return True
            if not window.sick and window.call(lambda tier: tier.revision, -1) == since:
                return False
        if since is not None:
            window.behind = True
            catch_up(window, self.authority)
        evicted = self.write(window, partial(_filled, records, revision), None, len(records))
        self.note_evictions(window.name, len(evicted or NO_KEYS))
        return True

    def note_evictions(self, tier: TierName, number: int) -> None:
        """Count the entries that a tier evicted; if the lowest tier did, say so in the log, once a minute."""
        if number:
            self.counters.count(self._evictions[tier], number)
            if tier == self.authority.name and self.durable:
                self._lost += number
                if self._monotonic() >= self._quiet_until:
                    self._quiet_until = self._monotonic() + QUIET_SECONDS
                    self._tell_of_losses()

    def eviction_counts(self, tier: TierName) -> tuple[str, ...]:
        """Return the names of the counts that such an entry adds one to."""
        evictions = f"{tier}.evictions_lru"
        return (evictions,) if tier == self.authority.name else (evictions, "demotions")

    def _tell_of_losses(self) -> None:
        number, self._lost = self._lost, 0
        if number:
            _log.warning(
                "tier %s is the lowest and full, so that %d %s gone for want of room: raise max_entries of "
                "cache.%s_config%s",
                self.authority.name,
                number,
                "entry is" if number == 1 else "entries are",
                self.authority.name,
                ", or enable the third tier" if self.authority.name == "l2" else "",
            )

    def rejoin(self, authority: Tier) -> None:
        """Use an authority that could be opened at last: what it says is news to all."""
        self._offer_copies(authority)
        self._news = True

    def _offer_copies(self, authority: Tier) -> None:
        """Have the authority ask the tiers above it for copies of what is damaged in it."""
        above = self.tiers[:-1]

        def copy_of(key: str, revision: int) -> Record | None:
            for window in above:
                found = window.call(lambda tier: tier.peek(key), None)
                if found is not None and found.revision == revision and fault_of(found) is None:
                    count = found.stored_count if window.name == "l1" else found.access_count  # hits come by themselves
                    return replace(found, access_count=count)
            return None

        if isinstance(authority, Salvaging):
            authority.copy_of = copy_of

    def _make_room(self) -> None:
        """Evict the entries above a tier's bound, which may be smaller than before."""
        applied = self.authority.write(lambda tier: tier.transact((), lambda _: Batch()), None, PAGE * PAGE)
        if applied is not None and applied.evicted:
            self.note_evictions(self.authority.name, len(applied.evicted))
        for window in self.windows:
            if evicted := self.write(window, lambda tier: tier.fill((), tier.revision), None, PAGE * PAGE):
                self.note_evictions(window.name, len(evicted))

    def release(self) -> None:
        """Close every tier, after logging what left the lowest one."""
        self._tell_of_losses()
        for each in self.tiers:
            each.tier.close()


def catch_up(window: BreakerTier, authority: BreakerTier) -> list[str]:
    """Apply the log from a window's revision on; return the removed keys that the window held.

    A window that cannot be written to stays `behind`. If the log does not reach back to its revision, it is emptied:
    everything can be read from below again.
    """
    held: list[str] = []
    stood = None
    for _ in range(MOST_PAGES):
        since = window.call(lambda tier: tier.revision, -1)
        if since < 0 or since == stood:  # the window cannot be read, or took nothing
            window.behind = True
            break
        stood = since
        changes = authority.call(lambda tier: tier.changes_since(since, PAGE), None, PAGE)  # noqa: B023  # called at once
        if changes is None:  # nothing newer can be known now
            break
        if window.miscounts or changes.reset or (since == 0 < changes.revision and window.call(len, 1) == 0):
            target = authority.call(lambda tier: tier.revision, -1)
            window.behind = target < 0 or window.write(lambda tier: tier.clear(target), -1, PAGE * PAGE) < 0  # noqa: B023  # as above
            window.miscounts = window.miscounts and window.behind
            break
        if changes.revision == since:
            window.behind = False
            break
        done = window.write(partial(followed, stretch_of(since, changes)), None, PAGE)
        if done is not None:
            held += done.held
    return held


def followed(stretch: Stretch, window: Tier) -> Followed | None:
    """Have a window follow a part of the log, without the records that it cannot hold."""
    try:
        return window.follow(stretch)
    except UnstorableValue as exc:
        left = _without(exc, stretch.records)
        return followed(replace(stretch, records=left, removed=[*stretch.removed, str(exc.key)]), window)


def _filled(records: Sequence[Record], revision: int, window: Tier) -> list[str] | None:
    """Fill a window with what it can hold of some records."""
    try:
        return window.fill(records, revision)
    except UnstorableValue as exc:
        return _filled(_without(exc, records), revision, window)


def _without(refused: UnstorableValue, records: Sequence[Record]) -> list[Record]:
    left = [record for record in records if record.key != refused.key]
    if len(left) == len(records):
        raise TierError(f"it refuses what it was not given: {refused}") from refused
    return left


def touched(accesses: Sequence[Access], tier: Tier) -> bool:
    """Add hits to a tier's counts. Hits that it cannot store are dropped, since they would block all others."""
    try:
        tier.touch_many(accesses)
    except UnstorableValue as exc:
        _log.error("%s: it counts no further", exc)
        left = [access for access in accesses if access.key != exc.key]
        return len(left) == len(accesses) or touched(left, tier)
    return True


def stretch_of(since: int, changes: Changes) -> Stretch:
    """Return a page of the log, read after a revision, as a window takes it."""
    served, gone = _told(changes.records, changes.removed)
    return Stretch(since, changes.revision, served, gone)


def _told(records: Sequence[Record], removed: Sequence[str]) -> tuple[list[Record], list[str]]:
    """Return the records that windows are to hold, and the keys to drop: removed and retired ones."""
    served, gone = [], [*removed]
    for record in records:
        if record.retired:
            gone.append(record.key)
        else:
            served.append(record)
    return served, gone


def sound_many(answers: object) -> dict[str, Record]:
    """Return the answer of a tier that was asked for several keys. Raises `TierError` as `sound` does."""
    if not isinstance(answers, Mapping):
        raise TierError(f"asked for entries, it answered with {type(answers).__name__}")
    found = {key: answer for key, answer in answers.items() if type(answer) is Record and answer.key == key}
    if len(found) < len(answers):
        for key, answer in answers.items():
            sound(key, answer)
    return found
