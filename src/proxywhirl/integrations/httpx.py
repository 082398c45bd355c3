"""An httpx2 transport that sends every request through the pool.

`httpx2.AsyncClient(transport=WhirlTransport(pool))` is all that it takes. The rules:

- each attempt goes through another proxy of the pool, each proxy at most once for a request (an attempt on a
  kept connection that turns out to be closed does not count); never directly;
- another proxy is tried until the caller has been given the first byte of a response, under the rule of
  `rotation.retry.may_retry`, and while the body can be sent again;
- a 407 on a request that the proxy forwards itself means that nothing reached the target: it is tried again
  whatever its method, and never handed on;
- no environment variable changes any of this.
"""

from __future__ import annotations

import asyncio
import ssl

import httpx2

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import PoolEmpty, ProxyGone
from proxywhirl.integrations.httpx_connections import Identities
from proxywhirl.integrations.httpx_exchange import Exchange, RequestBody
from proxywhirl.integrations.httpx_failure import NETWORK_ERRORS, Failure
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retry import may_retry
from proxywhirl.urls import ProxyURL

__all__ = ["WhirlTransport"]


class WhirlTransport(httpx2.AsyncBaseTransport):
    """Rotate the requests of an `httpx2.AsyncClient` over a pool. Belongs to one event loop.

    Args:
        pool: Where the proxies come from and where outcomes are reported.
        attempt_timeout: Seconds for one attempt, from dialling to the head of the response (or to its end,
            where it declares at most 64 KiB). The request's own httpx2 timeouts can only shorten it.
        total_timeout: Seconds after which no further attempt is begun.
        tls: For targets; None stands for httpx2's default without its environment variables.
        proxy_tls: For proxies of the scheme https; None stands for the system's trusted authorities.
        max_identities: How many proxies' idle connections are kept; the least recently used are closed.
        clock: Measures latencies and the total.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        attempt_timeout: float = 10.0,
        total_timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        max_identities: int = 128,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._pool = pool
        self._attempt_timeout = attempt_timeout
        self._total_timeout = total_timeout
        self._clock = clock
        self._identities = Identities(
            max_identities,
            timeout=attempt_timeout,
            tls=tls or httpx2.create_ssl_context(trust_env=False),
            proxy_tls=proxy_tls,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request through one proxy after another until one of them answers.

        Raises:
            PoolEmpty: There was no proxy to try; nothing was sent.
            httpx2.TransportError: The failure of the last attempt, in httpx2's own types: ConnectError and
                ConnectTimeout before the request was sent, ProxyError where a proxy refused its account,
                ReadError, ReadTimeout, RemoteProtocolError… after. The message names the proxy.
        """
        body = RequestBody(_asynchronous(request))
        give_up = self._clock.monotonic() + self._total_timeout
        tried: set[str] = set()
        failure: Failure | None = None
        while True:
            try:
                lease = self._pool.acquire(exclude=tried)
            except PoolEmpty:
                if failure is None:
                    raise
                raise failure.error(len(tried)) from failure.cause
            try:
                endpoint = lease.endpoint()
            except ProxyGone:
                lease.release()
                continue
            result = await self._attempt(lease, endpoint, request, body)
            if isinstance(result, httpx2.Response):
                return result
            failure = result
            if not failure.stale:
                tried.add(lease.proxy.key)
            retry = body.replayable and may_retry(request.method, sent=failure.sent) and not failure.final
            if not retry or self._clock.monotonic() >= give_up:
                raise failure.error(len(tried)) from failure.cause

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        await self._identities.aclose()

    async def _attempt(
        self, lease: Lease, endpoint: ProxyURL, request: httpx2.Request, body: RequestBody
    ) -> httpx2.Response | Failure:
        exchange = Exchange(
            request, body, lease=lease, endpoint=endpoint, identities=self._identities, clock=self._clock
        )
        try:
            async with asyncio.timeout(self._attempt_timeout) as limit:
                return await exchange.response()
        except NETWORK_ERRORS as exc:
            if isinstance(exc, TimeoutError) and not limit.expired():
                await exchange.close()
                raise  # the request's body raised it
            return await exchange.fail(exc)
        except BaseException:
            await exchange.close()
            raise


def _asynchronous(request: httpx2.Request) -> httpx2.AsyncByteStream:
    if not isinstance(request.stream, httpx2.AsyncByteStream):
        raise TypeError("the body of the request is a synchronous stream: an asynchronous client cannot send it")
    return request.stream
