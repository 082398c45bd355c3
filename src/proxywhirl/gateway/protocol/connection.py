"""One client's connection, request after request (pure: a generator of commands, see `gateway.protocol`).

Rules:
- Whatever the bytes, the client gets an HTTP response or a closed connection; the generator raises nothing.
- Each request has a parser of its own, given what the last one left: pipelined requests wait their turn.
- An answer that was begun and could not be finished ends in `ABORT`: never in what looks like an end.
"""

from __future__ import annotations

import h11

from proxywhirl.clock import Clock
from proxywhirl.gateway.options import GatewayOptions
from proxywhirl.gateway.protocol.commands import ClientGone, Ending, ReadClient, Steps, WriteClient
from proxywhirl.gateway.protocol.failover import Failover
from proxywhirl.gateway.protocol.messages import HEAD_LIMIT, MALFORMED, Refusal, destination, explanation, faulty_head
from proxywhirl.gateway.protocol.request import Body, ClientBroke, Request, read_asked
from proxywhirl.rotation.retries.send_policy import SendPolicy


class ClientConnection:
    """Serve one client."""

    def __init__(self, options: GatewayOptions, clock: Clock, policy: SendPolicy) -> None:
        self._options = options
        self._clock = clock
        self._policy = policy
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)

    def steps(self) -> Steps[Ending]:
        """Serve request after request, and return how the connection ends."""
        patience, left_over = self._options.header_timeout, b""
        try:
            while True:
                head = yield from self._head(left_over, patience)
                if head is None:
                    return Ending.CLOSE
                if isinstance(head, Refusal):
                    yield self._refused(head, close=True)
                    return Ending.CLOSE
                body = Body(self._client)
                request = self._admit(head, body)
                refusal: Refusal | None
                if isinstance(request, Refusal):
                    refusal = request
                else:
                    try:
                        body.take()
                        refusal = yield from Failover(request, self._policy).steps()
                    except ClientBroke as exc:
                        refusal = exc.refusal
                    if refusal is not None and request.answered:
                        return Ending.ABORT
                if refusal is not None:
                    is_head = head.method == b"HEAD"
                    yield self._refused(refusal, close=not self._drained(body), is_head=is_head)
                if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
                    return Ending.CLOSE
                left_over, _ = self._client.trailing_data
                self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
                patience = self._options.idle_timeout
        except ClientGone:
            return Ending.ABORT

    def _head(self, left_over: bytes, patience: float) -> Steps[h11.Request | Refusal | None]:
        """Return a request's head, None when none is begun within `patience`."""
        until = self._clock.monotonic() + patience
        # Empty lines before a request are ignored (RFC 9112 section 2.2).
        data: bytes | None = left_over.lstrip(b"\r\n")
        while not data:
            data = yield ReadClient(max(0.0, until - self._clock.monotonic()), idle=True)
            if not data:
                return None
            data = data.lstrip(b"\r\n")
        until = self._clock.monotonic() + self._options.header_timeout
        while True:
            self._client.receive_data(data)
            try:
                event = self._client.next_event()
            except h11.RemoteProtocolError as exc:
                status = exc.error_status_hint if exc.error_status_hint in MALFORMED else 400
                return Refusal(status, MALFORMED.get(status, "This is not an HTTP/1.1 request."))
            if isinstance(event, h11.Request):
                return faulty_head(event) or event
            data = yield ReadClient(max(0.0, until - self._clock.monotonic()))
            if data is None:
                return Refusal(408, f"The request's head did not come within {self._options.header_timeout:g} s.")

    def _admit(self, head: h11.Request, body: Body) -> Request | Refusal:
        route = destination(head)
        if isinstance(route, Refusal):
            return route
        asked = read_asked(head, self._options.credentials)
        if isinstance(asked, Refusal):
            return asked
        began = self._clock.monotonic()
        return Request(
            self._client,
            head,
            head.method.decode("ascii"),
            route,
            body,
            asked,
            self._options,
            self._clock,
            began,
            began + self._options.total_timeout,
        )

    def _drained(self, body: Body) -> bool:
        """Take what has come of a refused request; true if it is whole, so that another can follow."""
        try:
            body.take()
        except ClientBroke:
            return False
        return body.complete

    def _refused(self, refusal: Refusal, *, close: bool, is_head: bool = False) -> WriteClient:
        response, text = explanation(refusal, close=close)
        data = self._client.send(response)
        if not is_head:
            data += self._client.send(h11.Data(data=text))
        data += self._client.send(h11.EndOfMessage())
        return WriteClient(data, self._options.idle_timeout)
