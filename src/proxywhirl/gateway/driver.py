"""Carry out the commands of `protocol` for one client, with real connections.

Rules: a read once begun is kept until a command asks for its bytes, so that nothing is lost between commands; however
the client's connection ends, cancelled included, no connection, lease or task outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import assert_never

from proxywhirl.errors import CacheError, LocalFailure, ProxyFailed, ProxyGone, UpstreamError
from proxywhirl.events import EventBus
from proxywhirl.gateway.protocol import commands
from proxywhirl.gateway.protocol.commands import ClientGone, Ending, Steps
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.net.dial import dial
from proxywhirl.net.relay import relay
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.pursuit import Choose, Moved, NoChoice, Publish, Wait, choose
from proxywhirl.urls import ProxyURL

_CHUNK = 64 * 1024  # bytes of one read
_LINGER = 1.0  # seconds in which a client may read the last answer while it still sends

_log = logging.getLogger(__name__)


class Stream:
    """A connection whose reads can be begun, left and taken up again without losing a byte.

    `broken` makes the error to raise of what breaks the connection. `blocked` while `room` waits for the peer to take
    what it was sent.
    """

    def __init__(self, connection: Connection, broken: Callable[[OSError], Exception]) -> None:
        self.connection = connection
        self.blocked = False
        self._broken = broken
        self._reading: asyncio.Task[bytes] | None = None

    async def read(self, patience: float) -> bytes | None:
        """Return what comes within `patience` seconds, `b""` at the end, None if nothing comes."""
        if self._reading is not None:
            done, _ = await asyncio.wait((self._reading,), timeout=patience)
            return self.take() if done else None
        try:
            async with asyncio.timeout(patience):
                return await self.connection.reader.read(_CHUNK)
        except TimeoutError:
            return None
        except OSError as exc:
            raise self._broken(exc) from exc

    def begin(self, after: Callable[[], Awaitable[None]] | None = None) -> asyncio.Task[bytes]:
        """Begin a read, once `after` has returned, or return the one under way."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(after))
        return self._reading

    async def _read(self, after: Callable[[], Awaitable[None]] | None) -> bytes:
        if after is not None:
            await after()
        return await self.connection.reader.read(_CHUNK)

    def take(self) -> bytes:
        """Return the bytes of the read that was begun and is done."""
        reading, self._reading = self._reading, None
        if reading is None:
            raise RuntimeError("no read was begun")
        try:
            return reading.result()
        except OSError as exc:
            raise self._broken(exc) from exc

    async def leave(self) -> None:
        """Give up the read under way; one that is done keeps its bytes for the next `read`."""
        if self._reading is None:
            return
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        # Asking for the exception marks it as seen: a read that failed fails again when it is repeated.
        if self._reading.cancelled() or self._reading.exception():
            self._reading = None

    def write(self, data: bytes) -> None:
        """Put bytes in the buffer; on a broken connection they are dropped, reading tells the rest."""
        if not self.connection.writer.is_closing():
            self.connection.writer.write(data)

    async def room(self) -> None:
        """Wait until the buffer has room; for ever on a broken connection, where reading tells the rest."""
        self.blocked = True
        try:
            await self.connection.writer.drain()
        except OSError:
            await asyncio.get_running_loop().create_future()
        self.blocked = False


