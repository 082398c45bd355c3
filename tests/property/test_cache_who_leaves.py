"""Who leaves a full authority follows from what was written and used, whatever came between: beside a plain model."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

SEALING_KEY = Fernet.generate_key().decode()
OFF: dict[str, Any] = {"enabled": False}
BOUND = 3
KEYS = "abcdef"
AUTHORITIES: dict[str, dict[str, Any]] = {
    "JSONL": {"l3_config": OFF},
    "SQLite in the second place": {"l3_config": OFF, "l2_backend": "sqlite"},
    "SQLite in the third place": {"l2_config": OFF},
}


class Model:
    """What the policies mean: by key the arrival, the last use, the uses that the entry counts and its last access."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.held: dict[str, dict[str, float]] = {}
        self.marked: set[str] = set()
        self.hand = 0  # the place of who is looked at next, in the order of arrival

    def write(self, key: str, now: float, uses: int | None = None) -> None:
        """Put an entry with its uses, or change one that is there."""
        if key not in self.held:
            if len(self.held) == BOUND:
                self.delete(self.victim())
            self.held[key] = {"arrived": now}
        else:
            self.marked.add(key)
        self.held[key]["used"] = now
        if uses is not None:
            self.held[key] |= {"uses": uses, "accessed": now}

    def get(self, key: str, now: float) -> None:
        """Use an entry that is there."""
        if key in self.held:
            self.held[key] |= {"used": now, "accessed": now, "uses": self.held[key]["uses"] + 1}
            self.marked.add(key)

    def delete(self, key: str) -> None:
        """Take an entry out."""
        if key in self.held:
            self.hand -= list(self.held).index(key) < self.hand
            del self.held[key]
            self.marked.discard(key)
            self.hand %= max(1, len(self.held))

    def victim(self) -> str:
        """Find who leaves."""
        if self.policy != "sieve":
            facts = {"lru": ["used"], "lfu": ["uses", "accessed"], "fifo": ["arrived"]}[self.policy]
            return min(self.held, key=lambda key: [self.held[key][fact] for fact in facts])
        queue = list(self.held)
        while queue[self.hand] in self.marked:
            self.marked.discard(queue[self.hand])
            self.hand = (self.hand + 1) % len(queue)
        return queue[self.hand]


def entry(key: str, clock: ManualClock, uses: int) -> CacheEntry:
    """Make an entry that is fetched now and was used so often."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    return CacheEntry(
        key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=now, ttl_seconds=10**7, access_count=uses
    )


class Run:
    """A cache with one bounded authority, and a model that is told of the same."""

    def __init__(
        self, home: Path, policy: str, l1: dict[str, Any], authority: str, rng: Random, *, stopped: bool = False
    ) -> None:
        places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db")}
        bounded = {"max_entries": BOUND, "eviction_policy": policy}
        values = {"l1_config": l1, "l2_config": bounded, "l3_config": bounded, **places, **AUTHORITIES[authority]}
        self.config = CacheConfig.model_validate(
            {**values, "encryption_key": SEALING_KEY, "flush_interval_seconds": 1e9}
        )
        self.clock, self.rng, self.model = ManualClock(), rng, Model(policy)
        self.seconds = 0.0 if stopped else 1.0
        self.steps = 0
        self.cache = CacheManager(self.config, clock=self.clock)

    def put(self, cache: CacheManager, key: str) -> None:
        """Put an entry, new or known, with a count."""
        uses = self.rng.randint(0, 4)
        assert cache.put(key, entry(key, self.clock, uses))
        self.model.write(key, self.steps, uses)

    def check(self, cache: CacheManager, key: str) -> None:
        """Write the outcome of a health check."""
        good = HealthCheck(ok=True, status=HealthStatus.HEALTHY, at=self.clock.now())
        assert cache.record_check(key, good) == (key in self.model.held)
        if key in self.model.held:
            self.model.write(key, self.steps)

    def delete(self, cache: CacheManager, key: str) -> None:
        """Delete an entry."""
        assert cache.delete(key) == (key in self.model.held)
        self.model.delete(key)

    def elsewhere(self, key: str) -> None:
        """Let another manager on the same files write; it cannot know of hits that were not flushed."""
        change = self.rng.choice([self.put, self.check, self.delete])
        if key not in self.model.held:
            self.cache.flush()
        with closing(CacheManager(self.config, clock=self.clock)) as other:
            change(other, key)
        self.cache.refresh()

    def step(self) -> str:
        """Do something at random."""
        key = self.rng.choice(KEYS)
        others = ["check", "check", "delete", "flush", "reopen", *(["elsewhere"] if self.seconds else [])]
        name = self.rng.choice(["put"] * 5 + ["get"] * 6 + others)
        self.steps += 1
        self.clock.advance(self.seconds)
        if name == "get":
            assert (self.cache.get(key) is not None) == (key in self.model.held)
            self.model.get(key, self.steps)
        elif name == "flush":
            self.cache.flush()
        elif name == "reopen":
            self.cache.close()
            self.cache = CacheManager(self.config, clock=self.clock)
        elif name == "elsewhere":
            self.elsewhere(key)
        else:
            getattr(self, name)(self.cache, key)
        return f"{name} {key}"


@pytest.mark.parametrize("authority", AUTHORITIES)
@pytest.mark.parametrize("l1", [OFF, {"max_entries": 2}], ids=["without L1", "below L1"])
@pytest.mark.parametrize("policy", sorted(EVICTION_POLICIES))
def test_a_flush_a_reopening_and_another_process_change_nothing_about_who_leaves(
    policy: str, l1: dict[str, Any], authority: str, tmp_path: Path
) -> None:
    """After each step of a random run, the authority holds those whom the policy says, by the order of uses alone."""
    for seed in range(4):
        compare(Run(tmp_path / str(seed), policy, l1, authority, Random(seed)))


@pytest.mark.parametrize("authority", AUTHORITIES)
@pytest.mark.parametrize("policy", ["lru", "fifo", "sieve"])
def test_a_clock_that_stands_still_changes_nothing(policy: str, authority: str, tmp_path: Path) -> None:
    """Uses and writes of one moment have their order all the same, after opening again too."""
    for seed in range(4):
        compare(Run(tmp_path / str(seed), policy, OFF, authority, Random(seed), stopped=True))


def compare(run: Run) -> None:
    """Compare after each of many steps."""
    done: list[str] = []
    try:
        for _ in range(60):
            done += [run.step()]
            held = {found.key for found in run.cache.scan()}
            assert held == set(run.model.held), ", ".join(done[-12:])
    finally:
        run.cache.close()
