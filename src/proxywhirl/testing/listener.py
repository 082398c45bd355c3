"""A listening socket that can refuse and accept by turns without losing its port.

Rules: the port is held by a second socket that never listens, so that no other program can take it
while the listener is shut; opening and shutting take effect at once; every connection is served by a
task that the listener owns, and none survives it. A peer may break off as it likes; any other failure
of a server is a defect, kept and raised when the listener closes.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable

import h11

from proxywhirl.errors import AccountRefused, BadHandshake
from proxywhirl.net.connection import READ_LIMIT, Connection

_BACKLOG = 1024


class Listener:
    """Serve connections on a free port of a loopback address.

    Args:
        serve: Serves one connection; the listener closes it afterwards.
        host: The address to listen on.
        tls: Speak TLS with this context.
    """

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
