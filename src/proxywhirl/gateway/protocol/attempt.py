"""One try at serving a request through one proxy: a tunnel for CONNECT, an exchange for any other request (pure).

A tunnel (RFC 9110 section 9.3.6) carries bytes both ways and sees into none of them. Rules of an exchange:

- An HTTP proxy gets the request in absolute-form; any other has to open a connection to the target.
- One loop waits for the upstream's next event and, meanwhile, carries the client's body: so a response may come early,
  or grow while the request does.
- The client's parser is told of a response only when its first byte is sent: before that, all can be undone.
- A response that is not too long is held back while another proxy may get a better one. A short one is held until it is
  whole, so that it can be asked for again if it is cut off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import assert_never

import h11

from proxywhirl.errors import AccountRefused, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.gateway.protocol import commands
from proxywhirl.gateway.protocol.commands import Steps
from proxywhirl.gateway.protocol.messages import (
    HEAD_LIMIT,
    declared_length,
    request_upstream,
    response_downstream,
    trailers_onward,
)
from proxywhirl.gateway.protocol.request import ClientBroke, Request
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.retries.send_policy import HELD_RESPONSE, AttemptRecord, Classify, is_repeated
from proxywhirl.rotation.verdicts.response import Verdict, sign_of
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.decoding import classify_forwarded, decode_failure

_ERROR_LENGTH = 200  # characters: an outcome's text is for a table or a log line
_EXPECT_SECONDS = 1.0  # an upstream has to answer `Expect: 100-continue`; then the gateway does
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Attempt(ABC):
    """State of an attempt; `sent` once a byte of the request may have left."""

    def __init__(self, request: Request, proxy: Proxy) -> None:
        self.proxy = proxy
        self.sent = False
        self.record = AttemptRecord(request.destination.target.site, request.method, request.clock)
        self._request = request
        self._clock = request.clock
        self._until = self._clock.monotonic() + request.options.attempt_timeout

    @abstractmethod
    def steps(self) -> Steps[bool]:
        """Serve the request; False where another proxy may get a better response than the one that is held.

        Raises:
            UpstreamError: The proxy failed, refused its account, or did not answer in time.
            ProxyGone: The proxy was removed meanwhile.
            ClientBroke: The client's body is malformed or stopped coming.
        """

    def outcome(self, failure: UpstreamError | None) -> Outcome:
        """Return what is reported of the attempt: a failure, as its vendor explains it, or the response."""
        if failure is None:
            return self.record.outcome(self.record.verdict)
        said = decode_failure(self.proxy.attributes.provider, failure)
        return self.record.outcome(said or Verdict(failure.blame, sign_of(failure)), str(failure)[:_ERROR_LENGTH])

    def _patience(self) -> float:
        """Seconds left to this attempt."""
        return max(0.0, min(self._until, self._request.deadline) - self._clock.monotonic())


class Tunnel(Attempt):
    """Open the tunnel, tell the client, carry what it sends."""

    def steps(self) -> Steps[bool]:
        """See `Attempt.steps`; a tunnel that gave nothing back failed too."""
        request = self._request
        yield commands.Dial(request.destination.target, self._patience())
        self.record.answered(200)
        accepted = h11.Response(status_code=200, reason=b"Connection established", headers=list(request.own_fields))
        data = request.client.send(accepted)
        # A client that did not wait for the answer has begun to speak to the target.
        early, _ = request.client.trailing_data
        request.answered = True
        yield commands.WriteClient(data, request.options.idle_timeout)
        if early:
            self.sent = True
            yield commands.WriteUpstream(early)
        up, self.record.bytes_down = yield commands.Relay(request.options.idle_timeout)
        self.record.bytes_up = len(early) + up
        if self.record.bytes_up and not self.record.bytes_down:
            failure = TargetUnreachable(f"{self.proxy.url} opened a tunnel through which nothing came back")
            failure.cut = True
            raise failure
        return True


class Exchange(Attempt):
    """Send the request, pass the response on. `repeatable`: another attempt may follow this one."""

    def __init__(self, request: Request, proxy: Proxy, classify: Classify, *, repeatable: bool) -> None:
        super().__init__(request, proxy)
        self._classify = classify
        self._repeatable = repeatable
        self._absolute = proxy.scheme in ("http", "https")
        self._upstream = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._client_spoke = self._clock.monotonic()
        self._expecting = request.client.they_are_waiting_for_100_continue
        self._until_continue = self._client_spoke
        self._response: h11.Response | None = None
        self._events: list[h11.Event] = []  # of the response, not passed on yet
        self._bodiless = request.method == "HEAD"
        self._complete = False

    def steps(self) -> Steps[bool]:
        """See `Attempt.steps`."""
        request = self._request
        endpoint: ProxyURL = yield commands.Dial(
            None if self._absolute else request.destination.target, self._patience()
        )
        via = endpoint if self._absolute else None
        self.record.reached = not self._absolute
        head = request_upstream(request.head, request.destination, via=via, expect=self._expecting)
        self._until_continue = self._clock.monotonic() + _EXPECT_SECONDS
        yield from self._send(self._upstream.send(head), request.body.replay())
        response = yield from self._next_event()
        while not isinstance(response, h11.Response):
            # Of the interim responses only 100 means something to this client; 102 and 103 are dropped.
            if isinstance(response, h11.InformationalResponse) and response.status_code == HTTPStatus.CONTINUE:
                yield from self._continue()
            response = yield from self._next_event()
        self.record.answered(response.status_code, response.headers)
        if response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and self._absolute:
            self.record.status, self.record.reached = None, False  # it is no response of the target
            raise AccountRefused(f"{self.proxy.url} answered 407: its credentials are missing or wrong")
        self._response = response
        self._events.append(response)
        self._bodiless = self._bodiless or response.status_code in _BODILESS
        hold_until = self._clock.monotonic() + request.options.attempt_timeout
        length = 0 if self._bodiless else declared_length(response)
        holding = length is not None and length <= HELD_RESPONSE
        if not holding:
            # What has come of the body is taken without waiting for more: a verdict sees it, and no stream is delayed.
            while not self._complete and isinstance(event := self._parsed(), h11.Event):
                self._take(event)
            holding = self._is_repeated()
        while not self._complete:
            if not holding:
                yield from self.hand_on()
            self._take((yield from self._next_event()))
            # A slow response is streamed after all: the client would not wait for ever.
            holding = holding and self.record.bytes_down <= HELD_RESPONSE and self._clock.monotonic() < hold_until
        if self._is_repeated() and not request.answered:
            return False
        yield from self.hand_on()
        return True

    # Up: the request.

    def _send(self, head: bytes, events: list[h11.Data | h11.EndOfMessage]) -> Steps[None]:
        data = head + b"".join(map(self._upstream.send, events))
        for event in events:
            self.record.bytes_up += len(event.data) if isinstance(event, h11.Data) else 0
        if data:
            self.sent = True
            self._request.body.trim()
            yield commands.WriteUpstream(data)

    def _continue(self) -> Steps[None]:
        """Let the client send the body that it holds back, unless it was told already."""
        self._expecting = False
        client = self._request.client
        if client.they_are_waiting_for_100_continue:
            interim = client.send(h11.InformationalResponse(status_code=100, reason=b"Continue", headers=[]))
            yield commands.WriteClient(interim, self._request.options.idle_timeout)

    # Down: the response.

    def _is_repeated(self) -> bool:
        """Classify the response by what has come so far, and tell whether another proxy is tried for a better one."""
        length = None
        if self._response is not None and not self._bodiless:
            length = self.record.bytes_down if self._complete else declared_length(self._response)
        evidence = self.record.evidence(length)
        provider, classify = self.proxy.attributes.provider, self._classify
        self.record.verdict = classify_forwarded(provider, evidence, classify) if self._absolute else classify(evidence)
        return self._repeatable and self._request.body.replayable and is_repeated(self.record.verdict)

    def _take(self, event: h11.Event) -> None:
        """Hold an event of the response's body, or its end."""
        if isinstance(event, h11.Data):
            self._renew()
            data = bytes(event.data)
            self.record.received(data)
            self._events.append(h11.Data(data=data))
        else:
            self._complete = True
            version = self._request.client.their_http_version or b"1.0"
            trailers = event.headers if isinstance(event, h11.EndOfMessage) and version >= b"1.1" else ()
            self._events.append(h11.EndOfMessage(headers=trailers_onward(trailers) if trailers else []))

    def hand_on(self) -> Steps[None]:
        """Send the client what is held; from its first byte on, the request is answered."""
        request = self._request
        request.answered = True
        if self._events and isinstance(self._events[0], h11.Response):
            self._events[0] = response_downstream(self._events[0], request.own_fields)
        data = b"".join([request.client.send(event) or b"" for event in self._events])  # there may be thousands
        self._events.clear()
        if data:
            yield commands.WriteClient(data, request.options.idle_timeout)

    # Both: wait for the upstream, and carry the body meanwhile.

    def _renew(self) -> None:
        """Give the attempt its whole time again, since a body is under way: that is progress, not waiting."""
        self._until = self._clock.monotonic() + self._request.options.attempt_timeout
        self._request.deadline = max(self._request.deadline, self._until)

    def _parsed(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        try:
            return self._upstream.next_event()
        except h11.RemoteProtocolError as exc:
            # In our words: the parser's could quote what the upstream sent.
            offence = "answered with something that is not HTTP"
            if self._upstream.trailing_data[1]:
                offence = "closed the connection before the end of its answer"
            elif exc.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                offence = f"answered with a head of more than {HEAD_LIMIT // 1024} KiB"
            failure = ProxyFailed(f"{self.proxy.url} {offence}")
            failure.cut = True
            raise failure from exc

    def _next_event(self) -> Steps[h11.Event]:
        body = self._request.body
        while not isinstance(event := self._parsed(), h11.Event):
            # What can go to no other proxy any more gains nothing by an early end, and on a slow line a large body is
            # under way long after the last of it was written: the system's buffers alone may hold half a minute of it.
            committed = self._request.answered or not body.replayable
            patience = self._request.options.idle_timeout if committed else self._patience()
            if not body.complete:
                yield from self._read_either(patience)
                continue
            data: bytes | None = yield commands.ReadUpstream(patience)
            if data is None:
                raise self._silent("did not answer in time")
            self._upstream.receive_data(data)
        return event

    def _silent(self, words: str) -> ProxyFailed:
        failure = ProxyFailed(f"{self.proxy.url} {words}")
        failure.silent = True
        return failure

    def _read_either(self, patience: float) -> Steps[None]:
        """Read from the upstream, and carry up what the client sends of its body."""
        if self._expecting:
            patience = min(patience, max(0.0, self._until_continue - self._clock.monotonic()))
        happened: commands.Heard = yield commands.ReadEither(patience)
        match happened:
            case commands.FromUpstream(data=data):
                self._upstream.receive_data(data)
            case commands.FromClient(data=data):
                self._client_spoke = self._clock.monotonic()
                events = self._request.body.feed(data)
                if events:
                    self._expecting = False
                    self._renew()
                yield from self._send(b"", events)
            case commands.Nothing(blocked=blocked):
                yield from self._nothing_came(blocked)
            case _:
                assert_never(happened)

    def _nothing_came(self, blocked: bool) -> Steps[None]:
        """Find out who is to blame for the silence."""
        idle = self._request.options.idle_timeout
        if blocked:
            raise self._silent("did not take the request in time")
        if self._expecting:
            # The upstream ignores the expectation; the client may go on (RFC 9110 section 10.1.1).
            yield from self._continue()
        elif self._clock.monotonic() - self._client_spoke >= idle:
            raise ClientBroke(408, f"The request's body stopped coming for {idle:g} s.")
        # The proxy took all that there is: it is the client that is slow.
        self._renew()
