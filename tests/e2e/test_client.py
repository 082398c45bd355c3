"""`ProxyWhirl` and `AsyncProxyWhirl` against real proxies on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxywhirl import AsyncProxyWhirl, PoolEmpty, ProxyURLError, ProxyWhirl, SettingsError
from proxywhirl.errors import LocalFailure, UnknownNameError
from proxywhirl.testing import Fault, Fleet, FleetSpec, Origin, RateLimit, running_fleet

SPECS = [FleetSpec("http"), FleetSpec("socks5", "alice", "s3cret"), FleetSpec("http", "bob", "hunter2")]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Fleet, Origin]]:
    """Run a fleet of three and an origin."""
    with running_fleet(SPECS) as (fleet, origin):
        yield fleet, origin


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory that is the current one and the user's home."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PROXYWHIRL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def proxy_of(response: httpx2.Response) -> Any:
    """Return through which proxy a request came to the origin."""
    assert response.status_code == 200
    return response.json()["proxy"]


def test_a_session_keeps_its_proxy_and_a_wish_chooses_it(running: tuple[Fleet, Origin], place: Path) -> None:
    """`session=` sends a name's requests through one proxy, `wish=` only through those that fulfil it."""
    fleet, origin = running
    with ProxyWhirl(proxies=fleet.urls()) as whirl:
        assert len({proxy_of(whirl.get(origin.url, session="cart-17")) for _ in range(5)}) == 1
        assert {proxy_of(whirl.get(origin.url, wish={"scheme": "socks5"})) for _ in range(3)} == {"socks5-1"}
        with pytest.raises(PoolEmpty, match="country=DE"):
            whirl.get(origin.url, wish={"country": "de"})
        with pytest.raises(ValueError, match="there is no filter 'land'"):
            whirl.get(origin.url, wish={"land": "de"})


def test_the_retries_are_those_of_the_settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt, set in the environment, is one attempt; the retry of a POST has to be asked for."""
    with running_fleet([FleetSpec()] * 3) as (fleet, origin):
        origin.limit = RateLimit(0, status=503)
        with ProxyWhirl(proxies=fleet.urls()) as whirl:
            assert whirl.post(origin.url).status_code == 503
            assert len(origin.requests) == 1
            assert whirl.post(origin.url, retry_unsafe=True).status_code == 503
            assert len(origin.requests) > 2
        origin.requests.clear()
        monkeypatch.setenv("PROXYWHIRL_RETRY_ATTEMPTS", "1")
        with ProxyWhirl(proxies=fleet.urls()) as whirl:
            assert whirl.get(origin.url).status_code == 503
        assert len(origin.requests) == 1


def test_in_memory_requests_rotate_and_no_file_is_made(running: tuple[Fleet, Origin], place: Path) -> None:
    """With `proxies` alone each request leaves through another one, and nothing is written anywhere."""
    fleet, origin = running
    with ProxyWhirl(proxies=fleet.urls()) as whirl:
        seen = [proxy_of(whirl.get(f"{origin.url}/{turn}")) for turn in range(6)]
    assert sorted(seen) == sorted([proxy.name for proxy in fleet] * 2)
    assert list(place.iterdir()) == []


def test_each_method_does_what_it_says(running: tuple[Fleet, Origin], place: Path) -> None:
    """Method, headers and body reach the target, from plain code."""
    fleet, origin = running
    with ProxyWhirl(proxies=fleet.urls()) as whirl:
        for method in ("get", "post", "put", "patch", "delete"):
            response = getattr(whirl, method)(origin.url, headers={"x-mark": method})
            assert response.json()["method"] == method.upper()
            assert ["x-mark", method] in response.json()["headers"]
        assert whirl.post(origin.url, content=b"12345").json()["body_length"] == 5
        assert whirl.head(origin.url).status_code == 200
        assert whirl.request("OPTIONS", origin.url).json()["method"] == "OPTIONS"


async def test_the_async_face_does_the_same(running: tuple[Fleet, Origin], place: Path) -> None:
    """Requests at once in one loop rotate too, and after the end none is sent."""
    fleet, origin = running
    async with AsyncProxyWhirl(proxies=fleet.urls()) as whirl:
        responses = await asyncio.gather(*(whirl.get(f"{origin.url}/{turn}") for turn in range(6)))
        assert {proxy_of(response) for response in responses} == {proxy.name for proxy in fleet}
        for method in ("post", "put", "patch", "delete"):
            assert (await getattr(whirl, method)(origin.url)).json()["method"] == method.upper()
        assert (await whirl.head(origin.url)).status_code == 200
    await whirl.aclose()
    with pytest.raises(LocalFailure, match="closed"):
        await whirl.get(origin.url)


def test_a_home_remembers(running: tuple[Fleet, Origin], place: Path) -> None:
    """What was given with a home serves again without being given, by name or as the default home."""
    fleet, origin = running
    home = place / "home"
    with ProxyWhirl(proxies=fleet.urls(), home=home) as whirl:
        proxy_of(whirl.get(origin.url))
    with ProxyWhirl(home=home) as whirl:
        assert len(whirl.pool) == len(whirl.cache) == 3
        assert {proxy_of(whirl.get(origin.url)) for _ in range(3)} == {proxy.name for proxy in fleet}
    assert b"s3cret" not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_the_default_home_is_that_of_the_commands(
    running: tuple[Fleet, Origin], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ProxyWhirl()` uses PROXYWHIRL_HOME, with the proxies that a command put there."""
    fleet, origin = running
    monkeypatch.setenv("PROXYWHIRL_HOME", str(place / "shared"))
    subprocess.run([sys.executable, "-m", "proxywhirl", "add", *fleet.urls()], check=True, capture_output=True)
    with ProxyWhirl() as whirl:
        proxy_of(whirl.get(origin.url))


