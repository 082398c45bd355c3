"""Between two moments: owed and not paid, on the way to L2, read and not decrypted, readable and not writable."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.cache.coordination.breaker import BACKOFF
from proxywhirl.errors import TierError
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.testing import ChaosTier, ManualClock
from tests.unit.stores import START, Opener


@pytest.fixture(params=["jsonl", "sqlite"])
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    """Open with each backend of L2, and let the watcher not come between."""

    def opening(**fields: Any) -> CacheManager:
        cache = opened(**{"l2_backend": request.param, **fields})
        cache._running().pause()
        return cache

    return opening


def entry(key: str, password: str = "one", **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    values = {"proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 10**9, **fields}
    return CacheEntry(key=key, password=SecretStr(password), **values)


def password(found: CacheEntry | None) -> str | None:
    """Return the password of what was found."""
    return None if found is None or found.password is None else found.password.get_secret_value()


def unwell(cache: CacheManager) -> ChaosTier:
    """Put trouble around the authority of an open cache."""
    authority = cache._running().stack.authority
    authority.tier = chaos = ChaosTier(authority.tier)
    return chaos


def passwords(cache: CacheManager, keys: Iterable[str]) -> dict[str, str | None]:
    """Read several passwords at once."""
    return {key: password(found) for key, found in cache.get_many(list(keys)).items()}


def test_reading_many_is_reading_each_while_something_is_owed(opened: Opener, clock: ManualClock) -> None:
    """A batch finds what is owed and not what was deleted, whether the authority is sick or back and not paid yet."""
    cache = opened(l1_config={"max_entries": 1})
    for key in "abc":
        cache.put(key, entry(key))
    cache.refresh()
    chaos = unwell(cache)
    chaos.fail()
    assert cache.delete("a")
    assert cache.put("b", entry("b", "two"))
    assert cache.put("d", entry("d", "two"))
    cache.put("z", entry("z"))  # nothing of it is in L1 any more
    assert passwords(cache, "abd") == {"b": "two", "d": "two"}
    chaos.recover()
    clock.advance(BACKOFF.first)
    assert passwords(cache, "abd") == {"b": "two", "d": "two"}
    assert [password(cache.get(key)) for key in "abd"] == [None, "two", "two"]
    assert {found.key for found in cache.scan()} == set("bcdz")
    assert len(cache) == 4


def test_a_batch_counts_what_is_owed_as_one_by_one_does(opened: Opener) -> None:
    """Hits and misses of a read of several are those of as many reads."""
    figures = []
    for many in (True, False):
        cache = opened(l1_config={"max_entries": 1})
        cache.clear()
        cache.put("a", entry("a"))
        cache.put("c", entry("c"))
        cache.refresh()
        unwell(cache).fail()
        cache.delete("a")
        cache.put("b", entry("b"))
        cache.put("z", entry("z"))
        before = cache.get_statistics()
        if many:
            cache.get_many(["a", "b"])
        else:
            cache.get("a")
            cache.get("b")
        after = cache.get_statistics()
        figures.append(
            [
                after.requests - before.requests,
                after.requests_served - before.requests_served,
                after.l1_stats.misses - before.l1_stats.misses,
                after.l2_stats.hits - before.l2_stats.hits,
                after.l2_stats.misses - before.l2_stats.misses,
            ]
        )
        cache.close()
    assert figures[0] == figures[1]
    assert figures[0][:2] == [2, 1]


def test_a_reader_finds_the_old_one_or_the_new_one_that_waits_for_l2(opened: Opener) -> None:
    """At no moment of a change is neither of them in sight, so that the one before both would be read from L2."""
    cache = opened(l1_config={"max_entries": 1})
    cache.put("k", entry("k", "one"))
    cache.refresh()  # L2 has the first one
    cache.put("k", entry("k", "two"))  # the second one waits
    near_cache = cache._running().stack.near_cache
    changes, seen = near_cache.changes, []
    note = changes.note

    def looking(keys: Iterable[str]) -> None:
        note(keys)
        seen.append(near_cache.queued("k"))

    popped = near_cache.promoting.__class__

    class Watched(popped):  # type: ignore[misc, valid-type]
        """A dict of what waits that tells what a reader sees after something was taken out."""

        def pop(self, *arguments: Any) -> Any:
            taken = super().pop(*arguments)
            seen.append(near_cache.queued("k"))
            return taken

    changes.note = looking  # type: ignore[method-assign]
    near_cache.queue, near_cache.promoting = Watched(near_cache.queue), Watched(near_cache.promoting)
    cache.put("k", entry("k", "three"))
    assert seen
    assert all(waiting is not None for waiting in seen)


def test_hits_that_another_process_wrote_meanwhile_reach_l2(opened: Opener) -> None:
    """A record that waits for L2 takes along what was counted since it was read."""
    one, other = opened(l1_config={"max_entries": 1}), opened(l1_config={"max_entries": 1})
    one.put("k", entry("k"))
    one.put("x", entry("x"))
    one.refresh()
    for window in one._running().stack.windows:
        window.tier.drop(["k"])
    one.get("k")  # from L3: on its way to L2 now
    for _ in range(100):
        other.get("k")
    other.flush()
    one.flush()
    one.refresh()
    counts = [tier.tier.peek("k") for tier in one._running().stack.durable]
    assert [record.access_count for record in counts if record is not None] == [101, 101]


def test_hits_that_the_authority_did_not_take_are_not_counted_twice_in_l2(opened: Opener, clock: ManualClock) -> None:
    """A flush that fails is tried again as a whole."""
    cache = opened(l1_config={"enabled": False})
    cache.put("k", entry("k"))
    cache.refresh()
    for _ in range(3):
        cache.get("k")
    chaos = unwell(cache)
    chaos.fail(TierError("no room"), "touch_many", times=1)
    cache.flush()
    clock.advance(BACKOFF.first)
    cache.flush()
    counts = [tier.tier.peek("k") for tier in cache._running().stack.durable]
    assert [record.access_count for record in counts if record is not None] == [3, 3]


def test_a_credential_in_hand_outlives_two_rotations(tmp_path: Path) -> None:
    """What was read and not decrypted before the key changed twice elsewhere is read all the same."""
    config = CacheConfig(l2_cache_dir=str(tmp_path / "l2"), l3_database_path=str(tmp_path / "db" / "l3.db"))
    with CacheManager(config) as first:
        first.put("k", entry("k", "s3cret"))
    with CacheManager(config) as reader, CacheManager(config) as rotating:
        rotating.rotate_keys()
        reader.refresh()
        got, scanned = reader.get("k"), next(reader.scan())
        rotating.rotate_keys()
        assert [password(found) for found in (got, scanned, reader.get("k"))] == ["s3cret"] * 3


def test_a_credential_that_was_replaced_meanwhile_is_not_taken_for_the_one_in_hand(tmp_path: Path) -> None:
    """A snapshot has its own password or an error, never that of what was put later."""
    config = CacheConfig(l2_cache_dir=str(tmp_path / "l2"), l3_database_path=str(tmp_path / "db" / "l3.db"))
    with CacheManager(config) as reader, CacheManager(config) as rotating:
        rotating.put("k", entry("k", "before"))
        rotating.rotate_keys()
        reader.refresh()
        scanned = next(reader.scan())
        rotating.put("k", entry("k", "after"))
        rotating.rotate_keys()
        with pytest.raises(Exception, match="not at hand") as caught:
            password(scanned)
        assert "after" not in str(caught.value)
        assert password(reader.get("k")) == "after"


class TestATierThatCanOnlyBeRead:
    """A database that another program holds is read as ever, and written to again with a back-off of its own."""

    WRITES = ("transact", "touch_many", "set_meta")

    def writes(self, chaos: ChaosTier) -> int:
        """Count the tries to write."""
        return sum(chaos.calls[method] for method in self.WRITES)

    def test_reads_go_on_and_the_back_off_doubles(self, opened: Opener, clock: ManualClock) -> None:
        """A read that goes well does not begin the pauses of writing anew."""
        cache = opened(l1_config={"enabled": False}, l2_config={"enabled": False})
        cache.put("k", entry("k"))
        chaos = unwell(cache)
        chaos.fail(TierError("the disk is full"), *self.WRITES)
        pause, tries = BACKOFF.first, []
        for _ in range(8):
            before = self.writes(chaos)
            assert not cache.put("x", entry("x"))
            for _ in range(20):
                assert password(cache.get("k")) == "one"
                assert not cache.put("x", entry("x"))
            tries.append(self.writes(chaos) - before)
            assert cache.get_statistics().l3_degraded
            clock.advance(min(pause, BACKOFF.longest) * 0.99)
            assert not cache.put("x", entry("x"))
            assert self.writes(chaos) - before == 1
            clock.advance(min(pause, BACKOFF.longest) * 0.02)
            pause *= 2
        assert tries == [1] * 8
        chaos.recover()
        assert cache.put("x", entry("x"))
        assert not cache.get_statistics().l3_degraded


class TestWhatNoTierCanHold:
    """A caller's odd value is the caller's error: no tier is sick of it, and nothing is acknowledged and lost."""

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"access_count": 2**63}, "access_count must be from 0 to 9223372036854775807"),
            ({"failure_count": 2**63}, "failure_count must be"),
            ({"ttl_seconds": 2**63}, "ttl_seconds must be"),
            ({"source": "\ud800"}, "source cannot be stored: it holds half a character"),
            ({"last_health_error": "\ud800"}, "last_health_error cannot be stored"),
            ({"username": SecretStr("\ud800")}, "username cannot be stored"),
            ({"attributes": Attributes(label="\ud800")}, "attributes cannot be stored"),
        ],
    )
    def test_a_put_refuses_it(self, opened: Opener, fields: dict[str, Any], message: str) -> None:
        """The message names the field; others are put as before."""
        cache = opened()
        odd = entry("k", expires_at=datetime(2030, 1, 1, tzinfo=UTC)).model_copy(update=fields)
        with pytest.raises(ValueError, match=message):
            cache.put_many([entry("a"), odd])
        assert cache.put("b", entry("b"))
        assert not any(breaker.sick for breaker in cache._running().stack.tiers)
        assert {found.key for found in cache.scan()} == {"b"}, "a batch is put whole or not at all"

    def test_an_add_refuses_it(self, opened: Opener) -> None:
        """A source is a text that can be stored."""
        cache = opened()
        with pytest.raises(TypeError, match="source must be a text, not NoneType"):
            cache.add("192.0.2.1:80", source=None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="source cannot be stored"):
            cache.add("192.0.2.1:80", source="\ud800")
        assert cache.add("192.0.2.1:80", source="s") is not None

    def test_an_error_that_cannot_be_stored_is_stored_as_well_as_it_can(self, opened: Opener) -> None:
        """A check never fails for the words of what it found."""
        cache = opened()
        cache.put("k", entry("k"))
        assert cache.record_check("k", HealthCheck(False, HealthStatus.DEGRADED, 1.0, error="no \ud800"))
        found = cache.get("k")
        assert found is not None
        assert found.last_health_error == "no \\ud800"


def test_puts_beside_gets_are_never_older_than_what_was_acknowledged(opened: Opener) -> None:
    """One thread puts counts, others read them alone and in batches: no read is behind the last acknowledged one."""
    cache = opened(l1_config={"max_entries": 1})
    acknowledged, late, done = [0], [], threading.Event()
    cache.put("k", entry("k", "0"))

    def read(*, many: bool) -> None:
        while not done.is_set():
            least = acknowledged[0]
            found = password(cache.get_many(["k", "x"]).get("k") if many else cache.get("k"))
            if found is None or int(found) < least:
                late.append((least, found))
            cache.get("x")

    cache.put("x", entry("x"))
    readers = [threading.Thread(target=read, kwargs={"many": many}) for many in (True, False)]
    for reader in readers:
        reader.start()
    for count in range(1, 400):
        cache.put("k", entry("k", str(count)))
        acknowledged[0] = count
    done.set()
    for reader in readers:
        reader.join()
    assert late == []
