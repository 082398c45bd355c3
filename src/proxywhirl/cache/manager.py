"""The cache: three tiers behind one synchronous, thread-safe face.

What each operation does to which tier is decided in `policy` and carried out by `stack`; `engine` puts the parts
together, `lookups` has the reads by key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import SecretStr

from proxywhirl import urls
from proxywhirl.cache import policy, rekeying, transfer
from proxywhirl.cache.changes import CacheChanges, read_changes
from proxywhirl.cache.decisions import Merge, check_batch, fail, merge_batch
from proxywhirl.cache.history import ProcessStatistics, StatisticsPoint
from proxywhirl.cache.ladder import Committed
from proxywhirl.cache.lookups import Lookups
from proxywhirl.cache.models import CacheEntry, CacheStatistics
from proxywhirl.cache.policy import Judge
from proxywhirl.cache.record import Record, encode_attributes
from proxywhirl.cache.rekeying import Rotation, Store
from proxywhirl.cache.selection import Selection
from proxywhirl.cache.tier import Batch, Decision, Finding
from proxywhirl.cache.verification import inspect
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.urls import ProxyURL

__all__ = ["CacheManager"]

BATCH = 5_000


class CacheManager(Lookups):
    """Remember proxies in memory, on disk and in a database.

    Opens (and makes) the files of the enabled tiers at once. Safe for threads, and through the files for several
    processes: what one writes, the others see within 100 ms. After a fork the child opens the files anew at its
    first call. A closed one raises `CacheError`. `to_send` makes what is dialled of an entry's URL and its
    provider.

    Raises:
        TierError: a durable tier cannot be opened.
        DecryptionError: credentials are stored and the key is missing or wrong.
        FormatVersionError: a file was written by a newer version.
    """

    @staticmethod
    def generate_cache_key(proxy_url: str) -> str:
        """Return the key of a proxy URL: its identity is scheme, host, port and username.

        >>> CacheManager.generate_cache_key("http://192.0.2.7:8080") == CacheManager.generate_cache_key("HTTP://192.0.2.7:8080/")
        True
        """
        return urls.parse(proxy_url).key

    def put(self, key: str, entry: CacheEntry) -> bool:
        """Replace whatever is stored under the key. True only when the authority has taken it.

        Raises:
            TypeError: `key` is no str.
            ValueError: `key` is not the entry's key, or a field has a value that no tier could hold.
        """
        policy.check_key(key)
        if key != entry.key:
            raise ValueError(f"the entry's key is {entry.key!r}, not {key!r}: put it under its own key")
        return self.put_many([entry]) == 1

    def put_many(self, entries: Iterable[CacheEntry]) -> int:
        """Replace whatever is stored under the entries' keys; return how many the authority has taken.

        Raises as `put` does, before anything is written.
        """
        border = self._running().border
        latest = {entry.key: entry for entry in entries}.values()
        for entry in latest:
            policy.check_key(entry.key)
        taken = 0
        for batch in _batches(border.sealed(border.record(entry)) for entry in latest):
            committed = self._write((), lambda _: Batch(puts=[border.sealed(record) for record in batch]), batch)  # noqa: B023  # called at once
            taken += len(batch) if committed is not None else 0
        return taken

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
            TypeError: `source` is no text.
            ValueError: `ttl` is negative or no number, or a text cannot be stored.
        """
        url = urls.parse(proxy_url)
        if username is not None or password is not None:
            url = url.with_credential(
                url.username if username is None else username, url.password if password is None else password
            )
        merge = self.add_many([(url, attributes or Attributes())], source=source, ttl=ttl)
        if merge is None:
            return None
        record = self._running().stack.peek(url.key)
        return None if record is None else self._running().border.entry(record)

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
        border = self._running().border
        offered = [
            border.newcomer(url, source=source, ttl=lifetime, now=now, attributes=attributes)
            for url, attributes in proxies
        ]
        return self._merge(offered, now)

    def delete(self, key: str) -> bool:
        """Remove an entry from every tier; return whether there was one. Raises as `get` does."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Collection[str]) -> int:
        """Remove entries from every tier; return how many there were. Raises as `get` does."""
        for key in keys:
            policy.check_key(key)
        now = self._clock.now()
        there = 0

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal there
            there = sum(policy.state_of(record, now) is not policy.Found.EXPIRED for record in present.values())
            return Batch(deletes=list(keys))

        return there if self._write(keys, decide) is not None else 0

    def clear(self) -> int:
        """Remove everything; return how many entries there were.

        Raises:
            TierError: the authority is sick; nothing was removed.
        """
        engine = self._running()
        engine.hits.take()
        return engine.stack.clear()

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
                yield self._running().border.entry(record)

    def changes_since(self, revision: int, limit: int = 5_000) -> CacheChanges:
        """Return a page of what changed after a revision, 0 for everything that is there."""
        read = partial(read_changes, revision=revision, limit=limit, now=self._clock.now())
        return self._running().stack.ask_authority(read, CacheChanges.nothing(revision), limit)

    def refresh(self) -> None:
        """Bring this process in line with what others wrote, now rather than within 100 ms."""
        self._running().stack.refresh()

    def record_check(self, key: str, check: HealthCheck) -> bool:
        """Record a health check; return whether the entry was there. Brings a retired one back on success.

        Raises as `get` does.
        """
        return self.record_checks([(key, check)]) == 1

    def record_checks(self, checks: Iterable[tuple[str, HealthCheck | Judge]]) -> int:
        """Record health checks in one transaction, in their order; return how many entries were there.

        A check may be a function of the status and the streaks (successes, failures) that are stored then. Raises as
        `get` does.
        """
        by_key: dict[str, list[HealthCheck | Judge]] = {}
        for key, check in checks:
            policy.check_key(key)
            by_key.setdefault(key, []).append(check)
        now = self._clock.now()
        committed = self._write(by_key, lambda present: Batch(puts=check_batch(present, by_key, now)))
        return len(committed.applied.puts) if committed is not None else 0

    def describe(self, known: Mapping[str, Attributes]) -> int:
        """Add what was found out about proxies, by key, to their attributes; return how many of them had news."""
        now = self._clock.now()
        texts = {key: encode_attributes(attributes) for key, attributes in known.items()}

        def decide(present: Mapping[str, Record]) -> Batch:
            alive = {key: record for key, record in present.items() if now < record.expires_at}
            news = (policy.described(record, texts[key]) for key, record in alive.items())
            return Batch(puts=[record for record in news if record is not None])

        committed = self._write(texts, decide)
        return len(committed.applied.puts) if committed is not None else 0

    def invalidate_by_health(self, key: str) -> bool:
        """Count a failure; at the threshold the entry is taken out of service. Return whether it was now.

        It is kept with credentials and history until its time to live ends; a successful check brings it back.
        Raises as `get` does.
        """
        policy.check_key(key)
        now = self._clock.now()
        retired: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal retired
            threshold, invalidate = self.config.failure_threshold, self.config.health_check_invalidation
            puts, retired = fail(present, now, threshold=threshold, invalidate=invalidate)
            return Batch(puts=puts)

        committed = self._write([key], decide)
        if committed is None:
            return False
        self._running().stack.count_held(committed, retired, "evictions_health")
        return bool(retired)

    def flush(self) -> None:
        """Write the access counts and times that are still in memory."""
        self._running().stack.flush()

    def get_statistics(self) -> CacheStatistics:
        """Return a copy of the statistics of this process, with the sizes of the tiers now."""
        engine = self._running()
        engine.upkeep.tick()
        return engine.statistics()

    def process_statistics(self) -> list[ProcessStatistics]:
        """Return what each process on these files has published of itself, the latest first.

        A process writes its row every `statistics_interval` seconds in which it was used, and when it closes.
        """
        return self._running().published()

    @property
    def statistics_history(self) -> list[StatisticsPoint]:
        """The points taken every `statistics_interval` seconds, oldest first, the last 720."""
        return list(self._running().history)

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
        border = self._running().border
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        for page in transfer.read_entries(Path(path), counts, now=self._clock.now(), ttl=ttl_override):
            chosen = [entry for entry in page if wanted is None or wanted(entry.key)]
            counts["skipped"] += len(page) - len(chosen)
            withheld = {entry.key for entry in chosen if transfer.is_withheld(entry)}
            records = []
            for entry in chosen:
                try:
                    records.append(border.record(transfer.without_secrets(entry)))
                except ValueError:  # no tier could hold it
                    counts["failed"] += 1
            merge = self._merge(records, self._clock.now(), only_known=withheld)
            counts["loaded"] += merge.loaded if merge else 0
            counts["skipped"] += merge.skipped if merge else 0
            counts["failed"] += len(records) - (merge.loaded + merge.skipped if merge else 0)
        return counts

    def rotate_keys(self, new_key: SecretStr | None = None) -> Rotation:
        """Seal all credentials with a new key, made or given; other processes may read and write meanwhile.

        One that was cut off is gone on with. With a configured `encryption_key`, everything that `key_previous` has
        sealed is sealed with that instead.

        Raises:
            CacheError: a tier is degraded, or another rotation is under way; rotate again later.
            ValueError: there is no key at all, or none can be given here.
        """
        engine = self._running()
        if engine.sealer is None:
            raise ValueError("a cache in memory has no key")
        store = Store(
            authority=engine.tiers[-1][1],
            page=engine.stack.page,
            transact=lambda keys, decide: self._write(keys, decide) is not None,
            each_durable=engine.stack.each_durable,
            settle=engine.stack.settle,
        )
        return rekeying.rotate(self.config, engine.sealer, store, new_key)

    def verify(self, repair: bool = False) -> list[Finding]:
        """Return what is wrong with the store and its surroundings; with `repair`, what could be mended says so.

        Reads all of it and opens every credential, keeping none: seconds for a large store. Other threads and processes
        may use it meanwhile.
        """
        engine = self._running()
        return inspect(self.config, engine.stack, engine.border, repair=repair)

    def _write(
        self, keys: Collection[str], decide: Decision, records: Collection[Record] = (), *, merge: bool = False
    ) -> Committed | None:
        """Let the authority decide and write, keep the windows in line; None where nothing durable has taken it.

        `records` are those that may come in new, with plain credentials or without.
        """
        engine = self._running()
        engine.upkeep.tick()
        sealing = None
        if engine.keys is not None and any(record.plain is not None for record in records):
            engine.keys.prepare(engine.stack.each_durable)
            sealing = engine.keys.guard
            if engine.stack.authority.sick and engine.sealer is not None:
                engine.sealer.reload()  # what is owed for long must not be sealed with a key that is gone by then
        size = max(len(keys), len(records))
        return engine.stack.commit(keys, decide, admit=bool(records), merge=merge, size=size, sealing=sealing)

    def _merge(self, offered: list[Record], now: float, *, only_known: Collection[str] = ()) -> Merge | None:
        """Merge records in one transaction; those of `only_known` are left out where they are not known."""
        merge = Merge(0, 0)

        border = self._running().border

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal merge
            changed, merge = merge_batch(
                present, offered, now, only_known=only_known, password_changed=border.password_changed
            )
            return Batch(puts=[border.sealed(record) for record in changed])

        committed = self._write([record.key for record in offered], decide, offered, merge=True)
        return None if committed is None else merge

    def _records(self) -> Iterator[Record]:
        stack = self._running().stack
        page = stack.page("")
        while page:
            yield from page
            page = stack.page(page[-1].key)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    stream = iter(records)
    while batch := list(islice(stream, BATCH)):
        yield batch
