"""A second tier that is the lowest for a time: what it changed and removed reaches the third one when that is on."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheEntry, CacheManager
from proxywhirl.cache.manifest import REMOVED
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock
from tests.unit.stores import START, Opener

OFF = {"enabled": False}


@pytest.fixture(params=["jsonl", "sqlite"])
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    """Open with each backend of L2."""
    return partial(opened, l2_backend=request.param)


def entry(key: str, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


def write(opened: Opener, *keys: str, **fields: Any) -> None:
    """Open a cache, put entries, and close it."""
    with opened(**fields) as cache:
        for key in keys:
            assert cache.put(key, entry(key))


def there(opened: Opener, **fields: Any) -> set[str]:
    """Return the keys of what a cache has."""
    with opened(**fields) as cache:
        return {found.key for found in cache.scan()}


def test_what_was_removed_while_the_second_tier_was_the_lowest_does_not_come_back(opened: Opener) -> None:
    """Removed, cleared or expired there, in one session or several, it is gone from the third tier; the rest stays."""
    write(opened, "a", "b", "c", "d")
    with opened(l3_config=OFF) as cache:
        assert cache.delete("a")
    with opened(l3_config=OFF) as cache:
        assert cache.delete_many(["b"])
        assert cache.put("new", entry("new"))
    assert there(opened) == {"c", "d", "new"}
    assert there(opened, l2_config=OFF) == {"c", "d", "new"}


def test_what_was_cleared_does_not_come_back(opened: Opener) -> None:
    """`clear` begins the log anew, and what it removed is removed below all the same; what came after it is there."""
    write(opened, "a", "b")
    with opened(l3_config=OFF) as cache:
        assert cache.clear() == 2
        assert cache.put("c", entry("c"))
    assert there(opened) == {"c"}
    assert there(opened) == {"c"}


def test_what_the_window_never_held_and_what_left_it_for_want_of_room_stays_below(opened: Opener) -> None:
    """Only what somebody removed, and was there, goes."""
    bound = {"max_entries": 3}
    write(opened, "a", "b", "c", "d", "e", l2_config=bound)  # a and b have left the window
    with opened(l3_config=OFF, l2_config=bound) as cache:
        assert not cache.delete("a")
        assert cache.put("new", entry("new"))  # c leaves for it
        assert cache.get("c") is None
        assert cache.clear() == 3
    assert there(opened, l2_config=bound) == {"a", "b", "c"}


def test_what_expired_there_does_not_come_back(opened: Opener, clock: ManualClock) -> None:
    """Not even where the third tier knows of a longer time to live."""
    write(opened, "a", "b")
    with opened(l3_config=OFF) as cache:
        assert cache.put("a", entry("a", ttl_seconds=60))
        clock.advance(120)
        assert cache.get("a") is None
    assert there(opened) == {"b"}


def test_what_was_removed_and_came_again_is_there(opened: Opener, clock: ManualClock) -> None:
    """The last thing that happened counts, and with it its password."""
    url = "http://bob@192.0.2.1:80"
    key = CacheManager.generate_cache_key(url)
    with opened() as cache:
        cache.add(url, source="s", password="old")
    with opened(l3_config=OFF) as cache:
        assert cache.delete(key)
        clock.advance(1)
        cache.add(url, source="s", password="new")
    with opened() as cache:
        got = cache.get(key)
        assert got is not None
        assert got.password is not None
        assert got.password.get_secret_value() == "new"


def test_health_that_was_learned_there_is_not_forgotten(opened: Opener) -> None:
    """What was taken out of service there stays out of service, though that changes neither times nor checks."""
    write(opened, "a", "b")
    with opened(l3_config=OFF, failure_threshold=1) as cache:
        assert cache.invalidate_by_health("a")
        assert cache.record_check("b", HealthCheck(True, HealthStatus.HEALTHY, START.timestamp() + 1))
    with opened() as cache:
        assert cache.get("a") is None
        assert [found.key for found in cache.scan(retired=True)] == ["a"]
        assert [found.key for found in cache.scan(status=HealthStatus.HEALTHY)] == ["b"]


def test_where_both_tiers_changed_the_later_change_counts(opened: Opener, clock: ManualClock) -> None:
    """A cache without L2 may have written to L3 meanwhile: its later writes stand, earlier ones give way."""
    write(opened, "removed", "renewed", "removed later", "gone")
    early, late = START + timedelta(seconds=10), START + timedelta(seconds=30)
    clock.advance(10)
    with opened(l2_config=OFF) as cache:
        assert cache.put("removed later", entry("removed later", fetch_time=early))
        assert cache.delete("gone")
    clock.advance(10)
    with opened(l3_config=OFF) as cache:
        assert cache.delete_many(["removed", "renewed", "removed later"]) == 3
    clock.advance(10)
    with opened(l2_config=OFF) as cache:
        assert cache.put("renewed", entry("renewed", fetch_time=late))
    assert there(opened) == {"renewed"}


def test_a_death_between_note_and_removal_removes_nothing(opened: Opener, tmp_path: Path) -> None:
    """A key that is noted and still in the second tier counts as there."""
    write(opened, "a", "b")
    with opened(l3_config=OFF) as cache:
        assert cache.delete("a")
        noted = (tmp_path / "l2" / REMOVED).read_bytes()
        assert cache.put("a", entry("a"))
    (tmp_path / "l2" / REMOVED).write_bytes(noted)
    assert there(opened) == {"a", "b"}


def test_removals_are_noted_only_where_a_tier_is_off_that_could_bring_them_back(opened: Opener, tmp_path: Path) -> None:
    """A store that never had a third tier keeps no list, nor does one whose third tier is on again."""
    write(opened, "a", l3_config=OFF)
    with opened(l3_config=OFF) as cache:
        assert cache.delete("a")
    assert not (tmp_path / "l2" / REMOVED).exists()
    write(opened, "b")
    with opened(l3_config=OFF) as cache:
        assert cache.delete("b")
    assert len((tmp_path / "l2" / REMOVED).read_bytes().splitlines()) == 2
    assert json.loads((tmp_path / "l2" / REMOVED).read_bytes().splitlines()[1])["change"] == {"op": "del", "key": "b"}
    assert there(opened) == set()
    assert not (tmp_path / "l2" / REMOVED).exists()


def test_a_removal_that_cannot_be_noted_is_said(
    opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is done, and the log tells that the third tier will not know of it."""
    write(opened, "a")
    with opened(l3_config=OFF) as cache:
        (tmp_path / "l2" / REMOVED).mkdir()
        assert cache.delete("a")
    assert "cannot be noted" in caplog.text
    (tmp_path / "l2" / REMOVED).rmdir()
