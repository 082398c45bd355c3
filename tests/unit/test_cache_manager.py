"""`CacheManager`: what each method does, over the arrangements of tiers."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxywhirl.cache import NEVER, CacheEntry, CacheManager, HealthStatus, Merge
from proxywhirl.errors import ProxyURLError, TierError
from proxywhirl.models import Attributes, HealthCheck
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL
from tests.unit.stores import START, Opener

OFF = {"enabled": False}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "three tiers": {},
    "three tiers, SQLite twice": {"l2_backend": "sqlite"},
    "L1 and L2": {"l3_config": OFF},
    "L2 alone": {"l1_config": OFF, "l3_config": OFF},
    "SQLite L2 alone": {"l1_config": OFF, "l3_config": OFF, "l2_backend": "sqlite"},
    "L1 and L3": {"l2_config": OFF},
    "L3 alone": {"l1_config": OFF, "l2_config": OFF},
    "L1 alone": {"l1_config": {"max_entries": None}, "l2_config": OFF, "l3_config": OFF},
}
DURABLE = [name for name in ARRANGEMENTS if name != "L1 alone"]


@pytest.fixture(params=ARRANGEMENTS)
def cache(request: pytest.FixtureRequest, opened: Opener) -> CacheManager:
    """Give a cache in each arrangement of tiers."""
    return opened(**ARRANGEMENTS[request.param])


def entry(n: int = 1, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    url = f"http://192.0.2.{n}:80"
    least = {"key": key(n), "proxy_url": url, "source": "src", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


def key(n: int, username: str | None = None) -> str:
    """Name the key of a proxy."""
    return ProxyURL("http", f"192.0.2.{n}", 80, username).key


def failing(at: float = 0.0) -> HealthCheck:
    """Make a failed check."""
    return HealthCheck(False, HealthStatus.UNHEALTHY, at, error="refused")


def test_a_key_is_that_of_the_identity() -> None:
    """Scheme, host, port and username make the key, in one spelling; the password does not."""
    made = CacheManager.generate_cache_key
    assert made("http://192.0.2.1:80") == key(1) == made("HTTP://192.0.2.1:80/")
    assert made("http://bob:one@192.0.2.1:80") == made("http://bob:two@192.0.2.1:80") == key(1, "bob") != key(1)
    assert len(key(1)) == 16
    with pytest.raises(ProxyURLError):
        made("http://192.0.2.1:0")


def test_what_was_put_is_had_again(cache: CacheManager, clock: ManualClock) -> None:
    """Every field comes back; the get is counted as a use, at its time."""
    put = entry(
        username="bob",
        password="hunter2",
        expires_at=NEVER,
        health_status="degraded",
        failure_count=1,
        consecutive_health_failures=2,
        consecutive_health_successes=3,
        recovery_attempt=4,
        total_health_checks=5,
        total_health_check_failures=6,
        last_health_check=START - timedelta(hours=1),
        next_check_time=START + timedelta(hours=1),
        last_health_error="timed out",
        access_count=7,
        attributes=Attributes(country="DE", tags=("a",), weight=0.5),
    )
    assert cache.put(put.key, put) is True
    clock.advance(10)
    got = cache.get(put.key)
    assert got == put.model_copy(update={"access_count": 8, "last_accessed": START + timedelta(seconds=10)})
    assert cache.get("missing") is None


def test_put_refuses_another_key(cache: CacheManager) -> None:
    """An entry goes under its own key; any text may be one."""
    with pytest.raises(ValueError, match="own key"):
        cache.put("other", entry())
    assert cache.put("any text ☃", entry(key="any text ☃"))
    assert "any text ☃" in cache


def test_put_replaces_everything(cache: CacheManager) -> None:
    """Nothing of the old entry stays: neither health nor credentials nor retirement."""
    cache.put(key(1), entry(username="bob", password="x", failure_count=2))
    assert cache.invalidate_by_health(key(1))
    assert cache.put(key(1), entry())
    got = cache.get(key(1))
    assert got is not None
    assert (got.failure_count, got.username, got.password, got.health_status) == (0, None, None, HealthStatus.UNKNOWN)


def test_put_many_and_get_many(cache: CacheManager) -> None:
    """Of one key the last entry stands; what is missing is left out."""
    assert cache.put_many([entry(1), entry(2), entry(1, source="later")]) == 2
    assert cache.put_many([]) == 0
    got = cache.get_many([key(1), "missing", key(2)])
    assert {k: e.source for k, e in got.items()} == {key(1): "later", key(2): "src"}
    assert (len(cache), key(1) in cache, "missing" in cache, 7 in cache) == (2, True, False, False)


def test_a_snapshot_is_the_callers_own(cache: CacheManager) -> None:
    """Changing what was put or had changes nothing in the cache."""
    put = entry()
    cache.put(put.key, put)
    put.source = "changed"
    for _ in range(2):
        got = cache.get(put.key)
        assert got is not None
        assert got.source == "src"
        got.source = "changed"
        got.failure_count = 99


def test_add_makes_the_entry(cache: CacheManager) -> None:
    """The URL is read, the credential taken out of it, and the key is that of the identity."""
    made = cache.add("HTTP://bob:hun%20ter@192.0.2.1:80/", source="mine", attributes=Attributes(country="de"))
    assert made is not None
    assert (made.key, made.proxy_url, made.source) == (key(1, "bob"), "http://192.0.2.1:80", "mine")
    assert made.username == SecretStr("bob")
    assert made.password == SecretStr("hun ter")
    assert (made.fetch_time, made.last_accessed, made.access_count) == (START, START, 0)
    assert made.attributes.country == "DE"
    with pytest.raises(ProxyURLError):
        cache.add("http://192.0.2.1:99999", source="mine")


def test_a_credential_beside_the_url_is_taken_as_it_is(cache: CacheManager) -> None:
    """`username` and `password` go before those of the URL, each for itself, and are not percent-decoded."""
    both = cache.add("http://eve:old@192.0.2.1:80", source="s", username="b%20b", password="p:@/")
    one = cache.add("http://eve:old@192.0.2.1:80", source="s", password="new")
    assert both is not None
    assert one is not None
    assert (both.key, one.key) == (key(1, "b%20b"), key(1, "eve"))
    assert (both.username, both.password) == (SecretStr("b%20b"), SecretStr("p:@/"))
    assert one.password == SecretStr("new")
    with pytest.raises(ProxyURLError):
        cache.add("http://192.0.2.1:80", source="s", username="new\nline")


def test_the_time_to_live_is_as_given_else_the_sources_else_the_default(opened: Opener) -> None:
    """Each of the three, and infinity, which never ends."""
    cache = opened(default_ttl_seconds=100, per_source_ttl={"daily": 200})
    ends = {
        (source, ttl): cache.add(f"http://192.0.2.{n}:80", source=source, ttl=ttl)
        for n, (source, ttl) in enumerate(
            [("x", None), ("daily", None), ("daily", 300), ("x", math.inf), ("x", 1e18)], 1
        )
    }
    lives = {k: made.expires_at for k, made in ends.items() if made is not None}
    assert lives == {
        ("x", None): START + timedelta(seconds=100),
        ("daily", None): START + timedelta(seconds=200),
        ("daily", 300): START + timedelta(seconds=300),
        ("x", math.inf): NEVER,
        ("x", 1e18): NEVER,
    }
    for ttl in (-1, math.nan):
        with pytest.raises(ValueError, match="time to live"):
            cache.add("http://192.0.2.1:80", source="x", ttl=ttl)


def test_add_merges_with_what_is_known(cache: CacheManager, clock: ManualClock) -> None:
    """Source, password and time to live are renewed; health, counters and unnamed attributes are kept."""
    put = entry(
        key=key(1, "bob"), username="bob", password="old", failure_count=1, attributes=Attributes(country="DE", asn=1)
    )
    cache.put(put.key, put)
    cache.record_check(put.key, failing(at=START.timestamp()))
    cache.get(put.key)
    clock.advance(100)
    cache.add("http://bob:new@192.0.2.1:80", source="new", ttl=50, attributes=Attributes(asn=2))
    got = cache.get(put.key)
    assert got is not None
    assert (got.source, got.password) == ("new", SecretStr("new"))
    assert got.expires_at == START + timedelta(seconds=150)
    assert (got.failure_count, got.total_health_checks, got.access_count) == (2, 1, 2)
    assert (got.attributes.country, got.attributes.asn) == ("DE", 2)


def test_add_many_counts_new_and_changed_as_loaded(cache: CacheManager) -> None:
    """A changed password counts as loaded; one that is the same, or is not brought, is skipped and kept."""

    def merge(*urls: ProxyURL) -> Merge | None:
        return cache.add_many([(url, Attributes()) for url in urls], source="s", ttl=math.inf)

    bob = ProxyURL("http", "192.0.2.1", 80, "bob", "one")
    assert merge(bob, bob, ProxyURL("http", "192.0.2.1", 80)) == Merge(2, 1)
    assert merge(bob) == Merge(0, 1)
    assert merge(ProxyURL("http", "192.0.2.1", 80, "bob", "two")) == Merge(1, 0)
    assert merge(ProxyURL("http", "192.0.2.1", 80, "bob")) == Merge(0, 1)
    got = cache.get(bob.key)
    assert got is not None
    assert got.password == SecretStr("two")
    assert merge() == Merge(0, 0)


def test_the_endpoint_has_the_credential(cache: CacheManager) -> None:
    """`endpoint` is what to connect to; it is counted as a use."""
    cache.add("http://bob:hunter2@192.0.2.1:80", source="s")
    assert cache.endpoint(key(1, "bob")) == ProxyURL("http", "192.0.2.1", 80, "bob", "hunter2")
    assert cache.endpoint("missing") is None
    got = cache.get(key(1, "bob"))
    assert got is not None
    assert got.access_count == 2


def test_what_is_deleted_is_gone_everywhere(cache: CacheManager) -> None:
    """Delete tells whether there was an entry, alive or retired, and it is served no more."""
    cache.put_many([entry(1), entry(2)])
    cache.get(key(1))
    assert cache.delete(key(1)) is True
    assert cache.delete(key(1)) is False
    assert cache.get(key(1)) is None
    assert cache.delete_many([key(1), key(2), "missing"]) == 1
    assert cache.get_statistics().total_size == len(cache) == 0


def test_clear_forgets_everything(cache: CacheManager) -> None:
    """`clear` returns how many entries there were."""
    cache.put_many([entry(n) for n in range(1, 8)])
    cache.get(key(1))
    assert cache.clear() == 7
    assert cache.clear() == 0
    assert cache.get(key(1)) is None
    assert cache.get_statistics().total_size == 0
    assert cache.put(key(1), entry())


def test_an_entry_expires_when_its_time_has_come(cache: CacheManager, clock: ManualClock) -> None:
    """To the second: alive before, a miss from then on, found expired once and counted in each tier that held it."""
    cache.put(key(1), entry(ttl_seconds=60))
    clock.advance(59)
    assert cache.get(key(1)) is not None
    held = [size for size in sizes(cache) if size]
    clock.advance(1)
    assert key(1) not in cache
    assert cache.delete("other") is False
    assert cache.get(key(1)) is None
    assert cache.get(key(1)) is None
    told = cache.get_statistics()
    evicted = [t.evictions_ttl for t in (told.l1_stats, told.l2_stats, told.l3_stats)]
    assert [count for count in evicted if count] == held
    assert told.total_size == 0


def sizes(cache: CacheManager) -> list[int]:
    """Read the three tiers' sizes."""
    told = cache.get_statistics()
    return [told.l1_stats.current_size, told.l2_stats.current_size, told.l3_stats.current_size]


