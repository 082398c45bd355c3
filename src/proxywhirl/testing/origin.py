"""A web server that tells through which proxy a request came, and remembers what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

import h11

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.net.connection import Connection
from proxywhirl.testing.exits import Exits
from proxywhirl.testing.http_stream import HttpStream
from proxywhirl.testing.listener import Listener
from proxywhirl.testing.origin_pages import Framing, Page, page_for
from proxywhirl.testing.rate_limit import Counts, RateLimit

_REMEMBERED = 10_000
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it reached the origin; `proxy` is None when no proxy of the fleet sent it."""

    proxy: str | None
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body_length: int
    body_sha256: str

    def echo(self) -> bytes:
        """Return the JSON object that the origin answers with."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()


class Origin:
    """An HTTP/1.1 server on a loopback address; `proxywhirl.testing.origin_pages` lists its paths.

    `requests` holds the last 10,000 requests, oldest first, each noted when its body has arrived. `limit` may be set at
    any time and concerns the requests that arrive from then on.
    """

    def __init__(
        self,
        exits: Exits | None = None,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        limit: RateLimit | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.requests: deque[SeenRequest] = deque(maxlen=_REMEMBERED)
        self.limit = limit
        self._counts = Counts(clock)
        self._exits = exits or Exits()
        self._listener = Listener(self._serve, host=host, tls=tls)
        self.host = host
        self.port = self._listener.port
        authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{authority}"

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        exits: Exits | None = None,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        limit: RateLimit | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> AsyncIterator[Self]:
        """Run an origin for the length of a block.

        Args:
            exits: The fleet's (`fleet.exits`), so that its proxies are told apart.
            host: A loopback address.
            tls: Serve https with this context.
            limit: Refuse the proxies that ask too often.
            clock: Tells the time for that.
        """
        origin = cls(exits, host=host, tls=tls, limit=limit, clock=clock)
        try:
            origin._listener.open()
            yield origin
        finally:
            await origin._listener.aclose()

    async def _serve(self, connection: Connection) -> None:
        stream = HttpStream(connection, h11.SERVER)
        while isinstance(request := await stream.next_event(), h11.Request):
            seen = await self._see(request, stream)
            self.requests.append(seen)
            await _answer(stream, request.method, self._page(seen))
            if not stream.next_cycle():
                return

    def _page(self, seen: SeenRequest) -> Page:
        limit = self.limit
        if limit is None or self._counts.admits(seen.proxy, limit):
            return page_for(seen.path, seen.echo())
        framing = Framing.CHUNKED if limit.chunked else Framing.LENGTH
        return Page(iter((limit.page,)), len(limit.page), limit.status, 0.0, framing, "text/html", limit.fields)

    async def _see(self, request: h11.Request, stream: HttpStream) -> SeenRequest:
        proxy = self._exits.name_of(stream.connection)
        digest, length = hashlib.sha256(), 0
        while isinstance(event := await stream.next_event(), h11.Data):
            digest.update(event.data)
            length += len(event.data)
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw_items()
        )
        path = request.target.decode("ascii")
        return SeenRequest(proxy, request.method.decode("ascii"), path, headers, length, digest.hexdigest())


async def _answer(stream: HttpStream, method: bytes, page: Page) -> None:
    await asyncio.sleep(page.delay)
    if page.framing is Framing.CLOSE:
        await _answer_until_close(stream, method, page)
        return
    headers = [("Content-Type", page.content_type), *page.headers]
    if page.framing is Framing.LENGTH and page.status not in _BODILESS:
        headers.append(("Content-Length", str(page.length)))
    await stream.send(h11.Response(status_code=page.status, headers=headers))
    if method != b"HEAD" and page.status not in _BODILESS:
        for data in page.body:
            await stream.send(h11.Data(data))
    await stream.send(h11.EndOfMessage())


async def _answer_until_close(stream: HttpStream, method: bytes, page: Page) -> None:
    """Answer past h11, which would choose chunked coding."""
    writer = stream.connection.writer
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {page.content_type}\r\nConnection: close\r\n\r\n".encode())
    if method != b"HEAD":
        writer.writelines(page.body)
    await writer.drain()
