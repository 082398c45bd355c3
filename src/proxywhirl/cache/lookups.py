"""Reads by key.

A hit in L1 takes no lock and calls as little as it can: its steps are written out in `get`. `coordination.reads` has
the reads from below L1.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from proxywhirl.cache import policy
from proxywhirl.cache.coordination.reads import Reading
from proxywhirl.cache.engine import Engine, Lifecycle
from proxywhirl.cache.models import CacheEntry
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record, UnsoundError, decode_attributes, fault_of
from proxywhirl.cache.statistics import L1_HITS
from proxywhirl.cache.tiers.protocol import Changes
from proxywhirl.errors import DecryptionError, SettingsError, TierError
from proxywhirl.models import Attributes, CheckTimes
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require, require_several

_log = logging.getLogger(__name__)

_PROVIDER = '"provider":'  # in the stored text of attributes; most entries have none


class Lookups(Lifecycle):
    """The part of `CacheManager` that reads by key."""

    def get(self, key: str) -> CacheEntry | None:
        """Return a snapshot of the entry, None where there is none that is alive.

        Raises:
            TypeError: the key is no str.
            ValueError: the key is a text that cannot be stored.
        """
        now = self._now()
        record = self._look_up(key)
        if record is None or now >= record.expires_at or record.retired:
            reading = self._read_below(key, now)
            try:
                return None if reading is None else self._used(reading[0], now, evicted_from_l1=reading[1])
            except UnsoundError:
                return self._get_another(key, now)
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
        try:
            return self._snapshot(record, now)
        except UnsoundError:
            return self._get_another(key, now)

    def get_many(self, keys: Iterable[str]) -> dict[str, CacheEntry]:
        """Return the entries that are alive, by key, in the order asked, each key once. Raises as `get` does."""
        require_several("keys", keys, "keys")
        asked = list(dict.fromkeys(keys))
        try:
            return self._get_together(asked)
        except UnsoundError:  # the others have no part in it
            return {key: entry for key in asked if (entry := self.get(key)) is not None}

    def _get_together(self, asked: list[str]) -> dict[str, CacheEntry]:
        now = self._now()
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
        for key in below:
            policy.check_key(key)
        engine = self._running()
        engine.upkeep.tick()
        try:
            records, evicted = engine.reader.read_many(below, now)
        except TypeError as exc:  # as in `_read_below`
            raise UnsoundError(", ".join(below)) from exc
        entries |= engine.mapping.used_many(records, now, evicted_from_l1=evicted)
        return {key: entries[key] for key in asked if key in entries}

    def endpoint(self, key: str) -> ProxyURL | None:
        """Return the URL to connect to, with the credential: for the moment of connecting, not for keeping.

        An entry out of service has an endpoint too, since it is to be tried. Raises as `get` does, and as `to_send`
        raises for an entry that names a provider.

        Raises:
            TierError: the authority is degraded, and no other tier knows the key.
        """
        now = self._now()
        record = self._look_up(key)
        if record is None or now >= record.expires_at or record.retired:
            reading = self._read_below(key, now)
            record = reading[0] if reading is not None else self._out_of_service(key, now)
            if record is None:
                return None
        else:
            self._count_hit(record, now)
        if fault_of(record) is not None:
            entry = self._get_another(key, now)
            return None if entry is None else self.endpoint(key)
        return self._endpoint_of(record, self._running())

    def known(self, keys: Iterable[str]) -> dict[str, tuple[str, bool]]:
        """Return the keys that are in the store, served or not, with their source and whether they never end.

        Counts and moves nothing. Raises as `get` does.
        """
        peek, now = self._running().stack.peek, self._clock.now()
        found = ((key, peek(key)) for key in policy.check_keys(keys))
        there = (policy.Found.LIVE, policy.Found.RETIRED)
        return {
            key: (record.source, record.expires_at >= NEVER_TIMESTAMP)
            for key, record in found
            if record is not None and policy.state_of(record, now) in there
        }

    def look(self, key: str) -> CacheEntry | None:
        """Return a snapshot of an entry, retired or not, counting nothing; None where there is none that is alive.

        Raises as `get` does.
        """
        policy.check_key(key)
        engine = self._running()
        record = engine.stack.peek(key)
        alive = record is not None and self._clock.now() < record.expires_at
        return engine.mapping.entry(record) if record is not None and alive else None

    def to_check(self, keys: Iterable[str]) -> dict[str, tuple[ProxyURL, Attributes]]:
        """Return the URLs to probe, credentials included, and the attributes, by key; a probe is no use of an entry.

        Retired entries are included. An entry whose credential cannot be read or written for its provider is left out,
        with a warning. Raises as `get` does.
        """
        engine = self._running()
        now = self._clock.now()
        found: dict[str, tuple[ProxyURL, Attributes]] = {}
        for key in policy.check_keys(keys):
            record = engine.stack.peek(key)
            if record is None or now >= record.expires_at:
                continue
            try:
                endpoint = self._endpoint_of(record, engine)
            except (DecryptionError, SettingsError) as exc:
                _log.error("%s (%s) is not checked: %s", record.url, key, exc)
                continue
            found[key] = endpoint, decode_attributes(record.attributes)
        return found

    def check_times_since(self, revision: int, limit: int = 5_000) -> CheckTimes:
        """Return a page of the next check times of the entries that changed after a revision, 0 for all entries.

        Raises:
            TypeError: `revision` is no whole number.
        """
        require("revision", revision, int, "a whole number")
        empty = Changes(revision, [], [])
        changes = self._running().stack.authority.call(lambda tier: tier.changes_since(revision, limit), empty, limit)
        now = self._clock.now()
        due = {record.key: record.next_check_at or 0.0 for record in changes.records if now < record.expires_at}
        expired = [record.key for record in changes.records if now >= record.expires_at]
        return CheckTimes(changes.revision, due, [*changes.removed, *expired], changes.reset, changes.more)

    def __contains__(self, key: object) -> bool:
        try:
            policy.check_key(key)
        except (TypeError, ValueError):
            return False
        record = self._running().stack.peek(str(key))
        return policy.state_of(record, self._clock.now()) is policy.Found.LIVE

    def __len__(self) -> int:
        engine = self._running()
        engine.upkeep.tick()
        return engine.stack.size()

    def _endpoint_of(self, record: Record, engine: Engine) -> ProxyURL:
        """Return the URL to dial: a provider's entry is not dialled with the stored credential."""
        endpoint = record.endpoint(engine.mapping.credentials(record))
        if self._to_send is None or _PROVIDER not in record.attributes:
            return endpoint
        return self._to_send(endpoint, decode_attributes(record.attributes).provider)

    def _out_of_service(self, key: str, now: float) -> Record | None:
        """Return the retired record of a key; no window holds one."""
        stack = self._running().stack
        record = stack.peek(key)
        if record is None and stack.authority.degraded:
            raise TierError(f"what is stored under {key} cannot be read while tier {stack.authority.name} is degraded")
        return record if policy.state_of(record, now) is policy.Found.RETIRED else None

    def _get_another(self, key: str, now: float) -> CacheEntry | None:
        """Have the damaged record of a key dropped, and read the key again."""
        engine = self._running()
        engine.reader.drop_damaged(key)
        reading = self._read_below(key, now)
        if reading is None:
            return None
        with contextlib.suppress(UnsoundError):
            if fault_of(reading[0]) is None:
                return self._used(reading[0], now, evicted_from_l1=reading[1])
        engine.stack.near_cache.replace((), [key])
        _log.error("what is stored under %s is damaged, and its tier cannot set it aside: delete it", key)
        return None

    def _count_hit(self, record: Record, now: float) -> None:
        with contextlib.suppress(KeyError):  # another thread took it out since
            self._touch(record.key)
        if self._counts:
            self._mine()[L1_HITS] += 1
        self._running().hits.note(record, now)

    def _read_below(self, key: str, now: float) -> Reading | None:
        """Return the live record of a key that is not in L1; count it and note the use."""
        if type(key) is not str or not key.isascii():  # here, since a hit in L1 needs no check
            policy.check_key(key)
        engine = self._engine or self._running()
        if now >= self._upkeep.due:
            engine.upkeep.tick()
        try:
            return engine.reader.read(key, now)
        except TypeError:  # a damaged row, whose time is none
            engine.reader.drop_damaged(key)
            return engine.reader.read(key, now)
