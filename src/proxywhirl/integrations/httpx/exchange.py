"""One attempt to serve an httpx2 request through one proxy, and what its failure means.

A failure's text is ours: what a proxy sends back may echo the credential that it was sent, so the words of a protocol
error are neither quoted nor chained.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from http import HTTPStatus

import httpcore2
import httpx2

from proxywhirl.clock import Clock
from proxywhirl.errors import AccountRefused, Blame, UpstreamError
from proxywhirl.integrations.httpx.connections import THE_PROXY, Identities
from proxywhirl.integrations.httpx.request import EXTENSION
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.retries.pursuit import Failed, NoChoice, Pursuit, Stop
from proxywhirl.rotation.retries.send_policy import HELD_RESPONSE, AttemptRecord, Classify, is_repeated
from proxywhirl.rotation.verdicts.response import CUT, SILENT, Verdict, sign_of
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.decoding import classify_forwarded, decode_failure
from proxywhirl.wire.http import authorization

NETWORK_ERRORS = (
    UpstreamError,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    TimeoutError,
)
"""What an attempt may raise because of the network; all else is the caller's."""

_CALLERS_FAULT = (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol)
_TIMEOUTS = (httpcore2.TimeoutException, TimeoutError)


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt failed: what to raise, whom to blame, and whether the request may have been acted on.

    It is `final` where the request itself is wrong, so that no other proxy could help. It is `stale` where a kept
    connection had been closed meanwhile, which says nothing about the proxy: that may be tried again.
    """

    kind: type[httpx2.TransportError]
    text: str
    verdict: Verdict
    sent: bool
    cause: BaseException | None
    final: bool = False
    stale: bool = False

    def error(self, proxies: int, why: object = None) -> httpx2.TransportError:
        """Build the error that ends a request for which so many proxies were tried; raise it from `cause`.

        `why` no further one was tried is told where that says who failed.
        """
        before = "" if proxies <= 1 else f"{proxies} proxies were tried; the last: "
        after = f"; {why}" if why is Stop.OWN else ""
        return self.kind(f"{before}{self.text}{after}")


def diagnose(
    exc: Exception, proxy: Proxy, *, sent: bool, answered: bool = False, reused: bool, tunnel_tls: bool
) -> AttemptFailure:
    """Find out who is to blame for one of `NETWORK_ERRORS`.

    `sent` says whether any byte of the request may have left, `answered` whether the head of a response came, `reused`
    whether the connection had served another request before, `tunnel_tls` whether the proxy only moved the TLS records
    of the target.
    """
    if isinstance(exc, UpstreamError):
        reached = sent and not isinstance(exc, AccountRefused)
        said = decode_failure(proxy.attributes.provider, exc)
        text = str(exc) if said is None else f"{exc} ({said.rule})"
        return AttemptFailure(_kind(exc), text, said or Verdict(exc.blame, sign_of(exc)), reached, exc)
    if isinstance(exc, _CALLERS_FAULT):
        kind = getattr(httpx2, type(exc).__name__)
        return AttemptFailure(kind, str(exc), Verdict(Blame.US), sent, exc, final=True)
    if isinstance(exc, _TIMEOUTS):
        kind = getattr(httpx2, type(exc).__name__, httpx2.ReadTimeout if sent else httpx2.ConnectTimeout)
        verdict = Verdict(Blame.PROXY, SILENT if sent else None)
        return AttemptFailure(kind, f"{proxy.url} gave no answer in time", verdict, sent, exc)
    blame = Blame.TARGET_THROUGH_PROXY if tunnel_tls else Blame.PROXY
    stale = reused and not answered
    if stale:
        blame = Blame.US  # either side may close an idle connection at any moment; to reuse it was our risk
    verdict = Verdict(blame, CUT if sent and not stale else None)
    kind = getattr(httpx2, type(exc).__name__)
    if isinstance(exc, httpcore2.ProtocolError):
        text = f"{proxy.url} closed the connection early or sent no valid HTTP"
        return AttemptFailure(kind, text, verdict, sent, None, stale=stale)
    return AttemptFailure(kind, f"{proxy.url} broke the connection", verdict, sent, exc, stale=stale)


def _kind(exc: UpstreamError) -> type[httpx2.TransportError]:
    if isinstance(exc, AccountRefused):
        return httpx2.ProxyError
    timed_out = isinstance(exc.__cause__, TimeoutError)
    return httpx2.ConnectTimeout if timed_out else httpx2.ConnectError


class RequestBody(httpx2.AsyncByteStream):
    """A request's body, counted. `replayable` until it is begun, and for good where it is in memory."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self.replayable = True
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.replayable = isinstance(self._stream, httpx2.ByteStream)
        self.sent = 0
        chunks = aiter(self._stream)
        try:
            async for chunk in chunks:
                self.sent += len(chunk)
                yield chunk
        finally:
            if isinstance(chunks, AsyncGenerator):  # of a failed attempt: not left to the garbage collector
                await chunks.aclose()


