"""What a get shows of its own kind, `access_count` and `evicted_from_l1`, is right whatever came between."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.record import Record
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

SEALING_KEY = Fernet.generate_key().decode()
OFF: dict[str, Any] = {"enabled": False}
L1_BOUND = 2
KEYS = "abcd"
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    f"{l1}, {l2}, {l3}": {
        "l1_config": {"L1": {"max_entries": L1_BOUND}, "no L1": OFF, "all in L1": {"max_entries": None}}[l1],
        "l2_config": OFF if l2 == "no L2" else {"max_entries": 2} if l3 == "L3" else {},
        "l2_backend": "sqlite" if l2 == "SQLite" else "jsonl",
        "l3_config": {} if l3 == "L3" else OFF,
    }
    for l1, l2, l3 in product(["L1", "no L1", "all in L1"], ["JSONL", "SQLite", "no L2"], ["L3", "no L3"])
    if l1 == "all in L1" or (l2, l3) != ("no L2", "no L3")
}


def entry(key: str, count: int) -> CacheEntry:
    """Make an entry that was served so often."""
    fetched = datetime(2025, 1, 1, tzinfo=UTC)
    return CacheEntry(
        key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=fetched, ttl_seconds=10**9, access_count=count
    )


class Run:
    """A cache, and a model: how often each key was served, and which of them are in L1 or were evicted from it."""

    def __init__(self, home: Path, arrangement: str, rng: Random) -> None:
        places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db")}
        values = {**places, **ARRANGEMENTS[arrangement], "flush_interval_seconds": 1e9}
        self.durable = not arrangement.endswith("no L2, no L3")
        l1 = ARRANGEMENTS[arrangement]["l1_config"]
        self.bound = 0 if l1 is OFF else l1["max_entries"] or len(KEYS)
        self.config = CacheConfig.model_validate({**values, "encryption_key": SEALING_KEY})
        self.clock, self.rng = ManualClock(), rng
        self.cache = CacheManager(self.config, clock=self.clock)
        self.counts: dict[str, int] = {}
        self.in_l1: dict[str, None] = {}
        self.evicted: set[str] = set()

    def enter(self, key: str) -> None:
        """Make a key the one in L1 that was used last."""
        self.in_l1.pop(key, None)
        self.in_l1[key] = None
        self.evicted.discard(key)
        while len(self.in_l1) > self.bound:
            victim = next(iter(self.in_l1))
            del self.in_l1[victim]
            if self.bound:
                self.evicted.add(victim)

    def serve(self, key: str, found: CacheEntry | None) -> None:
        """Compare what was served."""
        assert (found is not None) == (key in self.counts)
        if found is not None:
            self.counts[key] += 1
            assert found.access_count == self.counts[key], f"the count of {key}"
            assert found.evicted_from_l1 == (key in self.evicted), f"the eviction of {key} from L1"
            self.enter(key)

    def put(self, key: str) -> None:
        """Put an entry that says how often it was served."""
        self.counts[key] = self.rng.choice([0, 5])
        assert self.cache.put(key, entry(key, self.counts[key]))
        self.enter(key)

    def change(self, key: str) -> None:
        """Check an entry, or describe it: neither serves it."""
        if self.rng.random() < 0.5:
            self.cache.record_check(key, HealthCheck(ok=True, status=HealthStatus.HEALTHY, at=self.clock.now()))
        else:
            self.cache.describe({key: Attributes(region=str(self.clock.now()))})
            self.cache.record_check(key, HealthCheck(ok=True, status=HealthStatus.HEALTHY, at=self.clock.now()))
        if key in self.in_l1:
            self.enter(key)

    def get(self, key: str) -> None:
        """Get one entry."""
        self.serve(key, self.cache.get(key))

    def delete(self, key: str) -> None:
        """Delete an entry."""
        assert self.cache.delete(key) == (key in self.counts)
        self.counts.pop(key, None)
        self.in_l1.pop(key, None)
        self.evicted.discard(key)

    def flush(self, _: str) -> None:
        """Write the hits, or what waits for L2, or both."""
        for write in self.rng.sample([self.cache.flush, self.cache.refresh], self.rng.randint(1, 2)):
            write()

    def reopen(self, _: str) -> None:
        """Begin with an empty L1."""
        if self.durable:
            self.cache.close()
            self.cache = CacheManager(self.config, clock=self.clock)
            self.in_l1.clear()
            self.evicted.clear()

    def look(self, key: str) -> None:
        """Look without serving: the hits of this process are not all stored yet."""
        found = self.cache.look(key)
        assert (found is not None) == (key in self.counts)

    def step(self) -> str:
        """Do something at random."""
        key, weights = self.rng.choice(KEYS), {"put": 2, "change": 2, "flush": 1, "delete": 1, "look": 1, "reopen": 1}
        name = self.rng.choice(["get"] * 9 + [name for name, weight in weights.items() for _ in range(weight)])
        self.clock.advance(0.5)
        getattr(self, name)(key)
        return f"{name} {key}"


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_each_serving_counts_once_and_an_eviction_from_l1_is_told(arrangement: str, tmp_path: Path) -> None:
    """In a random run each get shows one more than the one before, whichever tier has it and whatever was written."""
    for seed in range(2):
        run, done = Run(tmp_path / str(seed), arrangement, Random(seed)), []
        try:
            for _ in range(80):
                done += [run.step()]
        except AssertionError as exc:
            exc.add_note(f"seed {seed}: {', '.join(done[-12:])}")
            raise
        finally:
            run.cache.close()


@pytest.mark.parametrize("arrangement", [name for name in ARRANGEMENTS if not name.endswith("no L2, no L3")])
def test_what_several_serve_adds_up(arrangement: str, tmp_path: Path) -> None:
    """Whoever serves, flushes, checks and leaves in whatever order, the stored count is the sum."""
    run, rng = Run(tmp_path, arrangement, Random(1)), Random(2)
    served = dict.fromkeys(KEYS, 5)
    caches = [run.cache, CacheManager(run.config, clock=run.clock)]
    for key in KEYS:
        assert caches[0].put(key, entry(key, 5))
    caches[1].refresh()
    for _ in range(150):
        number, key = rng.randrange(2), rng.choice(KEYS)
        what = rng.choice(["get"] * 6 + ["flush", "check", "reopen", "refresh"])
        run.clock.advance(0.5)
        if what == "get":
            served[key] += caches[number].get(key) is not None
        elif what == "check":
            caches[number].record_check(key, HealthCheck(ok=True, status=HealthStatus.HEALTHY, at=run.clock.now()))
        elif what == "reopen":
            caches[number].close()
            caches[number] = CacheManager(run.config, clock=run.clock)
        else:
            getattr(caches[number], what)()
    for cache in caches:
        cache.close()
    with closing(CacheManager(run.config, clock=run.clock)) as cache:
        stored = {key: found.access_count for key in KEYS if (found := cache.look(key)) is not None}
        windows = [breaker.tier.scan("", 9) for breaker in cache._running().stack.windows]
    assert stored == served
    assert all(record.access_count == served[record.key] for window in windows for record in window)


def test_a_count_does_not_repeat_while_hits_are_written() -> None:
    """A read that comes while they are on their way shows one more, whether the store has them already or not."""
    hits = HitLog(durable=True)

    def read(stored: int) -> int:
        record = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, stored, generation=1)
        hits.hand_out([record], 1.0)
        return record.access_count

    shown = [read(7), read(7)]
    accesses = hits.take()
    shown += [read(7), read(9), read(7)]
    hits.written()
    shown.append(read(9))
    assert shown == [8, 9, 10, 11, 12, 13]
    assert [access.count for access in (*accesses, *hits.take())] == [2, 4]
