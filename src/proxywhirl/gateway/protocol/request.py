"""A client's request: its head, what it asks of the gateway itself, and its body as it comes (pure).

What it asks of the gateway does not travel on: `Proxy-Authorization` and `Proxywhirl-Retry` end here. The first has
Basic credentials (RFC 7617), compared in constant time. After the name, the username may go on with a comma and what
the client wishes of its proxy (`rotation.selection.request_options`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from proxywhirl.clock import Clock
from proxywhirl.gateway.options import Credentials, GatewayOptions
from proxywhirl.gateway.protocol.messages import RETRY_FIELD, Destination, Fields, Refusal, trailers_onward
from proxywhirl.rotation.selection.request_options import NO_OPTIONS, RequestOptions

REPLAYED_BODY = 256 * 1024
"""Bytes of a request's body that are held so that another proxy can be sent them again."""

CHALLENGE = (b"Proxy-Authenticate", b'Basic realm="proxywhirl", charset="UTF-8"')

_UNAUTHORIZED = Refusal(407, "This proxy asks for a username and a password, and got none or wrong ones.", (CHALLENGE,))
_UNSAFE = b"unsafe"


@dataclass(frozen=True, slots=True)
class Asked:
    """The wish for a proxy, and whether the request may be sent again whatever its method."""

    wish: RequestOptions = NO_OPTIONS
    unsafe: bool = False


def read_asked(head: h11.Request, credentials: Credentials | None) -> Asked | Refusal:
    """Read it from a request's head; a client that may not use the gateway, or asks the impossible, is refused."""
    try:
        rest = _admitted(head.headers, credentials)
    except ValueError as exc:
        return Refusal(400, f"{exc}.")
    if rest is None:
        return _UNAUTHORIZED
    try:
        wish = RequestOptions.decode(rest) if rest else NO_OPTIONS
    except ValueError as exc:
        return Refusal(400, f"The username in Proxy-Authorization says NAME,KEY=VALUE,... and is wrong: {exc}.")
    retry = [value.lower() for name, value in head.headers if name == RETRY_FIELD]
    if retry not in ([], [_UNSAFE]):
        return Refusal(
            400, "Proxywhirl-Retry has one value, unsafe: this request may be sent again though not idempotent."
        )
    return Asked(wish, bool(retry))


def _admitted(headers: Iterable[tuple[bytes, bytes]], credentials: Credentials | None) -> bytes | None:
    """Return the wish after the name and its comma in a request's `Proxy-Authorization`; None: refused.

    Where `credentials` is None every client is admitted, under any name or none.

    Raises:
        ValueError: Everybody is admitted, but what is offered cannot be read, so that a wish in it would be lost.
    """
    offers = [value for name, value in headers if name == b"proxy-authorization"]
    # Two offers could mean one thing here and another elsewhere (RFC 9110 section 11.7.2 allows one).
    offered = _decoded(offers[0]) if len(offers) == 1 else None
    if offered is None:
        if credentials is None and offers:
            raise ValueError("Proxy-Authorization has to be Basic and the Base64 of NAME:PASSWORD (RFC 7617), once")
        return None if credentials is not None else b""
    if credentials is None:
        return offered.partition(b":")[0].partition(b",")[2]
    name, password = (part.encode() for part in credentials)
    username, colon, offered_password = offered.partition(b":")
    rest = username[len(name) :]
    same = hmac.compare_digest(username[: len(name)] + colon + offered_password, name + b":" + password)
    return rest[1:] if same and rest[:1] in (b"", b",") else None


def _decoded(offer: bytes) -> bytes | None:
    scheme, _, token = offer.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return None


class ClientBroke(Exception):
    """The client's body is not what its head declared, or stopped coming: no proxy's fault."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.refusal = Refusal(status, explanation)


class Body:
    """The part of a request's body that has come.

    `complete`: the end has come. `replayable`: all bytes that were sent are still held.
    """

    def __init__(self, client: h11.Connection) -> None:
        self.complete = False
        self.replayable = True
        self._client = client
        self._held = bytearray()
        self._trailers: Fields = []

    def feed(self, data: bytes) -> list[h11.Data | h11.EndOfMessage]:
        """Parse bytes of the client (`b""` at the end of its stream) and return what is new of the body."""
        self._client.receive_data(data)
        return self.take()

    def take(self) -> list[h11.Data | h11.EndOfMessage]:
        """Return what is new of the body in the bytes that the parser already has.

        Raises:
            ClientBroke: The body breaks its framing, or the stream ended before it.
        """
        events: list[h11.Data | h11.EndOfMessage] = []
        while not self.complete:
            try:
                event = self._client.next_event()
            except h11.RemoteProtocolError as exc:
                raise ClientBroke(400, "The request's body is incomplete or malformed.") from exc
            if isinstance(event, h11.Data):
                if self.replayable:
                    self._held += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
                self._trailers = trailers_onward(event.headers) if event.headers else []
                event = h11.EndOfMessage(headers=self._trailers)
            else:
                break
            events.append(event)
        return events

    def replay(self) -> list[h11.Data | h11.EndOfMessage]:
        """Return all that has come so far, to be sent from the start; only while `replayable`."""
        events: list[h11.Data | h11.EndOfMessage] = []
        if self._held:
            events.append(h11.Data(data=bytes(self._held)))
        if self.complete:
            events.append(h11.EndOfMessage(headers=self._trailers))
        return events

    def trim(self) -> None:
        """Note that all of it was sent: past `REPLAYED_BODY` bytes it is held no longer."""
        if len(self._held) > REPLAYED_BODY:
            self.replayable = False
            self._held.clear()


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client, across all its attempts.

    `method` is as sent, since methods are case-sensitive; `began` and `deadline` are on the monotonic clock;
    `own_fields` are the fields in which the gateway itself tells the client how it was served; `answered` once the
    client may have seen a byte of a final response, after which nothing can be tried again.
    """

    client: h11.Connection
    head: h11.Request
    method: str
    destination: Destination
    body: Body
    asked: Asked
    options: GatewayOptions
    clock: Clock
    began: float
    deadline: float
    own_fields: tuple[tuple[bytes, bytes], ...] = ()
    answered: bool = False