def test_what_has_expired_is_as_good_as_gone(cache: CacheManager, clock: ManualClock) -> None:
    """Deleting, checking and invalidating it do nothing, listing leaves it out, adding it makes it new."""
    cache.put(key(1), entry(ttl_seconds=60, failure_count=2))
    clock.advance(60)
    assert cache.record_check(key(1), failing()) is False
    assert cache.invalidate_by_health(key(1)) is False
    assert list(cache.scan()) == list(cache.scan(retired=True)) == []
    assert cache.delete(key(1)) is False
    cache.put(key(1), entry(ttl_seconds=60, failure_count=2))
    made = cache.add("http://192.0.2.1:80", source="s")
    assert made is not None
    assert made.failure_count == 0


def test_expired_entries_are_swept_by_the_calls_in_time(cache: CacheManager, clock: ManualClock) -> None:
    """Once in `ttl_cleanup_interval` the next put or get removes what has expired, without being asked for it."""
    cache.put_many([entry(n, ttl_seconds=5) for n in range(1, 5)])
    cache.put(key(9), entry(9, expires_at=NEVER))
    clock.advance(59)
    cache.get("missing")
    assert len(cache) == 5
    clock.advance(1)
    cache.get("missing")
    assert len(cache) == 1
    told = cache.get_statistics()
    assert max(t.evictions_ttl for t in (told.l1_stats, told.l2_stats, told.l3_stats)) == 4
    assert cache.get(key(9)) is not None


