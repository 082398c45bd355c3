"""A web server that tells through which proxy a request came, and remembers what it saw.

It answers by the path:

==================  ==============================================================
`/status/N`         status N (200 to 599) with the echo
`/bytes/N`          N bytes, where byte i is i modulo 256
`/slow?ms=N`        the echo after N milliseconds
`/stream?chunks=N`  N chunks of 1 KiB with chunked coding
`/close`            the echo without a length, ended by closing the connection
anything else       the echo: a JSON object that tells what was asked, through whom
==================  ==============================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Self

import h11

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.net.connection import Connection
from proxywhirl.testing.proxy import REMEMBERED, Exits
from proxywhirl.testing.server import HttpStream, LoopbackServer, as_text

_BODILESS = frozenset({204, 304})
_PATTERN = bytes(range(256)) * 256
_PATHS = re.compile(
    r"/(?:(status)/([2-5]\d\d)|(bytes)/(\d{1,10})|(slow)\?ms=(\d{1,6})|(stream)\?chunks=(\d{1,6})|(close))"
)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often one proxy may ask, and what it gets beyond that. With 0 requests the site is down for everybody.

    Args:
        requests: So many of a proxy are served within `seconds`; who is refused is not counted.
        seconds: The length of the window.
        status: Of the refusal, such as 429, 403 or 503; 200 with a `page` is a block page.
        retry_after: Seconds that the refusal asks to wait (`Retry-After`), None to ask for nothing.
        page: The refusal's body.
        headers: More headers of the refusal, such as the coding that the page is in.
        chunked: Send the page in chunks and without its length.
    """

    requests: int
    seconds: float = 60.0
    status: int = 429
    retry_after: int | None = None
    page: bytes = b"You ask too often.\n"
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False


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
    """An HTTP/1.1 server on a loopback address, made by `Origin.start`.

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
        self.requests: deque[SeenRequest] = deque(maxlen=REMEMBERED)
        self.limit = limit
        self._clock = clock
        self._served: dict[str | None, deque[float]] = {}  # when each proxy was; None for no proxy of the fleet
        self._exits = exits or Exits()
        self._listener = LoopbackServer(self._serve, host=host, tls=tls)
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
        if limit is None or self._admits(seen.proxy, limit):
            return page_for(seen.path, seen.echo())
        asked = () if limit.retry_after is None else (("Retry-After", str(limit.retry_after)),)
        framing = Framing.CHUNKED if limit.chunked else Framing.LENGTH
        headers = (*asked, *limit.headers)
        return Page(iter((limit.page,)), len(limit.page), limit.status, 0.0, framing, "text/html", headers)

    def _admits(self, proxy: str | None, limit: RateLimit) -> bool:
        """Tell whether a proxy may ask now, and count it if so."""
        now = self._clock.monotonic()
        times = self._served.setdefault(proxy, deque())
        while times and times[0] <= now - limit.seconds:
            times.popleft()
        if len(times) >= limit.requests:
            return False
        times.append(now)
        return True

    async def _see(self, request: h11.Request, stream: HttpStream) -> SeenRequest:
        proxy = self._exits.name_of(stream.connection)
        digest, length = hashlib.sha256(), 0
        while isinstance(event := await stream.next_event(), h11.Data):
            digest.update(event.data)
            length += len(event.data)
        headers = as_text(request.headers.raw_items())
        method, path = request.method.decode("ascii"), request.target.decode("ascii")
        return SeenRequest(proxy, method, path, headers, length, digest.hexdigest())


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


class Framing(Enum):
    """How the end of a body is told."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: `length` bytes in `body`, after `delay` seconds. `headers` come beside those of its framing."""

    body: Iterator[bytes]
    length: int
    status: int = 200
    delay: float = 0.0
    framing: Framing = Framing.LENGTH
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def page_for(path: str, echo: bytes) -> Page:
    """Return the page at a path with its query."""
    match = _PATHS.fullmatch(path)
    kind, number = (*filter(None, match.groups()), "0")[:2] if match else ("", "0")
    count = int(number)
    match kind:
        case "bytes":
            return Page(_pattern(count), count, content_type="application/octet-stream")
        case "stream":
            chunks = (_PATTERN[:1024] for _ in range(count))
            return Page(chunks, count * 1024, framing=Framing.CHUNKED, content_type="application/octet-stream")
        case "status":
            return Page(iter((echo,)), len(echo), status=count)
        case "slow":
            return Page(iter((echo,)), len(echo), delay=count / 1000)
        case "close":
            return Page(iter((echo,)), len(echo), framing=Framing.CLOSE)
        case _:
            return Page(iter((echo,)), len(echo))


def _pattern(count: int) -> Iterator[bytes]:
    for start in range(0, count, len(_PATTERN)):
        yield _PATTERN[: count - start]
