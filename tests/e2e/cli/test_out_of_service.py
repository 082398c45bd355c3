"""Proxies that failed and were taken out of service: real ones, that a gateway, a client and a monitor go on trying."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxywhirl import ProxyWhirl
from proxywhirl.cache import CacheManager
from proxywhirl.models import HealthStatus
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import Fault, Fleet, FleetSpec, Origin, running_fleet
from tests.waiting import wait_until

Run = Callable[..., Any]
Spawn = Callable[..., AbstractContextManager[subprocess.Popen[str]]]
Ask = Callable[[], int]
"""Ask the origin through the pool; return the status of the answer, 0 where there was none."""

SPECS = [FleetSpec("http"), FleetSpec("socks5", "alice", "s3cret"), FleetSpec("http", "bob", "hunter2")]


@pytest.fixture(autouse=True)
def _written_soon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have outcomes written twenty times a second."""
    monkeypatch.setenv("PROXYWHIRL_CACHE_FLUSH_INTERVAL_SECONDS", "0.05")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Fleet, Origin]]:
    """Run a fleet of three and an origin."""
    with running_fleet(SPECS) as (fleet, origin):
        yield fleet, origin


@pytest.fixture
def fleet(running: tuple[Fleet, Origin], run: Run) -> Fleet:
    """Give the fleet, well and in the store of the test's home."""
    set_all(running[0], Fault.NONE)
    run("add", *running[0].urls())
    return running[0]


@pytest.fixture
def cache(fleet: Fleet, home: Path) -> Iterator[CacheManager]:
    """Look at the store as another process would."""
    with Runtime(Settings.load(home)) as runtime:
        yield runtime.cache


@pytest.fixture
def judge(spawn: Spawn) -> Iterator[str]:
    """Run a judge in a process of its own; give its URL."""
    with spawn("judge", "--port", "0") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def set_all(fleet: Fleet, fault: Fault) -> None:
    """Have every proxy fail in a way; a tunnel that is open would go on serving, so that it breaks then."""
    for proxy in fleet:
        if fault is not Fault.NONE:
            proxy.kill()
            proxy.revive()
        proxy.fault = fault


def statuses(cache: CacheManager, *, retired: bool) -> list[str]:
    """Return the statuses of those in service, or out of it."""
    cache.refresh()
    return sorted(entry.health_status.value for entry in cache.scan(retired=retired))


def listed(run: Run, *options: str) -> list[str]:
    """Return the statuses of those that are listed."""
    return sorted(row[3] for row in run("list", *options).rows)


@contextlib.contextmanager
def served_by_gateway(origin: Origin, spawn: Spawn, **variables: str) -> Iterator[Ask]:
    """Ask through a gateway in a process of its own."""
    with spawn("serve", "--port", "0", **variables) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with httpx2.Client(proxy=address, trust_env=False, timeout=20) as client:
            yield lambda: client.get(origin.url).status_code
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in err) == (0, False)