def test_a_sweep_is_bounded(opened: Opener, clock: ManualClock) -> None:
    """One call removes a batch; the next interval goes on."""
    cache = opened(ttl_cleanup_interval=10)
    cache.put_many([entry(ttl_seconds=5, key=f"k{n:04}") for n in range(1200)])
    left = []
    for _ in range(3):
        clock.advance(10)
        cache.get("missing")
        left.append(len(cache))
    assert left == [700, 200, 0]


@pytest.mark.parametrize("by", ["invalidate_by_health", "record_check"])
def test_failures_up_to_the_threshold_take_an_entry_out_of_service(cache: CacheManager, by: str) -> None:
    """At the third failure it is served no more and counts in no size, but its history is kept."""
    cache.put_many([entry(1, username="bob", password="hunter2"), entry(2)])
    held = [min(size, 1) for size in sizes(cache)]
    if by == "record_check":
        there = []
        for _ in range(4):
            assert cache.record_check(key(1), failing())
            there.append(key(1) in cache)
        assert there == [True, True, False, False]
    else:
        assert [cache.invalidate_by_health(key(1)) for _ in range(4)] == [False, False, True, False]
    assert cache.get(key(1)) is None
    assert key(1) not in cache
    assert len(cache) == 1
    assert sizes(cache) == held
    told = cache.get_statistics()
    assert [t.evictions_health for t in (told.l1_stats, told.l2_stats, told.l3_stats)] == held
    (retired,) = cache.scan(retired=True)
    assert (retired.key, retired.failure_count, retired.health_status) == (key(1), 4, HealthStatus.UNHEALTHY)
    assert [e.key for e in cache.scan()] == [key(2)]
    assert cache.invalidate_by_health("missing") is False


