"""The base of a fleet's servers: a listening socket that can refuse by turns, and HTTP/1.1 on a connection.

Rules of a `LoopbackServer`:

- A second socket that never listens holds the port, so that no other program takes it while the listener is shut.
- Opening and shutting take effect at once.
- A task that the listener owns serves each connection, and none survives it.
- A peer may break off as it likes. Any other failure of a server is a defect, raised when the listener closes.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable

import h11

from proxywhirl.errors import AccountRefused, BadHandshake
from proxywhirl.net.connection import READ_LIMIT, Connection

CHUNK = 64 * 1024  # bytes
_BACKLOG = 1024


class LoopbackServer:
    """Call `serve` with each connection to a free port of a loopback address, and close it afterwards."""

    def __init__(
        self, serve: Callable[[Connection], Awaitable[None]], *, host: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tasks: set[asyncio.Task[None]] = set()
        self._defects: list[BaseException] = []
        self._listening: socket.socket | None = None
        self._holder = self._bind((host, 0))
        self._address: tuple[str, int] = self._holder.getsockname()[:2]

    @property
    def port(self) -> int:
        """The port, the same for the listener's whole life."""
        return self._address[1]

    def _bind(self, address: tuple[str, int]) -> socket.socket:
        # asyncio sets TCP_NODELAY only where the protocol is named; TLS would wait 40 ms for an acknowledgement.
        bound = socket.socket(self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        bound.setblocking(False)
        return bound

    def open(self) -> None:
        """Accept connections. Opening what is open does nothing."""
        if self._listening is None:
            listening = self._listening = self._bind(self._address)
            listening.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def shut(self) -> None:
        """Refuse connections from now on; those that are open go on. Shutting what is shut does nothing."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def drop(self) -> None:
        """Break every open connection at once."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Shut, drop, wait for every task, and give up the port.

        Raises:
            ExceptionGroup: A server failed in another way than by its peer's fault.
        """
        self.shut()
        self.drop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._holder.close()
        if self._defects:
            raise BaseExceptionGroup("a test server has a defect", self._defects)

    def _accept(self, listening: socket.socket) -> None:
        try:
            accepted, _ = listening.accept()
        except OSError:  # the client has gone again, or no descriptor is left: then it stays in the backlog
            return
        accepted.setblocking(False)
        task = asyncio.create_task(self._run(accepted))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._finished, accepted))

    def _finished(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            accepted.close()  # open still where the task had not begun
        elif (defect := task.exception()) is not None:
            self._defects.append(defect)

    async def _run(self, accepted: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=READ_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._tls)
        except OSError:  # the client gave up in the TLS handshake
            return
        connection = Connection(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        try:
            await self._serve(connection)
        except (BadHandshake, AccountRefused):  # the client was told: let it read that
            pass
        except (OSError, EOFError, asyncio.LimitOverrunError, h11.RemoteProtocolError):
            connection.abort()
        except BaseException:
            connection.abort()
            raise
        await connection.aclose()


class HttpStream:
    """One side of HTTP/1.1 on a connection."""

    def __init__(self, connection: Connection, role: type[h11.CLIENT | h11.SERVER]) -> None:
        self.connection = connection
        self.protocol = h11.Connection(role, max_incomplete_event_size=CHUNK)

    async def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Return the next event, reading as needed; tell a client that waits for it to continue."""
        while (event := self.protocol.next_event()) is h11.NEED_DATA:
            if self.protocol.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self.protocol.receive_data(await self.connection.reader.read(CHUNK))
        return event

    async def send(self, *events: h11.Event) -> None:
        """Write events, in one piece."""
        self.connection.writer.write(b"".join(self.protocol.send(event) or b"" for event in events))
        await self.connection.writer.drain()

    async def answer(self, method: bytes, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a whole response to a request with `method`; a HEAD gets the head alone."""
        head = h11.Response(status_code=status, headers=[*headers, ("Content-Length", str(len(body)))])
        await self.send(head, h11.Data(b"" if method == b"HEAD" else body), h11.EndOfMessage())

    async def skip_body(self) -> None:
        """Read the rest of the request, unless its client waits to be told to continue."""
        while self.protocol.their_state is h11.SEND_BODY and not self.protocol.they_are_waiting_for_100_continue:
            await self.next_event()

    def next_cycle(self) -> bool:
        """Make ready for another request on this connection; False when there can be none."""
        if self.protocol.our_state is not h11.DONE or self.protocol.their_state is not h11.DONE:
            return False
        self.protocol.start_next_cycle()
        return True


def as_text(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Return headers as text."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
