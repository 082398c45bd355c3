"""HTTP/1.1 over a connection, one h11 event at a time: shared by the origin and the HTTP proxies."""

from __future__ import annotations

import h11

from proxywhirl.net.connection import Connection

_CHUNK = 64 * 1024  # bytes


class HttpStream:
    """One side of HTTP/1.1 on a connection."""

    def __init__(self, connection: Connection, role: type[h11.CLIENT | h11.SERVER]) -> None:
        self.connection = connection
        self.protocol = h11.Connection(role, max_incomplete_event_size=_CHUNK)

    async def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Return the next event, reading as needed; tell a client that waits for it to continue."""
        while (event := self.protocol.next_event()) is h11.NEED_DATA:
            if self.protocol.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self.protocol.receive_data(await self.connection.reader.read(_CHUNK))
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
