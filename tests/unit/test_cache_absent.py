"""A tier that cannot be opened: the cache goes on without it where another durable one is there, and says so."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from proxywhirl.cache import CacheEntry, CacheManager
from proxywhirl.cache.tiers.directory_lock import note_backend
from proxywhirl.errors import CacheError, TierError, UnknownNameError
from proxywhirl.testing import ManualClock
from tests.unit.stores import START, Opener

OFF = {"enabled": False}


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


def test_the_only_durable_tier_is_an_error_where_it_cannot_be_opened(opened: Opener, tmp_path: Path) -> None:
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


def hide(database: Path) -> Callable[[], None]:
    """Put a directory in the place of a database; return what brings it back."""
    away = database.with_name("hidden")
    away.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        path.rename(away / path.name)
    database.mkdir()

    def mend() -> None:
        database.rmdir()
        for path in away.iterdir():
            path.rename(database.with_name(path.name))
        away.rmdir()

    return mend


def back(cache: CacheManager, clock: ManualClock) -> None:
    """Let the back-off end, and the thread that looks after the files do so."""
    clock.advance(100)
    cache.refresh()


@pytest.mark.parametrize("l2", ["jsonl", "sqlite"])
@pytest.mark.parametrize("again", [False, True])
def test_a_third_tier_that_cannot_be_opened_is_left_out_and_comes_back(
    opened: Opener, tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, l2: str, again: bool
) -> None:
    """L2 serves what it holds; what is put and deleted is owed, through a restart too, and written when it is back."""
    caplog.set_level(logging.WARNING)
    with opened(l2_backend=l2, l2_config={"max_entries": 3}) as cache:
        put(cache, "not in L2", "kept", "deleted", "replaced")
    mend = hide(tmp_path / "l3.db")
    cache = opened(l2_backend=l2, l2_config={"max_entries": 3})
    assert cache.get_statistics().l3_degraded
    (told,) = [text for text in caplog.messages if "tier l3" in text]
    assert told.startswith(f"tier l3 is degraded, next try in 1 s: opening {tmp_path}/l3.db failed")
    assert cache.get("kept") is not None
    assert cache.get("not in L2") is None
    put(cache, "new")
    assert cache.delete("deleted")
    assert not cache.delete("not in L2")  # nobody can say that it was there
    assert cache.add("http://alice@192.0.2.9:80", source="s", password="one") is not None
    secret = CacheManager.generate_cache_key("http://alice@192.0.2.9:80")
    clock.advance(1)
    replaced = CacheEntry(
        key="replaced", proxy_url="http://192.0.2.7:80", source="s", fetch_time=START, ttl_seconds=3600
    )
    assert cache.put("replaced", replaced)
    if again:
        cache.close()
        cache = opened(l2_backend=l2, l2_config={"max_entries": 3})
    assert [key in cache for key in ("kept", "new", "deleted", "replaced", secret)] == [True, True, False, True, True]
    assert len(cache) == 4
    with pytest.raises(TierError, match="cannot be listed while tier l3 is degraded"):
        list(cache.scan())
    mend()
    back(cache, clock)
    assert not cache.get_statistics().l3_degraded
    assert {entry.key for entry in cache.scan()} == {"kept", "new", "replaced", secret}
    got = cache.get("replaced")
    assert got is not None
    assert got.proxy_url == "http://192.0.2.7:80"
    cache.close()
    with opened(l2_config=OFF) as below:
        assert {entry.key for entry in below.scan()} == {"kept", "new", "replaced", secret}
        found = below.get(secret)
        assert found is not None
        assert found.password is not None
        assert found.password.get_secret_value() == "one"


def test_what_another_process_changed_later_stands(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    """It could open the third tier; what this one owes from before that is not written over it."""
    with opened() as cache:
        put(cache, "a", "b")
    mend = hide(tmp_path / "l3.db")
    cache = opened()
    assert cache.delete("a")
    mend()
    clock.advance(0.5)  # it is not tried again yet
    other = opened()  # pays what is owed, when it looks
    clock.advance(0.1)
    newer = CacheEntry(key="a", proxy_url="http://192.0.2.1:80", source="other", fetch_time=START, ttl_seconds=3600)
    assert other.put("a", newer)
    assert other.delete("b")
    back(cache, clock)
    got = cache.get("a")
    assert got is not None
    assert got.source == "other"
    assert cache.get("b") is None
    assert {entry.key for entry in cache.scan()} == {"a"}


def test_a_third_tier_that_comes_back_empty_is_filled_from_the_second(
    opened: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    """What stood in for it holds the only copy then, and what it owes."""
    with opened() as cache:
        put(cache, "a", "b")
    hide(tmp_path / "l3.db")
    cache = opened()
    put(cache, "c")
    assert cache.delete("b")
    (tmp_path / "l3.db").rmdir()
    back(cache, clock)
    assert {entry.key for entry in cache.scan()} == {"a", "c"}
    assert cache.get("a") is not None
    cache.close()
    with opened(l2_config=OFF) as below:
        assert {entry.key for entry in below.scan()} == {"a", "c"}


class TestKeysWhileATierIsUnread:
    """It may hold what a key sealed that is not here."""

    def test_none_is_made(self, opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
        """Credentials are refused by name, all else is taken; when every tier was read there is a key."""
        mend = hide(tmp_path / "l3.db")
        cache = opened(encryption_key=None)
        put(cache, "plain")
        with pytest.raises(CacheError, match=r"are not taken: there is no key, .* while tier l3 cannot be read"):
            cache.add("http://alice@192.0.2.9:80", source="s", password="s3cret")
        assert not list(tmp_path.glob("*.key"))
        mend()
        back(cache, clock)
        assert cache.add("http://alice@192.0.2.9:80", source="s", password="s3cret") is not None
        assert "plain" in cache
        cache.close()
        with opened(encryption_key=None) as again:
            got = again.get(CacheManager.generate_cache_key("http://alice@192.0.2.9:80"))
            assert got is not None
            assert got.password is not None
            assert got.password.get_secret_value() == "s3cret"

    def test_none_is_made_beside_a_second_tier_that_is_unread(
        self, opened: Opener, tmp_path: Path, clock: ManualClock
    ) -> None:
        """The same the other way round."""
        with opened(encryption_key=None, l2_config=OFF) as cache:
            put(cache, "a")
        for path in tmp_path.glob("*.key"):
            path.unlink()
        (tmp_path / "l2").touch()
        cache = opened(encryption_key=None)
        with pytest.raises(CacheError, match="while tier l2 cannot be read"):
            cache.add("http://alice@192.0.2.9:80", source="s", password="s3cret")
        (tmp_path / "l2").unlink()
        back(cache, clock)
        assert cache.add("http://alice@192.0.2.9:80", source="s", password="s3cret") is not None

    def test_keys_are_checked_before_anything_is_replayed(
        self, opened: Opener, tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A third tier that another key sealed stays out until that key is at hand; what is owed waits for it."""
        with opened(encryption_key=None, l2_config=OFF) as cache:
            assert cache.add("http://alice@192.0.2.9:80", source="s", password="s3cret") is not None
        (key,) = tmp_path.glob("*.key")
        kept = key.read_bytes()
        key.unlink()
        mend = hide(tmp_path / "l3.db")
        cache = opened(encryption_key=None)
        put(cache, "plain")
        mend()
        back(cache, clock)
        assert cache.get_statistics().l3_degraded
        assert "credentials are stored and there is no key" in caplog.text
        assert not key.exists()
        assert "plain" in cache
        with pytest.raises(CacheError, match="are not taken"):
            cache.add("http://bob@192.0.2.9:80", source="s", password="other")
        key.write_bytes(kept)
        back(cache, clock)
        assert not cache.get_statistics().l3_degraded
        got = cache.get(CacheManager.generate_cache_key("http://alice@192.0.2.9:80"))
        assert got is not None
        assert got.password is not None
        assert got.password.get_secret_value() == "s3cret"
        assert len(cache) == 2
        assert cache.add("http://bob@192.0.2.9:80", source="s", password="other") is not None


