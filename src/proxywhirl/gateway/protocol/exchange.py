"""A request in absolute-form through one proxy: the body goes up while the response may already come down.

Rules:
- One loop waits for the upstream's next event and, meanwhile, carries the client's body: a response that
  comes early, or that grows while the request does, meets nobody who waits for something else.
- The client's parser is told of a response only when its first byte is sent: before that, all can be undone.
- A response for which another proxy may get a better one is held back, where it is not too long, and returned.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import assert_never

import h11

from proxywhirl.clock import Clock
from proxywhirl.errors import AccountRefused, ProxyFailed
from proxywhirl.gateway.protocol.attempt import Attempt
from proxywhirl.gateway.protocol.commands import (
    Dial,
    FromClient,
    FromUpstream,
    Nothing,
    ReadEither,
    ReadUpstream,
    Steps,
    WriteClient,
    WriteUpstream,
)
from proxywhirl.gateway.protocol.limits import HEAD_LIMIT, Limits
from proxywhirl.gateway.protocol.messages import request_upstream
from proxywhirl.gateway.protocol.request import ClientBroke, Request
from proxywhirl.gateway.protocol.response import Reply
from proxywhirl.models import Proxy
from proxywhirl.rotation.retries.send_policy import Judge, as_forwarded, is_repeated
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.decoding import decode_answer

_HTTP_SCHEMES = frozenset(("http", "https"))


class Exchange(Attempt):
    """Send the request, pass the response on. `repeatable`: another attempt may follow this one."""

    def __init__(
        self, request: Request, proxy: Proxy, limits: Limits, clock: Clock, *, judge: Judge, repeatable: bool
    ) -> None:
        super().__init__(request, proxy, limits, clock)
        self._judge = judge
        self._repeatable = repeatable
        self._upstream = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._client_spoke = clock.monotonic()
        self._expecting = request.client.they_are_waiting_for_100_continue
        self._until_continue = 0.0

    def steps(self) -> Steps[Reply | None]:
        """Serve the request; return a reply that was held back, None where the client has it.

        Raises:
            UpstreamError: The proxy failed, refused its account, or did not answer in time.
            ClientBroke: The client's body is malformed or stopped coming.
        """
        # An HTTP proxy gets absolute-form; any other has to open a connection to the target.
        absolute = self.proxy.scheme in _HTTP_SCHEMES
        endpoint: ProxyURL = yield Dial(None if absolute else self.request.destination.target, self._patience())
        yield from self._send_request(endpoint if absolute else None)
        response = yield from self._final_response()
        self._answered()
        if response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and absolute:
            raise AccountRefused(f"{self.proxy.url} answered 407: its credentials are missing or wrong")
        self.status = response.status_code
        at, judge = self.clock.now(), self._judge_of(response) if absolute else self._judge
        return (yield from self._pass_on(Reply(self.request, response, judge, latency=self._latency, at=at)))

    def _judge_of(self, response: h11.Response) -> Judge:
        """Return who judges a response that a proxy forwarded: where its vendor says that it is its own, that goes."""
        status = response.status_code
        said = decode_answer(self.proxy.attributes.provider, status, response.headers)
        return lambda evidence: as_forwarded(self._judge(evidence), status) if said is None else said

    # Up: the request.

    def _send_request(self, via: ProxyURL | None) -> Steps[None]:
        request = self.request
        head = request_upstream(request.head, request.destination, via=via, expect=self._expecting)
        self._until_continue = self.clock.monotonic() + self.limits.expect
        yield from self._send(self._upstream.send(head), request.body.replay())

    def _send(self, head: bytes, events: list[h11.Data | h11.EndOfMessage]) -> Steps[None]:
        self.bytes_up += sum(len(event.data) for event in events if isinstance(event, h11.Data))
        data = head + b"".join(self._upstream.send(event) for event in events)
        if data:
            self.sent = True
            self.request.body.trim()
            yield WriteUpstream(data)

    def _upload(self, data: bytes) -> Steps[None]:
        self._client_spoke = self.clock.monotonic()
        events = self.request.body.feed(data)
        if events:
            self._expecting = False
            self._renew()
        yield from self._send(b"", events)

    # Down: the response.

    def _final_response(self) -> Steps[h11.Response]:
        while True:
            event = yield from self._next_event()
            if isinstance(event, h11.Response):
                return event
            # Of the interim responses only 100 means something to this client; 102 and 103 are dropped.
            if isinstance(event, h11.InformationalResponse) and event.status_code == HTTPStatus.CONTINUE:
                yield from self._continue()

    def _continue(self) -> Steps[None]:
        """Let the client send the body that it holds back, unless it was told already."""
        self._expecting = False
        client = self.request.client
        if client.they_are_waiting_for_100_continue:
            interim = client.send(h11.InformationalResponse(status_code=100, reason=b"Continue", headers=[]))
            yield WriteClient(interim, self.limits.idle)

    def _pass_on(self, reply: Reply) -> Steps[Reply | None]:
        """Send the response; a short one only when it is whole, so that a cut one can be asked for again."""
        holding = reply.is_short
        hold_until = self.clock.monotonic() + self.limits.attempt
        if not holding:
            self._take_what_is_there(reply)
            holding = self._is_repeated(reply)
        while not reply.complete:
            if not holding:
                yield from reply.pass_on(self.limits.idle)
            event = yield from self._next_event()
            self._take(reply, event)
            # A slow response is streamed after all: the client would not wait for ever.
            holding = holding and reply.may_be_held and self.clock.monotonic() < hold_until
        self.verdict = reply.verdict()
        if not self.request.answered and self._is_repeated(reply):
            return reply
        yield from reply.pass_on(self.limits.idle)
        return None

    def _is_repeated(self, reply: Reply) -> bool:
        return self._repeatable and self.request.body.replayable and is_repeated(reply.verdict())

    def _take_what_is_there(self, reply: Reply) -> None:
        """Take what has come of the body without waiting for more: a verdict sees it, and no stream is delayed."""
        while not reply.complete and isinstance(event := self._parsed(), h11.Event):
            self._take(reply, event)

    def _take(self, reply: Reply, event: h11.Event) -> None:
        if isinstance(event, h11.Data):
            self._renew()
        reply.take(event)
        self.bytes_down = reply.received

    def _silence(self) -> ProxyFailed:
        failure = ProxyFailed(f"{self.proxy.url} did not answer in time")
        failure.silent = True
        return failure

    # Both: wait for the upstream, and carry the body meanwhile.

    def _next_event(self) -> Steps[h11.Event]:
        while not isinstance(event := self._parsed(), h11.Event):
            yield from self._wait()
        return event

    def _parsed(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        try:
            return self._upstream.next_event()
        except h11.RemoteProtocolError as exc:
            raise ProxyFailed(f"{self.proxy.url} {self._offence(exc)}") from exc

    def _offence(self, exc: h11.RemoteProtocolError) -> str:
        """Say what was wrong in our words: the parser's could quote what the upstream sent."""
        if self._upstream.trailing_data[1]:
            return "closed the connection before the end of its answer"
        if exc.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return f"answered with a head of more than {HEAD_LIMIT // 1024} KiB"
        return "answered with something that is not HTTP"

    def _wait(self) -> Steps[None]:
        # What can go to no other proxy any more gains nothing by an early end, and on a slow line a large body is
        # under way long after the last of it was written: the system's buffers alone may hold half a minute of it.
        committed = self.request.answered or not self.request.body.replayable
        patience = self.limits.idle if committed else self._patience()
        if self.request.body.complete:
            data: bytes | None = yield ReadUpstream(patience)
            if data is None:
                raise self._silence()
            self._upstream.receive_data(data)
            return
        if self._expecting:
            patience = min(patience, max(0.0, self._until_continue - self.clock.monotonic()))
        happened: FromClient | FromUpstream | Nothing = yield ReadEither(patience)
        match happened:
            case FromUpstream(data=data):
                self._upstream.receive_data(data)
            case FromClient(data=data):
                yield from self._upload(data)
            case Nothing(blocked=blocked):
                yield from self._nothing_came(blocked)
            case _:
                assert_never(happened)

    def _nothing_came(self, blocked: bool) -> Steps[None]:
        """Find out who is to blame for the silence."""
        if blocked:
            raise ProxyFailed(f"{self.proxy.url} did not take the request in time")
        if self._expecting:
            # The upstream ignores the expectation; the client may go on (RFC 9110 section 10.1.1).
            yield from self._continue()
            self._renew()
        elif self.clock.monotonic() - self._client_spoke >= self.limits.idle:
            raise ClientBroke(408, f"The request's body stopped coming for {self.limits.idle:g} s.")
        else:
            # The proxy took all that there is: it is the client that is slow.
            self._renew()
