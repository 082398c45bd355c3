"""Whether a client may use the gateway: Basic credentials (RFC 7617), compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable

__all__ = ["CHALLENGE", "Credentials", "authorized"]

Credentials = tuple[str, str]
"""Username and password."""

CHALLENGE = (b"Proxy-Authenticate", b'Basic realm="proxywhirl", charset="UTF-8"')


def authorized(headers: Iterable[tuple[bytes, bytes]], credentials: Credentials | None) -> bool:
    """Tell whether a request's `Proxy-Authorization` is what `credentials` ask for; None asks for nothing."""
    if credentials is None:
        return True
    offers = [value for name, value in headers if name == b"proxy-authorization"]
    # Two offers could mean one thing here and another elsewhere (RFC 9110 section 11.7.2 allows one).
    offered = _decoded(offers[0]) if len(offers) == 1 else None
    expected = ":".join(credentials).encode()
    return offered is not None and hmac.compare_digest(offered, expected)


def _decoded(offer: bytes) -> bytes | None:
    scheme, _, token = offer.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return None
