"""An httpx2 transport that sends every request through the pool.

`httpx2.AsyncClient(transport=WhirlTransport(pool))` is all that it takes. The rules:

- each attempt goes through another proxy of the pool, each proxy at most once in a round (an attempt on a
  kept connection that turns out to be closed does not count); never directly;
- another proxy is tried until the caller has been given the first byte of a response, as far as `rotation.retry` allows
  it, and while the body can be sent again;
- a response that is a ban, as far as it is held (64 KiB), is one more reason to try another proxy; where no attempt is
  left, the last response is handed on as it came;
- a 407 on a request that the proxy forwards itself means that nothing reached the target: it is tried again
  whatever its method, and never handed on;
- what a request wishes of its proxy stands in its extension `proxywhirl` (see `integrations.httpx_wish`);
- no environment variable changes any of this.
"""

from __future__ import annotations

import ssl
from types import NoneType

import httpx2

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.integrations.httpx.connections import Identities
from proxywhirl.integrations.httpx.failover import Pursuit
from proxywhirl.integrations.httpx.request import read_wish, target_of
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.send_policy import Conduct
from proxywhirl.validation import require, require_number


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
        conduct: How far requests are pursued, and how responses are judged; None for its defaults.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A number is not more than 0.
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
        conduct: Conduct | None = None,
    ) -> None:
        require("pool", pool, Pool, "a Pool")
        require_number("attempt_timeout", attempt_timeout, "seconds")
        require_number("total_timeout", total_timeout, "seconds")
        require_number("max_identities", max_identities, whole=True)
        for name, context in (("tls", tls), ("proxy_tls", proxy_tls)):
            require(name, context, (ssl.SSLContext, NoneType), "an ssl.SSLContext or None")
        require("conduct", conduct, (Conduct, NoneType), "a Conduct or None")
        self._conduct = conduct or Conduct()
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
            SiteResting: The target failed through several proxies and is left alone for `retry_after` seconds.
            SessionLost: The proxy of a hard session cannot serve the request.
            ValueError: The extension `proxywhirl` wishes something that there is not.
            httpx2.UnsupportedProtocol: The URL is neither http:// nor https://.
            httpx2.TransportError: The failure of the last attempt, in httpx2's own types: ConnectError and
                ConnectTimeout before the request was sent, ProxyError where a proxy refused its account,
                ReadError, ReadTimeout, RemoteProtocolError… after. The message names the proxy.
        """
        wish, unsafe = read_wish(request)
        until = self._clock.monotonic() + self._total_timeout
        retries = self._conduct.begin(request.method, until=until, unsafe=unsafe)
        pursuit = Pursuit(
            request,
            pool=self._pool,
            identities=self._identities,
            target=target_of(request.url),
            wish=wish,
            retries=retries,
            judge=self._conduct.judge,
            attempt_timeout=self._attempt_timeout,
            clock=self._clock,
        )
        return await pursuit.response()

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        await self._identities.aclose()