@pytest.mark.parametrize("what", ["another program's", "a later format", "an unknown tier"])
def test_what_no_waiting_mends_is_an_error_at_the_start(opened: Opener, tmp_path: Path, what: str) -> None:
    """A wrong place, a newer format and a wrong name are not left out: the settings or the program are wrong."""
    opened().close()
    database = tmp_path / "l3.db"
    if what == "an unknown tier":
        with pytest.raises(UnknownNameError):
            opened(l3_tier="cupboard")
        return
    if what == "another program's":
        for path in tmp_path.glob("l3.db*"):
            path.unlink()
        statement = "CREATE TABLE theirs (x)"
    else:
        statement = "PRAGMA user_version = 99"
    connection = apsw.Connection(str(database))
    connection.execute(statement)
    connection.close()
    with pytest.raises(CacheError, match="another program's database" if "program" in what else "knows versions up to"):
        opened()


def test_a_pool_begins_with_what_the_second_tier_holds(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    """A reader of the log gets what is known without the authority, and starts anew when that is back."""
    with opened() as cache:
        put(cache, "a", "b")
    mend = hide(tmp_path / "l3.db")
    cache = opened()
    put(cache, "c")
    assert cache.delete("b")
    page = cache.changes_since(0)
    assert sorted(page.sketches) == ["a", "c"]
    assert not page.more
    assert not cache.changes_since(page.revision).sketches
    mend()
    back(cache, clock)
    page = cache.changes_since(page.revision)
    assert page.reset
    assert sorted(page.sketches) == ["a", "c"]
