"""The cache against a dictionary: any history of calls, over every arrangement of tiers."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck as Check
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, CacheTierConfig, HealthStatus, L2BackendType
from proxywhirl.models import Attributes, HealthCheck, Proxy
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL

KEY = Fernet.generate_key().decode()
URLS = [ProxyURL("http", f"192.0.2.{n}", 80, "alice" if n > 2 else None) for n in range(1, 8)]
OFF = CacheTierConfig(enabled=False)
THRESHOLD = 2
SWEEP = 60

ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "three tiers": {},
    "three tiers, SQLite twice": {"l2_backend": L2BackendType.SQLITE},
    "L1 and JSONL": {"l2_config": CacheTierConfig(), "l3_config": OFF},
    "JSONL alone": {"l1_config": OFF, "l2_config": CacheTierConfig(), "l3_config": OFF},
    "SQLite alone": {"l1_config": OFF, "l2_config": OFF},
    "memory alone": {"l1_config": CacheTierConfig(), "l2_config": OFF, "l3_config": OFF},
}

urls = st.sampled_from(URLS)
ttls = st.sampled_from([5, 30, 90, 3600])
passwords = st.sampled_from([None, "S3CRET-one", "S3CRET-two"])


@dataclass(frozen=True)
class Known:
    """What the model remembers of an entry."""

    source: str
    password: str | None
    expires_at: float
    count: int = 0
    failures: int = 0
    checks: int = 0
    status: HealthStatus = HealthStatus.UNKNOWN
    retired: bool = False
    tags: tuple[str, ...] = ()


class CacheMachine(RuleBasedStateMachine):
    """One cache, its model, and a reader that follows the log."""

    arrangement: dict[str, Any]

    @initialize()
    def start(self) -> None:
        """Open an empty cache."""
        self.home = Path(tempfile.mkdtemp(prefix="proxywhirl-machine-"))
        self.clock = ManualClock()
        settings_: dict[str, Any] = {
            "l1_config": CacheTierConfig(max_entries=2),
            "l2_config": CacheTierConfig(max_entries=3, eviction_policy="lfu"),
            "l2_cache_dir": str(self.home / "l2"),
            "l3_database_path": str(self.home / "l3.db"),
            "encryption_key": KEY,
            "failure_threshold": THRESHOLD,
            "ttl_cleanup_interval": SWEEP,
            **self.arrangement,
        }
        self.config = CacheConfig(**settings_)
        self.durable = self.config.l2_config.enabled or self.config.l3_config.enabled
        self.model: dict[str, Known] = {}
        self.mirror: dict[str, Proxy] = {}
        self.aside: set[str] = set()
        self.revision = 0
        self.open()

    def open(self) -> None:
        """Open the cache, whose watcher does not come between; statistics begin anew."""
        self.cache = CacheManager(self.config, clock=self.clock)
        self.cache._running().pause()
        self.gets = self.served = 0

    def live(self) -> dict[str, Known]:
        """Return what must be served."""
        return {key: known for key, known in self.stored().items() if not known.retired}

    def stored(self) -> dict[str, Known]:
        """Return what has not expired."""
        return {key: known for key, known in self.model.items() if self.clock.now() < known.expires_at}

    def entry(self, url: ProxyURL, ttl: int, password: str | None) -> CacheEntry:
        """Make an entry that is fetched now; only a username has a password."""
        return CacheEntry(
            key=url.key,
            proxy_url=url.canonical,
            username=url.username,
            password=password if url.username else None,
            source="put",
            fetch_time=datetime.fromtimestamp(self.clock.now(), UTC),
            ttl_seconds=ttl,
        )

    @rule(url=urls, ttl=ttls, password=passwords)
    def put(self, url: ProxyURL, ttl: int, password: str | None) -> None:
        """A put replaces everything."""
        assert self.cache.put(url.key, self.entry(url, ttl, password)) is True
        self.model[url.key] = Known("put", password if url.username else None, self.clock.now() + ttl)

    @rule(pairs=st.lists(st.tuples(urls, passwords), max_size=6), ttl=ttls)
    def put_many(self, pairs: list[tuple[ProxyURL, str | None]], ttl: int) -> None:
        """Of one key the last entry stands."""
        assert self.cache.put_many([self.entry(url, ttl, word) for url, word in pairs]) == len(
            {u.key for u, _ in pairs}
        )
        for url, word in pairs:
            self.model[url.key] = Known("put", word if url.username else None, self.clock.now() + ttl)

    @rule(url=urls, ttl=ttls, password=passwords, tag=st.sampled_from([None, "fast"]))
    def add(self, url: ProxyURL, ttl: int, password: str | None, tag: str | None) -> None:
        """An add merges: it keeps health and counters, and what the newcomer does not name."""
        tags = (tag,) if tag else ()
        password = password if url.username else None
        entry = self.cache.add(
            url.canonical,
            source="add",
            username=url.username,
            password=password,
            ttl=ttl,
            attributes=Attributes(tags=tags),
        )
        old = self.stored().get(url.key, Known("", None, 0))
        if old.retired and password not in (None, old.password):
            old = replace(old, retired=False, failures=0)
        self.model[url.key] = replace(
            old,
            source="add",
            expires_at=self.clock.now() + ttl,
            password=old.password if password is None else password,
            tags=tags or old.tags,
        )
        assert entry is not None
        assert entry.key == url.key

    @rule(url=urls)
    def get(self, url: ProxyURL) -> None:
        """A get serves what is alive, as it was last written, and counts the hit."""
        entry = self.cache.get(url.key)
        self.gets += 1
        known = self.live().get(url.key)
        if known is None:
            assert entry is None
            return
        self.served += 1
        self.model[url.key] = known = replace(known, count=known.count + 1)
        assert entry is not None
        self.compare(entry, known, url)
        assert entry.access_count == known.count
        entry.access_count = 99
        entry.source = "a snapshot is the caller's own"

    def compare(self, entry: CacheEntry, known: Known, url: ProxyURL) -> None:
        """An entry is what the model knows."""
        password = None if entry.password is None else entry.password.get_secret_value()
        username = None if entry.username is None else entry.username.get_secret_value()
        assert (entry.source, password, username) == (known.source, known.password, url.username)
        assert entry.expires_at.timestamp() == known.expires_at
        assert (entry.failure_count, entry.total_health_checks) == (known.failures, known.checks)
        assert (entry.health_status, entry.attributes.tags) == (known.status, known.tags)

    @rule(url=urls)
    def delete(self, url: ProxyURL) -> None:
        """A delete tells whether there was an entry, and none is there afterwards."""
        assert self.cache.delete(url.key) is (url.key in self.stored())
        self.model.pop(url.key, None)
        assert url.key not in self.cache

    @rule(url=urls)
    def invalidate(self, url: ProxyURL) -> None:
        """The failure at the threshold takes an entry out of service, once."""
        known = self.stored().get(url.key)
        retired = known is not None and not known.retired and known.failures + 1 >= THRESHOLD
        assert self.cache.invalidate_by_health(url.key) is retired
        if known is not None:
            retired = retired or known.retired
            least = HealthStatus.UNHEALTHY if retired else HealthStatus.DEGRADED
            status = max(known.status, least, key=[*HealthStatus].index)
            self.model[url.key] = replace(known, failures=known.failures + 1, status=status, retired=retired)

    @rule(url=urls, ok=st.booleans())
    def check(self, url: ProxyURL, *, ok: bool) -> None:
        """A check is recorded on what is there; a failure counts as any other, a success brings a retired one back."""
        status = HealthStatus.HEALTHY if ok else HealthStatus.DEAD
        known = self.stored().get(url.key)
        verdict = HealthCheck(ok, status, self.clock.now())
        assert self.cache.record_check(url.key, verdict) is (known is not None)
        if known is not None:
            self.model[url.key] = replace(
                known,
                status=status,
                checks=known.checks + 1,
                failures=0 if ok else known.failures + 1,
                retired=not ok and (known.retired or known.failures + 1 >= THRESHOLD),
            )

    @rule(seconds=st.sampled_from([1, 5, 30, 100]))
    def advance(self, seconds: int) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        """Once the cleaning is due, the next call removes all that has expired."""
        self.clock.advance(SWEEP)
        self.cache.get("missing")
        self.gets += 1
        self.model = self.stored()
        assert len(self.cache) == len(self.live())

    @rule()
    def flush(self) -> None:
        """Writing access counts changes nothing that is seen."""
        self.cache.flush()

    @rule()
    def clear(self) -> None:
        """Clearing forgets everything."""
        assert self.cache.clear() >= len(self.live())
        self.model = {}
        assert len(self.cache) == 0

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        """Everything survives closing."""
        self.cache.close()
        self.open()

    @precondition(lambda self: self.durable)
    @rule(url=urls, delete=st.booleans())
    def change_elsewhere(self, url: ProxyURL, *, delete: bool) -> None:
        """What another cache on the same files writes is seen after a refresh."""
        with CacheManager(self.config, clock=self.clock) as other:
            assert set(self.live()) == {entry.key for entry in other.scan()}
            if delete:
                other.delete(url.key)
                self.model.pop(url.key, None)
            else:
                other.put(url.key, self.entry(url, 90, "S3CRET-elsewhere"))
                word = "S3CRET-elsewhere" if url.username else None
                self.model[url.key] = Known("put", word, self.clock.now() + 90)
        self.cache.refresh()

    @invariant()
    def listed_as_alive(self) -> None:
        """`scan`, `in` and `len` agree with the model; what has expired may count until it is found."""
        live, stored = self.live(), self.stored()
        assert [entry.key for entry in self.cache.scan()] == sorted(live)
        assert [entry.key for entry in self.cache.scan(retired=True)] == sorted(set(stored) - set(live))
        assert all((url.key in self.cache) is (url.key in live) for url in URLS)
        expired = sum(not known.retired for key, known in self.model.items() if key not in stored)
        assert len(live) <= len(self.cache) <= len(live) + expired

    @invariant()
    def followed_through_the_log(self) -> None:
        """A reader of the changes alone knows every entry, its health and which are aside, and none that is gone."""
        more = True
        while more:
            changes = self.cache.changes_since(self.revision, limit=3)
            if changes.reset:
                self.mirror.clear()
                self.aside.clear()
            for key in changes.removed:
                self.mirror.pop(key, None)
            self.mirror.update({proxy.key: proxy for proxy in changes.proxies})
            self.aside = (self.aside - changes.sketches.keys()) | changes.aside.keys()
            self.revision, more = changes.revision, changes.more
        stored = self.stored()
        assert set(stored) <= set(self.mirror) <= set(self.model)
        assert all(self.mirror[key].status is known.status for key, known in stored.items())
        withheld = {key for key, known in stored.items() if known.retired or known.status is HealthStatus.DEAD}
        assert {key for key in stored if key in self.aside} == withheld

    @invariant()
    def counted(self) -> None:
        """Requests and hits are counted exactly, and no tier holds more than it may."""
        statistics = self.cache.get_statistics()
        tiers = [statistics.l1_stats, statistics.l2_stats, statistics.l3_stats]
        assert statistics.requests == self.gets
        assert statistics.requests_served == self.served == sum(tier.hits for tier in tiers)
        configs = [self.config.l1_config, self.config.l2_config, self.config.l3_config]
        for tier, config in zip(tiers, configs, strict=True):
            assert tier.current_size <= (config.max_entries or len(URLS)) * config.enabled
            assert tier.evictions_corruption == 0

    def teardown(self) -> None:
        """No secret is in a file, whatever happened."""
        if hasattr(self, "cache"):
            self.cache.close()
            for path in self.home.rglob("*"):
                assert path.is_dir() or b"S3CRET" not in path.read_bytes(), path
                assert path.stat().st_mode & 0o077 == 0, path
            shutil.rmtree(self.home)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_cache_behaves_as_a_dictionary(arrangement: str) -> None:
    """After any history of calls the cache serves, lists, counts and logs what the model says."""
    machine = type("Machine", (CacheMachine,), {"arrangement": ARRANGEMENTS[arrangement]})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=15, stateful_step_count=30, suppress_health_check=[Check.too_slow]),
    )