def test_eight_threads_share_one(running: tuple[Fleet, Origin], place: Path) -> None:
    """Every request of every thread is served, and each proxy has its part in that, the quicker a larger one."""
    fleet, origin = running
    with ProxyWhirl(proxies=fleet.urls()) as whirl, ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda turn: proxy_of(whirl.get(f"{origin.url}/{turn}")), range(120)))
    assert len(seen) == 120
    assert all(proxy.name in seen for proxy in fleet)


def test_an_empty_pool_sends_nothing(place: Path) -> None:
    """Without a proxy a request is `PoolEmpty`, and the target hears nothing of it."""
    with running_fleet([]) as (_, origin):
        with ProxyWhirl(proxies=[]) as whirl, pytest.raises(PoolEmpty):
            whirl.get(origin.url)
        assert len(origin.requests) == 0


def test_a_failing_proxy_costs_no_request(place: Path) -> None:
    """While one proxy works, every request succeeds; when none does, the error names a proxy and no credential."""
    with running_fleet([FleetSpec("http", "bob", "hunter2"), FleetSpec()]) as (fleet, origin):
        with ProxyWhirl(proxies=fleet.urls()) as whirl:
            fleet[0].kill()
            assert {proxy_of(whirl.get(origin.url)) for _ in range(4)} == {"http-1"}
            fleet[1].kill()
            with pytest.raises(httpx2.TransportError) as failed:
                whirl.get(origin.url)
        assert "hunter2" not in str(failed.value)


@pytest.fixture
def signpost(running: tuple[Fleet, Origin]) -> Iterator[str]:
    """Run a server that redirects to the origin, and give its URL."""
    _, origin = running

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{origin.url}/here")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        serving.join()


def test_redirects_are_followed_when_asked(running: tuple[Fleet, Origin], signpost: str, place: Path) -> None:
    """`follow_redirects` decides; each step leaves through another proxy. By default the answer is handed over."""
    fleet, _ = running
    with ProxyWhirl(proxies=fleet.urls()) as whirl:
        assert whirl.get(signpost).status_code == 302
    with ProxyWhirl(proxies=fleet.urls(), follow_redirects=True) as whirl:
        assert whirl.get(signpost).json()["path"] == "/here"
        assert sorted(use.served for use in whirl.pool.snapshot()) == [0, 1, 1]


def test_https_targets_are_verified(authority: Any, place: Path) -> None:
    """`tls` says whom to trust; without it an unknown authority is refused."""
    with running_fleet(SPECS, origin_tls=authority.server) as (fleet, origin):
        target = f"https://127.0.0.1:{origin.port}/"
        with ProxyWhirl(proxies=fleet.urls(), tls=authority.client) as whirl:
            assert {proxy_of(whirl.get(target)) for _ in range(3)} == {proxy.name for proxy in fleet}
        with ProxyWhirl(proxies=fleet.urls()) as whirl, pytest.raises(httpx2.ConnectError, match="certificate"):
            whirl.get(target)


