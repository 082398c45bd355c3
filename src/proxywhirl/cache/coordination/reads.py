"""Reads from the tiers below the first: who is asked, what is counted, what is filled on the way up.

A read waits for no writer. What it has to write it writes in passing: where another one is at it, it stays to be done.
This is the path of every miss in L1, where a call of a function costs a hundredth of a read: so it is written out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from proxywhirl.cache.coordination.breaker import BreakerTier, LeftOut, in_passing
from proxywhirl.cache.coordination.following import sound_many
from proxywhirl.cache.coordination.handoff import Handoff
from proxywhirl.cache.coordination.hit_counts import HitLog
from proxywhirl.cache.coordination.near_cache import RISING_KEPT, RISING_MOST, NearCache
from proxywhirl.cache.coordination.replicas import Ladder
from proxywhirl.cache.policy import Found, after_read, state_of
from proxywhirl.cache.record import Record, fault_of
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.protocol import TierName

LOADING_LOCKS = 64  # a power of two

Asked = tuple[TierName, ...]
Reading = tuple[Record, bool]
"""A live record that was handed out, and whether it came from below after its eviction from L1."""


class Served(NamedTuple):
    """What follows a read that was served by the last of some tiers: remembered, since it is always the same.

    `place` is where it is counted, `place_full` where L1 lets another one go for it; `rises` says whether a durable
    window is filled.
    """

    place: int
    place_full: int
    rises: bool


class Reader:
    """Finds records below L1, one loader for each key at a time, and takes them up.

    `lift` writes what waits for L2, `remove_expired` deletes what is expired still.
    """

    def __init__(
        self,
        ladder: Ladder,
        near_cache: NearCache,
        *,
        counters: Counters,
        hits: HitLog,
        handoff: Handoff | None,
        lift: Callable[[], None],
        remove_expired: Callable[[Collection[str], float], None],
    ) -> None:
        self._ladder = ladder
        self._near_cache = near_cache
        self._counters = counters
        self._hits = hits
        self._handoff = handoff
        self._lift = lift
        self._remove_expired = remove_expired
        self._above: Asked = () if near_cache.l1 is None else ("l1",)
        self._below = ladder.durable or ladder.tiers
        self._served: dict[Asked, Served] = {}
        self._crowded: dict[Asked, Served] = {}
        self._unserved: dict[Asked, int] = {}
        self._loading = [threading.RLock() for _ in range(LOADING_LOCKS)]

    def read(self, key: str, now: float) -> Reading | None:
        """Return what is alive under a key, its use noted; fill the tiers above."""
        near_cache = self._near_cache
        with self._loading[hash(key) & (LOADING_LOCKS - 1)]:
            if near_cache.l1 is not None:
                record = near_cache.l1.get(key)  # another thread may have loaded it meanwhile
                if record is not None and now < record.expires_at and not record.retired:
                    self._counters.add("l1.hits")
                    self._hits.note(record, now)
                    return record, False
            began = near_cache.begin()
            record, asked = self._find(key)
            if record is not None and now < record.expires_at and not record.retired:
                served = self._served.get(asked) or self._serving(asked)
                if served.rises and near_cache.waiting >= RISING_MOST:
                    served = self._crowded.get(asked) or self._serving(asked, crowded=True)
                self._hits.hand_out((record,), now)
                reading = record, near_cache.was_evicted(key)
                victim = near_cache.end(began, record, rises=served.rises)
                self._counters.count(served.place if victim is None else served.place_full)
                if served.rises and near_cache.waiting >= RISING_KEPT:
                    with in_passing():
                        self._lift()
                return reading
            movement = after_read(asked, state_of(record, now))
            self._counters.count(self._missing(asked))
        if movement.remove:
            with in_passing():
                self._remove_expired([key], now)
        return None

    def read_many(self, keys: Collection[str], now: float) -> tuple[list[Record], Collection[str]]:
        """Return what is alive under keys that L1 does not have, and which of them this process evicted from L1.

        As `read` does for one; the tiers above are filled a tier at a time.
        """
        near_cache, ladder, counters = self._near_cache, self._ladder, self._counters
        began = near_cache.begin()
        found: list[Record] = []
        rise: list[Record] = []
        expired: list[str] = []
        missing = list(keys)
        asked = self._above
        if self._handoff is not None and self._handoff.waiting:
            found, missing = self._read_owed(missing, now)
        looked_up, owed = len(missing), len(found)
        for breaker in self._below if missing else ():
            if breaker.changing and breaker is not ladder.authority and not ladder.authority.degraded:
                continue  # as in `_find`
            rising = {} if breaker is ladder.authority else near_cache.rising_among(missing)  # before L2
            answer = ladder.ask(breaker, lambda tier: sound_many(tier.get_many(missing)), None, len(missing))  # noqa: B023  # called at once
            if answer is None:
                continue
            asked = (*asked, breaker.name)
            answer |= rising
            served = self._following(asked)
            alive = [record for record in answer.values() if now < record.expires_at and not record.retired]
            found += alive
            if served.rises:
                rise += alive
            if len(alive) < len(answer):
                expired += [key for key, record in answer.items() if state_of(record, now) is Found.EXPIRED]
            counters.count(served.place, len(alive))
            if len(answer) == len(missing):
                break
            missing = [key for key in missing if key not in answer]
        counters.count(self._missing(asked), looked_up - (len(found) - owed))
        self._hits.hand_out(found, now)
        evicted = near_cache.evicted_among(found)
        ladder.note_evictions("l1", len(near_cache.end_many(began, found, rise=rise)))
        with in_passing():
            if near_cache.waiting >= RISING_KEPT:
                self._lift()
            if expired:
                self._remove_expired(expired, now)
        return found, evicted

    def _read_owed(self, keys: Collection[str], now: float) -> tuple[list[Record], list[str]]:
        """Return what is alive of what is owed to the authority, and the keys for which nothing is: as `_find` does."""
        found: list[Record] = []
        others: list[str] = []
        unserved = 0
        for key in keys:
            hint = self._handoff.get(key) if self._handoff is not None else None
            if hint is None:
                others.append(key)
            elif hint.record is not None and now < hint.record.expires_at and not hint.record.retired:
                found.append(replace(hint.record))  # hits are counted on what is handed out
            else:
                unserved += 1
        asked = (*self._above, self._ladder.durable[0].name)
        self._counters.count((self._served.get(asked) or self._serving(asked)).place, len(found))
        self._counters.count(self._missing(asked), unserved)
        return found, others

    def _following(self, asked: Asked) -> Served:
        """Return what follows a read that was served by the last of some tiers now."""
        served = self._served.get(asked) or self._serving(asked)
        if served.rises and self._near_cache.waiting >= RISING_MOST:
            return self._crowded.get(asked) or self._serving(asked, crowded=True)
        return served

    def _serving(self, asked: Asked, *, crowded: bool = False) -> Served:
        """Return what follows; where too much waits for a `crowded` window, that is not filled."""
        movement = after_read(asked, Found.LIVE)
        counts = movement.counts()
        rises = len(movement.fill) > len(self._above)
        if crowded:
            counts, rises = counts[:-1], False  # the last one is a promotion
        full = (*counts, *self._ladder.eviction_counts("l1"))
        place = self._counters.place
        known = self._crowded if crowded else self._served
        served = known[asked] = Served(place(*counts), place(*full), rises)
        return served

    def _missing(self, asked: Asked) -> int:
        """Return where a read is counted that asked these tiers in vain: in one place, whatever was found instead."""
        place = self._unserved.get(asked)
        if place is None:
            place = self._unserved[asked] = self._counters.place(*after_read(asked, Found.NOTHING).counts())
        return place

    def _find(self, key: str) -> tuple[Record | None, Asked]:
        """Return what the durable tiers have under a key, and which were asked."""
        asked = self._above
        if self._handoff is not None and self._handoff.waiting and (hint := self._handoff.get(key)) is not None:
            owed = None if hint.record is None else replace(hint.record)  # hits are counted on what is handed out
            return owed, (*asked, self._ladder.durable[0].name)
        authority = self._ladder.authority
        for breaker in self._below:
            if breaker.changing and breaker is not authority and not authority.degraded:
                continue  # what is below can be read meanwhile
            if breaker.behind:
                with in_passing():
                    if not self._ladder.is_in_line(breaker):
                        continue
            answer: Record | LeftOut | None = self._near_cache.rising(key) if breaker is not authority else None
            if answer is None:
                answer = breaker.get(key)
            if answer is None:
                asked = (*asked, breaker.name)
            elif not isinstance(answer, LeftOut):
                return answer, (*asked, breaker.name)
        return None, asked


def drop_damaged(key: str, durable: Sequence[BreakerTier], near_cache: NearCache) -> None:
    """Have every tier look at what is damaged under a key, and those above the authority forget it."""
    for breaker in reversed(durable):
        record = breaker.call(lambda tier: tier.peek(key), None, waits=True)
        if record is not None and fault_of(record) is not None and breaker is not durable[-1]:
            breaker.write(lambda tier: tier.drop([key]), None)
    near_cache.replace((), [key])