def test_a_successful_check_brings_a_retired_entry_back(cache: CacheManager) -> None:
    """With credentials and history, and with its failures forgiven; a failed check does not."""
    cache.put(key(1), entry(username="bob", password="hunter2", failure_count=2))
    assert cache.invalidate_by_health(key(1))
    assert cache.record_check(key(1), failing(at=5.0))
    assert cache.get(key(1)) is None
    assert cache.record_check(key(1), HealthCheck(True, HealthStatus.HEALTHY, 10.0))
    got = cache.get(key(1))
    assert got is not None
    assert (got.failure_count, got.total_health_checks, got.total_health_check_failures) == (0, 2, 1)
    assert got.password == SecretStr("hunter2")
    assert got.is_healthy


def test_a_batch_of_checks_is_one_history(cache: CacheManager) -> None:
    """What fails three times and then works was not taken out of service; the other way round it is."""
    cache.put_many([entry(1), entry(2)])
    held = [min(size, 1) for size in sizes(cache)]
    works = HealthCheck(True, HealthStatus.DEGRADED, 10.0)
    checks = [(key(1), failing())] * 3 + [(key(1), works), (key(2), works)] + [(key(2), failing())] * 3
    assert cache.record_checks(checks) == 2
    assert (key(1) in cache, key(2) in cache) == (True, False)
    told = cache.get_statistics()
    assert [t.evictions_health for t in (told.l1_stats, told.l2_stats, told.l3_stats)] == held


