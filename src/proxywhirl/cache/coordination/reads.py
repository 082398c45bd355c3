"""Reads by key from the tiers below the first: who is asked, what is counted, what is filled on the way up.

A read waits for no writer. It writes in passing: while another one writes, the write is left for later. This is the
path of every miss in L1, where a call of a function costs a hundredth of a read: so the code is written out.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from proxywhirl.cache.coordination.breaker import LeftOut, in_passing
from proxywhirl.cache.coordination.replicas import QUEUE_KEPT, QUEUE_MOST, sound_many
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.policy import Found, after_read, state_of
from proxywhirl.cache.record import Record, fault_of
from proxywhirl.cache.tiers.protocol import TierName

LOADING_LOCKS = 64  # a power of two

Asked = tuple[TierName, ...]
Reading = tuple[Record, bool]
"""A live record that was handed out, and whether it came from below after its eviction from L1."""


class ServedRead(NamedTuple):
    """What a read served by the last of some tiers does: remembered, since it is always the same.

    `place` is where it is counted, `place_full` the same when L1 evicts another record for it; `promotes` says whether
    a durable window is filled.
    """

    place: int
    place_full: int
    promotes: bool


class Reader:
    """Finds records below L1, one loader for each key at a time, and takes them up."""

    def __init__(self, stack: TierStack) -> None:
        self._stack = stack
        self._near_cache = stack.near_cache
        self._authority = stack.authority
        self._handoff = stack.handoff
        self._counters = stack.counters
        self._hits = stack.hits
        self._above: Asked = () if stack.near_cache.l1 is None else ("l1",)
        self._below = stack.durable or stack.tiers
        self._served: list[dict[Asked, ServedRead]] = [{}, {}]  # with room in the promotion queue; without
        self._unserved: dict[Asked, int] = {}
        self._loading = [threading.RLock() for _ in range(LOADING_LOCKS)]

    def read(self, key: str, now: float) -> Reading | None:
        """Return what is alive under a key, its use noted; fill the tiers above."""
        near_cache = self._near_cache
        with self._loading[hash(key) & (LOADING_LOCKS - 1)]:
            if near_cache.l1 is not None and near_cache.l1.look_up(key) is not None:
                record = near_cache.l1.get(key)  # another thread has loaded it meanwhile
                if record is not None and now < record.expires_at and not record.retired:
                    self._counters.add("l1.hits")
                    self._hits.note(record, now)
                    return record, False
            began = near_cache.changes.number
            record, asked = self._find(key)
            if record is not None and now < record.expires_at and not record.retired:
                waiting = len(near_cache.queue)
                crowded = waiting >= QUEUE_MOST
                served = self._served[crowded].get(asked) or self._serving(asked, crowded=crowded)
                self._hits.hand_out((record,), now)
                reading = record, key in near_cache.evicted
                victim = near_cache.load(began, record, promotes=served.promotes)
                place = served.place if victim is None else served.place_full
                try:  # as `Counters.count` does
                    self._counters.local.counts[place] += self._counters.enabled
                except AttributeError:
                    self._counters.count(place)
                if served.promotes and waiting + 1 >= QUEUE_KEPT:
                    with in_passing():
                        self._stack.promote()
                return reading
            movement = after_read(asked, state_of(record, now))
            self._counters.count(self._missing(asked))
        if movement.remove:
            with in_passing():
                self._stack.remove_expired([key], now)
        return None

    def _find(self, key: str) -> tuple[Record | None, Asked]:
        """Return what the durable tiers have under a key, and which were asked."""
        asked = self._above
        if self._handoff is not None and self._handoff.waiting and (hint := self._handoff.get(key)) is not None:
            kept = None if hint.record is None else replace(hint.record)  # hits are counted on what is handed out
            return kept, (*asked, self._below[0].name)
        near_cache, authority = self._near_cache, self._authority
        for breaker in self._below:
            if breaker is not authority:
                if breaker.changing and not authority.degraded:
                    continue  # the tiers below can be read meanwhile
                if breaker.behind:
                    with in_passing():
                        if not self._stack.catches_up(breaker):
                            continue
                if (near_cache.queue or near_cache.promoting) and (record := near_cache.queued(key)) is not None:
                    return record, (*asked, breaker.name)
            answer = breaker.get(key)
            if answer is None:
                asked = (*asked, breaker.name)
            elif not isinstance(answer, LeftOut):
                return answer, (*asked, breaker.name)
        return None, asked

    def read_many(self, keys: Collection[str], now: float) -> tuple[list[Record], Collection[str]]:
        """Return what is alive under keys that L1 does not have, and which of them this process evicted from L1.

        As `read` does for one; the tiers above are filled a tier at a time.
        """
        near_cache, stack, counters = self._near_cache, self._stack, self._counters
        began = near_cache.changes.number
        found: list[Record] = []
        promote: list[Record] = []
        expired: list[str] = []
        missing = list(keys)
        asked = self._above
        if self._handoff is not None and self._handoff.waiting:
            found, missing = self._read_hints(missing, now)
        looked_up, kept = len(missing), len(found)
        for breaker in self._below if missing else ():
            queued: dict[str, Record] = {}
            if breaker is not self._authority:
                if breaker.changing and not self._authority.degraded:
                    continue  # as in `_find`
                queued = near_cache.queued_among(missing)  # before L2 is asked
            answer = stack.ask(breaker, lambda tier: sound_many(tier.get_many(missing)), None, len(missing))  # noqa: B023  # called at once
            if answer is None:
                continue
            asked = (*asked, breaker.name)
            answer |= queued
            crowded = len(near_cache.queue) >= QUEUE_MOST
            served = self._served[crowded].get(asked) or self._serving(asked, crowded=crowded)
            alive = [record for record in answer.values() if now < record.expires_at and not record.retired]
            found += alive
            if served.promotes:
                promote += alive
            if len(alive) < len(answer):
                expired += [key for key, record in answer.items() if state_of(record, now) is Found.EXPIRED]
            counters.count(served.place, len(alive))
            if len(answer) == len(missing):
                break
            missing = [key for key in missing if key not in answer]
        counters.count(self._missing(asked), looked_up - (len(found) - kept))
        self._hits.hand_out(found, now)
        evicted = near_cache.evicted_among(found)
        stack.note_evictions("l1", len(near_cache.load_many(began, found, promote=promote)))
        with in_passing():
            stack.promote()
            if expired:
                stack.remove_expired(expired, now)
        return found, evicted

    def _read_hints(self, keys: Collection[str], now: float) -> tuple[list[Record], list[str]]:
        """Return the live records among the hints, and the keys without a hint: as `_find`."""
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
        asked = (*self._above, self._below[0].name)
        self._counters.count((self._served[False].get(asked) or self._serving(asked)).place, len(found))
        self._counters.count(self._missing(asked), unserved)
        return found, others

    def _serving(self, asked: Asked, *, crowded: bool = False) -> ServedRead:
        """Return what a read served by the last of some tiers does. A `crowded` window is not filled."""
        movement = after_read(asked, Found.LIVE)
        counts = movement.counts()
        promotes = len(movement.fill) > len(self._above)
        if crowded and promotes:
            counts, promotes = counts[:-1], False  # the last one is a promotion
        full = (*counts, *self._stack.eviction_counts("l1"))
        place = self._counters.place
        served = self._served[crowded][asked] = ServedRead(place(*counts), place(*full), promotes)
        return served

    def _missing(self, asked: Asked) -> int:
        """Return where to count a read that asked these tiers in vain."""
        place = self._unserved.get(asked)
        if place is None:
            place = self._unserved[asked] = self._counters.place(*after_read(asked, Found.NOTHING).counts())
        return place

    def drop_damaged(self, key: str) -> None:
        """Have every tier examine a damaged key, and the tiers above the authority forget it."""
        for breaker in reversed(self._stack.durable):
            record = breaker.call(lambda tier: tier.peek(key), None, waits=True)
            if record is not None and fault_of(record) is not None and breaker is not self._authority:
                breaker.write(lambda tier: tier.drop([key]), None)
        self._near_cache.replace((), [key])
