"""A second tier that cannot be opened: the cache goes on without it where the third one is whole, and says so."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.occupancy import note_backend
from proxywhirl.errors import CacheError, TierError
from proxywhirl.testing import ManualClock

Opener = Callable[..., CacheManager]

OFF = {"enabled": False}
SEALING_KEY = Fernet.generate_key().decode()
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `START`."""
    return ManualClock(now=START.timestamp())


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opener]:
    """Give a function that opens a cache on the same files each time; close all of them afterwards."""
    caches: list[CacheManager] = []

    def opening(**fields: Any) -> CacheManager:
        places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "l3.db")}
        config = CacheConfig.model_validate({**places, "encryption_key": SEALING_KEY, **fields})
        caches.append(CacheManager(config, clock=clock))
        return caches[-1]

    yield opening
    for cache in caches:
        cache.close()


def put(cache: CacheManager, *keys: str) -> None:
    """Put entries one by one."""
    for key in keys:
        entry = CacheEntry(key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=START, ttl_seconds=3600)
        assert cache.put(key, entry)


def spoil(directory: Path, how: str) -> Callable[[], None]:
    """Make the directory of L2 one that cannot be opened; return what makes it as it was."""
    if how == "a file in its place":
        away = directory.with_name("away")
        directory.rename(away)
        directory.touch()

        def mend() -> None:
            directory.unlink()
            away.rename(directory)

        return mend
    mark = directory / "mark.json"
    content = mark.read_bytes()
    mark.unlink()
    mark.mkdir()

    def mend_mark() -> None:
        mark.rmdir()
        mark.write_bytes(content)

    return mend_mark


@pytest.mark.parametrize("how", ["a file in its place", "a directory for a file"])
def test_a_window_that_cannot_be_opened_is_left_out_and_comes_back(
    opened: Opener, tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The rest works, the log says once what is wrong and what to do; it is tried again, and is in line then."""
    caplog.set_level(logging.WARNING)
    cache = opened()
    put(cache, "kept", "deleted")
    cache.close()
    mend = spoil(tmp_path / "l2", how)
    cache = opened()
    assert {entry.key for entry in cache.scan()} == {"kept", "deleted"}
    assert cache.delete("deleted")
    put(cache, "new")
    assert cache.get("kept") is not None
    assert cache.get_statistics().l2_degraded
    for _ in range(5):
        clock.advance(100)
        cache.refresh()
    (told,) = [text for text in caplog.messages if "tier l2" in text]
    assert told.startswith(f"tier l2 is degraded, next try in 1 s: opening {tmp_path}/l2 failed: ")
    assert "move it away" in told
    mend()
    clock.advance(100)
    cache.refresh()
    assert caplog.messages[-1] == "tier l2 works again"
    statistics = cache.get_statistics()
    assert not statistics.l2_degraded
    assert cache.get("deleted") is None
    put(cache, "later")
    cache.close()
    with opened(l3_config=OFF) as alone:
        assert "deleted" not in alone
        assert "later" in alone


def test_a_window_of_another_store_is_emptied_when_it_opens_at_last(
    opened: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    """What it holds belongs to a store that is not here."""
    other = opened(l3_database_path=str(tmp_path / "other.db"))
    put(other, "foreign")
    other.close()
    shutil.move(tmp_path / "l2", tmp_path / "elsewhere")
    put(cache := opened(), "a")
    cache.close()
    shutil.rmtree(tmp_path / "l2")
    shutil.move(tmp_path / "elsewhere", tmp_path / "l2")
    mend = spoil(tmp_path / "l2", "a directory for a file")
    cache = opened()
    mend()
    clock.advance(2)
    cache.refresh()
    assert not cache.get_statistics().l2_degraded
    assert cache.get("foreign") is None
    cache.close()
    with opened(l3_config=OFF) as alone:
        assert "foreign" not in alone


def test_the_authority_that_cannot_be_opened_is_an_error(opened: Opener, tmp_path: Path) -> None:
    """Without it nothing can be known; the message says what to do."""
    with opened(l3_config=OFF) as cache:
        put(cache, "a")
    mend = spoil(tmp_path / "l2", "a file in its place")
    with pytest.raises(TierError, match=r"opening .*l2 failed: .*move it away"):
        opened(l3_config=OFF)
    mend()
    with opened(l3_config=OFF) as cache:
        assert "a" in cache


def test_beside_a_new_third_tier_it_is_an_error_too(opened: Opener, tmp_path: Path) -> None:
    """The window may hold the only copy of what a lost third tier held: nothing goes on as if it were not there."""
    with opened() as cache:
        put(cache, "a")
    for path in tmp_path.glob("l3.db*"):
        path.unlink()
    mend = spoil(tmp_path / "l2", "a directory for a file")
    with pytest.raises(TierError, match="move it away"):
        opened()
    mend()
    with opened() as cache:
        assert "a" in cache


def test_a_window_whose_entries_are_in_the_other_backend_is_an_error_still(opened: Opener, tmp_path: Path) -> None:
    """It is no sickness that passes: the settings are wrong."""
    with opened() as cache:
        put(cache, "a")
    note_backend(tmp_path / "l2", "sqlite")
    with pytest.raises(CacheError, match=r"set cache\.l2_backend"):
        opened()


def test_a_window_that_has_something_to_give_back_waits_for_the_next_opening(
    opened: Opener, tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What was changed while it was the lowest tier is not lost by it."""
    with opened() as cache:
        put(cache, "a")
    with opened(l3_config=OFF) as cache:
        put(cache, "b")
        assert cache.delete("a")
    mend = spoil(tmp_path / "l2", "a directory for a file")
    with opened() as cache:
        mend()
        clock.advance(2)
        cache.refresh()
        assert cache.get_statistics().l2_degraded
        assert "close the cache and open it again" in caplog.text
    with opened() as cache:
        assert {entry.key for entry in cache.scan()} == {"b"}


def test_credentials_go_to_a_window_that_came_back(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    """It is told which key seals them, as it would have been at opening."""
    with opened() as cache:
        put(cache, "a")
    mend = spoil(tmp_path / "l2", "a file in its place")
    cache = opened()
    cache.add("http://bob@192.0.2.9:80", source="s", password="one")
    mend()
    clock.advance(2)
    cache.refresh()
    cache.add("http://bob@192.0.2.9:80", source="s", password="two")
    cache.close()
    with opened(l3_config=OFF) as alone:
        got = alone.get(CacheManager.generate_cache_key("http://bob@192.0.2.9:80"))
        assert got is not None
        assert got.password is not None
        assert got.password.get_secret_value() == "two"