def test_the_credential_of_what_is_out_of_service_is_read_for_a_trial(cache: CacheManager) -> None:
    """`endpoint` and `to_check` give it while `get` gives None, and count no hit; what is deleted has none."""
    cache.put(key(1), entry(username="bob", password="hunter2", failure_count=2))
    cache.invalidate_by_health(key(1))
    dialled = cache.endpoint(key(1))
    assert dialled is not None
    assert (dialled.username, dialled.password) == ("bob", "hunter2")
    assert cache.to_check([key(1)])[key(1)][0] == dialled
    assert cache.get(key(1)) is None
    told = cache.get_statistics()
    assert sum(tier.hits for tier in (told.l1_stats, told.l2_stats, told.l3_stats)) == 0
    cache.delete(key(1))
    assert cache.endpoint(key(1)) is None
    assert cache.to_check([key(1)]) == {}


def test_a_new_password_brings_a_retired_entry_back(cache: CacheManager) -> None:
    """What failed was the old one; offered again as it is known, it stays out of service and keeps its history."""
    cache.put(key(1, "bob"), entry(key=key(1, "bob"), username="bob", password="old", failure_count=2))
    cache.invalidate_by_health(key(1, "bob"))
    add = partial(cache.add, "http://192.0.2.1:80", source="user", username="bob")
    same = add(password="old")
    assert same is not None
    assert (same.failure_count, same.health_status) == (3, HealthStatus.UNHEALTHY)
    assert cache.get(key(1, "bob")) is None
    add(password="new")
    got = cache.get(key(1, "bob"))
    assert got is not None
    assert got.password == SecretStr("new")
    assert (got.failure_count, got.health_status) == (0, HealthStatus.UNHEALTHY)


def test_a_retired_entry_is_kept_until_its_time_ends(cache: CacheManager, clock: ManualClock) -> None:
    """Then it is gone, counted once as an eviction by health."""
    cache.put(key(1), entry(ttl_seconds=100, failure_count=2))
    cache.invalidate_by_health(key(1))
    clock.advance(100)
    cache.get(key(1))
    assert cache.record_check(key(1), HealthCheck(True, HealthStatus.HEALTHY, 10.0)) is False
    assert cache.endpoint(key(1)) is None
    told = cache.get_statistics()
    assert told.l1_stats.evictions_ttl + told.l2_stats.evictions_ttl + told.l3_stats.evictions_ttl == 0


def test_invalidation_can_be_off_and_its_threshold_set(opened: Opener) -> None:
    """Off, failures are counted and degrade, and nothing else; a threshold of one retires at once."""
    cache = opened(health_check_invalidation=False, failure_threshold=1)
    cache.put(key(1), entry())
    assert [cache.invalidate_by_health(key(1)) for _ in range(4)] == [False] * 4
    got = cache.get(key(1))
    assert got is not None
    assert (got.failure_count, got.health_status) == (4, HealthStatus.DEGRADED)
    assert cache.record_check(key(1), failing())
    got = cache.get(key(1))
    assert got is not None
    assert got.failure_count == 5
    cache.close()
    assert opened(failure_threshold=1).invalidate_by_health(key(1)) is True


