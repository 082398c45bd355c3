"""A cache whose third tier is switched off and on holds what a dictionary would: nothing is lost or comes back."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.testing import ManualClock

SEALING_KEY = Fernet.generate_key().decode()
TTL_SECONDS = 50
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "retire", "clear", "wait", "switch", "switch", "reopen"]),
        st.sampled_from("abcd"),
    ),
    max_size=40,
)


def entry(key: str, clock: ManualClock, number: int) -> CacheEntry:
    """Make an entry that is fetched now and lives for a while; its number tells it from the others of its key."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    return CacheEntry(
        key=key, proxy_url="http://192.0.2.1:80", source=str(number), fetch_time=now, ttl_seconds=TTL_SECONDS
    )


class Home:
    """A cache on the same files each time, and what it is to hold: the number of each key's entry, and its end."""

    def __init__(self, folder: Path, backend: str) -> None:
        self._clock = ManualClock()
        self._fields = {
            "l2_cache_dir": str(folder / "l2"),
            "l3_database_path": str(folder / "l3.db"),
            "l2_backend": backend,
            "encryption_key": SEALING_KEY,
            "failure_threshold": 1,
        }
        self._expected: dict[str, tuple[str, float]] = {}
        self._is_on = True
        self.cache = self._open()

    def take(self, number: int, step: str, key: str) -> None:
        """Do a step, and compare."""
        self._clock.advance(1)
        if step == "put":
            assert self.cache.put(key, entry(key, self._clock, number))
            self._expected[key] = str(number), self._clock.now() + TTL_SECONDS
        elif step == "delete":
            self.cache.delete(key)
            self._expected.pop(key, None)
        elif step == "retire":
            self.cache.invalidate_by_health(key)
            self._expected.pop(key, None)
        elif step == "clear":
            self.cache.clear()
            self._expected.clear()
        elif step == "wait":
            self._clock.advance(20)
        else:
            self.cache.close()
            self._is_on ^= step == "switch"
            self.cache = self._open()
        now = self._clock.now()
        alive = {key: number for key, (number, end) in self._expected.items() if now < end}
        assert {found.key: found.source for found in self.cache.scan()} == alive
        assert {key: found.source for key, found in self.cache.get_many(list("abcd")).items()} == alive

    def _open(self) -> CacheManager:
        config = CacheConfig.model_validate({**self._fields, "l3_config": {"enabled": self._is_on}})
        return CacheManager(config, clock=self._clock)


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
@settings(max_examples=25)
@given(steps=STEPS)
def test_a_third_tier_that_comes_and_goes_changes_nothing(backend: str, steps: list[tuple[str, str]]) -> None:
    """Puts, deletions, retirements, clears and expiries count whichever tier was the lowest then."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), backend)
        try:
            for number, (step, key) in enumerate(steps):
                home.take(number, step, key)
        finally:
            home.cache.close()
