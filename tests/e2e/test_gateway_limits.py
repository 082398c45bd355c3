"""What a client may do to the gateway, and what it may not: slowness, floods, odd requests, shutdown."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from proxywhirl.errors import Blame, GatewayError
from proxywhirl.events import AttemptFailed, EventBus
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.gateway.server import bind
from proxywhirl.models import Proxy
from proxywhirl.net.connection import Connection
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing import FleetSpec
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.http import basic_credentials
from tests.waiting import until

if TYPE_CHECKING:
    from conftest import LabFactory

MEGABYTE = 1024 * 1024


async def settled(count: list[int]) -> int:
    """Wait until a count of bytes grows no more, which is what back-pressure looks like."""
    while True:
        before = sum(count)
        await asyncio.sleep(0.3)
        if sum(count) == before:
            return before


async def test_a_client_that_does_not_read_slows_the_upstream_down() -> None:
    """Of 100 MB that nobody reads, only what fits in buffers leaves the upstream; then all arrives."""
    sent: list[int] = []

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MEGABYTE))
        for _ in range(100):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
            sent.append(MEGABYTE)
        await Connection(reader, writer).aclose()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    pool = Pool.of([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    async with asyncio.timeout(60), server, Gateway(pool, GatewayOptions(port=0), events=EventBus()) as gateway:
        client = Connection(*await asyncio.open_connection(*gateway.address))
        client.writer.write(b"GET http://target.test/ HTTP/1.1\r\nHost: target.test\r\n\r\n")
        assert await settled(sent) < 50 * MEGABYTE
        await client.reader.readuntil(b"\r\n\r\n")
        left = 100 * MEGABYTE
        while left:
            left -= len(await client.reader.read(MEGABYTE))
        await client.aclose()


async def test_an_upstream_that_does_not_read_slows_the_client_down() -> None:
    """Of 100 MB that the upstream does not take, the gateway takes only what fits in buffers."""
    taken = asyncio.Event()
    received: list[int] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken.wait()
        while sum(received) < 100 * MEGABYTE:
            received.append(len(await reader.read(MEGABYTE)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await Connection(reader, writer).aclose()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    pool = Pool.of([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    async with asyncio.timeout(60), server, Gateway(pool, GatewayOptions(port=0), events=EventBus()) as gateway:
        client = Connection(*await asyncio.open_connection(*gateway.address))
        head = b"PUT http://target.test/ HTTP/1.1\r\nHost: target.test\r\nContent-Length: %d\r\n\r\n"
        client.writer.write(head % (100 * MEGABYTE))
        sent: list[int] = []

        async def pour() -> None:
            for _ in range(100):
                client.writer.write(bytes(MEGABYTE))
                await client.writer.drain()
                sent.append(MEGABYTE)

        pouring = asyncio.create_task(pour())
        assert await settled(sent) < 50 * MEGABYTE
        taken.set()
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        await pouring
        await client.aclose()


async def test_a_head_that_does_not_come_is_given_up(lab: LabFactory) -> None:
    """A client that drips its head loses the connection when the header timeout is over."""
    async with lab(header_timeout=0.3) as running:
        client = await running.connect()
        client.writer.write(b"GET http://t")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 408 ")
        silent = await running.connect()
        assert await silent.reader.read() == b""
        await client.aclose()
        await silent.aclose()


async def test_more_clients_than_allowed_wait_their_turn(lab: LabFactory) -> None:
    """With room for two, twenty clients are served two at a time, and none is refused."""
    async with lab(max_connections=2) as running:

        async def ask() -> int:
            async with running.client() as client:
                return (await client.get(f"{running.origin.url}/slow?ms=20")).status_code

        began = time.monotonic()
        assert await asyncio.gather(*(ask() for _ in range(20))) == [200] * 20
        assert time.monotonic() - began > 10 * 0.02


async def test_noise_leaves_the_gateway_unharmed(lab: LabFactory) -> None:
    """A TLS hello, an empty connection and a reset are no reason to serve the next client less well."""
    async with lab() as running:
        hello = await running.connect()
        hello.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert (await hello.reader.read()).startswith(b"HTTP/1.1 400 ")
        await hello.aclose()
        await (await running.connect()).aclose()
        gone = await running.connect()
        gone.writer.write(f"GET {running.origin.url}/slow?ms=200 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await gone.writer.drain()
        gone.abort()
        async with running.client() as client:
            assert (await client.get(running.origin.url)).status_code == 200


async def test_a_tunnel_carries_what_came_with_its_request(lab: LabFactory) -> None:
    """Bytes sent right behind CONNECT, before the answer to it, reach the target."""
    async with lab([FleetSpec("socks5")]) as running:
        client = await running.connect()
        authority = f"127.0.0.1:{running.origin.port}"
        early = "GET /early HTTP/1.0\r\n\r\n"
        client.writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n{early}".encode())
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\n")
        assert b'"path": "/early"' in answer
        await client.aclose()


async def test_closing_ends_open_tunnels_and_idle_clients(lab: LabFactory) -> None:
    """Shutdown gives requests under way a moment, and leaves neither connection nor task."""
    async with lab() as running:
        idle, tunnel = await running.connect(), await running.connect()
        authority = f"127.0.0.1:{running.origin.port}"
        tunnel.writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        await tunnel.reader.readuntil(b"\r\n\r\n")
        await running.gateway.aclose()
        assert await idle.reader.read() == b""
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", running.port)
        await idle.aclose()
        await tunnel.aclose()
    assert not any(use.in_flight for use in running.pool.snapshot())


async def test_closing_lets_a_request_end(lab: LabFactory) -> None:
    """An answer that comes within the grace is delivered whole."""
    async with lab() as running, running.client() as client:
        asked = asyncio.create_task(client.get(f"{running.origin.url}/slow?ms=500"))
        await until(lambda: bool(running.fleet[0].requests))
        await running.gateway.aclose()
        assert (await asked).status_code == 200


async def test_a_port_in_use_is_named_with_the_way_out() -> None:
    """Two gateways on one port: the second says which port, and how to choose another."""
    pool = Pool.of(["http://127.0.0.1:1"])
    async with Gateway(pool, GatewayOptions(port=0), events=EventBus()) as first:
        second = Gateway(pool, GatewayOptions(port=first.address[1]), events=EventBus())
        with pytest.raises(GatewayError, match=rf"port {first.address[1]} .*--port"):
            await second.start()
        await second.aclose()


async def test_an_address_that_is_not_here_is_an_error() -> None:
    """A host name or address that this machine does not have cannot be listened on."""
    for host in ("192.0.2.1", "no.such.host.invalid"):
        options = GatewayOptions(host=host, port=0, credentials=("me", "open"))
        with pytest.raises(GatewayError, match=re.escape(host)):
            await Gateway(Pool.of([]), options, events=EventBus()).start()


async def test_a_name_that_stands_for_an_open_address_is_refused() -> None:
    """Without credentials it is the addresses that count, not the name: nothing is bound that is not loopback."""
    with pytest.raises(GatewayError, match="reached from other machines"):
        await bind("0.0.0.0", 0, loopback_only=True)
    (listening,) = await bind("127.0.0.1", 0, loopback_only=True)
    listening.close()


@pytest.mark.parametrize("method", ["GET http://t.test/", "CONNECT t.test:443"])
@pytest.mark.parametrize(("listens_on", "listed_as"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost")])
async def test_a_gateway_in_its_own_pool_does_not_go_round(listens_on: str, listed_as: str, method: str) -> None:
    """A pool that lists the gateway itself costs one failed attempt, not a storm of requests to itself."""
    credentials = ("me", "s3cret")
    known: dict[str, ProxyURL] = {}
    pool = Pool("round_robin", resolve=known.get)
    failed: list[AttemptFailed] = []
    events = EventBus()
    events.subscribe(lambda event: failed.append(event) if isinstance(event, AttemptFailed) else None)
    options = GatewayOptions(host=listens_on, port=0, credentials=credentials)
    async with asyncio.timeout(10), Gateway(pool, options, events=events) as gateway:
        itself = ProxyURL("http", listed_as, gateway.address[1], *credentials)
        known[itself.key] = itself
        pool.update([Proxy.of(itself)])
        client = Connection(*await asyncio.open_connection("127.0.0.1", gateway.address[1]))
        offer = basic_credentials(*credentials)
        client.writer.write(f"{method} HTTP/1.1\r\nHost: t\r\nProxy-Authorization: {offer}\r\n\r\n".encode())
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        assert b"this gateway itself" in await client.reader.readuntil(b"pool.\n")
        client.abort()
    assert [event.outcome.blame for event in failed] == [Blame.PROXY]


async def test_localhost_and_ipv6_are_listened_on() -> None:
    """Every address of a name is served, on one port."""
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    async with Gateway(Pool.of([]), GatewayOptions(host="localhost", port=0), events=EventBus()) as gateway:
        for family, _, _, _, address in socket.getaddrinfo("localhost", gateway.address[1], type=socket.SOCK_STREAM):
            assert family in (socket.AF_INET, socket.AF_INET6)
            async with httpx2.AsyncClient(trust_env=False) as client:
                host = str(address[0])
                host = f"[{host}]" if ":" in host else host
                assert (await client.get(f"http://{host}:{gateway.address[1]}/")).status_code == 400


async def test_a_hanging_client_holds_no_lease_after_it_left(lab: LabFactory) -> None:
    """A client that goes away in the middle is nobody's failure, and its proxy is given back."""
    async with lab() as running:
        client = await running.connect()
        client.writer.write(f"GET {running.origin.url}/bytes/50000000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.reader.readexactly(100_000)
        client.abort()
        await until(lambda: bool(running.finished))
        (use,) = running.pool.snapshot()
        assert (use.in_flight, use.failed, use.served) == (0, 0, 0)
