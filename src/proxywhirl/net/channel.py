"""A connection to a proxy at the least cost: a bare socket, its bytes counted, and TLS over any such channel.

It costs a few system calls and no buffer of its own, so that thousands of probes fit into one event loop; for
traffic there is `net.connection`. Bytes are counted above TCP: of TLS its records, not what is inside them. A channel
belongs to one task, which closes it. What was read too far stays for the next reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import ssl
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from proxywhirl.net.connection import HandshakeDriver
from proxywhirl.wire.steps import ReceiveExactly, ReceiveSome, ReceiveUntil, Send, Step

_CHUNK = 16 * 1024  # bytes


class Channel(HandshakeDriver):
    """Bytes both ways. What fails raises OSError, what ends too early EOFError."""

    __slots__ = ("_unread",)

    def __init__(self) -> None:
        self._unread = b""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of it."""

    @abstractmethod
    async def _receive(self) -> bytes:
        """Return some bytes as they arrive, or b"" when the other side has ended."""

    async def receive(self) -> bytes:
        """Return what has arrived, at least one byte, or b"" when the other side has ended."""
        data, self._unread = self._unread, b""
        return data or await self._receive()

    async def _carry_out(self, step: Step) -> bytes:
        match step:
            case Send(data):
                await self.send(data)
                return b""
            case ReceiveExactly(count):
                while len(self._unread) < count:
                    await self._read_on()
                return self._take(count)
            case ReceiveSome(limit):
                self._unread = await self.receive()
                return self._take(limit)
            case ReceiveUntil(delimiter, limit):
                while (end := self._unread.find(delimiter)) < 0 and len(self._unread) < limit:
                    await self._read_on()
                if end < 0 or end + len(delimiter) > limit:
                    raise asyncio.LimitOverrunError(f"more than {limit} bytes before the delimiter", limit)
                return self._take(end + len(delimiter))

    async def _read_on(self) -> None:
        data = await self._receive()
        if not data:
            raise EOFError
        self._unread += data

    def _take(self, count: int) -> bytes:
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken


class Line(Channel):
    """A TCP connection; `bytes_up` and `bytes_down` count what went over it."""

    __slots__ = ("_loop", "_socket", "_waiting_since", "bytes_down", "bytes_up")

    def __init__(self, family: socket.AddressFamily) -> None:
        """Take a descriptor. Raises OSError where there is none left."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        # A handshake is a sequence of small messages, none of which may wait for the last one's acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting_since: float | None = None
        self.bytes_up = self.bytes_down = 0

    async def connect(self, host: str, port: int) -> None:
        """Connect to an address, not a name. Raises OSError."""
        code = self._socket.connect_ex((host, port))
        if code == errno.EINPROGRESS:
            await self._ready(self._loop.add_writer, self._loop.remove_writer)
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        self.bytes_up += len(data)
        while True:
            with contextlib.suppress(BlockingIOError):
                data = data[self._socket.send(data) :]
            if not data:
                return
            await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _receive(self) -> bytes:
        while True:
            # Nothing is there right after a question: to look before it is told would be one system call for nothing.
            await self._ready(self._loop.add_reader, self._loop.remove_reader)
            with contextlib.suppress(BlockingIOError):
                data = self._socket.recv(_CHUNK)
                self.bytes_down += len(data)
                return data

    async def _ready(self, add: _Watch, remove: Callable[[int], object]) -> None:
        """Wait until the socket can go on."""
        ready = self._loop.create_future()
        self._waiting_since = self._loop.time()
        descriptor = self._socket.fileno()
        add(descriptor, _wake, ready)
        try:
            await ready
        finally:
            remove(descriptor)  # before the socket closes: then another one may get its number
        self._waiting_since = None

    def silence(self) -> float:
        """Return for how many seconds the other side has been waited for in vain; 0 where it has something for us now.

        Asks the system itself, since a busy loop may not have looked for long.
        """
        if self._waiting_since is None:
            return 0.0
        look = select.poll()
        look.register(self._socket, select.POLLIN)
        return 0.0 if look.poll(0) else self._loop.time() - self._waiting_since

    def close(self) -> None:
        """Close at once; what is unread is dropped."""
        self._socket.close()


_Watch: TypeAlias = Callable[..., object]


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class TLSChannel(Channel):
    """The client's side of TLS over another channel, which may be TLS itself."""

    __slots__ = ("_below", "_incoming", "_outgoing", "_tls")

    def __init__(self, below: Channel, context: ssl.SSLContext, hostname: str) -> None:
        super().__init__()
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)

    async def start(self) -> None:
        """Agree on keys and verify the certificate. Raises ssl.SSLError, OSError or EOFError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._feed()
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        self._tls.write(data)  # memory has room for all of it
        await self._flush()

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._feed()
            except ssl.SSLZeroReturnError:  # the other side has said goodbye
                return b""

    async def _feed(self) -> None:
        await self._flush()  # the other side may wait for it
        data = await self._below.receive()
        if not data:
            raise EOFError  # without TLS's goodbye: cut, not ended
        self._incoming.write(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._below.send(data)
