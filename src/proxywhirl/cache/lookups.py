"""Reads by key. A hit in L1 takes no lock and calls as little as it can: its steps are written out here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from proxywhirl.cache import policy
from proxywhirl.cache.lifecycle import Lifecycle
from proxywhirl.cache.models import CacheEntry
from proxywhirl.cache.reading import Reading
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.statistics import L1_HITS
from proxywhirl.urls import ProxyURL

__all__ = ["Lookups"]


class Lookups(Lifecycle):
    """The part of `CacheManager` that answers what is under a key."""

    def get(self, key: str) -> CacheEntry | None:
        """Return a snapshot of the entry, None where there is none that is alive."""
        now = self._now()
        record = self._look_up(key)
        if record is None or now >= record.expires_at or record.retired:
            reading = self._read_below(key, now)
            return None if reading is None else self._used(reading[0], now, evicted_from_l1=reading[1])
        try:  # noqa: SIM105  # `suppress` costs more than the rest
            self._touch(key)
        except KeyError:  # another thread took it out since
            pass
        if self._counts:
            try:
                self._local.counts[L1_HITS] += 1
            except AttributeError:
                self._mine()[L1_HITS] += 1
        record.access_count += 1
        if not record.noted:
            self._note(record)
        if now >= self._upkeep.due:
            self._running().ask_for_upkeep()
        return self._snapshot(record, now)

    def get_many(self, keys: Iterable[str]) -> dict[str, CacheEntry]:
        """Return the entries that are alive, by key, each key once."""
        now = self._now()
        asked = list(dict.fromkeys(keys))
        entries: dict[str, CacheEntry] = {}
        below: list[str] = []
        for key in asked:
            record = self._look_up(key)
            if record is None or now >= record.expires_at or record.retired:
                below.append(key)
                continue
            self._count_hit(record, now)
            entries[key] = self._snapshot(record, now)
        if not below:
            return entries
        engine = self._running()
        engine.upkeep.tick()
        records, evicted = engine.stack.read_many(below, now)
        found = engine.border.used_many(records, now, evicted_from_l1=evicted)
        if len(found) == len(asked):
            return found
        entries |= found
        return {key: entries[key] for key in asked if key in entries}

    def endpoint(self, key: str) -> ProxyURL | None:
        """Return the URL to connect to, with the credential: for the moment of connecting, not for keeping."""
        now = self._now()
        record = self._look_up(key)
        if record is None or now >= record.expires_at or record.retired:
            reading = self._read_below(key, now)
            if reading is None:
                return None
            record = reading[0]
        else:
            self._count_hit(record, now)
        return record.endpoint(self._running().border.credentials(record))

    def known(self, keys: Iterable[str]) -> dict[str, tuple[str, bool]]:
        """Return those of the keys that are in the store, served or not: their source, whether they never end.

        Counts and moves nothing.
        """
        peek, now = self._running().stack.peek, self._clock.now()
        found = ((key, peek(key)) for key in keys)
        there = (policy.Found.LIVE, policy.Found.RETIRED)
        return {
            key: (record.source, record.expires_at >= NEVER_TIMESTAMP)
            for key, record in found
            if record is not None and policy.state_of(record, now) in there
        }

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        record = self._running().stack.peek(key)
        return policy.state_of(record, self._clock.now()) is policy.Found.LIVE

    def __len__(self) -> int:
        engine = self._running()
        engine.upkeep.tick()
        return engine.stack.size()

    def _count_hit(self, record: Record, now: float) -> None:
        with contextlib.suppress(KeyError):  # another thread took it out since
            self._touch(record.key)
        if self._counts:
            self._mine()[L1_HITS] += 1
        self._running().hits.note(record, now)

    def _read_below(self, key: str, now: float) -> Reading | None:
        """Return what is alive under a key that is not in L1; count it and note the use."""
        engine = self._engine or self._running()
        if now >= self._upkeep.due:
            engine.upkeep.tick()
        return engine.stack.read(key, now)
