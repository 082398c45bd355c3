"""Homes that an earlier release disabled for good open again, with every entry and every credential.

`homes/disabled.tar.xz` was made with that release: `counters` has changes that it could not write to its database,
`times` has endless times in the database, and `lines` has numbers in its lines that are no JSON.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.models import NEVER
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

Opener = Callable[..., CacheManager]

HOMES = Path(__file__).parent / "homes" / "disabled.tar.xz"
OFF = {"enabled": False}
NOW = 1.76e9
LARGEST = 2**63 - 1
TIERS: dict[str, dict[str, Any]] = {"counters": {}, "times": {"l2_config": OFF}, "lines": {"l3_config": OFF}}
KEYS = {
    "counters": ["k1", "k3", "k4", "k5", "k6"],
    "times": ["k1", "k2", "k3", "k4"],
    "lines": ["k1", "k2", "k3", "k4"],
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Give a function that opens one of the homes; close what it opened afterwards."""
    with tarfile.open(HOMES) as archive:
        archive.extractall(tmp_path, filter="data")
    for folder in tmp_path.glob("*/*/"):
        folder.chmod(0o700)
    caches: list[CacheManager] = []

    def opening(name: str) -> CacheManager:
        home = tmp_path / name
        places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "db" / "c.db")}
        config = CacheConfig.model_validate({**places, "key_file": str(home / "key"), **TIERS[name]})
        caches.append(CacheManager(config, clock=ManualClock(now=NOW)))
        return caches[-1]

    yield opening
    for cache in caches:
        cache.close()


def secrets(cache: CacheManager) -> dict[str, str | None]:
    """Return the passwords by key, of those out of service too."""
    entries = [*cache.scan(), *cache.scan(retired=True)]
    return {entry.key: entry.password.get_secret_value() if entry.password else None for entry in entries}


@pytest.mark.parametrize("name", TIERS)
def test_nothing_of_it_is_lost(opened: Opener, tmp_path: Path, name: str) -> None:
    """It lists, exports, checks, removes and is well, at once and after a restart; each credential can be read."""
    cache = opened(name)
    expected = {key: f"paid-{key[1:]}" for key in KEYS[name]}
    assert secrets(cache) == expected
    assert cache.verify() == []
    for key in expected:
        assert cache.record_check(key, HealthCheck(True, HealthStatus.HEALTHY, NOW + 1, next_check=NOW + 60))
    assert cache.export_to_file(tmp_path / "x.jsonl", with_credentials=True) == len(expected)
    cache.flush()
    figures = cache.get_statistics()
    assert (figures.l2_degraded, figures.l3_degraded) == (False, False)
    assert cache.delete("k1")
    cache.close()
    cache = opened(name)
    assert secrets(cache) == {key: word for key, word in expected.items() if key != "k1"}
    assert cache.verify(repair=True) == []


def test_what_it_could_not_write_is_written_with_the_nearest_value(opened: Opener) -> None:
    """Counts stay at their end, and what was recorded beside them counts."""
    cache = opened("counters")
    by_key: dict[str, CacheEntry] = {entry.key: entry for entry in [*cache.scan(), *cache.scan(retired=True)]}
    assert by_key["k4"].total_health_checks == LARGEST
    assert by_key["k4"].health_status is HealthStatus.HEALTHY
    assert by_key["k5"].failure_count == LARGEST
    assert by_key["k3"].recovery_attempt == 1


@pytest.mark.parametrize("name", ["times", "lines"])
def test_an_endless_time_is_the_end_of_all_time(opened: Opener, name: str) -> None:
    """It was acknowledged, and was taken for damage by the next reader."""
    cache = opened(name)
    found = cache.look("k3")
    assert found is not None
    assert found.next_check_time == NEVER
    assert found.health_status is HealthStatus.HEALTHY
    last = cache.look("k4")
    assert last is not None
    assert (last.next_check_time if name == "times" else last.last_accessed) == NEVER
