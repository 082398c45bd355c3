"""The runtime: the pool follows the store, what the pool learns reaches the store, removals last."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from proxywhirl.cache.models import CacheTierConfig
from proxywhirl.errors import Blame, CacheError, ProxyGone, UnknownNameError
from proxywhirl.models import Attributes, HealthStatus, Outcome
from proxywhirl.rotation.verdicts.response import SILENT
from proxywhirl.runtime import Intake, Removal, Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL, parse
from tests.waiting import wait_until

NOTHING = Attributes()


def offered(*texts: str) -> list[tuple[ProxyURL, Attributes]]:
    """Return proxies as a list offers them."""
    return [(parse(text), NOTHING) for text in texts]


def take_in(runtime: Runtime, *texts: str, lift: bool = False) -> Intake:
    """Take in proxies that never expire."""
    return runtime.take_in(offered(*texts), source="test", ttl=math.inf, lift=lift)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """Open a runtime on a home of the test's own."""
    with Runtime(Settings.load(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def other(runtime: Runtime) -> Iterator[Runtime]:
    """Open a second one on the same home, as another process would."""
    with Runtime(runtime.settings) as opened:
        yield opened


def test_the_pool_follows_what_others_write(runtime: Runtime, other: Runtime) -> None:
    """Proxies that another one takes in, removes or clears come and go in a pool that is fed."""
    runtime.feed()
    take_in(other, "203.0.113.1:80", "203.0.113.2:80")
    runtime.feed()
    assert len(runtime.pool) == 2
    other.remove([parse("203.0.113.1:80").key], "test")
    runtime.feed()
    assert [use.proxy.url for use in runtime.pool.snapshot()] == ["http://203.0.113.2:80"]
    other.clear()
    runtime.feed()
    assert len(runtime.pool) == 0


def test_a_started_runtime_feeds_itself(runtime: Runtime, other: Runtime) -> None:
    """After `start` a thread does it, until `close`."""
    runtime.start()
    take_in(other, "203.0.113.1:80")
    wait_until(lambda: len(runtime.pool) == 1)
    runtime.close()
    runtime.close()


def test_a_renewed_password_is_what_the_next_lease_gives(runtime: Runtime, other: Runtime) -> None:
    """The credential comes from the store at the moment of connecting."""
    take_in(runtime, "http://u:one@203.0.113.1:80")
    runtime.feed()
    take_in(other, "http://u:two@203.0.113.1:80")
    runtime.feed()
    assert runtime.pool.acquire().endpoint().password == "two"


def test_reports_reach_the_store_as_health(tmp_path: Path) -> None:
    """A success makes a proxy healthy; failures of its own degrade it, then make it unhealthy; others teach nothing."""
    clock = ManualClock()
    settings = Settings.load(tmp_path)
    with Runtime(settings, clock=clock) as runtime:
        take_in(runtime, "203.0.113.1:80")
        key = parse("203.0.113.1:80").key
        runtime.feed()

        def after(outcome: Outcome) -> HealthStatus:
            runtime.pool.acquire().report(outcome)
            clock.advance(settings.cache.flush_interval_seconds)
            runtime.feed()
            entry = runtime.cache.look(key)
            assert entry is not None
            return entry.health_status

        assert after(Outcome(ok=False, blame=Blame.TARGET)) is HealthStatus.UNKNOWN
        assert after(Outcome(ok=True)) is HealthStatus.HEALTHY
        assert after(Outcome(ok=False, blame=Blame.PROXY, error="refused")) is HealthStatus.DEGRADED
        after(Outcome(ok=False, blame=Blame.ACCOUNT))
        assert after(Outcome(ok=False)) is HealthStatus.UNHEALTHY
        entry = runtime.cache.look(key)
        assert entry is not None
        assert (entry.total_health_checks, entry.consecutive_health_failures) == (4, 3)


def test_what_a_site_that_hangs_has_cost_is_not_written(tmp_path: Path) -> None:
    """Proxies that work and stay silent on one site alike have no failure in the store, however many were under way."""
    clock = ManualClock()
    with Runtime(Settings.load(tmp_path), clock=clock) as runtime:
        take_in(runtime, *(f"203.0.113.{n}:80" for n in range(1, 5)))
        runtime.feed()
        keys = set(runtime.pool.keys())
        for key in keys:
            runtime.pool.acquire(exclude=keys - {key}).report(Outcome(ok=True))
        hangs = Outcome(ok=False, blame=Blame.PROXY, rule=SILENT, error="no answer in time")
        leases = [runtime.pool.acquire("http://shop.example/", exclude=keys - {key}) for key in keys for _ in range(5)]
        for lease in leases:
            lease.report(hangs)
        clock.advance(runtime.settings.cache.flush_interval_seconds)
        runtime.feed()
        assert {entry.failure_count for entry in runtime.cache.scan()} == {0}
        assert {entry.health_status for entry in runtime.cache.scan()} == {HealthStatus.HEALTHY}


def test_a_retirement_elsewhere_sets_aside_here_and_a_success_here_brings_it_back(
    runtime: Runtime, other: Runtime
) -> None:
    """What another process takes out of service is tried here when nobody else is left, and serves everywhere then."""
    take_in(other, "http://bob:hunter2@203.0.113.1:80", "203.0.113.2:80")
    bob = parse("http://bob@203.0.113.1:80").key
    for each in (runtime, other):
        each.feed()
    for _ in range(3):
        runtime.cache.invalidate_by_health(bob)
    other.feed()
    assert {other.pool.acquire().proxy.key for _ in range(20)} == {parse("203.0.113.2:80").key}
    assert other.cache.get(bob) is None
    with other.pool.acquire(exclude={parse("203.0.113.2:80").key}) as trial:
        assert trial.endpoint().password == "hunter2"
        trial.report(Outcome(ok=True))
    other.close()  # which writes what waits
    runtime.feed()
    assert {use.set_aside_until for use in runtime.pool.snapshot()} == {None}
    entry = runtime.cache.get(bob)
    assert entry is not None
    assert (entry.health_status, entry.failure_count) == (HealthStatus.DEGRADED, 0)


def test_a_home_whose_proxies_are_all_out_of_service_serves_after_a_restart(tmp_path: Path) -> None:
    """They are known at once, tried at once where nobody else is, healthy after two successes, gone with their time."""
    clock = ManualClock()
    settings = Settings.load(tmp_path)
    with Runtime(settings, clock=clock) as runtime:
        urls = [parse(f"203.0.113.{n}:80") for n in range(1, 4)]
        runtime.take_in([(url, NOTHING) for url in urls], source="test", ttl=3600)
        for url in urls * 3:
            runtime.cache.invalidate_by_health(url.key)
        assert len(runtime.cache) == 0
    with Runtime(settings, clock=clock) as runtime:
        runtime.feed()
        assert len(runtime.pool) == 3
        lease = runtime.pool.acquire()
        assert lease.endpoint().port == 80
        lease.report(Outcome(ok=True))
        runtime.pool.acquire().report(Outcome(ok=True))
        clock.advance(settings.cache.flush_interval_seconds)
        runtime.feed()
        assert [entry.health_status for entry in runtime.cache.scan()] == [HealthStatus.HEALTHY]
        assert len(list(runtime.cache.scan(retired=True))) == 2
        clock.advance(3600)
        left = {use.proxy.key for use in runtime.pool.snapshot()}
        for _ in left:
            with pytest.raises(ProxyGone):
                runtime.pool.acquire().endpoint()
        assert len(runtime.pool) == 0


def test_a_trial_that_the_store_cannot_be_asked_about_loses_nobody(tmp_path: Path) -> None:
    """While the third tier cannot be read there is no credential; the proxy stays in the pool, and serves later."""
    clock = ManualClock()
    settings = Settings.load(tmp_path)
    with Runtime(settings, clock=clock) as runtime:
        take_in(runtime, "http://bob:hunter2@203.0.113.1:80")
        key = parse("http://bob@203.0.113.1:80").key
        for _ in range(3):
            runtime.cache.invalidate_by_health(key)
        runtime.feed()
        path = Path(settings.cache.l3_database_path)
        with contextlib.closing(apsw.Connection(str(path))) as broken:
            broken.execute("ALTER TABLE entries RENAME TO elsewhere")
            with pytest.raises(ProxyGone, match="cannot be used now"):
                runtime.pool.acquire().endpoint()
            assert key in runtime.pool
            broken.execute("ALTER TABLE elsewhere RENAME TO entries")
        clock.advance(60)
        assert runtime.pool.acquire().endpoint().password == "hunter2"


def test_reports_that_wait_are_written_at_the_end(tmp_path: Path) -> None:
    """`close` leaves no report behind."""
    with Runtime(Settings.load(tmp_path)) as runtime:
        take_in(runtime, "203.0.113.1:80")
        runtime.feed()
        runtime.pool.acquire().report(Outcome(ok=True))
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert [entry.health_status for entry in runtime.cache.scan()] == [HealthStatus.HEALTHY]


def test_what_was_removed_stays_out_after_a_restart(tmp_path: Path) -> None:
    """A block survives, is counted apart, and `lift` ends it."""
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert take_in(runtime, "203.0.113.1:80", "203.0.113.2:80") == Intake(2, 0)
        assert runtime.remove([parse("203.0.113.1:80")], "too slow") == Removal(1, 0)
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert take_in(runtime, "203.0.113.1:80", "203.0.113.2:80") == Intake(0, 2, blocked=1)
        (block,) = runtime.blocked().values()
        assert (block.proxy_url, block.reason) == ("http://203.0.113.1:80", "too slow")
        assert take_in(runtime, "203.0.113.1:80", lift=True) == Intake(1, 0)
        assert runtime.blocked() == {}


def test_a_url_without_a_username_is_every_session(runtime: Runtime) -> None:
    """Removing an endpoint removes its sessions, alive or retired; removing one session leaves the others."""
    take_in(runtime, *(f"http://{name}:x@203.0.113.1:80" for name in ("a", "b", "c")))
    assert runtime.remove([parse("http://a@203.0.113.1:80")], "test") == Removal(1, 0)
    for _ in range(runtime.settings.cache.failure_threshold):
        runtime.cache.invalidate_by_health(parse("http://b@203.0.113.1:80").key)
    assert runtime.remove([parse("203.0.113.1:80"), parse("203.0.113.2:80")], "test") == Removal(2, 1)
    assert len(runtime.blocked()) == 3


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime without a home takes in, removes and feeds, and makes no file."""
    monkeypatch.chdir(tmp_path)
    with Runtime(Settings.in_memory()) as runtime:
        take_in(runtime, "http://u:p@203.0.113.1:80")
        runtime.feed()
        assert runtime.pool.acquire().endpoint().password == "p"
        removed = parse("http://u@203.0.113.1:80").key
        assert runtime.remove([removed], "test") == Removal(1, 0)
        assert set(runtime.blocked()) == {removed}
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_strategy_opens_nothing(tmp_path: Path) -> None:
    """The name is refused before a file is made."""
    with pytest.raises(UnknownNameError):
        Runtime(Settings.load(tmp_path / "home", overrides={"pool": {"strategy": "nope"}}))
    assert not (tmp_path / "home").exists()


def test_a_damaged_credential_costs_one_proxy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A token that does not open is left out of the pool with a line in the log; the others serve."""
    off = {"l1_config": CacheTierConfig(enabled=False), "l2_config": CacheTierConfig(enabled=False)}
    settings = Settings.load(tmp_path, overrides={"cache": off})
    with Runtime(settings) as runtime:
        take_in(runtime, "http://u:p@203.0.113.1:80", "http://u:p@203.0.113.2:80")
    connection = apsw.Connection(settings.cache.l3_database_path)
    bad = parse("http://u@203.0.113.1:80").key
    connection.execute("UPDATE entries SET sealed = 'up:broken' WHERE key = ?", (bad,))
    connection.close()
    with Runtime(settings) as runtime:
        runtime.feed()
        assert len(runtime.pool) == 2
        for _ in range(2):
            with runtime.pool.acquire() as lease:
                if lease.proxy.key == bad:
                    with pytest.raises(ProxyGone):
                        lease.endpoint()
                else:
                    assert lease.endpoint().password == "p"
        assert len(runtime.pool) == 1
    assert [record.message for record in caplog.records if "left out" in record.message]


@pytest.mark.parametrize("second", [True, False])
def test_a_sick_store_is_an_error_and_not_a_number(tmp_path: Path, *, second: bool) -> None:
    """Where no durable tier takes it, taking in and removing raise; the second tier takes it where there is one.

    Clearing always raises: what L3 has would be back when it is well.
    """
    settings = Settings.load(tmp_path, overrides={"cache": {"l2_config": {"enabled": second}}})
    with Runtime(settings) as runtime:
        take_in(runtime, "203.0.113.1:80")
        connection = apsw.Connection(settings.cache.l3_database_path)
        connection.execute("ALTER TABLE entries RENAME TO hidden")
        connection.close()
        for act in (
            lambda: take_in(runtime, "203.0.113.2:80"),
            lambda: runtime.remove([parse("203.0.113.1:80").key], "test"),
        ):
            if second:
                act()
            else:
                with pytest.raises(CacheError, match="cannot be written to"):
                    act()
        with pytest.raises(CacheError, match="nothing was removed: tier l3 is degraded"):
            runtime.clear()


def test_feeding_goes_on_when_the_store_is_sick(
    runtime: Runtime, other: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that cannot be read leaves the pool as it is, and the log with no line for each try."""
    take_in(runtime, "203.0.113.1:80")
    runtime.start()
    connection = apsw.Connection(runtime.settings.cache.l3_database_path)
    connection.execute("ALTER TABLE entries RENAME TO hidden")
    wait_until(lambda: runtime.cache.get_statistics().l3_degraded)
    assert len(runtime.pool) == 1
    connection.execute("ALTER TABLE hidden RENAME TO entries")
    connection.close()
    take_in_when_it_works(other, "203.0.113.2:80")
    wait_until(lambda: len(runtime.pool) == 2)
    assert len(caplog.records) < 10


def take_in_when_it_works(runtime: Runtime, text: str) -> None:
    """Take in a proxy, once the store that was sick is tried again."""

    def works() -> bool:
        try:
            take_in(runtime, text)
        except CacheError:
            return False
        return True

    wait_until(works)
