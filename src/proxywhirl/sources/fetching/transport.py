"""HTTP over guarded connections, as httpx2 wants it: no cookies, no environment, no redirects but those we follow."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore2
import httpx2

from proxywhirl.sources.fetching.guard import GuardedBackend


class GuardedTransport(httpx2.AsyncBaseTransport):
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
        transport=GuardedTransport(backend, tls, connections),
        timeout=timeout,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
        max_redirects=0,
    )
