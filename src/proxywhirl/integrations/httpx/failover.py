"""One httpx2 request, through one proxy after another until one of them serves it."""

from __future__ import annotations

import asyncio
import logging

import httpx2

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame, CacheError, PoolEmpty, ProxyGone, SessionLost, SiteResting
from proxywhirl.integrations.httpx.connections import Identities
from proxywhirl.integrations.httpx.exchange import Exchange, RequestBody
from proxywhirl.integrations.httpx.failure import NETWORK_ERRORS, Failure
from proxywhirl.integrations.httpx.request import EXTENSION
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.retry import Retries
from proxywhirl.rotation.retries.send_policy import Judge, is_repeated
from proxywhirl.rotation.selection.request_options import RequestOptions
from proxywhirl.urls import ProxyURL

_log = logging.getLogger(__name__)


class Pursuit:
    """The attempts at one request. See `WhirlTransport` for the arguments that it has too."""

    def __init__(
        self,
        request: httpx2.Request,
        *,
        pool: Pool,
        identities: Identities,
        target: Target,
        wish: RequestOptions,
        retries: Retries,
        judge: Judge,
        attempt_timeout: float,
        clock: Clock,
    ) -> None:
        self._request = request
        self._body = RequestBody(_asynchronous(request))
        self._pool = pool
        self._identities = identities
        self._target = target
        self._wish = wish
        self._retries = retries
        self._judge = judge
        self._attempt_timeout = attempt_timeout
        self._clock = clock
        self._held: httpx2.Response | None = None
        self._failure: Failure | None = None
        self._moved_from: str | None = None

    async def response(self) -> httpx2.Response:
        """Return the response; see `WhirlTransport.handle_async_request` for what is raised."""
        response = await self._pursued()
        response.extensions[EXTENSION]["moved_from"] = self._moved_from
        return response

    async def _pursued(self) -> httpx2.Response:
        while True:
            try:
                lease = await self._choose()
            except (PoolEmpty, SiteResting, SessionLost):
                self._retries.forgo()
                if self._held is None and self._failure is None:
                    raise
                return self._last()
            try:
                endpoint = lease.endpoint()
            except ProxyGone:
                lease.release()
                self._retries.tried.add(lease.proxy.key)
                continue
            except CacheError as exc:
                if self._stops_unread(lease, exc):
                    return self._last()
                continue
            exchange = self._exchange(lease, endpoint)
            result = await self._attempt(exchange)
            if isinstance(result, httpx2.Response) and not (exchange.held and is_repeated(exchange.verdict)):
                return result
            if self._stops(lease, exchange, result):
                return self._last()

    async def _choose(self) -> Lease:
        """Choose a proxy that was not tried in this round; wait for one, unless there is a response in hand."""
        retries, wish = self._retries, self._wish
        while True:
            try:
                lease = self._pool.acquire(self._target, session=wish.session, exclude=retries.tried, **wish.wishes)
            except PoolEmpty as exc:
                seconds = None
                if self._held is None:
                    seconds = retries.pause(self._clock.monotonic(), free_in=exc.retry_after)
                if seconds is None:
                    raise
            else:
                self._note_move(lease)
                return lease
            await asyncio.sleep(seconds)

    def _note_move(self, lease: Lease) -> None:
        if lease.moved_from is not None:
            self._moved_from = self._moved_from or lease.moved_from
            _log.info("a session of %s goes through %s from now on: %s", self._target.site, lease.proxy, lease.why)

    def _exchange(self, lease: Lease, endpoint: ProxyURL) -> Exchange:
        return Exchange(
            self._request,
            self._body,
            lease=lease,
            endpoint=endpoint,
            identities=self._identities,
            clock=self._clock,
            site=self._target.site,
            judge=self._judge,
            repeatable=self._retries.repeatable(sent=True),
        )

    async def _attempt(self, exchange: Exchange) -> httpx2.Response | Failure:
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

    def _stops(self, lease: Lease, exchange: Exchange, result: httpx2.Response | Failure) -> bool:
        """Note an attempt that did not serve, and tell whether it was the last."""
        sent, blame = True, exchange.verdict.blame
        if isinstance(result, Failure):
            self._failure = result
            sent, blame = result.sent, result.blame
        else:
            self._held = result
        if not (isinstance(result, Failure) and result.stale):
            self._retries.attempted(lease.proxy.key)
        if isinstance(result, Failure) and result.final:
            return True
        now, replayable = self._clock.monotonic(), self._body.replayable
        return self._retries.stop(now, sent=sent, blame=blame, replayable=replayable) is not None

    def _stops_unread(self, lease: Lease, exc: CacheError) -> bool:
        """Note an attempt at a proxy whose credential cannot be read, and tell whether it was the last."""
        text = f"{lease.proxy.url}: its credential cannot be read: {exc}"
        lease.report(Outcome(False, blame=Blame.US, error=text))
        self._failure = Failure(httpx2.ConnectError, text, Blame.US, sent=False, cause=exc)
        self._retries.attempted(lease.proxy.key)
        now, replayable = self._clock.monotonic(), self._body.replayable
        return self._retries.stop(now, sent=False, blame=Blame.US, replayable=replayable) is not None

    def _last(self) -> httpx2.Response:
        """Hand on the last response that there was; where there was none, raise the last failure."""
        if self._held is not None:
            return self._held
        if self._failure is None:
            raise RuntimeError("a request ended without an attempt")
        raise self._failure.error(self._retries.attempts) from self._failure.cause


def _asynchronous(request: httpx2.Request) -> httpx2.AsyncByteStream:
    if not isinstance(request.stream, httpx2.AsyncByteStream):
        raise TypeError("the body of the request is a synchronous stream: an asynchronous client cannot send it")
    return request.stream
