"""An open connection, and what carries out a handshake on any stream of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from typing import TypeVar

from proxywhirl.wire.steps import Handshake, ReceiveExactly, ReceiveSome, ReceiveUntil, Send, Step

T = TypeVar("T")

READ_LIMIT = 64 * 1024
"""The stream buffer's size in bytes; no `ReceiveUntil` may ask for more."""

_NO_LINGERING = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends RST instead of FIN
_CLOSE_GRACE = 1.0  # seconds: a TLS peer that never says goodbye must not hold the closer for asyncio's 30


class HandshakeDriver(ABC):
    """Carries out the steps of handshakes."""

    __slots__ = ()

    async def drive(self, handshake: Handshake[T]) -> T:
        """Carry out the steps of a handshake and return its result.

        Raises:
            OSError: The connection broke.
            EOFError: The other side closed the connection before the end.
            asyncio.LimitOverrunError: The other side sent more than a step allows.
        """
        with contextlib.closing(handshake):
            try:
                step = next(handshake)
                while True:
                    step = handshake.send(await self._carry_out(step))
            except StopIteration as end:
                result: T = end.value
                return result

    @abstractmethod
    async def _carry_out(self, step: Step) -> bytes:
        """Carry out one step and return what it is answered with."""


class Connection(HandshakeDriver):
    """A stream to a proxy, or through it to a target. Belongs to one event loop."""

    __slots__ = ("_socket", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._socket = writer.get_extra_info("socket")  # a TLS transport that is closed no longer tells it

    async def aclose(self) -> None:
        """Flush and close. Never raises for the network's sake; aborts after one second, or when cancelled."""
        self.writer.close()
        closed = asyncio.ensure_future(self._closed())  # waited for, not cancelled: a cancelled wait cannot be repeated
        try:
            await asyncio.wait({closed}, timeout=_CLOSE_GRACE)
        finally:
            if not closed.done():
                self.abort()
        await closed

    async def _closed(self) -> None:
        with contextlib.suppress(OSError):  # reset while closing: it is over all the same
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Close at once and drop what is unsent; the peer may take that for a regular end."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Close at once, with RST, so that the peer cannot take what it has got for the whole."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.abort()

    async def _carry_out(self, step: Step) -> bytes:
        match step:
            case Send(data):
                self.writer.write(data)
                await self.writer.drain()
                return b""
            case ReceiveExactly(count):
                return await self.reader.readexactly(count)
            case ReceiveSome(limit):
                return await self.reader.read(limit)
            case ReceiveUntil(delimiter, limit):
                data = await self.reader.readuntil(delimiter)
                if len(data) > limit:
                    raise asyncio.LimitOverrunError(f"more than {limit} bytes before the delimiter", len(data))
                return data
