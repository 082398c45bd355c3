"""The test fleet and its origin, asked by curl, by httpx2 and by hand: they do what their documentation says."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from proxywhirl.errors import ProxyFailed, TargetUnreachable
from proxywhirl.models import Target
from proxywhirl.net.dial import dial
from proxywhirl.testing import Fault, Fleet, FleetProxy, FleetSpec, ManualClock, Origin, running_fleet
from proxywhirl.urls import SCHEMES

CURL = shutil.which("curl")


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Make a certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(ca: trustme.CA) -> ssl.SSLContext:
    """Make a server's context for the loopback address and a name that the fleet takes for it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", "secure.example").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(ca: trustme.CA) -> ssl.SSLContext:
    """Trust the authority."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    """Write the authority's certificate for curl."""
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def running() -> Iterator[tuple[Fleet, Origin]]:
    """Run a proxy of each plain kind and an origin, in another thread."""
    specs = [FleetSpec("http"), FleetSpec("http", "bob", "pw"), FleetSpec("socks4a"), FleetSpec("socks5", "bob", "pw")]
    with running_fleet(specs) as parts:
        yield parts


def through(proxy: FleetProxy, tls: ssl.SSLContext | None = None, **options: Any) -> httpx2.AsyncClient:
    """Make a client of an http or https proxy that knows nothing of ours."""
    return httpx2.AsyncClient(
        proxy=httpx2.Proxy(proxy.url.reveal(), ssl_context=tls if proxy.url.scheme == "https" else None),
        verify=tls or True,
        trust_env=False,
        timeout=10,
        **options,
    )


def descriptors() -> set[str]:
    """List this process's open descriptors."""
    return {entry.name for entry in Path("/dev/fd").iterdir()}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("secure_target", [False, True])
