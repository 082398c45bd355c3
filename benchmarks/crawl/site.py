"""The site that is crawled: each page always answers in the same way, whoever asks.

A page's path is `/page/NUMBER/KIND`. Each answer that the site sends whole tells the page's number in the field
`Page`, so that a crawler knows it from an answer of the gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from proxywhirl.net.connection import Connection
from proxywhirl.testing.server import LoopbackServer

__all__ = ["KINDS", "MIXED", "STATUSES", "Page", "Site", "body_of"]

GOOD = "good"
MIXED = "mixed"
"""Stands for pages that fail each in another way."""

STATUSES: dict[str, tuple[int, int | None]] = {
    GOOD: (200, None),
    "403": (403, None),
    "404": (404, None),
    "429": (429, None),
    "429-after": (429, 30),
    "451": (451, None),
    "500": (500, None),
    "502": (502, None),
    "503": (503, None),
    "503-after": (503, 30),
    "999": (999, None),
}
"""The status of each kind that answers one, and the seconds of its `Retry-After`."""

KINDS = (*(kind for kind in STATUSES if kind != GOOD), "reset", "cut", "close", "nonsense", "hang")
"""The ways to fail. `close` ends the connection without a byte, `nonsense` sends a field's name with a space."""

_PADDING = b"." * 2000
_HANG = 600.0  # seconds, longer than any crawl


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site."""

    number: int
    kind: str = GOOD

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/page/{self.number}/{self.kind}"

    @property
    def good(self) -> bool:
        """Whether it works."""
        return self.kind == GOOD

    @property
    def status(self) -> int | None:
        """The status that it answers with, None where no whole answer comes."""
        status, _ = STATUSES.get(self.kind, (None, None))
        return status


def body_of(number: int) -> bytes:
    """Return the body of a page that answers."""
    return b"page %d\n" % number + _PADDING


class Site:
    """A web server with pages that fail, on a free port of 127.0.0.1. Made by `Site.start`.

    `tries` counts how often each page was asked for, by its number. `delay` is the seconds that every page takes.
    """

    def __init__(self, *, delay: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.tries: Counter[int] = Counter()
        self.delay = delay
        self.tls = tls
        self._server = LoopbackServer(self._serve, host="127.0.0.1", tls=tls)
        self.port = self._server.port

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, *, delay: float = 0.0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Run a site for the length of a block; https with a server's context."""
        site = cls(delay=delay, tls=tls)
        site._server.open()
        try:
            yield site
        finally:
            await site._server.aclose()

    def url(self, page: Page, host: str = "shop.example") -> str:
        """Return a page's URL; every host name is this site to the proxies of a fleet."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{page.path}"

    async def _serve(self, connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        _, _, number, kind = head.split(b" ", 2)[1].decode("ascii").split("/")
        page = Page(int(number), kind)
        self.tries[page.number] += 1
        await asyncio.sleep(self.delay)
        match page.kind:
            case "reset":
                connection.reset()
            case "close":
                pass
            case "hang":
                await asyncio.sleep(_HANG)
            case _:
                connection.writer.write(_answer(page))
                await connection.writer.drain()


def _answer(page: Page) -> bytes:
    """Return what is sent: a whole answer, or one that is cut short or no HTTP."""
    status, retry_after = STATUSES.get(page.kind, (200, None))
    body = body_of(page.number)
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 999
        reason = "Denied"
    asked = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    odd = "Odd Name: 1\r\n" if page.kind == "nonsense" else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\nPage: {page.number}\r\n{odd}{asked}"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body[: len(body) // 2] if page.kind == "cut" else body)