class Sending:
    """One request on its way: what all attempts at it have in common.

    `lease` is of the proxy that was chosen last. `response` is the last one that there was, `failure` the last failure.
    `anew` once a kept connection turned out to be closed: no other kept one is tried.
    """

    def __init__(
        self,
        request: httpx2.Request,
        pursuit: Pursuit,
        site: str,
        identities: Identities,
        classify: Classify,
        clock: Clock,
    ) -> None:
        if not isinstance(request.stream, httpx2.AsyncByteStream):
            raise TypeError("the body of the request is a synchronous stream: an asynchronous client cannot send it")
        self.request = request
        self.pursuit = pursuit
        self.site = site
        self.identities = identities
        self.classify = classify
        self.clock = clock
        self.body = RequestBody(request.stream)
        self.lease: Lease | None = None
        self.response: httpx2.Response | None = None
        self.failure: AttemptFailure | None = None
        self.anew = False

    def failed(self, failure: AttemptFailure, outcome: Outcome) -> Failed:
        """Note a failure; where it lies in the request itself, that cannot be sent again."""
        self.failure = failure
        self.anew = self.anew or failure.stale
        replayable = self.body.replayable and not failure.final
        return self._reported(Failed(outcome, sent=failure.sent, replayable=replayable, counted=not failure.stale))

    def refused(self, outcome: Outcome) -> Failed:
        """Note that the response may be a better one through another proxy."""
        return self._reported(Failed(outcome, held=True, replayable=self.body.replayable))

    def _reported(self, attempt: Failed) -> Failed:
        """Add what the pool knows of the page, now that the attempt is reported."""
        if self.lease is None:
            return attempt
        return replace(attempt, targets_own=self.lease.targets_own, page_served=self.lease.page_served)

    def ended(self, why: NoChoice | Stop | None) -> httpx2.Response:
        """Return the last response; without any, raise the last failure."""
        if self.response is not None:
            self.response.extensions[EXTENSION]["moved_from"] = self.pursuit.moved_from
            return self.response
        if self.failure is not None:
            raise self.failure.error(self.pursuit.attempts, why) from self.failure.cause
        if isinstance(why, NoChoice) and why.error is not None:
            raise why.error
        raise RuntimeError("a request ended without an attempt")