async def test_foreign_client_through_http_proxies(
    scheme: str, secure_target: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A client that is not ours is served by absolute-form and by CONNECT, with credentials, and told apart."""
    spec = FleetSpec(scheme, "bob", "p:w")
    async with (
        Fleet.start([spec, spec], tls=server_tls) as fleet,
        Origin.start(fleet.exits, tls=server_tls if secure_target else None) as origin,
    ):
        for proxy in fleet:
            async with through(proxy, client_tls) as client:
                for _ in range(2):
                    response = await client.post(origin.url + "/x", content=b"body")
                    assert response.json()["proxy"] == proxy.name
                    assert response.json()["body_length"] == 4
                    assert "proxy-" not in str(response.json()["headers"]).lower()
            assert proxy.requests[0].authorized is True
            assert proxy.requests[0].method == ("CONNECT" if secure_target else "POST")


async def test_hop_by_hop_headers_stop_at_the_proxy() -> None:
    """What concerns one hop, and what Connection lists, does not reach the origin; Host comes from the URL."""
    async with Fleet.start([FleetSpec()]) as fleet, Origin.start(fleet.exits) as origin:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet[0].url.port)
        writer.write(
            f"GET http://127.0.0.1:{origin.port}?q HTTP/1.1\r\nHost: wrong.example\r\nConnection: X-Mine, close\r\n"
            "X-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nX-Kept: 1\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
    seen = origin.requests[0]
    assert seen.path == "/?q"
    assert seen.headers == (("Host", f"127.0.0.1:{origin.port}"), ("X-Kept", "1"), ("Connection", "close"))


@pytest.mark.parametrize("path", ["/stream?chunks=50", "/close", "/bytes/3000000", "/status/204", "/status/503"])
async def test_every_framing_passes_through(path: str) -> None:
    """Chunked, close-delimited, long and empty bodies arrive whole through an absolute-form request."""
    async with (
        Fleet.start([FleetSpec()]) as fleet,
        Origin.start(fleet.exits) as origin,
        through(fleet[0]) as proxied,
        httpx2.AsyncClient(trust_env=False) as direct,
    ):
        for method in ("GET", "HEAD"):
            expected = await direct.request(method, origin.url + path)
            response = await proxied.request(method, origin.url + path)
            assert response.status_code == expected.status_code
            if "json" in response.headers["content-type"] and expected.content:
                assert response.json()["path"] == path
            else:
                assert response.content == expected.content


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://:80/", 400), ("/origin-form", 400), ("http://192.0.2.1/", 502), ("http://127.0.0.1:1/", 502)],
)
async def test_http_proxy_says_what_it_cannot_do(target: str, status: int) -> None:
    """An impossible target is 400, one that is away or off this machine 502."""
    async with Fleet.start([FleetSpec()]) as fleet, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet[0].url.port)
        for method in ("POST", "HEAD"):
            writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            if method == "POST":
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        writer.close()


async def test_refused_large_body_still_reads_the_refusal() -> None:
    """A 407 arrives though the client was still sending."""
    async with Fleet.start([FleetSpec(fault=Fault.AUTH_REQUIRED)]) as fleet, through(fleet[0]) as client:
        response = await client.post("http://any.example/", content=b"x" * 5_000_000)
    assert response.status_code == 407
    assert response.headers["proxy-authenticate"].startswith("Basic ")


async def test_each_fault_of_an_absolute_form_request() -> None:
    """Faults switch at run time, one proxy at a time, and NONE heals every one of them."""
    async with (
        Fleet.start([FleetSpec("http", "bob", "pw", delay=0.2)]) as fleet,
        Origin.start(fleet.exits) as origin,
        through(fleet[0]) as client,
    ):
        proxy = fleet[0]
        failures: dict[Fault, type[httpx2.TransportError]] = {
            Fault.REFUSE: httpx2.ConnectError,
            Fault.RESET: httpx2.ReadError,
            Fault.GARBAGE: httpx2.RemoteProtocolError,
            Fault.TRUNCATE: httpx2.RemoteProtocolError,
            Fault.HANG: httpx2.ReadTimeout,
        }
        for fault, expected in failures.items():
            proxy.fault = fault
            async with through(proxy) as fresh:
                with pytest.raises(expected):
                    await fresh.get(origin.url, timeout=httpx2.Timeout(60, read=0.5 if fault is Fault.HANG else 60))
            proxy.fault = Fault.NONE
            assert (await client.get(origin.url)).json()["proxy"] == proxy.name
        for fault in (Fault.AUTH_REQUIRED, Fault.WRONG_CREDENTIALS):
            proxy.fault = fault
            assert (await client.get(origin.url)).status_code == 407
        proxy.fault = Fault.SLOW
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(origin.url, timeout=httpx2.Timeout(60, read=0.1))
        proxy.delay = 0.0
        assert (await client.get(origin.url)).status_code == 200


async def test_truncation_declares_all_and_sends_half() -> None:
    """TRUNCATE keeps the full Content-Length, sends half and closes; a chunked body lacks its end."""
    async with Fleet.start([FleetSpec(fault=Fault.TRUNCATE)]) as fleet, Origin.start(fleet.exits) as origin:
        for path in ("/bytes/300001", "/stream?chunks=10"):
            reader, writer = await asyncio.open_connection("127.0.0.1", fleet[0].url.port)
            writer.write(f"GET {origin.url}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(10):
                head, body = await reader.readuntil(b"\r\n\r\n"), await reader.read()
            writer.close()
            if path.startswith("/bytes"):
                assert b"300001" in head
                assert len(body) == 150_000
            else:
                assert b"chunked" in head
                assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5"])
async def test_truncated_tunnel(scheme: str) -> None:
    """In a tunnel TRUNCATE sends half of the first answer and closes."""
    async with Fleet.start([FleetSpec(scheme, fault=Fault.TRUNCATE)]) as fleet, Origin.start(fleet.exits) as origin:
        tunnel = await dial(fleet[0].url, Target("http", "127.0.0.1", origin.port), timeout=10)
        tunnel.writer.write(b"GET /bytes/1000 HTTP/1.1\r\nHost: o\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await tunnel.reader.read()
        await tunnel.aclose()
    assert 0 < len(answer) < 1000


async def test_one_domain_is_forbidden_and_others_work() -> None:
    """FORBID_DOMAIN refuses one host; every other name means this machine."""
    spec = FleetSpec(fault=Fault.FORBID_DOMAIN, forbidden="no.example")
    async with Fleet.start([spec]) as fleet, Origin.start(fleet.exits) as origin, through(fleet[0]) as client:
        assert (await client.get(f"http://no.example:{origin.port}/")).status_code == 403
        assert (await client.get(f"http://yes.example:{origin.port}/")).status_code == 200
        fleet[0].forbidden = "yes.example"
        with pytest.raises(TargetUnreachable, match="403"):
            await dial(fleet[0].url, Target("https", "yes.example", origin.port), timeout=10)


async def test_kill_breaks_what_is_open_and_revive_takes_the_same_port() -> None:
    """A killed proxy cuts its tunnels and refuses; revived, it serves under the same URL."""
    async with Fleet.start([FleetSpec("socks5"), FleetSpec()]) as fleet, Origin.start(fleet.exits) as origin:
        proxy, target = fleet["socks5-0"], Target("http", "127.0.0.1", origin.port)
        tunnel = await dial(proxy.url, target, timeout=10)
        other = await dial(fleet["http-1"].url, target, timeout=10)
        proxy.kill()
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await tunnel.reader.read()
        for _ in range(3):
            with pytest.raises(ProxyFailed, match="refused"):
                await dial(proxy.url, target, timeout=10)
        proxy.fault = Fault.NONE  # a fault does not raise the dead
        with pytest.raises(ProxyFailed, match="refused"):
            await dial(proxy.url, target, timeout=10)
        proxy.revive()
        (await dial(proxy.url, target, timeout=10)).abort()
        other.writer.write(b"GET / HTTP/1.1\r\nHost: o\r\n\r\n")
        assert b"200" in await other.reader.readline()
        tunnel.abort()
        other.abort()


async def test_refusing_port_stays_reserved() -> None:
    """While a proxy refuses, nobody else gets its port."""
    async with Fleet.start([FleetSpec(fault=Fault.REFUSE)]) as fleet:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", fleet[0].url.port))


async def test_fleet_and_origin_leave_nothing() -> None:
    """However busy they were, tasks and descriptors are gone when the block has ended."""
    tasks, before = asyncio.all_tasks(), descriptors()
    async with (
        Fleet.start([FleetSpec(scheme) for scheme in ("http", "socks4", "socks5")]) as fleet,
        Origin.start(fleet.exits) as origin,
    ):
        target = Target("http", "127.0.0.1", origin.port)
        tunnels = [await dial(proxy.url, target, timeout=10) for proxy in fleet for _ in range(5)]
        raw = [await asyncio.open_connection("127.0.0.1", proxy.url.port) for proxy in fleet]
    for tunnel in tunnels:
        tunnel.abort()
    for _, writer in raw:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert descriptors() == before


async def test_fleet_is_read_by_place_and_name(server_tls: ssl.SSLContext) -> None:
    """Names default to scheme and place; URLs hold credentials, reprs do not."""
    specs = [FleetSpec(), FleetSpec("socks5", "bob", "s3cret/"), FleetSpec("https", name="mine")]
    async with Fleet.start(specs, tls=server_tls) as fleet:
        assert [proxy.name for proxy in fleet] == ["http-0", "socks5-1", "mine"]
        assert fleet["mine"] is fleet[2]
        assert len(fleet) == 3
        assert fleet.urls()[1] == f"socks5://bob:s3cret%2F@127.0.0.1:{fleet[1].url.port}"
        assert "s3cret" not in repr([*fleet, *specs])
        with pytest.raises(KeyError):
            fleet["nobody"]


@pytest.mark.parametrize(
    ("specs", "words"),
    [([FleetSpec(name="a"), FleetSpec(name="a")], "two proxies"), ([FleetSpec("https")], "needs tls")],
)
async def test_impossible_fleet_says_why(specs: list[FleetSpec], words: str) -> None:
    """A name given twice and https without a certificate are refused, async and in a thread."""
    with pytest.raises(ValueError, match=words):
        async with Fleet.start(specs):
            pass
    with pytest.raises(ValueError, match=words), running_fleet(specs):
        pass


def test_impossible_spec_says_why() -> None:
    """An unknown scheme and a password without username are refused."""
    with pytest.raises(ValueError, match="known: http, https"):
        FleetSpec("ftp")
    with pytest.raises(ValueError, match="needs a username"):
        FleetSpec("http", password="pw")


def test_background_fleet_is_steered_from_another_thread(running: tuple[Fleet, Origin]) -> None:
    """Faults, kill and revive act at once when set from a thread without a loop."""
    fleet, origin = running
    for proxy in fleet.proxies[:2]:
        with httpx2.Client(proxy=proxy.url.reveal(), trust_env=False) as client:
            assert client.get(origin.url).json()["proxy"] == proxy.name
            proxy.kill()
            with pytest.raises(httpx2.TransportError):
                client.get(origin.url)
            proxy.revive()
            assert client.get(origin.url).json()["proxy"] == proxy.name
            proxy.fault = Fault.AUTH_REQUIRED
            assert client.get(origin.url).status_code == 407


def test_background_fleet_ends_with_its_block() -> None:
    """The thread is gone after the block, even when the block fails."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), running_fleet([FleetSpec()]):
        raise ZeroDivisionError
    assert threading.active_count() == before


@pytest.mark.skipif(CURL is None, reason="curl is not on the PATH: the fleet is not tried with a real curl here")
@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "https"])
@pytest.mark.parametrize("secure", [False, True], ids=["http target", "https target"])
def test_real_curl_through_every_scheme(scheme: str, secure: bool, server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """The curl of this machine is served through every kind of proxy, with credentials, over http and https."""
    assert CURL is not None
    spec = FleetSpec(scheme, "bob", None if scheme.startswith("socks4") else "p@ss")
    with running_fleet([spec], origin_tls=server_tls if secure else None) as (fleet, origin):
        name = "secure.example" if scheme in ("http", "socks4a", "socks5h") else "127.0.0.1"
        url = f"{'https' if secure else 'http'}://{name}:{origin.port}/from-curl"
        options = ["-q", "-sS", "--noproxy", "", "--max-time", "10", "--cacert", str(ca_file), "-d", "hello"]
        done = subprocess.run(
            [CURL, *options, "-x", fleet.urls()[0], url], capture_output=True, check=False, timeout=20
        )
        assert done.stderr == b""
        echo = json.loads(done.stdout)
    assert (echo["proxy"], echo["path"], echo["body_length"]) == (f"{scheme}-0", "/from-curl", 5)
    assert fleet[0].requests[0].authorized is True


def test_manual_clock_moves_only_by_hand() -> None:
    """Both clocks stand still until they are advanced together, and never go back."""
    clock = ManualClock(now=1000.0, monotonic=5.0)
    assert [(clock.now(), clock.monotonic()) for _ in range(2)] == [(1000.0, 5.0)] * 2
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (1002.5, 7.5)
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)