@contextlib.contextmanager
def served_by_client(origin: Origin, home: Path, **variables: str) -> Iterator[Ask]:
    """Ask through a client in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with ProxyWhirl(home=home, monitor=bool(variables)) as whirl:

            def ask() -> int:
                try:
                    return whirl.get(origin.url).status_code
                except httpx2.TransportError:
                    return 0

            yield ask


@pytest.mark.parametrize("judged", [False, True], ids=["without judges", "with judges"])
@pytest.mark.parametrize("by", ["gateway", "client"])
def test_a_pool_that_failed_whole_comes_back_by_itself(
    request: pytest.FixtureRequest,
    running: tuple[Fleet, Origin],
    fleet: Fleet,
    home: Path,
    cache: CacheManager,
    spawn: Spawn,
    by: str,
    judged: bool,
) -> None:
    """All are taken out of service, and the first request after they work again is served: no restart, no command."""
    variables = {"PROXYWHIRL_HEALTH_JUDGES": request.getfixturevalue("judge")} if judged else {}

    def serving() -> AbstractContextManager[Ask]:
        if by == "gateway":
            return served_by_gateway(running[1], spawn, **variables)
        return served_by_client(running[1], home, **variables)

    with serving() as ask:
        assert ask() == 200
        set_all(fleet, Fault.REFUSE)
        wait_until(lambda: ask() != 200 and len(statuses(cache, retired=True)) == len(SPECS))
        set_all(fleet, Fault.NONE)
        assert ask() == 200
        wait_until(lambda: ask() == 200 and "healthy" in statuses(cache, retired=False))
        set_all(fleet, Fault.RESET)
        wait_until(lambda: ask() != 200 and len(statuses(cache, retired=True)) == len(SPECS))
    with serving() as ask:  # after a restart
        set_all(fleet, Fault.NONE)
        assert ask() == 200
        wait_until(lambda: ask() == 200 and "healthy" in statuses(cache, retired=False))


def test_what_a_monitor_takes_out_of_service_is_set_aside_where_it_serves(
    fleet: Fleet, home: Path, run: Run, spawn: Spawn, judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's checks set a proxy aside here while it is out of service, and bring it back."""
    fast = {"PROXYWHIRL_HEALTH_INTERVAL": "0.2", "PROXYWHIRL_HEALTH_RETRY": "0.2", "PROXYWHIRL_HEALTH_JUDGES": judge}
    with Runtime(Settings.load(home)) as runtime:
        runtime.start()

        def aside() -> list[str]:
            uses = runtime.pool.snapshot()
            return [use.proxy.scheme for use in uses if use.set_aside_until is not None]

        assert (len(runtime.pool), aside()) == (len(SPECS), [])
        fleet["socks5-1"].fault = Fault.RESET
        with spawn("monitor", **fast) as process:
            wait_until(lambda: statuses(runtime.cache, retired=True) == ["dead"])
            assert listed(run, "--retired") == ["dead"]
            wait_until(lambda: aside() == ["socks5"])
            assert len(runtime.pool) == len(SPECS)
            (key,) = (use.proxy.key for use in runtime.pool.snapshot() if use.proxy.scheme == "socks5")
            assert runtime.cache.get(key) is None
            endpoint = runtime.cache.endpoint(key)
            assert endpoint is not None
            assert endpoint.password == "s3cret"
            fleet["socks5-1"].fault = Fault.NONE
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert run("check", "--all", "--judge", judge).code == 0
        wait_until(lambda: aside() == [])
        assert runtime.cache.get(key) is not None


def test_failures_while_nobody_can_be_asked_count_nothing(fleet: Fleet, home: Path, run: Run, judge: str) -> None:
    """Where the judge does not answer this machine either, checks take nobody out of service."""
    run("check", "--all", "--judge", judge)
    set_all(fleet, Fault.REFUSE)
    for _ in range(4):
        run("check", "--all", "--judge", "http://127.0.0.1:9/")
    assert listed(run) == ["healthy"] * len(SPECS)
    with Runtime(Settings.load(home)) as runtime:
        assert {entry.failure_count for entry in runtime.cache.scan()} == {0}
    for _ in range(3):
        run("check", "--all", "--judge", judge)
    assert (listed(run), listed(run, "--retired")) == ([], ["unhealthy"] * len(SPECS))
    with Runtime(Settings.load(home)) as runtime:
        entries = list(runtime.cache.scan(status=HealthStatus.UNHEALTHY, retired=True))
        assert {entry.failure_count for entry in entries} == {3}


def test_requests_that_fail_while_this_machine_is_offline_take_nobody_out_of_service(
    running: tuple[Fleet, Origin], fleet: Fleet, cache: CacheManager, spawn: Spawn
) -> None:
    """A gateway with a judge that stops answering together with all proxies blames none of them, and says so."""
    with spawn("judge", "--port", "0") as judging:
        assert judging.stdout is not None
        variables = {"PROXYWHIRL_HEALTH_JUDGES": judging.stdout.readline().strip()}
        with spawn("serve", "--port", "0", **variables) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with httpx2.Client(proxy=process.stdout.readline().strip(), trust_env=False, timeout=20) as client:
                wait_until(lambda: statuses(cache, retired=False) == ["healthy"] * len(SPECS))
                judging.kill()
                judging.wait()
                set_all(fleet, Fault.RESET)
                for _ in range(8):
                    assert client.get(running[1].url).status_code == 502
            assert any("no proxy is blamed for failing" in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    cache.refresh()
    entries = list(cache.scan(retired=None))
    assert [(entry.failure_count, entry.is_healthy) for entry in entries] == [(0, True)] * len(SPECS)
