"""A crawler: it asks for pages in a given order, so many at once, and notes what came for each.

Through the gateway it speaks HTTP over a connection for each page; as the library's client it is `AsyncProxyWhirl`. In
a tunnel the gateway sees none of the pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx2

from benchmarks.crawl.ground import Home
from benchmarks.crawl.site import Page, Site, body_of
from proxywhirl import AsyncProxyWhirl
from proxywhirl.errors import PoolEmpty, SiteResting

__all__ = ["CLIENTS", "Answer", "Fetch", "crawl"]

PATIENCE = 90.0  # seconds for a page
REFUSALS = frozenset({503, 504})
"""Statuses by which the gateway refuses a request, or gives it up, where they are its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for a page, after so many `seconds`.

    `status` is None where no answer came; `own` says that the site sent it, `whole` that it is all there. `words` are
    those of whoever answered in the site's place.
    """

    status: int | None
    own: bool
    whole: bool
    seconds: float = 0.0
    words: str = ""

    @property
    def served(self) -> bool:
        """Whether the page came as it is."""
        return self.status == 200 and self.own and self.whole  # noqa: PLR2004

    @property
    def refused(self) -> bool:
        """Whether it was not the site that refused, nor its connection that broke, but the sender."""
        return not self.own and self.status in REFUSALS

    def __str__(self) -> str:
        """Return the status, marked where it is not the site's or not whole."""
        return f"{self.status or 'broken'}{'' if self.own or self.status is None else ' ours'}" + (
            "" if self.whole or self.status is None else " cut"
        )


BROKEN = Answer(None, own=False, whole=False)
Fetch = Callable[[str, Page], Awaitable[Answer]]
"""Ask for a page at a URL."""


async def crawl(fetch: Fetch, site: Site, pages: Sequence[Page], at_once: int) -> dict[Page, Answer]:
    """Ask for every page once, in order."""
    answers: dict[Page, Answer] = {}
    left = iter(pages)

    async def work() -> None:
        for page in left:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await fetch(site.url(page), page)
            except TimeoutError:
                answer = BROKEN
            seconds = time.perf_counter() - began
            answers[page] = Answer(answer.status, answer.own, answer.whole, seconds, answer.words)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return answers


@contextlib.asynccontextmanager
async def through_gateway(home: Home, _trust: ssl.SSLContext | None) -> AsyncIterator[Fetch]:
    """Ask a gateway for http:// pages."""
    async with home.serving() as port:

        async def fetch(url: str, page: Page) -> Answer:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return BROKEN
            authority = url.split("/")[2]
            writer.write(f"GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
            received = b""
            try:
                while piece := await reader.read(65536):
                    received += piece
            except OSError:
                return read(received, page, broken=True)
            finally:
                writer.close()
            return read(received, page, broken=False)

        yield fetch


def read(received: bytes, page: Page, *, broken: bool) -> Answer:
    """Read an answer that ended with its connection."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return BROKEN
    first, *fields = head.decode("latin-1").split("\r\n")
    own = f"page: {page.number}" in (field.lower() for field in fields)
    whole = not broken and (not own or body == body_of(page.number))
    return Answer(int(first.split(" ")[1]), own, whole, words="" if own else body.decode(errors="replace"))


@contextlib.asynccontextmanager
async def through_tunnels(home: Home, trust: ssl.SSLContext | None) -> AsyncIterator[Fetch]:
    """Ask for https:// pages through the gateway, a tunnel for each."""
    async with home.serving() as port:

        async def fetch(url: str, page: Page) -> Answer:
            proxy = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(proxy=proxy, verify=trust or True, trust_env=False, timeout=PATIENCE) as one:
                return await asked(one.get(url), page)

        yield fetch


@contextlib.asynccontextmanager
async def with_the_library(home: Home, trust: ssl.SSLContext | None) -> AsyncIterator[Fetch]:
    """Ask with the library's client."""
    async with AsyncProxyWhirl(home=home.folder, tls=trust, timeout=PATIENCE) as whirl:

        async def fetch(url: str, page: Page) -> Answer:
            return await asked(whirl.get(url), page)

        yield fetch


async def asked(response: Awaitable[httpx2.Response], page: Page) -> Answer:
    """Wait for a response; translate what is raised to what a gateway answers."""
    try:
        came = await response
    except (PoolEmpty, SiteResting) as exc:
        return Answer(503, own=False, whole=True, words=str(exc))
    except httpx2.ProxyError as exc:  # the gateway opened no tunnel
        status = str(exc)[:3]
        return Answer(int(status) if status.isdigit() else 502, own=False, whole=True, words=str(exc))
    except httpx2.TransportError as exc:
        return Answer(502, own=False, whole=True, words=str(exc))
    own = came.headers.get("Page") == str(page.number)
    whole = not own or came.content == body_of(page.number)
    return Answer(came.status_code, own, whole, words="" if own else came.text)


CLIENTS: dict[str, tuple[Callable[[Home, ssl.SSLContext | None], contextlib.AbstractAsyncContextManager[Fetch]], bool]]
CLIENTS = {
    "gateway": (through_gateway, False),
    "tunnel": (through_tunnels, True),
    "library": (with_the_library, False),
    "library-https": (with_the_library, True),
}
"""The clients by name, and whether the pages that they ask for are https."""