@pytest.mark.parametrize("status", HealthStatus)
def test_what_is_invalidated_is_never_healthy(opened: Opener, status: HealthStatus) -> None:
    """From the first failure on it is degraded at the least, and no better than it was."""
    cache = opened()
    cache.put(key(1), entry(health_status=status))
    cache.invalidate_by_health(key(1))
    got = cache.get(key(1))
    assert got is not None
    ill = status not in (HealthStatus.UNKNOWN, HealthStatus.HEALTHY)
    assert got.health_status is (status if ill else HealthStatus.DEGRADED)
    assert not got.is_healthy


def test_a_check_is_recorded_in_all_its_fields(cache: CacheManager) -> None:
    """Status, times, streaks, error and totals move together, in what is served next."""
    cache.put(key(1), entry())
    cache.get(key(1))
    at = START.timestamp()
    check = HealthCheck(False, HealthStatus.DEAD, at, next_check=at + 60, recovery_attempt=2, error="timed out")
    assert cache.record_check(key(1), check) is True
    assert cache.record_check("missing", check) is False
    got = cache.get(key(1))
    assert got is not None
    assert (got.health_status, got.last_health_check, got.last_health_error) == (HealthStatus.DEAD, START, "timed out")
    assert (got.next_check_time, got.recovery_attempt) == (START + timedelta(seconds=60), 2)
    assert (got.consecutive_health_failures, got.total_health_checks, got.access_count) == (1, 1, 2)
    assert cache.record_checks([(key(1), failing()), (key(1), failing()), ("missing", failing())]) == 1
    got = cache.look(key(1))
    assert got is not None
    assert (got.consecutive_health_failures, got.total_health_check_failures) == (3, 3)


def test_updates_do_not_bring_a_deleted_entry_back(cache: CacheManager) -> None:
    """Checks, failures and access counts that come late insert nothing, and do not count on a new incarnation."""
    cache.put(key(1), entry())
    for _ in range(3):
        cache.get(key(1))
    cache.delete(key(1))
    cache.record_check(key(1), failing())
    cache.invalidate_by_health(key(1))
    cache.flush()
    assert cache.get(key(1)) is None
    cache.put(key(1), entry())
    cache.flush()
    got = cache.get(key(1))
    assert got is not None
    assert (got.access_count, got.failure_count, got.total_health_checks) == (1, 0, 0)


def test_a_scan_filters_and_sorts(cache: CacheManager) -> None:
    """All filters have to fit; the order is that of the keys; nothing is counted as a use."""
    cache.put_many(
        [
            entry(1, source="a", health_status="healthy", attributes=Attributes(country="DE", tags=("x",))),
            entry(2, source="a"),
            entry(3, proxy_url="socks5://192.0.2.3:1080", attributes=Attributes(country="DE")),
        ]
    )

    def found(**filters: Any) -> set[str]:
        return {e.key for e in cache.scan(**filters)}

    assert [e.key for e in cache.scan()] == sorted([key(1), key(2), key(3)])
    assert found(source="a") == {key(1), key(2)}
    assert found(status=HealthStatus.HEALTHY) == found(tag="x") == {key(1)}
    assert found(scheme="socks5") == {key(3)}
    assert found(country="de") == {key(1), key(3)}
    assert found(country="DE", source="a") == {key(1)}
    assert found(source="none") == set()
    assert cache.get_statistics().requests == 0
    got = cache.get(key(1))
    assert got is not None
    assert got.access_count == 1


def test_a_scan_goes_on_over_many_pages(cache: CacheManager) -> None:
    """Every entry comes once, though entries are added and removed in between."""
    cache.put_many([entry(key=f"k{n:05}") for n in range(2500)])
    seen = []
    for found in cache.scan():
        seen.append(found.key)
        if found.key == "k00500":
            cache.delete("k01999")
            cache.put("a", entry(key="a"))
    assert seen == [f"k{n:05}" for n in range(2500) if n != 1999]


