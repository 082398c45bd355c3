"""The cache: three tiers behind one synchronous, thread-safe face.

A hit in L1 takes no lock. Everything else holds one lock, so that a load and a delete of the same key follow
each other, and one thread loads what others wait for. What each operation does to which tier is decided in
`policy` and carried out by `stack`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from proxywhirl import urls
from proxywhirl.cache import opening, policy, transfer
from proxywhirl.cache.border import Border
from proxywhirl.cache.hits import HitLog
from proxywhirl.cache.models import CacheConfig, CacheEntry, CacheStatistics
from proxywhirl.cache.policy import Judge
from proxywhirl.cache.record import Record
from proxywhirl.cache.stack import Committed, TierStack
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tier import Batch, Decision
from proxywhirl.cache.upkeep import Upkeep
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Proxy
from proxywhirl.urls import ProxyURL

__all__ = ["CacheChanges", "CacheManager", "Merge"]

SWEEP_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Merge:
    """How many identities were new or came with another password, and how many were known as they are."""

    loaded: int
    skipped: int


@dataclass(frozen=True, slots=True)
class CacheChanges:
    """A page of what changed up to `revision`. With `reset`, forget all that was known before; `more` pages follow."""

    revision: int
    proxies: list[Proxy]
    removed: list[str]
    reset: bool
    more: bool


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
            flush=self._flush,
            sweep=self._sweep,
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
        record, from_below = self._read(key)
        return None if record is None else self._border.entry(record, evicted_from_l1=from_below)

    def get_many(self, keys: Iterable[str]) -> dict[str, CacheEntry]:
        """Return the entries that are alive, by key."""
        found = {key: self.get(key) for key in keys}
        return {key: entry for key, entry in found.items() if entry is not None}

    def endpoint(self, key: str) -> ProxyURL | None:
        """Return the URL to connect to, with the credential: for the moment of connecting, not for keeping."""
        record, _ = self._read(key)
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
        """
        url = urls.parse(proxy_url)
        if username is not None or password is not None:
            url = ProxyURL(url.scheme, url.host, url.port, username, password)
        merge = self.add_many([(url, attributes or Attributes())], source=source, ttl=ttl)
        if merge is None:
            return None
        with self._lock:
            record = self._stack.peek(url.key)
        return None if record is None else self._border.entry(record)

    def add_many(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float | None = None
    ) -> Merge | None:
        """Merge proxies with what is known, in one transaction; None where the authority has not taken them."""
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
        expired: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            expired.extend(
                key for key, record in present.items() if policy.state_of(record, now) is policy.Found.EXPIRED
            )
            return Batch(deletes=list(present))

        committed = self._write(keys, decide)
        return len(committed.applied.deletes) - len(expired) if committed is not None else 0

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
        """
        wanted = policy.Found.RETIRED if retired else policy.Found.LIVE
        for record in self._records():
            if policy.state_of(record, self._clock.now()) is not wanted:
                continue
            if (status is None or record.status == status.value) and (source is None or record.source == source):
                entry = self._border.entry(record)
                known = entry.attributes
                if (
                    (scheme is None or record.url.startswith(f"{scheme}://"))
                    and (country is None or known.country == country.upper())
                    and (tag is None or tag in known.tags)
                ):
                    yield entry

    def changes_since(self, revision: int, limit: int = 10_000) -> CacheChanges:
        """Return a page of what changed after a revision, 0 for everything that is there."""
        with self._lock:
            changes = self._stack.changes_since(revision, limit)
        now = self._clock.now()
        removed, proxies = list(changes.removed), []
        for record in changes.records:
            if policy.state_of(record, now) is policy.Found.LIVE:
                proxies.append(record.proxy())
            else:
                removed.append(record.key)
        return CacheChanges(changes.revision, proxies, removed, changes.reset, changes.more)

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

        def decide(present: Mapping[str, Record]) -> Batch:
            changed = []
            for key, record in present.items():
                result = record
                for check in by_key[key]:
                    given = check if isinstance(check, HealthCheck) else policy.judged(result, check)
                    result = policy.checked(result, given)
                changed.append(result)
            return Batch(puts=changed)

        committed = self._write(by_key, decide)
        return len(committed.applied.puts) if committed is not None else 0

    def invalidate_by_health(self, key: str) -> bool:
        """Count a failure; at the threshold the entry is taken out of service. Return whether it was now.

        It is kept with credentials and history until its time to live ends; a successful check brings it back.
        """
        threshold, invalidate = self.config.failure_threshold, self.config.health_check_invalidation
        already: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            already.extend(k for k, record in present.items() if record.retired)
            return Batch(
                puts=[policy.failed(record, threshold=threshold, invalidate=invalidate) for record in present.values()]
            )

        with self._lock:
            committed = self._write([key], decide)
            if committed is None:
                return False
            retired = [r.key for r in committed.applied.puts if r.retired and r.key not in already]
            self._stack.count_held(committed, retired, "evictions_health")
        return bool(retired)

    def flush(self) -> None:
        """Write the access counts and times that are still in memory."""
        with self._lock:
            self._flush()

    def get_statistics(self) -> CacheStatistics:
        """Return a copy of the statistics of this process, with the sizes of the tiers now."""
        with self._lock:
            sizes = self._stack.sizes()
            corrupted = {name: tier.corrupted for name, tier in self._tiers}
            degraded = {guarded.name: guarded.degraded for guarded in self._stack.tiers}
        return self._counters.snapshot(sizes, corrupted, degraded)

    @property
    def statistics_history(self) -> list[tuple[datetime, CacheStatistics]]:
        """The snapshots taken every `statistics_interval` seconds of use, oldest first, the last 720."""
        return list(self._upkeep.history)

    def export_to_file(self, path: str | Path, *, with_credentials: bool = False) -> int:
        """Write every entry to a file of mode 0600 (`.json`, `.csv`, else JSON lines); return how many.

        Credentials read `"***"` unless asked for by name.
        """
        return transfer.export_entries(self.scan(), Path(path), with_credentials=with_credentials)

    def warm_from_file(self, path: str | Path, ttl_override: float | None = None) -> dict[str, int]:
        """Merge the entries of an exported file; return counts of `loaded`, `skipped` and `failed`.

        `ttl_override` (seconds, infinity for ever) replaces the times to live of the file.

        Raises:
            ListFormatError: the file cannot be read, or is no export.
        """
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        for page in transfer.read_entries(Path(path), counts, now=self._clock.now(), ttl=ttl_override):
            withheld = {entry.key for entry in page if transfer.is_withheld(entry)}
            records = [self._border.record(transfer.without_secrets(entry)) for entry in page]
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
            self._flush()
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

    def _read(self, key: str) -> tuple[Record | None, bool]:
        """Return the live record and whether it came from below after its eviction from L1; count and note the use."""
        now = self._clock.now()
        self._counters.add("requests")
        record = self._l1.get(key) if self._l1 is not None else None
        from_below = False
        if record is not None and now < record.expires_at and not record.retired:
            self._counters.add("l1.hits")
        else:
            with self._lock:
                record, from_below = self._stack.read(key, now)
                if record is not None:
                    self._hits.add_to(record)
        if record is not None:
            self._counters.add("requests_served")
            self._hits.note(record, now)
        self._upkeep.tick(now)
        return record, from_below

    def _write(self, keys: Collection[str], decide: Decision, records: Iterable[Record] = ()) -> Committed | None:
        """Let the authority decide and write, keep the windows in line; None where it has not taken it.

        `records` are those that may come in new, with plain credentials or without.
        """
        self._upkeep.tick(self._clock.now())
        records = list(records)
        with self._lock:
            if self._sealer is not None and not self._key_noted and any(r.plain is not None for r in records):
                opening.note_key(self._sealer, self._tiers)
                self._key_noted = True
            return self._stack.commit(keys, decide, admit=bool(records))

    def _merge(self, offered: list[Record], now: float, *, only_known: Collection[str] = ()) -> Merge | None:
        """Merge records in one transaction; those of `only_known` are left out where they are not known."""
        loaded = skipped = 0

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal loaded, skipped
            latest: dict[str, Record] = dict(present)
            changed: dict[str, Record] = {}
            for record in offered:
                if record.key in only_known and record.key not in latest:
                    continue
                result, new = policy.merged(
                    latest.get(record.key), record, now, password_changed=self._border.password_changed
                )
                loaded, skipped = loaded + new, skipped + (not new)
                if result is not None:
                    latest[record.key] = changed[record.key] = self._border.sealed(result)
            return Batch(puts=list(changed.values()))

        committed = self._write([record.key for record in offered], decide, offered)
        return None if committed is None else Merge(loaded, skipped)

    def _records(self) -> Iterator[Record]:
        after = ""
        while True:
            with self._lock:
                page = self._stack.page(after)
            if not page:
                return
            yield from page
            after = page[-1].key

    def _flush(self) -> None:
        if accesses := self._hits.take():
            self._stack.touch(accesses)

    def _sweep(self) -> bool:
        """Remove a bounded batch of expired entries; whether there may be more."""
        now = self._clock.now()
        keys = self._stack.expired(now, SWEEP_LIMIT)
        if keys:
            self._stack.remove_expired(keys, now)
        return len(keys) == SWEEP_LIMIT
