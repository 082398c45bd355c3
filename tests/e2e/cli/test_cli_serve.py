"""`proxywhirl serve` and `demo`: real processes, real proxies, curl."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.testing import Fault, FleetSpec, running_fleet
from tests.waiting import wait_until

Run = Callable[..., Any]
Serve = Callable[..., contextlib.AbstractContextManager["Server"]]

CURL = shutil.which("curl") or ""
needs_curl = pytest.mark.skipif(not CURL, reason="curl is not on this machine")

SPECS = [FleetSpec("http"), FleetSpec("socks5", "alice", "s3cret"), FleetSpec("http", "bob", "hunter2")]


class Server:
    """A running `serve`, and the address that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()

    def curl(self, target: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Ask for a target through it."""
        command = [CURL, "-sS", "--max-time", "20", "-x", self.address, *options, target]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def status(self, target: str, *options: str) -> str:
        """Ask for a target and return the status of the answer."""
        return self.curl(target, "-o", os.devnull, "-w", "%{http_code}", *options).stdout

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err


@pytest.fixture
def serve(home: Path) -> Serve:
    """Run `serve --port 0` until the end of the block."""

    @contextlib.contextmanager
    def serve(*options: object, **variables: str) -> Iterator[Server]:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxywhirl", "serve", "--port", "0", *map(str, options)],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield Server(process)
            finally:
                process.kill()

    return serve


@needs_curl
def test_curl_reaches_http_and_https_through_rotating_proxies(run: Run, serve: Serve, authority: Any) -> None:
    """Plain and encrypted targets are reached, each request through another proxy, credentials applied."""
    with running_fleet(SPECS) as (fleet, origin), serve_fleet(run, serve, fleet) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", server.address)
        answers = [server.curl(f"http://plain.example:{origin.port}/").stdout for _ in range(6)]
        seen = [re.findall(r'"proxy": "([^"]+)"', answer)[0] for answer in answers]
        assert sorted(seen) == ["http-0", "http-0", "http-2", "http-2", "socks5-1", "socks5-1"]
    with (
        running_fleet(SPECS, origin_tls=authority.server) as (fleet, origin),
        serve_fleet(run, serve, fleet) as server,
    ):
        for _ in range(3):
            done = server.curl(f"https://localhost:{origin.port}/", "--cacert", str(authority.file))
            assert '"proxy": "' in done.stdout, done.stderr
        code, err = server.stop()
        assert (code, err) == (0, "serving 3 proxies; stop with Ctrl-C\n")


@contextlib.contextmanager
def serve_fleet(run: Run, serve: Serve, fleet: Any, **variables: str) -> Iterator[Server]:
    """Fill the store with a fleet alone and serve it."""
    run("clear", "--yes")
    assert run("import", "-", stdin="\n".join(fleet.urls())).code == 0
    with serve(**variables) as server:
        yield server


@needs_curl
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_what_it_learnt_is_kept(run: Run, serve: Serve, number: int) -> None:
    """SIGTERM and SIGINT end it with 0; the health that requests have shown is in the store."""
    with running_fleet([FleetSpec(), FleetSpec(fault=Fault.REFUSE)]) as (fleet, origin):
        with serve_fleet(run, serve, fleet) as server:
            assert [server.status(f"http://a.example:{origin.port}/") for _ in range(3)] == ["200"] * 3
            code, err = server.stop(number)
        assert (code, "Traceback" in err) == (0, False)
        healthy, failed = (proxy.url.canonical for proxy in fleet)
    assert [row[1] for row in run("list", "--status", "healthy").rows] == [healthy]
    assert [row[1] for row in run("list", "--status", "unhealthy").rows] == [failed]


@needs_curl
def test_an_empty_pool_refuses_and_a_new_proxy_is_used_at_once(run: Run, serve: Serve) -> None:
    """Nothing ever leaves directly; what another process adds serves, and what it removes serves no more."""
    with running_fleet([FleetSpec()]) as (fleet, origin), serve() as server:
        target = f"http://127.0.0.1:{origin.port}/"
        assert server.status(target) == "503"
        run("add", *fleet.urls())
        wait_until(lambda: server.status(target) == "200")
        run("remove", *fleet.urls())
        wait_until(lambda: server.status(target) == "503")
        assert {seen.proxy for seen in origin.requests} == {"http-0"}
        _, err = server.stop()
        assert "the pool is empty; requests are refused until" in err


@needs_curl
def test_a_renewed_password_is_used_without_a_restart(run: Run, serve: Serve) -> None:
    """A password that another process renews is the one of the next connection."""
    with running_fleet([FleetSpec("http", "bob", "right")]) as (fleet, origin):
        url = fleet[0].url
        run("add", f"http://bob:wrong@127.0.0.1:{url.port}")
        with serve() as server:
            target = f"http://127.0.0.1:{origin.port}/"
            assert server.status(target) != "200"
            run("add", f"http://bob@127.0.0.1:{url.port}", "--password-stdin", stdin="right\n")
            wait_until(lambda: server.status(target) == "200")


def test_a_port_in_use_is_named(process: Run) -> None:
    """A second server on a port fails in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = process("serve", "--port", port)
    assert (done.code, done.out) == (1, "")
    assert str(port) in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_an_open_address_needs_credentials(run: Run) -> None:
    """Without them 0.0.0.0 is refused, with what to set; half of them is refused too."""
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.code, done.out) == (1, "")
    assert "set PROXYWHIRL_GATEWAY_USERNAME and PROXYWHIRL_GATEWAY_PASSWORD" in done.err


