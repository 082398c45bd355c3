"""Relaying and closing over real sockets: both ways, to every kind of end, nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trustme

from proxywhirl.net.connection import Connection
from proxywhirl.net.relay import Transferred, relay
from tests.waiting import GUARD_SECONDS, LoopTime


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


async def test_closing_is_bounded() -> None:
    """A peer that never reads cannot hold the closer for more than a moment."""
    async with pair() as (_, far):
        far.writer.write(b"x" * 10_000_000)
        async with asyncio.timeout(GUARD_SECONDS):
            await far.aclose()
        assert far.writer.is_closing()


@asynccontextmanager
async def pair(tls: Authority | None = None) -> AsyncIterator[tuple[Connection, Connection]]:
    """Open a connection and give both its ends."""
    arrived: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(Connection(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls.server if tls else None)
    near = Connection(
        *await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=tls.client if tls else None,
            server_hostname="127.0.0.1" if tls else None,
        )
    )
    far = await arrived
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()
        server.close()
        await server.wait_closed()


async def test_relay_carries_much_both_ways() -> None:
    """20 MB each way at once arrive whole, are counted, and the end of each side is passed on."""
    data = os.urandom(1 << 20) * 20
    async with pair() as (client, a), pair() as (b, target):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=10))

        async def exchange(side: Connection) -> str:
            side.writer.write(data)
            side.writer.write_eof()
            return hashlib.sha256(await side.reader.read()).hexdigest()

        digests = await asyncio.gather(exchange(client), exchange(target))
        assert await relaying == Transferred(len(data), len(data), clean=True)
    assert set(digests) == {hashlib.sha256(data).hexdigest()}


async def test_relay_passes_a_half_close_on() -> None:
    """A side that has said all can still be answered."""
    async with pair() as (client, a), pair() as (b, target):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=10))
        client.writer.write(b"question")
        client.writer.write_eof()
        assert await target.reader.read() == b"question"
        target.writer.write(b"answer")
        await target.aclose()
        assert await client.reader.read() == b"answer"
        assert await relaying == Transferred(8, 6, clean=True)


async def test_relay_holds_back_a_fast_sender() -> None:
    """A sink that does not read stops the source: only the buffers between them fill."""
    async with pair() as (client, a), pair() as (b, _):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=0.5))
        client.writer.write(b"x" * 50_000_000)
        moved = await relaying
        assert not moved.clean
        assert moved.a_to_b < 30_000_000
        assert b.writer.transport.get_write_buffer_size() < 1_000_000


async def test_idle_relay_ends_and_neither_side_reads_a_clean_end() -> None:
    """Without a byte either way a relay gives up; what it cut does not look complete."""
    async with pair() as (client, a), pair() as (b, target):
        client.writer.write(b"some")
        moved = await relay(a, b, idle_timeout=0.1)
        assert moved == Transferred(4, 0, clean=False)
        assert a.writer.is_closing()
        assert b.writer.is_closing()
        assert await target.reader.readexactly(4) == b"some"
        for end in (client, target):
            with pytest.raises(ConnectionResetError):
                await end.reader.read()


async def test_one_busy_direction_keeps_the_other_alive() -> None:
    """The idle timeout counts both directions together."""
    async with pair() as (client, a), pair() as (b, target):
        time = LoopTime()
        relaying = asyncio.create_task(relay(a, b, idle_timeout=1000))
        for _ in range(15):
            target.writer.write(b"tick")
            assert await client.reader.readexactly(4) == b"tick"
            time.advance(900)
            await asyncio.sleep(0)
            assert not relaying.done()
        client.writer.write_eof()
        target.writer.write_eof()
        assert await relaying == Transferred(0, 60, clean=True)


async def test_relay_after_an_end_that_tls_cannot_pass_on(authority: Authority) -> None:
    """Where half-close does not exist the answer still arrives before the relay ends."""
    async with pair() as (client, a), pair(authority) as (b, target):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=10))
        client.writer.write(b"question")
        client.writer.write_eof()
        assert await target.reader.readexactly(8) == b"question"
        target.writer.write(b"answer")
        target.writer.close()
        assert await client.reader.read() == b"answer"
        assert await relaying == Transferred(8, 6, clean=True)


async def test_end_of_the_answers_closes_a_side_without_half_close(authority: Authority) -> None:
    """A TLS client reads the end as soon as the target has said all."""
    async with pair(authority) as (client, a), pair() as (b, target):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=60))
        target.writer.write(b"answer")
        target.writer.write_eof()
        async with asyncio.timeout(3):
            assert await client.reader.read() == b"answer"
            assert await relaying == Transferred(0, 6, clean=True)


async def test_reset_on_one_side_ends_the_relay_uncleanly() -> None:
    """A reset is passed on as a broken connection, not as an end."""
    async with pair() as (client, a), pair() as (b, target):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=10))
        target.writer.write(b"half")
        assert await client.reader.readexactly(4) == b"half"
        target.reset()
        async with asyncio.timeout(5):
            assert await relaying == Transferred(0, 4, clean=False)
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
        assert a.writer.is_closing()


async def test_a_connection_that_is_closed_can_be_reset(authority: Authority) -> None:
    """Whoever gives up a connection need not know what became of it before: TLS that was closed twice is gone."""
    async with pair(authority) as (_, far):
        far.writer.close()
        far.writer.close()
        far.reset()
        far.reset()
        assert far.writer.is_closing()


async def test_cancelled_relay_leaves_no_task() -> None:
    """Cancelling a relay ends its two pumps and aborts both sides."""
    async with pair() as (_, a), pair() as (b, _):
        before = asyncio.all_tasks()
        relaying = asyncio.create_task(relay(a, b, idle_timeout=10))
        await asyncio.sleep(0)
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        assert asyncio.all_tasks() == before
        assert a.writer.is_closing()
        assert b.writer.is_closing()
