"""An httpx2 transport that sends every request through the pool.

`httpx2.AsyncClient(transport=WhirlTransport(pool))` is all that it takes.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from types import NoneType

import httpx2

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import Blame, CacheError, ProxyGone
from proxywhirl.events import SessionMoved
from proxywhirl.integrations.httpx.connections import Identities
from proxywhirl.integrations.httpx.exchange import NETWORK_ERRORS, AttemptFailure, HttpxExchange, Sending
from proxywhirl.integrations.httpx.request import read_wish, target_of
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.pursuit import (
    Choose,
    Failed,
    Moved,
    NoChoice,
    Publish,
    Pursuit,
    Served,
    Try,
    Wait,
    choose,
)
from proxywhirl.rotation.retries.send_policy import SendPolicy, is_repeated
from proxywhirl.rotation.verdicts.response import Verdict
from proxywhirl.validation import require, require_number

_log = logging.getLogger(__name__)


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
        conduct: SendPolicy | None = None,
    ) -> None:
        require("pool", pool, Pool, "a Pool")
        require_number("attempt_timeout", attempt_timeout, "seconds")
        require_number("total_timeout", total_timeout, "seconds")
        require_number("max_identities", max_identities, whole=True)
        for name, context in (("tls", tls), ("proxy_tls", proxy_tls)):
            require(name, context, (ssl.SSLContext, NoneType), "an ssl.SSLContext or None")
        require("conduct", conduct, (SendPolicy, NoneType), "a SendPolicy or None")
        self._policy = conduct or SendPolicy()
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
            SiteResting: The target failed through several proxies, and rests for `retry_after` seconds, longer than the
                request may take.
            SessionLost: The proxy of a hard session cannot serve the request.
            ValueError: The extension `proxywhirl` wishes something that there is not.
            httpx2.UnsupportedProtocol: The URL is neither http:// nor https://.
            httpx2.TransportError: The failure of the last attempt, in httpx2's own types: ConnectError and
                ConnectTimeout before the request was sent, ProxyError where a proxy refused its account,
                ReadError, ReadTimeout, RemoteProtocolError… after. The message names the proxy.
        """
        wish, unsafe = read_wish(request)
        target = target_of(request)
        until = self._clock.monotonic() + self._total_timeout
        pursuit = Pursuit(self._policy, target, wish, request.method, until, unsafe=unsafe, clock=self._clock)
        sending = Sending(request, pursuit, target.site, self._identities, self._policy.classify, self._clock)
        steps = pursuit.steps()
        answer: Proxy | Moved | NoChoice | Served | Failed | None = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as end:
                return sending.ended(end.value)
            answer = None
            match command:
                case Choose():
                    sending.lease, answer = choose(self._pool, command)
                case Try():
                    answer = await self._try(sending)
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Publish(SessionMoved() as moved):
                    told = target.site, moved.proxy, moved.why
                    _log.info("a session of %s goes through %s from now on: %s", *told)

    async def _try(self, sending: Sending) -> Served | Failed | None:
        lease = sending.lease
        if lease is None:
            raise RuntimeError("an attempt was begun without a proxy")
        try:
            endpoint = lease.endpoint()
        except ProxyGone:
            lease.release()
            return None
        except CacheError as exc:
            text = f"{lease.proxy.url}: its credential cannot be read: {exc}"
            outcome = Outcome(False, blame=Blame.US, error=text)
            lease.report(outcome)
            failure = AttemptFailure(httpx2.ConnectError, text, Verdict(Blame.US), sent=False, cause=exc)
            return sending.failed(failure, outcome)
        exchange = HttpxExchange(sending, lease, endpoint)
        try:
            async with asyncio.timeout(self._attempt_timeout) as limit:
                sending.response = await exchange.response()
        except NETWORK_ERRORS as exc:
            if isinstance(exc, TimeoutError) and not limit.expired():
                await exchange.close()
                raise  # the request's body raised it
            failure = await exchange.fail(exc)
            return sending.failed(failure, exchange.outcome(failure))
        except BaseException:
            await exchange.close()
            raise
        if exchange.held and is_repeated(exchange.record.verdict):
            return sending.refused(exchange.outcome(None))
        return Served()

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        await self._identities.aclose()