def test_half_a_credential_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A username without a password would let nobody in, or everybody."""
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_USERNAME", "carol")
    done = run("serve", "--port", "0")
    assert done.code == 1
    assert "set PROXYWHIRL_GATEWAY_PASSWORD too" in done.err


@needs_curl
def test_credentials_from_the_environment_are_asked_for(run: Run, serve: Serve) -> None:
    """With both set it serves any address, and only those who log in."""
    login = {"PROXYWHIRL_GATEWAY_USERNAME": "carol", "PROXYWHIRL_GATEWAY_PASSWORD": "pa:ss"}
    with running_fleet([FleetSpec()]) as (fleet, origin):
        run("add", *fleet.urls())
        with serve("--host", "0.0.0.0", **login) as server:
            server.address = server.address.replace("0.0.0.0", "127.0.0.1")
            target = f"http://127.0.0.1:{origin.port}/"
            assert server.status(target) == "407"
            assert server.status(target, "--proxy-user", "carol:wrong") == "407"
            assert server.status(target, "--proxy-user", "carol:pa:ss") == "200"


@needs_curl
def test_it_serves_again_after_a_kill(run: Run, serve: Serve) -> None:
    """SIGKILL costs nothing that was stored: the next one serves the same pool."""
    with running_fleet([FleetSpec("http", "bob", "hunter2")]) as (fleet, origin):
        run("add", *fleet.urls())
        target = f"http://127.0.0.1:{origin.port}/"
        for _ in range(2):
            with serve() as server:
                assert server.status(target) == "200"
                server.process.kill()


def test_the_random_strategy_is_accepted(serve: Serve) -> None:
    """--strategy names how a proxy is chosen."""
    with serve("--strategy", "random") as server:
        assert server.address.startswith("http://127.0.0.1:")


def test_the_demo_loses_no_request(process: Run, home: Path) -> None:
    """The summary counts 1,000 requests, all served, through eight proxies of which three failed on the way."""
    summary = process("demo", "--once", "--json", PROXYWHIRL_GATEWAY_USERNAME="someone").json
    assert (summary["requests"], summary["ok"]) == (1000, 1000)
    assert summary["failovers"] > 0
    assert len(summary["by_proxy"]) == 8
    assert sum(summary["by_proxy"].values()) == 1000
    assert not home.exists()


def test_the_demo_stays_up_until_it_is_told_to_stop(spawn: Callable[..., Any]) -> None:
    """Without --once the gateway goes on after the summary of the requests, and Ctrl-C ends it well."""
    with spawn("demo") as running:
        stays = next(line for line in running.stderr if line.startswith("the gateway stays up"))
        assert re.search(r"curl -x http://127\.0\.0\.1:[0-9]+ ", stays)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "1000 of 1000 requests ok" in out
    assert re.search(r"SERVED +FAILED", out)
    assert "no request left without a proxy" in err
