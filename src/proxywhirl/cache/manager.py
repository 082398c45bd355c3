"""The cache: three tiers behind one synchronous, thread-safe face.

A hit in L1 takes no lock. Everything else holds one lock, so that a load and a delete of the same key follow
each other, and one thread loads what others wait for. What each operation does to which tier is decided in
`policy` and carried out by `stack`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from proxywhirl import urls
from proxywhirl.cache import opening, policy, transfer
from proxywhirl.cache.border import Border
from proxywhirl.cache.changes import CacheChanges
from proxywhirl.cache.decisions import Merge, check_batch, fail, merge_batch
from proxywhirl.cache.hits import HitLog
from proxywhirl.cache.models import CacheConfig, CacheEntry, CacheStatistics
from proxywhirl.cache.policy import Judge
from proxywhirl.cache.record import Record
from proxywhirl.cache.selection import Selection
from proxywhirl.cache.stack import Committed, Reading, TierStack
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tier import Batch, Decision
from proxywhirl.cache.upkeep import Upkeep
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.urls import ProxyURL

__all__ = ["CacheManager"]


class CacheManager:
    """Remember proxies in memory, on disk and in a database.

    Opens (and makes) the files of the enabled tiers at once. Safe for threads and, through the files, for
    several processes; a process that only reads calls `refresh` to notice what others wrote to what it has in memory.

    Raises:
        TierError: a durable tier cannot be opened.
        DecryptionError: credentials are stored and the key is missing or wrong.
        FormatVersionError: a file was written by a newer version.
    """

    def __init__(self, config: CacheConfig | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.config = config or CacheConfig()
        self._clock = clock
        self._lock = threading.RLock()
        self._counters = Counters(enabled=self.config.enable_statistics)
        self._tiers = opening.open_tiers(self.config)
        try:
            self._sealer = opening.open_sealer(self.config, self._tiers)
            self._border = Border(self._sealer)
            self._stack = TierStack(self._tiers, clock=clock, counters=self._counters)
        except BaseException:
            for _, tier in self._tiers:
                tier.close()
            raise
        self._l1 = self._tiers[0][1] if self._tiers[0][0] == "l1" else None
        self._hits = HitLog(durable=self._tiers[-1][0] != "l1")
        self._key_noted = False
        self._closed = False
        self._upkeep = Upkeep(
            self.config,
            clock=clock,
            lock=self._lock,
            flush=self.flush,
            sweep=lambda: self._stack.sweep(clock.now()),
            statistics=self.get_statistics,
        )

    @staticmethod
    def generate_cache_key(proxy_url: str) -> str:
        """Return the key of a proxy URL: its identity is scheme, host, port and username.

        >>> CacheManager.generate_cache_key("http://192.0.2.7:8080") == CacheManager.generate_cache_key("HTTP://192.0.2.7:8080/")
        True
        """
        return urls.parse(proxy_url).key

    def get(self, key: str) -> CacheEntry | None:
        """Return a snapshot of the entry, None where there is none that is alive."""
        reading = self._read(key)
        if reading.record is None:
            return None
        return self._border.entry(reading.record, evicted_from_l1=reading.evicted_from_l1)

    def get_many(self, keys: Iterable[str]) -> dict[str, CacheEntry]:
        """Return the entries that are alive, by key."""
        return {key: entry for key in keys if (entry := self.get(key)) is not None}

    def endpoint(self, key: str) -> ProxyURL | None:
        """Return the URL to connect to, with the credential: for the moment of connecting, not for keeping."""
        record = self._read(key).record
        return None if record is None else record.endpoint(self._border.credentials(record))

    def put(self, key: str, entry: CacheEntry) -> bool:
        """Replace whatever is stored under the key. True only when the authority has taken it.

        Raises:
            ValueError: `key` is not the entry's key.
        """
        if key != entry.key:
            raise ValueError(f"the entry's key is {entry.key!r}, not {key!r}: put it under its own key")
        return self.put_many([entry]) == 1

    def put_many(self, entries: Iterable[CacheEntry]) -> int:
        """Replace whatever is stored under the entries' keys; return how many the authority has taken."""
        records = list({entry.key: self._border.record(entry) for entry in entries}.values())
        committed = self._write((), lambda _: Batch(puts=[self._border.sealed(record) for record in records]), records)
        return len(records) if committed is not None else 0

    def add(
        self,
        proxy_url: str,
        *,
        source: str,
        username: str | None = None,
        password: str | None = None,
        ttl: float | None = None,
        attributes: Attributes | None = None,
    ) -> CacheEntry | None:
        """Make an entry of a proxy URL and merge it with what is known; return it as it is stored.

        `ttl` is in seconds, infinity for ever, None for the source's or the default time to live. None is
        returned where the authority is sick and has not taken it.

        Raises:
            ProxyURLError: `proxy_url` is not one.
            ValueError: `ttl` is negative or no number.
        """
        url = urls.parse(proxy_url)
        if username is not None or password is not None:
            url = url.with_credential(
                url.username if username is None else username, url.password if password is None else password
            )
        merge = self.add_many([(url, attributes or Attributes())], source=source, ttl=ttl)
        if merge is None:
            return None
        with self._lock:
            record = self._stack.peek(url.key)
        return None if record is None else self._border.entry(record)

    def add_many(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float | None = None
    ) -> Merge | None:
        """Merge proxies with what is known, in one transaction; None where the authority has not taken them.

        Raises:
            ValueError: `ttl` is negative or no number.
        """
        policy.check_ttl(ttl)
        now = self._clock.now()
        lifetime = self.config.per_source_ttl.get(source, self.config.default_ttl_seconds) if ttl is None else ttl
        offered = [
            self._border.newcomer(url, source=source, ttl=lifetime, now=now, attributes=attributes)
            for url, attributes in proxies
        ]
        return self._merge(offered, now)

    def delete(self, key: str) -> bool:
        """Remove an entry from every tier; return whether there was one."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Collection[str]) -> int:
        """Remove entries from every tier; return how many there were."""
        now = self._clock.now()
        there = 0

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal there
            there = sum(policy.state_of(record, now) is not policy.Found.EXPIRED for record in present.values())
            return Batch(deletes=list(present))

        return there if self._write(keys, decide) is not None else 0

    def clear(self) -> int:
        """Remove everything; return how many entries there were."""
        with self._lock:
            self._hits.take()
            return self._stack.clear()

    def scan(
        self,
        *,
        status: HealthStatus | None = None,
        source: str | None = None,
        scheme: str | None = None,
        country: str | None = None,
        tag: str | None = None,
        retired: bool = False,
    ) -> Iterator[CacheEntry]:
        """Yield the entries that are alive and fit all filters, in the order of their keys, read in pages.

        With `retired`, yields those that were taken out of service instead. Secrets are not decrypted.

        Raises:
            TierError: the authority is degraded, so that some entries cannot be seen.
        """
        wanted = Selection(status, source, scheme, country, tag, retired)
        for record in self._records():
            if wanted.takes(record, self._clock.now()):
                yield self._border.entry(record)

    def changes_since(self, revision: int, limit: int = 10_000) -> CacheChanges:
        """Return a page of what changed after a revision, 0 for everything that is there."""
        with self._lock:
            changes = self._stack.changes_since(revision, limit)
        return CacheChanges.of(changes, self._clock.now())

    def refresh(self) -> None:
        """Bring the tiers of this process in line with what other processes wrote; costs microseconds otherwise."""
        with self._lock:
            self._stack.refresh()

    def record_check(self, key: str, check: HealthCheck) -> bool:
        """Record a health check; return whether the entry was there. Brings a retired one back on success."""
        return self.record_checks([(key, check)]) == 1

    def record_checks(self, checks: Iterable[tuple[str, HealthCheck | Judge]]) -> int:
        """Record health checks in one transaction, in their order; return how many entries were there.

        A check may be a function of the status and the streaks (successes, failures) that are stored then.
        """
        by_key: dict[str, list[HealthCheck | Judge]] = {}
        for key, check in checks:
            by_key.setdefault(key, []).append(check)
        now = self._clock.now()
        committed = self._write(by_key, lambda present: Batch(puts=check_batch(present, by_key, now)))
        return len(committed.applied.puts) if committed is not None else 0

    def invalidate_by_health(self, key: str) -> bool:
        """Count a failure; at the threshold the entry is taken out of service. Return whether it was now.

        It is kept with credentials and history until its time to live ends; a successful check brings it back.
        """
        now = self._clock.now()
        retired: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal retired
            threshold, invalidate = self.config.failure_threshold, self.config.health_check_invalidation
            puts, retired = fail(present, now, threshold=threshold, invalidate=invalidate)
            return Batch(puts=puts)

        with self._lock:
            committed = self._write([key], decide)
            if committed is None:
                return False
            self._stack.count_held(committed, retired, "evictions_health")
        return bool(retired)

    def flush(self) -> None:
        """Write the access counts and times that are still in memory."""
        with self._lock:
            if accesses := self._hits.take():
                self._stack.touch(accesses)

    def get_statistics(self) -> CacheStatistics:
        """Return a copy of the statistics of this process, with the sizes of the tiers now."""
        with self._lock:
            return self._counters.snapshot(*self._stack.measure())

    @property
    def statistics_history(self) -> list[tuple[datetime, CacheStatistics]]:
        """The snapshots taken every `statistics_interval` seconds of use, oldest first, the last 720."""
        return list(self._upkeep.history)

    def export_to_file(self, path: str | Path, *, with_credentials: bool = False) -> int:
        """Write every entry to a file of mode 0600 (`.json`, `.csv`, else JSON lines); return how many.

        Credentials read `"***"` unless asked for by name.

        Raises:
            CacheError: the file cannot be written, or some entries cannot be seen.
        """
        return transfer.export_entries(self.scan(), Path(path), with_credentials=with_credentials)

    def warm_from_file(
        self, path: str | Path, ttl_override: float | None = None, *, wanted: Callable[[str], bool] | None = None
    ) -> dict[str, int]:
        """Merge the entries of an exported file; return counts of `loaded`, `skipped` and `failed`.

        `ttl_override` (seconds, infinity for ever) replaces the times to live of the file. Entries whose key is
        not `wanted` are skipped.

        Raises:
            ListFormatError: the file cannot be read, or is no export.
            ValueError: `ttl_override` is negative or no number.
        """
        policy.check_ttl(ttl_override)
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        for page in transfer.read_entries(Path(path), counts, now=self._clock.now(), ttl=ttl_override):
            chosen = [entry for entry in page if wanted is None or wanted(entry.key)]
            counts["skipped"] += len(page) - len(chosen)
            withheld = {entry.key for entry in chosen if transfer.is_withheld(entry)}
            records = [self._border.record(transfer.without_secrets(entry)) for entry in chosen]
            merge = self._merge(records, self._clock.now(), only_known=withheld)
            counts["loaded"] += merge.loaded if merge else 0
            counts["skipped"] += merge.skipped if merge else 0
            counts["failed"] += len(records) - (merge.loaded + merge.skipped if merge else 0)
        return counts

    def close(self) -> None:
        """Flush and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._upkeep.stop()
        with self._lock:
            self.flush()
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        with self._lock:
            record = self._stack.peek(key)
        return policy.state_of(record, self._clock.now()) is policy.Found.LIVE

    def __len__(self) -> int:
        with self._lock:
            return self._stack.sizes()[self._stack.authority.name]

    def _read(self, key: str) -> Reading:
        """Return what is alive under a key; count it and note the use."""
        now = self._clock.now()
        self._counters.add("requests")
        record = self._l1.get(key) if self._l1 is not None else None
        if policy.state_of(record, now) is policy.Found.LIVE:
            self._counters.add("l1.hits")
            reading = Reading(record, "l1")
        else:
            with self._lock:
                reading = self._stack.read(key, now)
                if reading.record is not None and reading.tier != "l1":  # those in L1 have their hits already
                    self._hits.add_to(reading.record)
        if reading.record is not None:
            self._counters.add("requests_served")
            self._hits.note(reading.record, now)
        self._upkeep.tick()
        return reading

    def _write(self, keys: Collection[str], decide: Decision, records: Iterable[Record] = ()) -> Committed | None:
        """Let the authority decide and write, keep the windows in line; None where it has not taken it.

        `records` are those that may come in new, with plain credentials or without.
        """
        self._upkeep.tick()
        records = list(records)
        with self._lock:
            if self._sealer is not None and not self._key_noted and any(r.plain is not None for r in records):
                self._key_noted = self._stack.each_durable(partial(opening.note_key, self._sealer))
            return self._stack.commit(keys, decide, admit=bool(records))

    def _merge(self, offered: list[Record], now: float, *, only_known: Collection[str] = ()) -> Merge | None:
        """Merge records in one transaction; those of `only_known` are left out where they are not known."""
        merge = Merge(0, 0)

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal merge
            changed, merge = merge_batch(
                present, offered, now, only_known=only_known, password_changed=self._border.password_changed
            )
            return Batch(puts=[self._border.sealed(record) for record in changed])

        committed = self._write([record.key for record in offered], decide, offered)
        return None if committed is None else merge

    def _records(self) -> Iterator[Record]:
        after = ""
        while True:
            with self._lock:
                page = self._stack.page(after)
            if not page:
                return
            yield from page
            after = page[-1].key
