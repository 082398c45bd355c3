"""The cache: three tiers behind one synchronous, thread-safe face.

- `lookups`: reads by key. Here: everything else that a caller asks for.
- `policy`: what an operation does to which tier, and to a record, as pure functions.
- `engine`: the parts of an open cache. `coordination`: how the tiers work together.
- `entries`: records become entries and back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from proxywhirl import urls
from proxywhirl.cache import policy
from proxywhirl.cache.change_feed import CacheChanges, read_changes
from proxywhirl.cache.coordination.replicas import Committed
from proxywhirl.cache.entries import is_withheld, text_of
from proxywhirl.cache.lookups import Lookups
from proxywhirl.cache.maintenance.statistics_history import ProcessStatistics, StatisticsPoint
from proxywhirl.cache.models import WITHHELD, CacheEntry, CacheStatistics
from proxywhirl.cache.policy import Check, Merge, Selection, check_batch, merge_batch
from proxywhirl.cache.record import Record, storable_attributes
from proxywhirl.cache.tiers.protocol import Batch, Decision, Finding, pages
from proxywhirl.models import Assess, Attributes, HealthCheck, HealthStatus
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require, require_several

if TYPE_CHECKING:
    from proxywhirl.cache.keys.rekey import Rotation

BATCH = 5_000

_log = logging.getLogger(__name__)


class CacheManager(Lookups):
    """Remember proxies in memory, on disk and in a database.

    Opens (and makes) the files of the enabled tiers at once. Safe for threads, and through the files for several
    processes: what one writes, the others see within 100 ms. After a fork the child opens the files anew at its
    first call. A closed one raises `CacheError`. `to_send` makes what is dialled of an entry's URL and its
    provider.

    Raises:
        ValueError: the configuration was changed to what it refuses when it is made.
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
        require("proxy_url", proxy_url, str, "a text")
        return urls.parse(proxy_url).key

    def put(self, key: str, entry: CacheEntry) -> bool:
        """Replace whatever is stored under the key. True only when the authority has taken it.

        Raises:
            TypeError: `key` is no str, `entry` no `CacheEntry`.
            ValueError: `key` is not the entry's key, or a field has a value that validation refuses or no tier could
                hold: an entry can have been changed since it was made. Or a credential reads `***`, as one does that
                was withheld, and none is stored that would be kept instead.
        """
        if type(key) is not str or not key.isascii():
            policy.check_key(key)
        if type(entry) is not CacheEntry:
            require("entry", entry, CacheEntry, "a CacheEntry")
        own = getattr(entry, "key", None)  # `model_construct` leaves out what it is not given
        if key != own:
            raise ValueError(f"the entry's key is {own!r}, not {key!r}: put it under its own key")
        mapping = (self._engine or self._running()).mapping
        return self._replace([mapping.record(entry)]) == 1

    def put_many(self, entries: Iterable[CacheEntry]) -> int:
        """Replace whatever is stored under the entries' keys; return how many the authority has taken.

        Raises as `put` does, before anything is written; of a withheld credential, before its batch of 5,000 is.
        """
        require_several("entries", entries, "entries")
        mapping = self._running().mapping
        latest: dict[str, Record] = {}
        for entry in entries:
            if type(entry) is not CacheEntry:
                require("each of entries", entry, CacheEntry, "a CacheEntry")
            key = getattr(entry, "key", None)
            if type(key) is not str or not key.isascii():
                policy.check_key(key)
            latest[entry.key] = mapping.record(entry)
        return sum(map(self._replace, _batches(latest.values())))

    def _replace(self, batch: list[Record]) -> int:
        """Write records over what is stored; return how many the authority has taken."""
        mapping, now = (self._engine or self._running()).mapping, self._now()
        withheld: set[str] = set()
        for record in batch:
            if record.plain is not None and WITHHELD in record.plain:
                withheld.add(record.key)
            elif record.plain is not None:
                mapping.sealed(record)  # before the transaction: it is to be short

        def decide(present: Mapping[str, Record]) -> Batch:
            puts = []
            for record in batch:
                known = present.get(record.key)
                if record.key in withheld:
                    alive = known if known is not None and now < known.expires_at else None
                    puts.append(mapping.sealed(mapping.restored(record, alive)))
                else:
                    puts.append(record if record.plain is None else mapping.sealed(record))
            return Batch(puts)

        return len(batch) if self._write(withheld, decide, batch) is not None else 0

    def add(
        self,
        proxy_url: str,
        *,
        source: str,
        username: str | SecretStr | None = None,
        password: str | SecretStr | None = None,
        ttl: float | None = None,
        attributes: Attributes | None = None,
    ) -> CacheEntry | None:
        """Make an entry of a proxy URL and merge it with what is known; return it as it is stored.

        `ttl` is in seconds, infinity for ever, None for the source's or the default time to live. None is
        returned, and the log says why, where it is not stored then: no durable tier could take it, the cache holds
        nothing, or it left again at once.

        Raises:
            ProxyURLError: `proxy_url` is not one.
            TypeError: an argument is of another kind.
            ValueError: `ttl` is negative or no number, a text cannot be stored, or a credential reads `***`.
        """
        require("proxy_url", proxy_url, str, "a text")
        require("attributes", attributes, (Attributes, type(None)), "Attributes or None")
        url = urls.parse(proxy_url)
        if username is not None or password is not None:
            name, secret = text_of("username", username), text_of("password", password)
            url = url.with_credential(
                url.username if name is None else name, url.password if secret is None else secret
            )
        if WITHHELD in (url.username, url.password):
            raise ValueError(f"a credential that reads {WITHHELD!r} is one that was withheld: give the real one")
        engine = self._running()
        stored: dict[str, Record] = {}
        offered = self._newcomers([(url, attributes or Attributes())], source=source, ttl=ttl)
        merge = self._merge(offered, self._clock.now(), stored)
        if merge is not None and url.key in stored:
            return engine.mapping.entry(stored[url.key])
        if engine.holds_nothing:
            why = "no tier of this cache holds entries"
        elif merge is None:
            why = f"tier {engine.stack.authority.name} is degraded, and no other has taken it; add it again later"
        else:
            why = "there was no room for it, so that it left again at once"
        _log.warning("%s (%s) was not added: %s", url.canonical, url.key, why)
        return None

    def add_many(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float | None = None
    ) -> Merge | None:
        """Merge proxies with what is known, in one transaction; None where the authority has not taken them.

        One with a credential that reads `***` was written without it: it is left out where it is not known.

        Raises:
            TypeError, ValueError: `ttl` is negative or no number, or a value cannot be stored.
        """
        return self._merge(self._newcomers(proxies, source=source, ttl=ttl), self._clock.now())

    def delete(self, key: str) -> bool:
        """Remove an entry from every tier; return whether there was one. Raises as `get` does."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Collection[str]) -> int:
        """Remove entries from every tier; return how many there were. Raises as `get` does."""
        asked = policy.check_keys(keys)
        now = self._now()
        there = 0

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal there
            there = len([record for record in present.values() if now < record.expires_at])
            return Batch(deletes=asked)

        return there if self._write(asked, decide) is not None else 0

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
        retired: bool | None = False,
    ) -> Iterator[CacheEntry]:
        """Yield the entries that are alive and fit all filters, in the order of their keys, read in pages.

        With `retired`, yields those that were taken out of service instead, with None both. Secrets are not decrypted.

        Raises:
            TierError: the authority is degraded, so that some entries cannot be seen.
            TypeError, ValueError: `status` is none, or another filter is no text.
        """
        for name, text in (("source", source), ("scheme", scheme), ("country", country), ("tag", tag)):
            require(name, text, (str, type(None)), "a text or None")
        status = None if status is None else HealthStatus(status)
        wanted = Selection(status, source, scheme, country, tag, retired)
        for record in self._records():
            if wanted.takes(record, self._clock.now()):
                yield self._running().mapping.entry(record)

    def changes_since(self, revision: int, limit: int = 5_000) -> CacheChanges:
        """Return a page of what changed after a revision, 0 for everything that is there.

        Raises:
            TypeError: `revision` is no whole number.
        """
        require("revision", revision, int, "a whole number")
        now, stack = self._clock.now(), self._running().stack
        page = stack.authority.call(partial(read_changes, revision=revision, limit=limit, now=now), None, limit)
        if page is not None:
            return page
        known = stack.stand_in() if revision == 0 else None
        return CacheChanges.nothing(revision) if known is None else CacheChanges.standing_in(known, now)

    def refresh(self) -> None:
        """Bring this process in line with what others wrote, now rather than within 100 ms."""
        self._running().stack.refresh()

    def record_check(self, key: str, check: HealthCheck) -> bool:
        """Record a health check; return whether the entry was there; see `record_checks`."""
        return self.record_checks([(key, check)]) == 1

    def record_checks(self, checks: Iterable[tuple[str, HealthCheck | Assess]]) -> int:
        """Record health checks in one transaction, in their order; return how many entries were there.

        A failure counts in `failure_count`, a success sets it to 0. With `health_check_invalidation`, the failure that
        reaches `failure_threshold` takes the entry out of service: `get` gives None, and it is kept with credentials
        and history until its time to live ends, so that a success brings it back.

        A check may be a function of the status, the streaks (successes, failures) and whether any check has succeeded,
        as they are stored then; what it raises is handed through, and nothing is recorded. Raises as `get` does, and
        `TypeError` for what is no check.
        """
        by_key: dict[str, list[Check]] = {}
        for key, check in checks:
            policy.check_key(key)
            if not callable(check):
                require("a check", check, HealthCheck, "a HealthCheck, or a function that returns one")
            by_key.setdefault(key, []).append(check)
        return self._check(by_key)[0]

    def describe(self, known: Mapping[str, Attributes]) -> int:
        """Add what was found out about proxies, by key, to their attributes; return how many of them had news.

        Raises as `get` does, and `TypeError` or `ValueError` for what are no attributes, or none that can be stored.
        """
        now = self._clock.now()
        policy.check_keys(known)
        texts = {key: storable_attributes(key, attributes) for key, attributes in known.items()}

        def decide(present: Mapping[str, Record]) -> Batch:
            alive = {key: record for key, record in present.items() if now < record.expires_at}
            news = (policy.described(record, texts[key]) for key, record in alive.items())
            return Batch(puts=[record for record in news if record is not None])

        committed = self._write(texts, decide)
        return len(committed.applied.puts) if committed is not None else 0

    def invalidate_by_health(self, key: str) -> bool:
        """Count a failure as a failed check counts; return whether the entry was taken out of service now.

        It is at least degraded from the first one on. Raises as `get` does.
        """
        policy.check_key(key)
        return bool(self._check({key: [None]})[1])

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

        Those out of service are among them: read back elsewhere they serve again, until their next failure.
        Credentials read `"***"` unless asked for by name.

        Raises:
            CacheError: the file cannot be written, or some entries cannot be seen.
        """
        from proxywhirl.cache.maintenance import transfer  # noqa: PLC0415  # few processes need it

        return transfer.export_entries(self.scan(retired=None), Path(path), with_credentials=with_credentials)

    def warm_from_file(
        self, path: str | Path, ttl_override: float | None = None, *, wanted: Callable[[str], bool] | None = None
    ) -> dict[str, int]:
        """Merge the entries of a file of JSON, JSON lines or CSV; return counts of `loaded`, `skipped` and `failed`.

        They are entries as `export_to_file` writes them, or items that have at least a `proxy_url`, with a credential
        in it or beside it: those come from a source of the file's name unless they name one, are fetched now, and
        live for the source's or the default time. `ttl_override` (seconds, infinity for ever) replaces the times to
        live of the file. Entries whose key is not `wanted` are skipped.

        Raises:
            ListFormatError: the file cannot be read, is not what its name says, or nothing in it is an entry.
            TypeError, ValueError: `ttl_override` is negative or no number.
        """
        from proxywhirl.cache.maintenance import transfer  # noqa: PLC0415  # as above

        policy.check_ttl(ttl_override)
        mapping = self._running().mapping
        counts = {"loaded": 0, "skipped": 0, "failed": 0}
        now = self._clock.now()
        for page in transfer.read_entries(Path(path), counts, now=now, ttl=ttl_override, lifetime=self._lifetime):
            chosen = [entry for entry in page if wanted is None or wanted(entry.key)]
            counts["skipped"] += len(page) - len(chosen)
            records = []
            for entry in chosen:
                try:
                    records.append(mapping.record(entry))
                except ValueError:  # no tier could hold it
                    counts["failed"] += 1
            merge = self._merge(records, self._clock.now())
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
            TypeError: `new_key` is no `SecretStr`.
            ValueError: there is no key at all, or none can be given here.
        """
        require("new_key", new_key, (SecretStr, type(None)), "a SecretStr or None")
        engine = self._running()
        if engine.sealer is None:
            raise ValueError("a cache in memory has no key")
        from proxywhirl.cache.keys import rekey  # noqa: PLC0415  # as above

        return rekey.rotate(self.config, engine.sealer, engine.stack, self._write, new_key)

    def verify(self, repair: bool = False) -> list[Finding]:
        """Return what is wrong with the store and its surroundings; with `repair`, what could be mended says so.

        Reads all of it and opens every credential, keeping none: seconds for a large store. Other threads and processes
        may use it meanwhile.
        """
        engine = self._running()
        from proxywhirl.cache.maintenance.verify import inspect  # noqa: PLC0415  # as above

        return inspect(self.config, engine.stack, engine.mapping, write=self._write, repair=repair)

    def _write(
        self, keys: Collection[str], decide: Decision, records: Collection[Record] = (), *, merge: bool = False
    ) -> Committed | None:
        """Let the authority decide and write, keep the windows in line; None where nothing durable has taken it.

        `records` are those that may come in new, with plain credentials or without.
        """
        engine = self._engine or self._running()
        if engine.holds_nothing:
            return None
        if engine.clock.monotonic() >= engine.upkeep.next_of_calls:
            engine.upkeep.tick()
        sealing = None
        for record in records if engine.keys is not None else ():
            if record.plain is not None:
                sealing = engine.sealing()
                break
        size = max(len(keys), len(records))
        return engine.stack.commit(keys, decide, admit=bool(records), merge=merge, size=size, sealing=sealing)

    def _check(self, checks: Mapping[str, Sequence[Check]]) -> tuple[int, list[str]]:
        """Apply checks by key; return how many entries were there, and the keys that are retired by it."""
        now, config = self._clock.now(), self.config
        threshold = config.failure_threshold if config.health_check_invalidation else None
        retired: list[str] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal retired
            puts, retired = check_batch(present, checks, now, threshold=threshold)
            return Batch(puts=puts)

        committed = self._write(checks, decide)
        if committed is None:
            return 0, []
        self._running().stack.count_held(committed, retired, "evictions_health")
        return len(committed.applied.puts), retired

    def _newcomers(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float | None
    ) -> list[Record]:
        policy.check_ttl(ttl)
        now = self._clock.now()
        lifetime = self._lifetime(source) if ttl is None else ttl
        newcomer = self._running().mapping.newcomer
        return [newcomer(url, source=source, ttl=lifetime, now=now, attributes=known) for url, known in proxies]

    def _merge(self, offered: list[Record], now: float, stored: dict[str, Record] | None = None) -> Merge | None:
        """Merge records in one transaction; those without credentials that they had are left out if not known.

        `stored` is given what is stored under their keys then.
        """
        withheld = {record.key for record in offered if is_withheld(record)}
        for record in offered:
            if record.key in withheld:
                record.plain = None
        merge = Merge(0, 0)

        mapping = self._running().mapping

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal merge
            changed, merge = merge_batch(
                present, offered, now, only_known=withheld, password_changed=mapping.password_changed
            )
            if stored is not None:
                stored.update({**present, **{record.key: record for record in changed}})
            return Batch(puts=[mapping.sealed(record) for record in changed])

        committed = self._write([record.key for record in offered], decide, offered, merge=True)
        if committed is None:
            return None
        if stored is not None:
            for key in committed.applied.evicted:
                stored.pop(key, None)
        return merge

    def _lifetime(self, source: str) -> float:
        """Return the seconds that what a source gives lives where nobody says."""
        return self.config.per_source_ttl.get(source, self.config.default_ttl_seconds)

    def _records(self) -> Iterator[Record]:
        stack = self._running().stack
        for page in pages(stack.page):
            yield from page


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    stream = iter(records)
    while batch := list(islice(stream, BATCH)):
        yield batch