def test_the_pool_reads_what_changed(cache: CacheManager, clock: ManualClock) -> None:
    """`changes_since` gives no credentials, and what is retired apart; what is deleted or expired is removed."""
    cache.put_many([entry(1, username="bob", password="hunter2"), entry(2), entry(3, ttl_seconds=5)])
    first = cache.changes_since(0)
    assert {proxy.key for proxy in first.proxies} == {key(1), key(2), key(3)}
    assert (first.removed, first.reset, first.more) == ([], False, False)
    bob = next(proxy for proxy in first.proxies if proxy.key == key(1))
    assert (bob.url, bob.source, bob.status) == ("http://192.0.2.1:80", "src", HealthStatus.UNKNOWN)
    assert "hunter2" not in repr(first)
    assert "'bob'" not in repr(first)
    assert bob.label
    assert cache.changes_since(first.revision).proxies == []
    cache.delete(key(1))
    cache.put(key(2), entry(2, failure_count=2))
    cache.invalidate_by_health(key(2))
    clock.advance(5)
    then = cache.changes_since(first.revision)
    assert (list(then.sketches), list(then.aside), then.removed) == ([], [key(2)], [key(1)])
    assert [proxy.status for proxy in then.proxies] == [HealthStatus.UNHEALTHY]
    assert key(3) in cache.changes_since(0).removed


def test_access_counts_reach_the_store_in_batches(opened: Opener, clock: ManualClock) -> None:
    """They are in memory at once, in the store after the flush interval, and everywhere after closing."""
    cache = opened(flush_interval_seconds=2.0)
    cache.put(key(1), entry())
    for _ in range(3):
        cache.get(key(1))

    def stored() -> int:
        with CacheManager(cache.config, clock=clock) as other:
            return next(e.access_count for e in other.scan())

    assert stored() == 0
    clock.advance(2)
    cache._running()._look()  # what the thread that looks after the files does 20 times a second
    assert stored() == 3
    cache.get(key(1))
    cache.flush()
    assert stored() == 4
    cache.get(key(1))
    cache.close()
    assert stored() == 5
    again = opened()
    clock.advance(7)
    got = again.get(key(1))
    assert got is not None
    assert (got.access_count, got.last_accessed) == (6, START + timedelta(seconds=9))


@pytest.mark.parametrize("cache", DURABLE, indirect=True)
def test_everything_survives_closing(cache: CacheManager, opened: Opener) -> None:
    """What was put, changed and deleted is as it was in the cache that is opened next."""
    cache.put_many([entry(n, username="bob", password=f"pass{n}") for n in range(1, 6)])
    cache.delete(key(2))
    cache.record_check(key(3), failing())
    for _ in range(3):
        cache.invalidate_by_health(key(4))
    cache.close()
    cache.close()
    again = opened(**cache.config.model_dump(exclude={"l2_cache_dir", "l3_database_path", "encryption_key"}))
    assert {e.key for e in again.scan()} == {key(1), key(3), key(5)}
    assert [e.key for e in again.scan(retired=True)] == [key(4)]
    got = again.get(key(3))
    assert got is not None
    assert got.password == SecretStr("pass3")
    assert got.total_health_checks == 1
    assert again.get(key(2)) is None


def test_a_cache_is_a_context_that_closes_it(opened: Opener) -> None:
    """Leaving the context flushes and closes."""
    with opened() as cache:
        cache.put(key(1), entry())
        cache.get(key(1))
    (kept,) = opened().scan()
    assert kept.access_count == 1


def test_the_end_of_time_can_be_stored(cache: CacheManager) -> None:
    """The last microsecond of 9999 is as good as never."""
    cache.put(key(1), entry(expires_at=datetime.max.replace(tzinfo=UTC)))
    got = cache.get(key(1))
    assert got is not None
    assert got.expires_at == NEVER


READS_AND_WRITES: dict[str, Callable[[CacheManager, Any], object]] = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many([key]),
    "endpoint": lambda cache, key: cache.endpoint(key),
    "put": lambda cache, key: cache.put(key, entry().model_copy(update={"key": key})),
    "put_many": lambda cache, key: cache.put_many([entry(), entry().model_copy(update={"key": key})]),
    "delete": lambda cache, key: cache.delete(key),
    "delete_many": lambda cache, key: cache.delete_many([entry().key, key]),
    "record_check": lambda cache, key: cache.record_check(key, failing()),
    "record_checks": lambda cache, key: cache.record_checks([(entry().key, failing()), (key, failing())]),
    "invalidate_by_health": lambda cache, key: cache.invalidate_by_health(key),
}