class HttpxExchange(httpx2.AsyncByteStream):
    """One attempt: its lease and its connection, from the request to the last byte of the response.

    It is the stream of the response; closing it reports the lease and gives the connection back. `held` once all
    of the response is in memory.
    """

    def __init__(self, sending: Sending, lease: Lease, endpoint: ProxyURL) -> None:
        self.record = AttemptRecord(sending.site, sending.request.method, sending.clock)
        self.held = False
        self._sending = sending
        self._request = sending.request
        self._lease = lease
        self._told = {"proxy": lease.proxy.key, "why": lease.why}
        self._identity = sending.identities.check_out(lease.proxy.key, endpoint, anew=sending.anew)
        self._forwarded = self._identity.forwards(self._request.url.scheme)
        self._reused = True  # the connection, unless one is dialled
        self._sent = False  # a byte of the request may have left
        self._response: httpcore2.Response | None = None
        self._ahead = bytearray()  # read, and still to be handed on
        self._chunks: AsyncGenerator[bytes] | None = None
        self._whole = False
        self._open = True

    async def response(self) -> httpx2.Response:
        """Send the request and return the response: whole where it is small, else with this as its stream.

        A response for which another attempt may get a better one is read too, up to what is ever held.
        """
        response = self._response = await self._identity.pool.handle_async_request(self._outgoing())
        self.record.answered(response.status, ((name.lower(), value) for name, value in response.headers))
        if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and self._forwarded:
            self.record.reached = False
            raise AccountRefused(f"{self._lease.proxy.url} does not accept the account, or asks for one (407)")
        self._classify(response)
        length = _declared(response)
        is_short = length is not None and length <= HELD_RESPONSE
        if is_short or (self._sending.pursuit.repeatable and is_repeated(self.record.verdict)):
            while self.record.bytes_down <= HELD_RESPONSE and (chunk := await self._next()) is not None:
                self._ahead += chunk
            self.held = self._whole
        if self.held:
            await self.aclose()
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=httpx2.ByteStream(bytes(self._ahead)) if self.held else self,
            extensions={**response.extensions, EXTENSION: self._told},
        )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            if self._ahead:
                yield bytes(self._ahead)
            while (chunk := await self._next()) is not None:
                yield chunk
        except NETWORK_ERRORS as exc:
            failure = await self.fail(exc)
            raise failure.error(1) from failure.cause

    async def _next(self) -> bytes | None:
        """Read on, None at the end. The first bytes are kept for the verdict, as they came."""
        if self._response is None:
            raise httpx2.StreamClosed
        if self._chunks is None:
            self._chunks = self._response.aiter_stream()
        chunk = await anext(self._chunks, None)
        if chunk is None:
            self._whole = True
            self._classify(self._response)
            return None
        self.record.received(chunk)
        return chunk

    async def fail(self, exc: Exception) -> AttemptFailure:
        """Report the failure, one of `NETWORK_ERRORS`, and end the attempt."""
        tunnel_tls = self._request.url.scheme == "https"
        failure = diagnose(
            exc,
            self._lease.proxy,
            sent=self._sent,
            answered=self._response is not None,
            reused=self._reused,
            tunnel_tls=tunnel_tls,
        )
        await self._end(failure)
        return failure

    async def aclose(self) -> None:
        """End the attempt with a response, read to its end or not: it is a success where that is a good one."""
        await self._end(None)

    async def _end(self, failure: AttemptFailure | None) -> None:
        try:
            if self._open:
                self._lease.report(self.outcome(failure))
        finally:
            await self.close()

    async def close(self) -> None:
        """Give back what the attempt holds; an unreported lease is released."""
        if not self._open:
            return
        self._open = False
        self._lease.release()
        try:
            if self._chunks is not None:
                await self._chunks.aclose()
            if self._response is not None:
                await self._response.aclose()
        finally:
            await self._sending.identities.check_in(self._identity)

    def _outgoing(self) -> httpcore2.Request:
        url = self._request.url
        self._sending.body.sent = 0
        place = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        # The credential for the proxy is the lease's; one in the request would go to a target in a tunnel.
        headers = [(n, v) for n, v in self._request.headers.raw if n.lower() != b"proxy-authorization"]
        if self._forwarded:
            target = b"%s://%s%s" % (url.raw_scheme, url.netloc, url.raw_path)
            place = httpcore2.URL(scheme=b"http", host=THE_PROXY, port=80, target=target)
            headers += authorization(self._identity.endpoint)
        return httpcore2.Request(
            self._request.method,
            place,
            headers=headers,
            content=self._sending.body,
            extensions={**self._request.extensions, "trace": self._trace},
        )

    async def _trace(self, name: str, info: dict[str, object]) -> None:
        """Take an event of httpcore2's, which tells how far the attempt came; an own tracer of the request goes on."""
        if name == "connection.connect_tcp.started":
            self._reused = False
        elif name == "http11.send_request_headers.started":
            self._sent = True
            self.record.reached = not self._forwarded
        onward = self._request.extensions.get("trace")
        if onward is not None:
            await onward(name, info)

    def _classify(self, response: httpcore2.Response) -> None:
        """Classify the response by what has come of it."""
        length = self.record.bytes_down if self._whole else _declared(response)
        evidence = self.record.evidence(None if self._request.method == "HEAD" else length)
        classify, provider = self._sending.classify, self._lease.proxy.attributes.provider
        self.record.verdict = (
            classify_forwarded(provider, evidence, classify) if self._forwarded else classify(evidence)
        )

    def outcome(self, failure: AttemptFailure | None) -> Outcome:
        """Tell what became of the attempt, for the lease."""
        self.record.bytes_up = self._sending.body.sent
        if failure is None:
            return self.record.outcome(self.record.verdict)
        return self.record.outcome(failure.verdict, failure.text)


def _declared(response: httpcore2.Response) -> int | None:
    """Return the length in bytes that a response declares, None where it does not."""
    lengths = [value for name, value in response.headers if name.lower() == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else None
