"""What a client asks of the gateway itself, beside its request: who it is, which proxy it wishes, what may be repeated.

None of it travels on: `Proxy-Authorization` and `Proxywhirl-Retry` end at the gateway.

Whether a client may use the gateway: Basic credentials (RFC 7617), compared in constant time.

After the name, the username may go on with a comma and what the client wishes (`rotation.wish`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from proxywhirl.gateway.protocol.messages import RETRY_FIELD, Refusal
from proxywhirl.rotation.selection.request_options import NO_OPTIONS, RequestOptions

Credentials = tuple[str, str]
"""Username and password."""

CHALLENGE = (b"Proxy-Authenticate", b'Basic realm="proxywhirl", charset="UTF-8"')


def admitted(headers: Iterable[tuple[bytes, bytes]], credentials: Credentials | None) -> bytes | None:
    """Return what stands after the name and its comma in a request's `Proxy-Authorization`, None for who is refused.

    Where `credentials` is None everybody is admitted, under any name or none.

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
        rest = admitted(head.headers, credentials)
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
