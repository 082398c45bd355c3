"""Dialling and relaying over real sockets: every scheme, every way to fail, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from proxywhirl.errors import AccountRefused, LocalFailure, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.models import Target
from proxywhirl.net.connection import Connection
from proxywhirl.net.dial import dial, translated
from proxywhirl.testing import Fault, Fleet, FleetSpec, Origin
from proxywhirl.urls import SCHEMES, ProxyURL
from tests.waiting import GUARD_SECONDS

PASSWORDED = [scheme for scheme in SCHEMES if not scheme.startswith("socks4")]


@dataclass(frozen=True)
class Authority:
    """A certificate authority with one server."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Make a certificate for the loopback addresses."""
    ca = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Authority(server, client)


def descriptors() -> set[int]:
    """List this process's open descriptors."""
    return {int(entry.name) for entry in Path("/dev/fd").iterdir()}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Assert that a block leaves neither task nor descriptor; for use around a whole loop."""
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() == before


async def ask(connection: Connection, path: str = "/") -> bytes:
    """Send a request to the origin behind a connection and read the response to its end."""
    connection.writer.write(f"GET {path} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        response = await connection.reader.read()
    await connection.aclose()
    return response


def target_of(origin: Origin, host: str | None = None) -> Target:
    """Name the origin as a target."""
    return Target("http", host or origin.host, origin.port)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_every_scheme_opens_a_tunnel(scheme: str, host: str, authority: Authority) -> None:
    """Through a proxy of each scheme the target is reached, by address and by name."""
    async with (
        Fleet.start([FleetSpec(scheme)], tls=authority.server) as fleet,
        Origin.start(fleet.exits) as origin,
    ):
        connection = await dial(fleet[0].url, target_of(origin, host), timeout=10, tls=authority.client)
        response = await ask(connection)
    assert f'"proxy": "{scheme}-0"'.encode() in response
    asked = fleet[0].requests[0].target
    by_address = host == "127.0.0.1" or scheme == "socks4"
    assert asked == f"{'127.0.0.1' if by_address else 'localhost'}:{origin.port}"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_scheme_logs_in(scheme: str, authority: Authority) -> None:
    """The right credential is accepted; the target never sees it."""
    password = "päss:w/rd" if scheme in PASSWORDED else None
    async with (
        Fleet.start([FleetSpec(scheme, "bob", password)], tls=authority.server) as fleet,
        Origin.start(fleet.exits) as origin,
    ):
        response = await ask(await dial(fleet[0].url, target_of(origin), timeout=10, tls=authority.client))
    assert response.startswith(b"HTTP/1.1 200 ")
    assert fleet[0].requests[0].authorized is True
    assert "proxy-authorization" not in str(origin.requests).lower()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("username", [None, "eve"])
async def test_every_scheme_refuses_the_wrong_account(scheme: str, username: str | None, authority: Authority) -> None:
    """A wrong or missing credential blames the account, names the proxy and shows no secret."""
    async with Fleet.start([FleetSpec(scheme, "bob")], tls=authority.server) as fleet:
        url = fleet[0].url
        wrong = ProxyURL(url.scheme, url.host, url.port, username, username and "hunter2")
        with pytest.raises(AccountRefused) as caught:
            await dial(wrong, Target("http", "127.0.0.1", 9), timeout=10, tls=authority.client)
    assert str(caught.value).startswith(url.canonical)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_ipv6_proxy_and_target(scheme: str, authority: Authority) -> None:
    """A proxy on [::1] is dialled; an IPv6 target is reached by all but SOCKS4, which blames the target."""
    async with (
        Fleet.start([FleetSpec(scheme, host="::1")], tls=authority.server) as fleet,
        Origin.start(fleet.exits, host="::1") as origin,
    ):
        dialled = dial(fleet[0].url, target_of(origin), timeout=10, tls=authority.client)
        if scheme.startswith("socks4"):
            with pytest.raises(TargetUnreachable):
                await dialled
        else:
            assert b'"proxy": "' in await ask(await dialled)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.REFUSE, ProxyFailed),
        (Fault.HANG, ProxyFailed),
        (Fault.RESET, ProxyFailed),
        (Fault.GARBAGE, ProxyFailed),
        (Fault.AUTH_REQUIRED, AccountRefused),
        (Fault.WRONG_CREDENTIALS, AccountRefused),
        (Fault.FORBID_DOMAIN, TargetUnreachable),
    ],
)
async def test_every_fault_blames_the_right_party(
    scheme: str, fault: Fault, error: type[UpstreamError], authority: Authority
) -> None:
    """Each fault of a proxy of each scheme is the right error, and names the proxy."""
    spec = FleetSpec(scheme, "bob", "pw" if scheme in PASSWORDED else None, fault=fault, forbidden="127.0.0.1")
    async with Fleet.start([spec], tls=authority.server) as fleet, Origin.start(fleet.exits) as origin:
        with pytest.raises(UpstreamError) as caught:
            await dial(
                fleet[0].url,
                target_of(origin),
                timeout=0.3 if fault is Fault.HANG else 10,
                tls=authority.client,
            )
    assert type(caught.value) is error
    assert str(caught.value).startswith(fleet[0].url.canonical)


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5"])
async def test_target_that_nobody_answers_at(scheme: str) -> None:
    """A proxy that cannot reach the target blames the target."""
    async with Fleet.start([FleetSpec(scheme), FleetSpec(fault=Fault.REFUSE)]) as fleet:
        with pytest.raises(TargetUnreachable):
            await dial(fleet[0].url, Target("http", "127.0.0.1", fleet[1].url.port), timeout=10)


async def test_without_a_target_only_the_proxy_is_connected() -> None:
    """No target means no handshake."""
    async with Fleet.start([FleetSpec()]) as fleet:
        connection = await dial(fleet[0].url, None, timeout=10)
        await connection.aclose()
        await connection.aclose()
    assert not fleet[0].requests


async def test_untrusted_certificate(authority: Authority) -> None:
    """An https proxy whose certificate nobody vouches for is refused, and the message says why."""
    async with Fleet.start([FleetSpec("https")], tls=authority.server) as fleet:
        with pytest.raises(ProxyFailed, match="certificate that is not trusted"):
            await dial(fleet[0].url, None, timeout=10)


async def test_plain_proxy_under_the_scheme_https(authority: Authority) -> None:
    """A proxy that does not speak TLS though its scheme says so has failed."""
    async with Fleet.start([FleetSpec(fault=Fault.GARBAGE)]) as fleet:
        plain = ProxyURL("https", "127.0.0.1", fleet[0].url.port)
        with pytest.raises(ProxyFailed):
            await dial(plain, None, timeout=0.5, tls=authority.client)


@pytest.mark.parametrize("proxy", [True, False], ids=["proxy", "target of socks4"])
async def test_name_that_does_not_exist(proxy: bool) -> None:
    """An unknown name of the proxy is never the target's fault, one of a socks4 target never the proxy's."""
    async with Fleet.start([FleetSpec("socks4")]) as fleet:
        url = ProxyURL("socks5", "a..invalid", 1080) if proxy else fleet[0].url
        with pytest.raises(UpstreamError) as caught:
            await dial(url, Target("http", "b..invalid", 80), timeout=10)
    assert type(caught.value) in ((ProxyFailed, LocalFailure) if proxy else (TargetUnreachable,))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
def test_what_this_machine_lacks_blames_nobody_else(code: int) -> None:
    """No descriptors, ports or route here says nothing about the proxy."""
    proxy = ProxyURL("http", "127.0.0.1", 1)
    assert type(translated(OSError(code, "x"), proxy, 1)) is LocalFailure
    assert type(translated(OSError(errno.EHOSTUNREACH, "x"), proxy, 1)) is ProxyFailed
    assert type(translated(OSError("Multiple exceptions: …"), proxy, 1)) is ProxyFailed


@pytest.mark.parametrize("host", ["255.255.255.255", "224.0.0.1", "240.0.0.1", "[ff02::1]"])
def test_an_address_of_no_server_is_the_proxys_fault(host: str) -> None:
    """No machine has a route to a broadcast, multicast or reserved address: that this one has none is not its lack."""
    failure = translated(OSError(errno.ENETUNREACH, "x"), ProxyURL("http", host, 80), 1)
    assert type(failure) is ProxyFailed
    assert str(failure).startswith(f"http://{host}:80 ")


async def test_no_descriptor_left() -> None:
    """When this process has no descriptor left, that is a local failure."""
    async with Fleet.start([FleetSpec()]) as fleet:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 1, hard))
        held = []
        try:
            with contextlib.suppress(OSError):  # the lowest free ones, until there are none
                while True:
                    held.append(os.dup(0))
            with pytest.raises(LocalFailure, match="Too many open files"):
                await dial(fleet[0].url, None, timeout=10)
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_failure_and_cancellation_leave_nothing(authority: Authority) -> None:
    """A timeout or a cancellation at any moment of the attempt leaves no task and no socket."""

    async def attempts() -> None:
        async with Fleet.start(
            [FleetSpec(scheme, fault=Fault.HANG) for scheme in SCHEMES], tls=authority.server
        ) as fleet:
            before = asyncio.all_tasks()
            for proxy in fleet:
                with pytest.raises(ProxyFailed, match=r"within 0\.05 s"):
                    await dial(proxy.url, Target("http", "127.0.0.1", 9), timeout=0.05, tls=authority.client)
                for turns in range(25):
                    attempt = asyncio.create_task(
                        dial(proxy.url, Target("http", "127.0.0.1", 9), timeout=10, tls=authority.client)
                    )
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    attempt.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await attempt
                proxy.kill()
            async with asyncio.timeout(GUARD_SECONDS):
                while not asyncio.all_tasks() <= before:  # noqa: ASYNC110 - nothing tells when the last task ends
                    await asyncio.sleep(0)

    with nothing_left():
        asyncio.run(attempts())
