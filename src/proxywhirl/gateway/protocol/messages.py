"""How messages change on their way through the gateway (RFC 9110 section 7.6, RFC 9112 section 3.2).

Pure functions from one h11 event to another. The gateway adds no `Via` and no `X-Forwarded-For`: its users do not want
to be told apart from other clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import split_authority
from proxywhirl.models import Target
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.http import authorization

Fields = list[tuple[bytes, bytes]]

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's or response's head; a longer one is refused (431) or counts as the proxy's failure."""

MALFORMED = {
    431: f"The request's head is longer than {HEAD_LIMIT // 1024} KiB: shorten its fields, or a session's name there.",
    501: "The request has a transfer coding other than chunked.",
}
"""What is wrong with a head that the parser refuses with one of these statuses."""

RETRY_FIELD = b"proxywhirl-retry"
"""The field by which a client tells the gateway that a request may be repeated."""

MOVED_FIELD = b"Proxywhirl-Moved-From"
"""The field by which a client is told that its session has moved: the key of the proxy that it had."""

_HOP_BY_HOP = frozenset(
    (
        RETRY_FIELD,
        MOVED_FIELD.lower(),  # the gateway's word alone
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
# `Connection` may name any field as its own, yet these decide where a message ends and where it goes: to take them away
# would be to smuggle a request.
_NEVER_NOMINATED = frozenset((b"content-length", b"host"))
# A trailer that could change framing, routing or identity is dropped (RFC 9110 section 6.5.1).
_NEVER_TRAILER = _HOP_BY_HOP | _NEVER_NOMINATED | {b"authorization", b"set-cookie", b"trailer"}

_END_OF_AUTHORITY = re.compile(rb"[/?]")
_USE_CONNECT = "https:// targets go through a CONNECT tunnel, so that TLS stays between you and the target."
_IS_A_PROXY = (
    "This is ProxyWhirl's gateway, an HTTP proxy, and not a web site.\n"
    "Use its address as one, for example: curl -x http://HOST:PORT https://example.com"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes: `authority` and `path` are what the client wrote, less userinfo and fragment."""

    target: Target
    authority: bytes
    path: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that the gateway gives by itself: `explanation` becomes the text/plain body."""

    status: int
    explanation: str
    fields: tuple[tuple[bytes, bytes], ...] = ()


def faulty_head(head: h11.Request) -> Refusal | None:
    """Say why the bytes after a head cannot be trusted, None where they can; else the connection must close.

    Both framings at once, or chunks in HTTP/1.0, are how requests are smuggled (RFC 9112 section 6.1).
    """
    # The parser counts only what it has to wait for the rest of; white space that was not needed is not counted here.
    size = len(head.method) + len(head.target) + len(b"  HTTP/1.1\r\n\r\n")
    for name, value in head.headers:
        size += len(name) + len(value) + len(b": \r\n")
    if size > HEAD_LIMIT:
        return Refusal(431, MALFORMED[431])
    if not head.http_version.startswith(b"1."):
        return Refusal(505, "This proxy speaks HTTP/1.1 and HTTP/1.0.")
    if not _chunked(head):
        return None
    if head.http_version == b"1.0":
        return Refusal(400, "A request of HTTP/1.0 has no transfer coding (RFC 9112 section 6.1).")
    if b"content-length" in dict(head.headers):
        return Refusal(400, "A request has a Content-Length or a Transfer-Encoding, not both (RFC 9112 section 6.1).")
    return None


def destination(head: h11.Request) -> Destination | Refusal:
    """Read where a request to a proxy goes, or say why it goes nowhere (RFC 9112 section 3.2)."""
    if head.method == b"CONNECT":
        return _tunnel_destination(head)
    scheme, separator, rest = head.target.partition(b"://")
    if head.target.startswith(b"/") or head.target == b"*" or not separator:
        return Refusal(400, _IS_A_PROXY)
    if scheme.lower() == b"https":
        return Refusal(400, _USE_CONNECT)
    if scheme.lower() != b"http":
        return Refusal(400, "A request to this proxy must be for an http:// URL, or a CONNECT.")
    rest = rest.partition(b"#")[0]
    written = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
    authority = written.rpartition(b"@")[2]
    path = rest[len(written) :]
    try:
        target = Target.parse(
            f"http://{authority.decode('ascii')}{path.decode('latin-1')}", method=head.method.decode()
        )
    except ProxyURLError as exc:
        return Refusal(400, f"The request's URL names no target: {exc}.")
    return Destination(target, authority, path)


def _tunnel_destination(head: h11.Request) -> Destination | Refusal:
    if any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in head.headers
    ):
        return Refusal(400, "A CONNECT request has no body (RFC 9110 section 9.3.6).")
    try:
        host, port = split_authority(head.target.decode("ascii"))
    except ProxyURLError as exc:
        return Refusal(400, f"CONNECT takes host:port (RFC 9110 section 9.3.6): {exc}.")
    return Destination(Target("https", host, port), head.target, b"")


def request_upstream(head: h11.Request, destination: Destination, *, via: ProxyURL | None, expect: bool) -> h11.Request:
    """Build the request that goes upstream; `expect` says whether the client still waits for `100 Continue`.

    `via` is the HTTP proxy that gets it in absolute-form, with that proxy's credential. None means that the connection
    reaches the target itself, which gets origin-form and no credential.

    Raises:
        AccountRefused: That proxy cannot be sent its credential.
    """
    fields = [(b"Host", destination.authority)]
    fields += [
        (name, value)
        for name, value in _end_to_end(head)
        if name.lower() != b"host" and (expect or name.lower() != b"expect")
    ]
    if _chunked(head):
        fields.append((b"Transfer-Encoding", b"chunked"))
    if via is not None:
        fields += authorization(via)
    # One connection serves one request: the next one is to leave through another proxy.
    fields.append((b"Connection", b"close"))
    return h11.Request(method=head.method, target=_target(head.method, destination, via), headers=fields)


def _target(method: bytes, destination: Destination, via: ProxyURL | None) -> bytes:
    path = destination.path
    if method == b"OPTIONS" and not path:
        # The last proxy turns an empty path into "*" (RFC 9112 section 3.2.4).
        path = b"" if via else b"*"
    elif not path.startswith(b"/"):
        path = b"/" + path
    return b"http://" + destination.authority + path if via else path


def response_downstream(response: h11.Response, own_fields: Iterable[tuple[bytes, bytes]] = ()) -> h11.Response:
    """Build the response that goes to the client, with what the gateway itself has to tell in fields at its end.

    h11 completes its framing for the client's version.
    """
    fields = _end_to_end(response)
    if response.status_code == HTTPStatus.NO_CONTENT:
        # It never has a body; a client that believed a length would wait for one (RFC 9110 section 8.6).
        fields = [(name, value) for name, value in fields if name.lower() != b"content-length"]
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=[*fields, *own_fields])


def trailers_onward(trailers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Keep the trailers that may travel on."""
    return [(name, value) for name, value in trailers if name.lower() not in _NEVER_TRAILER]


def _end_to_end(message: h11.Request | h11.Response) -> Fields:
    nominated: set[bytes] = set()
    dropped = set(_HOP_BY_HOP)
    for name, value in message.headers:
        if name in (b"connection", b"proxy-connection"):
            nominated.update(map(bytes.strip, value.lower().split(b",")))
        elif name == b"transfer-encoding":
            # Both framings at once: the chunks count, and the length must not travel on (RFC 9112 section 6.3).
            dropped.add(b"content-length")
    dropped |= nominated - _NEVER_NOMINATED
    return [(name, value) for name, value in message.headers.raw_items() if name.lower() not in dropped]


def _chunked(message: h11.Request | h11.Response) -> bool:
    return b"transfer-encoding" in dict(message.headers)


def declared_length(response: h11.Response) -> int | None:
    """Return the length in bytes that a response declares, None where only its end tells."""
    fields = dict(response.headers)
    length = fields.get(b"content-length")
    return None if length is None or b"transfer-encoding" in fields else int(length)


def explanation(refusal: Refusal, *, close: bool) -> tuple[h11.Response, bytes]:
    """Build the gateway's own answer: a status, and a body in plain text that says what to do."""
    body = f"{refusal.explanation}\n".encode()
    fields = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Cache-Control", b"no-store"),
        *refusal.fields,
    ]
    if close:
        fields.append((b"Connection", b"close"))
    reason = HTTPStatus(refusal.status).phrase.encode()
    return h11.Response(status_code=refusal.status, reason=reason, headers=fields), body
