"""One client's connection, request after request (pure: a generator of commands, see `commands`).

Rules:
- Whatever the bytes, the client gets an HTTP response or a closed connection; the generator raises nothing.
- Each request has a parser of its own, given what the last one left: pipelined requests wait their turn.
- An answer that was begun and could not be finished ends in `ABORT`: never in what looks like an end.
"""

from __future__ import annotations

import h11

from proxywhirl.clock import Clock
from proxywhirl.gateway.protocol.client_fields import Asked, Credentials, read_asked
from proxywhirl.gateway.protocol.commands import ClientGone, Ending, ReadClient, Steps, WriteClient
from proxywhirl.gateway.protocol.failover import Forwarding
from proxywhirl.gateway.protocol.limits import HEAD_LIMIT, Limits
from proxywhirl.gateway.protocol.messages import Destination, Refusal, destination, explanation, faulty_head, head_size
from proxywhirl.gateway.protocol.request import Body, ClientBroke, Request
from proxywhirl.rotation.retries.send_policy import Conduct

_MALFORMED = {
    431: f"The request's head is longer than {HEAD_LIMIT // 1024} KiB: shorten its fields, or a session's name there.",
    501: "The request has a transfer coding other than chunked.",
}


class Session:
    """Serve one client. `credentials` are what the client must offer, None for nothing."""

    def __init__(
        self, limits: Limits, clock: Clock, credentials: Credentials | None = None, *, conduct: Conduct
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._conduct = conduct
        self._credentials = credentials
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._head_only = False

    def steps(self) -> Steps[Ending]:
        """Serve request after request, and return how the connection ends."""
        patience = self._limits.header
        left_over = b""
        try:
            while (yield from self._await_request(left_over, patience)):
                if (yield from self._serve()) is Ending.ABORT:
                    return Ending.ABORT
                if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
                    return Ending.CLOSE
                left_over = self._next_cycle()
                patience = self._limits.idle
        except ClientGone:
            return Ending.ABORT
        return Ending.CLOSE

    def _next_cycle(self) -> bytes:
        left_over, _ = self._client.trailing_data
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._head_only = False
        return left_over

    def _await_request(self, left_over: bytes, patience: float) -> Steps[bool]:
        """Wait for a request's first byte; false when none will come."""
        until = self._clock.monotonic() + patience
        # Empty lines before a request are ignored (RFC 9112 section 2.2).
        data: bytes | None = left_over.lstrip(b"\r\n")
        while not data:
            data = yield ReadClient(max(0.0, until - self._clock.monotonic()), idle=True)
            if not data:
                return False
            data = data.lstrip(b"\r\n")
        self._client.receive_data(data)
        return True

    def _serve(self) -> Steps[Ending | None]:
        began = self._clock.monotonic()
        head = yield from self._head(began + self._limits.header)
        if isinstance(head, Refusal):
            yield from self._refuse(head, close=True)
            return None
        self._head_only = head.method == b"HEAD"
        body = Body(self._client)
        admission = self._admit(head)
        if isinstance(admission, Refusal):
            yield from self._refuse(admission, close=not self._drained(body))
            return None
        route, asked = admission
        began = self._clock.monotonic()
        request = Request(self._client, head, route, body, began, began + self._limits.total, asked)
        return (yield from self._forward(request))

    def _admit(self, head: h11.Request) -> tuple[Destination, Asked] | Refusal:
        route = destination(head)
        if isinstance(route, Refusal):
            return route
        asked = read_asked(head, self._credentials)
        return asked if isinstance(asked, Refusal) else (route, asked)

    def _forward(self, request: Request) -> Steps[Ending | None]:
        try:
            request.body.take()
            refusal = yield from Forwarding(request, self._limits, self._clock, self._conduct).steps()
        except ClientBroke as exc:
            refusal = Refusal(exc.status, exc.explanation)
        if refusal is None:
            return None
        if request.answered:
            return Ending.ABORT
        yield from self._refuse(refusal, close=not self._drained(request.body))
        return None

    def _head(self, until: float) -> Steps[h11.Request | Refusal]:
        while True:
            try:
                event = self._client.next_event()
            except h11.RemoteProtocolError as exc:
                status = exc.error_status_hint if exc.error_status_hint in _MALFORMED else 400
                return Refusal(status, _MALFORMED.get(status, "This is not an HTTP/1.1 request."))
            if isinstance(event, h11.Request):
                if head_size(event) > HEAD_LIMIT:  # the parser counts only what it has to wait for the rest of
                    return Refusal(431, _MALFORMED[431])
                return faulty_head(event) or event
            data: bytes | None = yield ReadClient(max(0.0, until - self._clock.monotonic()))
            if data is None:
                return Refusal(408, f"The request's head did not come within {self._limits.header:g} s.")
            self._client.receive_data(data)

    def _drained(self, body: Body) -> bool:
        """Take what has come of a refused request; true if it is whole, so that another can follow."""
        try:
            body.take()
        except ClientBroke:
            return False
        return body.complete

    def _refuse(self, refusal: Refusal, *, close: bool) -> Steps[None]:
        response, text = explanation(refusal, close=close)
        data = self._client.send(response)
        if not self._head_only:
            data += self._client.send(h11.Data(data=text))
        data += self._client.send(h11.EndOfMessage())
        yield WriteClient(data, self._limits.idle)
