"""The tunnel of an HTTP proxy, client side: CONNECT (RFC 9110 section 9.3.6), Basic credentials (RFC 7617).

Rules:
- The head is read line by line, so that not one byte of the tunnel is taken; h11 writes and reads it.
- A proxy may echo what it was sent: its own words are quoted in an error only where nothing secret was sent.
- The headers of a refusal go along with the error: a vendor says in them who is to blame.
"""

from __future__ import annotations

import base64
from http import HTTPStatus

import h11

from proxywhirl.errors import AccountRefused, LocalFailure, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.steps import Handshake, ReceiveUntil, Send, quoted, sendable

HEAD_LIMIT = 64 * 1024
"""How many bytes all response heads of one handshake may have together."""


def basic_credentials(username: str, password: str) -> str:
    """Return the value of a Proxy-Authorization header, in UTF-8 (RFC 7617 section 2.1).

    >>> basic_credentials("Aladdin", "open sesame")
    'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=='

    Raises:
        AccountRefused: The credential has no form in UTF-8.
    """
    return "Basic " + base64.b64encode(sendable(f"{username}:{password}")).decode("ascii")


def authorization(proxy: ProxyURL) -> list[tuple[bytes, bytes]]:
    """Return the field that logs in to an HTTP proxy which is not asked for a tunnel; none where it has no credential.

    Raises:
        AccountRefused: The credential cannot be sent; the message names the proxy.
    """
    if proxy.username is None and proxy.password is None:
        return []
    try:
        return [(b"Proxy-Authorization", basic_credentials(proxy.username or "", proxy.password or "").encode())]
    except AccountRefused as exc:
        raise exc.about(proxy.canonical) from exc


def connect(authority: str, username: str | None = None, password: str | None = None) -> Handshake[None]:
    """Ask for a tunnel to `authority` (`host:port`).

    Raises:
        ProxyFailed: The answer is no HTTP, too long, or makes no sense for CONNECT.
        AccountRefused: 407, or 402 (the account's quota), or the credential cannot be sent.
        TargetUnreachable: Any other 4xx or 5xx: the proxy works and does not open this tunnel.
        LocalFailure: The authority cannot be written in a request.
    """
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    has_secret = username is not None or password is not None
    yield Send(_request(protocol, authority, basic_credentials(username or "", password or "") if has_secret else None))
    room = HEAD_LIMIT
    response: object = h11.NEED_DATA
    while not isinstance(response, h11.Response):  # skips interim (1xx) responses
        if response is h11.NEED_DATA:
            line = yield ReceiveUntil(b"\n", room)
            if room == HEAD_LIMIT and not line.startswith(b"HTTP/"):  # h11 would wait for a whole head first
                raise _no_http(b"" if has_secret else line)
            room -= len(line)
            protocol.receive_data(line)
        try:
            response = protocol.next_event()
        except h11.RemoteProtocolError:
            raise _no_http(b"" if has_secret else line) from None  # without its text, which quotes the answer
    _judge(response, "" if has_secret else quoted(response.reason))


def _request(protocol: h11.Connection, authority: str, authorization: str | None) -> bytes:
    headers = [("Host", authority)]
    if authorization is not None:
        headers.append(("Proxy-Authorization", authorization))
    try:
        head = protocol.send(h11.Request(method="CONNECT", target=authority, headers=headers))
        protocol.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, UnicodeEncodeError) as exc:
        raise LocalFailure(f"cannot be asked for {quoted(authority.encode())}: no valid authority") from exc
    return head or b""


def _no_http(words: bytes) -> ProxyFailed:
    return ProxyFailed("answered CONNECT with what is no HTTP response" + (f": {quoted(words)}" if words else ""))


def _judge(response: h11.Response, reason: str) -> None:
    status = response.status_code
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success
        return
    error: type[UpstreamError] = ProxyFailed
    if status in (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
        error = AccountRefused
    elif 400 <= status < 600:  # noqa: PLR2004 - the classes of refusal
        error = TargetUnreachable
    refused = error(f"answered CONNECT with {status} {reason or _phrase(status)}".rstrip())
    refused.refusal = status, tuple(response.headers)
    raise refused


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a status that no registry knows has no phrase
        return ""