class Driver:
    """Serves one client, whose socket it owns. `idle` while the client owes nothing and is owed nothing."""

    _client: Stream

    def __init__(
        self,
        accepted: socket.socket,
        pool: Pool,
        events: EventBus,
        *,
        tls: ssl.SSLContext | None,
        leads_back: Callable[[Connection], bool],
    ) -> None:
        self.idle = True
        self._accepted: socket.socket | None = accepted  # until `run` makes a stream of it
        self._upstream: Stream | None = None
        self._lease: Lease | None = None
        self._pool = pool
        self._events = events
        self._tls = tls
        self._leads_back = leads_back
        self._stopping = False

    def stop(self) -> None:
        """Let the connection end at its next idle moment."""
        self._stopping = True

    def drop(self) -> None:
        """Close the socket of a client that was never served."""
        if self._accepted is not None:
            self._accepted.close()

    async def run(self, steps: Steps[Ending]) -> None:
        """Drive a client's connection to its end, and close it as that says."""
        accepted, self._accepted = self._accepted, None
        try:
            reader, writer = await asyncio.open_connection(sock=accepted, limit=READ_LIMIT)
            self._client = Stream(Connection(reader, writer), lambda _: ClientGone())
            try:
                if await self._drive(steps) is Ending.CLOSE:
                    await self._close()
                else:
                    self._client.connection.reset()  # nobody is to take what was sent for the whole
            finally:
                steps.close()
                await self._abandon()
        except Exception:  # noqa: BLE001 - logged; a defect of ours must end one connection, not the gateway
            _log.exception("a client's connection ended in a defect")

    async def _drive(self, steps: Steps[Ending]) -> Ending:  # noqa: C901, PLR0912 - a table of commands
        answer: object = None
        thrown: Exception | None = None
        while True:
            try:
                command = steps.throw(thrown) if thrown else steps.send(answer)
            except StopIteration as end:
                ending: Ending = end.value
                return ending
            answer = thrown = None
            try:
                match command:
                    case commands.ReadClient(patience, idle):
                        self.idle = idle
                        answer = b"" if idle and self._stopping else await self._client.read(patience)
                    case commands.WriteClient(data, patience):
                        await self._write_client(data, patience)
                    case Choose():
                        answer = self._choose(command)
                    case Wait(seconds):
                        await asyncio.sleep(seconds)
                    case commands.Dial(target, patience):
                        answer = await self._dial(target, patience)
                    case commands.WriteUpstream(data):
                        self._dialled.write(data)
                    case commands.ReadUpstream(patience):
                        answer = await self._dialled.read(patience)
                    case commands.ReadEither(patience):
                        answer = await self._read_either(patience)
                    case commands.Relay(patience):
                        upstream = self._dialled.connection
                        moved = await relay(self._client.connection, upstream, idle_timeout=patience)
                        answer = moved.a_to_b, moved.b_to_a
                    case commands.Release(outcome):
                        answer = await self._release(outcome)
                    case Publish(event):
                        self._events.publish(event)
                    case _:
                        assert_never(command)
            except (UpstreamError, ProxyGone, ClientGone) as exc:
                thrown = exc
            self.idle = False

    # The client.

    async def _write_client(self, data: bytes, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                self._client.write(data)
                await self._client.connection.writer.drain()
        except OSError as exc:  # a TimeoutError is one: a client that does not read is as good as gone
            raise ClientGone from exc

    async def _close(self) -> None:
        """End the connection so that the client can read what was sent, even if it is sending itself.

        Closing a socket with unread bytes resets it, and a reset can destroy the answer on its way
        (RFC 9112 section 9.6): so say the end first, and read what still comes for a moment.
        """
        connection = self._client.connection
        with contextlib.suppress(OSError, ClientGone):
            async with asyncio.timeout(_LINGER):
                if connection.writer.can_write_eof():
                    connection.writer.write_eof()
                while await self._client.read(_LINGER):
                    pass
        await connection.aclose()

    # The upstream.

    def _choose(self, command: Choose) -> Proxy | Moved | NoChoice:
        lease, answer = choose(self._pool, command)
        self._lease = lease
        if isinstance(answer, Moved):
            told = command.target.site, answer.proxy, answer.why
            _log.warning("a session of %s goes through %s from now on: %s", *told)
        elif lease is not None and _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s goes through %s: %s", command.target.authority, lease.proxy, lease.why)
        return answer

    async def _dial(self, target: Target | None, patience: float) -> ProxyURL:
        lease = self._chosen
        try:
            endpoint = lease.endpoint()
        except CacheError as exc:
            raise LocalFailure(f"{lease.proxy.url}: its credential cannot be read: {exc}") from exc
        connection = await dial(endpoint, target, timeout=patience, tls=self._tls, leads_back=self._leads_back)
        self._upstream = Stream(connection, self._broken)
        return endpoint

    async def _read_either(self, patience: float) -> commands.Heard:
        upstream = self._dialled
        from_upstream = upstream.begin()
        from_client = self._client.begin(after=upstream.room)
        await asyncio.wait((from_upstream, from_client), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if from_upstream.done():
            return commands.FromUpstream(upstream.take())
        if from_client.done():
            return commands.FromClient(self._client.take())
        return commands.Nothing(blocked=upstream.blocked)

    async def _release(self, outcome: Outcome | None) -> tuple[bool, bool] | None:
        await self._hang_up()
        lease, self._lease = self._chosen, None
        if outcome is None:
            lease.release()
            return None
        lease.report(outcome)
        return lease.targets_own, lease.page_served

    async def _hang_up(self) -> None:
        """Close the connection to the upstream: it serves one request; later bytes are ignored."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.connection.abort()
            await upstream.leave()
        await self._client.leave()  # it may have been waiting for room in the upstream

    async def _abandon(self) -> None:
        self._client.connection.abort()
        await self._hang_up()
        if self._lease is not None:
            self._lease.release()

    def _broken(self, exc: OSError) -> ProxyFailed:
        cause = os.strerror(exc.errno) if exc.errno and not isinstance(exc, ssl.SSLError) else "cut off"
        failure = ProxyFailed(f"{self._chosen.proxy.url} broke the connection: {cause}")
        failure.cut = True
        return failure

    @property
    def _dialled(self) -> Stream:
        if self._upstream is None:
            raise RuntimeError("the connection spoke to an upstream that it had not dialled")
        return self._upstream

    @property
    def _chosen(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("the connection used a proxy that it had not chosen")
        return self._lease
