"""A connection whose reads can be begun, left and taken up again without losing a byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxywhirl.net.connection import Connection

_CHUNK = 64 * 1024  # bytes


class Stream:
    """Wraps a connection. `blocked` while `room` waits for the peer to take what it was sent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.blocked = False
        self._reading: asyncio.Task[bytes] | None = None

    async def read(self, patience: float) -> bytes | None:
        """Return what comes within `patience` seconds, `b""` at the end, None if nothing comes.

        Raises:
            OSError: The connection broke.
        """
        if self._reading is not None:
            done, _ = await asyncio.wait((self._reading,), timeout=patience)
            return self.take() if done else None
        try:
            async with asyncio.timeout(patience):
                return await self.connection.reader.read(_CHUNK)
        except TimeoutError:
            return None

    def begin(self, after: Callable[[], Awaitable[None]] | None = None) -> asyncio.Task[bytes]:
        """Begin a read, once `after` has returned, or return the one under way."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(after))
        return self._reading

    def take(self) -> bytes:
        """Return the bytes of the read that was begun and is done.

        Raises:
            OSError: The connection broke.
        """
        reading, self._reading = self._reading, None
        if reading is None:
            raise RuntimeError("no read was begun")
        return reading.result()

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

    def write_eof(self) -> None:
        """Tell the peer that nothing more will come, where the transport can."""
        if self.connection.writer.can_write_eof():
            self.connection.writer.write_eof()

    async def drain(self) -> None:
        """Wait until the buffer has room.

        Raises:
            OSError: The connection broke.
        """
        await self.connection.writer.drain()

    async def room(self) -> None:
        """Wait until the buffer has room; for ever on a broken connection, where reading tells the rest."""
        self.blocked = True
        try:
            await self.drain()
        except OSError:
            await asyncio.get_running_loop().create_future()
        self.blocked = False

    async def _read(self, after: Callable[[], Awaitable[None]] | None) -> bytes:
        if after is not None:
            await after()
        return await self.connection.reader.read(_CHUNK)