def test_an_https_proxy_is_trusted_by_the_setting(authority: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gateway.upstream_ca_file` holds for the library as it does for the gateway."""
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_UPSTREAM_CA_FILE", str(authority.file))
    with (
        running_fleet([FleetSpec("https")], tls=authority.server) as (fleet, origin),
        ProxyWhirl(proxies=fleet.urls()) as whirl,
    ):
        assert proxy_of(whirl.get(origin.url)) == "https-0"


def test_the_time_limit_is_the_callers(place: Path) -> None:
    """`timeout` ends a request that is not answered."""
    with (
        running_fleet([FleetSpec(fault=Fault.HANG)]) as (fleet, origin),
        ProxyWhirl(proxies=fleet.urls(), timeout=0.2) as whirl,
        pytest.raises(httpx2.TimeoutException),
    ):
        whirl.get(origin.url)


def test_nothing_is_sent_after_the_end(running: tuple[Fleet, Origin], place: Path) -> None:
    """A closed object refuses requests, can be closed again, and keeps no thread."""
    fleet, origin = running
    before = threading.active_count()
    whirl = ProxyWhirl(proxies=fleet.urls())
    assert threading.active_count() > before
    whirl.close()
    whirl.close()
    assert threading.active_count() == before
    with pytest.raises(LocalFailure, match="closed"):
        whirl.get(origin.url)


def test_closing_ends_the_requests_under_way(place: Path) -> None:
    """Threads that wait for an answer get an error instead of waiting for ever."""
    with running_fleet([FleetSpec(fault=Fault.HANG)]) as (fleet, origin):
        whirl = ProxyWhirl(proxies=fleet.urls())
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(whirl.get, origin.url)
            while not whirl.pool.snapshot()[0].in_flight:
                assert not waiting.done()
            whirl.close()
            with pytest.raises(LocalFailure, match="closed"):
                waiting.result(timeout=120)


async def test_closing_ends_the_requests_under_way_in_asyncio(place: Path) -> None:
    """A request that hangs while its loop closes the object ends with an error."""
    with running_fleet([FleetSpec(fault=Fault.HANG)]) as (fleet, origin):
        whirl = AsyncProxyWhirl(proxies=fleet.urls())
        waiting = asyncio.create_task(whirl.get(origin.url))
        while not whirl.pool.snapshot()[0].in_flight:  # noqa: ASYNC110 - the pool tells nobody of its state
            await asyncio.sleep(0)
        await whirl.aclose()
        with pytest.raises(LocalFailure, match="closed"):
            await asyncio.wait_for(waiting, timeout=120)


def test_an_interrupt_ends_a_request_and_nothing_is_left_open(place: Path) -> None:
    """Ctrl-C in a request raises KeyboardInterrupt at once, and the object closes without a warning."""
    program = textwrap.dedent("""
        import sys
        from proxywhirl import ProxyWhirl

        with ProxyWhirl(proxies=[sys.argv[1]]) as whirl:
            try:
                print("asking", flush=True)
                whirl.get("http://127.0.0.1:9/")
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """)
    with running_fleet([FleetSpec(fault=Fault.HANG)]) as (fleet, _):
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *fleet.urls()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as asking:
            assert asking.stdout is not None
            assert asking.stdout.readline() == "asking\n"
            while not fleet[0].requests:
                assert asking.poll() is None
            asking.send_signal(signal.SIGINT)
            out, err = asking.communicate(timeout=120)
        assert (asking.returncode, out, err) == (0, "interrupted\n", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"proxies": ["http://bob:hunter2@203.0.113.1:0"]}, ProxyURLError),
        ({"proxies": [], "strategy": "nope"}, UnknownNameError),
        ({"home": "file"}, SettingsError),
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing_open(
    place: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """What cannot work is an error of ours, without a credential and without a thread that goes on."""
    (place / "file").touch()
    before = threading.active_count()
    with pytest.raises(error) as refused:
        ProxyWhirl(**arguments)
    assert "hunter2" not in str(refused.value)
    assert threading.active_count() == before


@pytest.mark.parametrize("proxies", ["203.0.113.1:80", [None], [203]])
def test_what_is_no_list_of_urls_is_told(proxies: Any) -> None:
    """A lone URL, or something else in the list, is an error that names the mistake."""
    with pytest.raises(TypeError, match="prox"):
        ProxyWhirl(proxies=proxies)
