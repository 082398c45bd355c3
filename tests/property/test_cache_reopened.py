"""What a cache does after it was closed and opened again is what it would have done without that."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.record import Record
from proxywhirl.testing import ManualClock

SEALING_KEY = Fernet.generate_key().decode()
OFF = {"enabled": False}
BOUNDED = {"max_entries": 4}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "JSONL alone": {"l1_config": OFF, "l2_config": BOUNDED, "l3_config": OFF},
    "SQLite alone": {"l1_config": OFF, "l2_config": OFF, "l3_config": BOUNDED},
    "L1 and JSONL": {"l1_config": {"max_entries": 2}, "l2_config": BOUNDED, "l3_config": OFF},
    "L1 and SQLite": {"l1_config": {"max_entries": 2}, "l2_config": OFF, "l3_config": BOUNDED},
    "a window of JSONL": {"l1_config": {"max_entries": 1}, "l2_config": BOUNDED},
    "a window of SQLite": {"l1_config": {"max_entries": 1}, "l2_config": BOUNDED, "l2_backend": "sqlite"},
}
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "get", "get", "flush"]), st.sampled_from("abcdef")), max_size=25
)


def entry(key: str, clock: ManualClock, count: int) -> CacheEntry:
    """Make an entry that is fetched now and was used so often."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    return CacheEntry(
        key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=now, ttl_seconds=9999, access_count=count
    )


def configured(arrangement: str, policy: str, home: Path) -> CacheConfig:
    """Configure a cache one of whose durable tiers has a bound, and evicts by a policy."""
    tiers = {
        name: {**tier, "eviction_policy": policy} if tier is BOUNDED else tier
        for name, tier in ARRANGEMENTS[arrangement].items()
    }
    places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db"), "encryption_key": SEALING_KEY}
    return CacheConfig.model_validate({**places, **tiers})


def leaving(config: CacheConfig, steps: list[tuple[str, str]], *, reopen: bool) -> list[set[str]]:
    """Run the steps and flush; return what the bounded tier holds after each of four newcomers that stay."""
    clock = ManualClock()
    cache = CacheManager(config, clock=clock)
    try:
        for step, key in steps:
            clock.advance(0.01)
            if step == "put":
                assert cache.put(key, entry(key, clock, count=ord(key) % 3))
            elif step == "get":
                cache.get(key)
            else:
                cache.flush()
        cache.get_statistics()  # writes the promotions that wait
        cache.flush()
        if reopen:
            cache.close()
            cache = CacheManager(config, clock=clock)
        tiers = {breaker.name: breaker for breaker in cache._running().stack.tiers}
        bounded = tiers.get("l2") or tiers["l3"]
        nothing: list[Record] = []
        held = [{record.key for record in bounded.call(lambda tier: tier.scan("", 99), nothing)}]
        for n in range(4):
            clock.advance(0.01)
            assert cache.put(f"new{n}", entry(f"new{n}", clock, count=10**6))
            cache.get_statistics()
            held.append({record.key for record in bounded.call(lambda tier: tier.scan("", 99), nothing)})
        return held
    finally:
        cache.close()


@pytest.mark.parametrize("policy", EVICTION_POLICIES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@settings(max_examples=6)
@given(steps=STEPS)
def test_the_order_of_leaving_is_the_same_before_and_after_reopening(
    arrangement: str, policy: str, steps: list[tuple[str, str]]
) -> None:
    """A cache that is opened again lets the same entries go as one that stays open, a window of it too."""
    homes = [Path(tempfile.mkdtemp(prefix="proxywhirl-reopened-")) for _ in range(2)]
    try:
        configs = [configured(arrangement, policy, home) for home in homes]
        live, again = (leaving(config, steps, reopen=n == 1) for n, config in enumerate(configs))
        assert live == again
        assert all(f"new{n}" in held for n, held in enumerate(live[1:]))
        assert max(map(len, live)) <= 4
    finally:
        for home in homes:
            shutil.rmtree(home)
