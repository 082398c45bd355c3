"""A response on its way through the gateway: what of it is held back, and what is made of it."""

from __future__ import annotations

from http import HTTPStatus

import h11

from proxywhirl.gateway.protocol.commands import Steps, WriteClient
from proxywhirl.gateway.protocol.limits import HELD_RESPONSE
from proxywhirl.gateway.protocol.messages import declared_length, response_downstream, trailers_onward
from proxywhirl.gateway.protocol.request import Request
from proxywhirl.rotation.retries.send_policy import Judge
from proxywhirl.rotation.verdicts.response import Evidence, Verdict

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Reply:
    """A final response to a client's request.

    `received`: bytes of its body so far; `complete`: its end has come. Its first bytes are kept for the verdict, as
    they came: a page in a content coding stays in it.

    Args:
        request: What it answers.
        response: Its head.
        judge: Judges it.
        latency: Seconds to its head.
        at: When that came, in Unix seconds.
    """

    def __init__(
        self, request: Request, response: h11.Response, judge: Judge, *, latency: float | None, at: float
    ) -> None:
        self.received = 0
        self.complete = False
        self._request = request
        self._response = response
        self._judge = judge
        self._latency = latency
        self._at = at
        self._held: list[h11.Event] = [response]
        self._first = bytearray()
        self._bodiless = request.head.method == b"HEAD" or response.status_code in _BODILESS

    @property
    def is_short(self) -> bool:
        """Whether it declares to be so short that it is read whole before it is passed on."""
        length = 0 if self._bodiless else declared_length(self._response)
        return length is not None and length <= HELD_RESPONSE

    @property
    def may_be_held(self) -> bool:
        """Whether what has come is no more than is ever held."""
        return self.received <= HELD_RESPONSE

    def take(self, event: h11.Event) -> None:
        """Hold an event of the response's body, or its end."""
        if isinstance(event, h11.Data):
            data = bytes(event.data)
            self.received += len(data)
            self._first += data[: HELD_RESPONSE - len(self._first)]
            self._held.append(h11.Data(data=data))
        else:
            self.complete = True
            version = self._request.client.their_http_version or b"1.0"
            trailers = event.headers if isinstance(event, h11.EndOfMessage) and version >= b"1.1" else None
            self._held.append(h11.EndOfMessage(headers=trailers_onward(trailers) if trailers else []))

    def verdict(self) -> Verdict:
        """Judge it by what has come so far."""
        length = self.received if self.complete else declared_length(self._response)
        return self._judge(
            Evidence(
                site=self._request.destination.target.site,
                method=self._request.method,
                status=self._response.status_code,
                headers=tuple((name, value) for name, value in self._response.headers),
                body=bytes(self._first),
                length=None if self._bodiless else length,
                latency=self._latency,
                at=self._at,
            )
        )

    def pass_on(self, patience: float) -> Steps[None]:
        """Send the client what is held; from its first byte on, the request is answered."""
        self._request.answered = True
        if self._held and isinstance(self._held[0], h11.Response):
            self._held[0] = response_downstream(self._held[0], self._request.tidings)
        data = b"".join(self._request.client.send(event) or b"" for event in self._held)
        self._held.clear()
        if data:
            yield WriteClient(data, patience)
