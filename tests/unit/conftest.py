"""Fixtures that tests of a cache share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.testing import ManualClock
from tests.unit.stores import SEALING_KEY, START, Opener


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `START`."""
    return ManualClock(now=START.timestamp())


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opener]:
    """Give a function that opens a cache of three tiers on the same files each time; close all of them afterwards."""
    caches: list[CacheManager] = []

    def opening(**fields: Any) -> CacheManager:
        places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "l3.db")}
        config = CacheConfig.model_validate({**places, "encryption_key": SEALING_KEY, **fields})
        caches.append(CacheManager(config, clock=clock))
        return caches[-1]

    yield opening
    for cache in caches:
        cache.close()