@pytest.mark.parametrize("call", READS_AND_WRITES)
@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (None, TypeError, "not NoneType"),
        (7, TypeError, "not int"),
        (b"key", TypeError, "not bytes"),
        ("\ud800", ValueError, r"'\\ud800' .*cannot be stored"),
        ("a\udfff", ValueError, "cannot be stored"),
    ],
)
def test_what_can_be_no_key_is_refused_and_makes_no_tier_sick(
    cache: CacheManager, call: str, wrong: Any, error: type[Exception], said: str
) -> None:
    """It is the caller's mistake, and says so: nothing is written, and every tier works on."""
    with pytest.raises(error, match=said):
        READS_AND_WRITES[call](cache, wrong)
    assert wrong not in cache
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded) == (False, False, False)
    assert len(cache) == 0
    assert cache.put(key(1), entry())


def test_a_key_of_any_text_that_can_be_stored_is_one(cache: CacheManager) -> None:
    """Blanks, quotes and what is not ASCII do no harm."""
    for text in ("ключ", "a b", '"', "\N{PILE OF POO}", "x" * 5_000):
        assert cache.put(text, entry(key=text))
        assert text in cache
        assert cache.get(text) is not None
        assert cache.delete(text)


@pytest.mark.parametrize("arrangement", DURABLE)
def test_a_manager_that_is_dropped_gives_its_files_back(opened: Opener, clock: ManualClock, arrangement: str) -> None:
    """Its descriptors and its thread end with it, with a warning that says what to do; what it took is stored."""
    first = opened(**ARRANGEMENTS[arrangement])
    first.close()
    config = first.config
    threads, descriptors = threading.active_count(), _descriptors()
    for n in range(20):
        cache = CacheManager(config, clock=clock)
        assert cache.put(key(n), entry(n))
        with pytest.warns(ResourceWarning, match="dropped without close"):
            del cache
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "proxywhirl-cache" and threading.active_count() > threads:
            thread.join(1)
    assert threading.active_count() == threads
    assert _descriptors() == descriptors
    assert len(opened(**ARRANGEMENTS[arrangement])) == 20


def test_a_manager_that_is_dropped_while_its_thread_works_is_closed_by_that(opened: Opener, clock: ManualClock) -> None:
    """Nothing is closed under a thread that uses it, and nobody waits for that thread."""
    cache = CacheManager(opened().config, clock=clock)
    engine = cache._running()
    assert engine._watcher is not None
    thread, looking, go_on = engine._watcher._thread, threading.Event(), threading.Event()

    def refresh(*, promote: bool = True) -> None:
        looking.set()
        assert go_on.wait(30)

    engine.stack.refresh = refresh  # type: ignore[method-assign]  # to know when, without sleeping
    assert looking.wait(30)
    with pytest.warns(ResourceWarning, match="dropped without close"):
        del cache
    assert engine.stack.authority.tier.get("x") is None  # it is open still
    go_on.set()
    thread.join(30)
    with pytest.raises(TierError):
        engine.stack.authority.tier.get("x")


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else 0


def test_an_add_tells_what_it_stored_whatever_became_of_it_since(opened: Opener) -> None:
    """That another process removes it a moment later is no reason for None, which means that it was not taken."""
    cache, other = opened(), opened()
    commit = cache._running().stack.commit

    def commit_and_lose(*args: Any, **kwargs: Any) -> Any:
        committed = commit(*args, **kwargs)
        other.clear()
        return committed

    cache._running().stack.commit = commit_and_lose  # type: ignore[method-assign]  # the moment between
    for _ in range(2):
        added = cache.add("http://alice@192.0.2.1:80", source="s", password="one")
        assert added is not None
        assert added.password is not None
        assert added.password.get_secret_value() == "one"
