"""HTTP to where a source may lead: the address that is checked is the one that is connected to.

- A name is looked up once, here, so that a name server that answers differently the next time gains nothing.
- A client remembers nothing from one source to the next: no cookies, no environment, no redirects but those that the
  fetcher follows.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore2
import httpx2

from proxywhirl.errors import SourceError

IsPublic = Callable[[str], bool]
"""Tells whether an address is one of the public internet."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Looks up the addresses of a host and port, in the order in which to try them."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections for httpcore2, to those addresses of a host alone that are `allowed`.

    `connect_tcp` raises `SourceError` where a host has none.
    """

    def __init__(self, allowed: IsPublic, resolver: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolver
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look the host up and try its addresses, one after the other, within the time."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout("looking up the host took too long") from exc
        except (OSError, UnicodeError) as exc:
            raise httpcore2.ConnectError("its name cannot be resolved") from exc
        allowed = list(filter(self._allowed, addresses))
        if not allowed:
            raise SourceError(
                f"{host} is not on the public internet: only a source that you added yourself may be there"
            )
        share = None if timeout is None else timeout / len(allowed)
        for address in allowed[:-1]:
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # the last one's failure is told
        return await self._network.connect_tcp(allowed[-1], port, share, local_address, socket_options)


class _GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests over the connections of one backend. Raises what httpcore2 and the backend raise."""

    def __init__(self, backend: GuardedBackend, tls: ssl.SSLContext, connections: int) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls, max_connections=connections, network_backend=backend
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response with its body still to come."""
        response = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        assert isinstance(response.stream, AsyncIterable)  # noqa: S101  # as of every asynchronous pool
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response.stream), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


def guarded_client(
    backend: GuardedBackend, tls: ssl.SSLContext, timeout: httpx2.Timeout, connections: int
) -> httpx2.AsyncClient:
    """Return a client that remembers nothing from one source to the next."""
    return httpx2.AsyncClient(
        transport=_GuardedTransport(backend, tls, connections),
        timeout=timeout,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
        max_redirects=0,
    )
