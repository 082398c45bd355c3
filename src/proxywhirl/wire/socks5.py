"""SOCKS5, both sides: RFC 1928 with username and password (RFC 1929).

Rules: a name always goes to the proxy as a name, only a literal goes as an address; no method but
"no authentication" and "username and password" is ever offered or chosen.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import IntEnum
from ipaddress import IPv4Address, ip_address

from proxywhirl.errors import AccountRefused, BadHandshake, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.wire.steps import (
    LONGEST_TEXT,
    Handshake,
    ReceiveExactly,
    Requested,
    Send,
    Step,
    Verify,
    literal_or_name,
    packed_port,
    sendable,
)

_VERSION = 5
_AUTHENTICATION_VERSION = 1
_NO_AUTHENTICATION, _PASSWORD, _NO_METHOD = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_CONNECT = 1


class Reply(IntEnum):
    """The reply codes of RFC 1928 section 6."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


_BLAMES_TARGET = frozenset(
    {Reply.NOT_ALLOWED, Reply.NETWORK_UNREACHABLE, Reply.HOST_UNREACHABLE, Reply.CONNECTION_REFUSED, Reply.TTL_EXPIRED}
)


def connect(host: str, port: int, username: str | None = None, password: str | None = None) -> Handshake[None]:
    """Ask for a connection to `host:port`; the credential is sent only to a proxy that asks for it.

    Raises:
        ProxyFailed: The proxy does not speak SOCKS5, or failed without blaming the target.
        AccountRefused: It refuses the credential, asks for one, or this one cannot be sent.
        TargetUnreachable: It cannot or will not reach the target.
        LocalFailure: `host` is no ASCII name of at most 255 bytes, or there is no such port.
    """
    found = literal_or_name(host)
    if isinstance(found, bytes):
        destination = bytes((_NAME, len(found))) + found + packed_port(port)
    else:
        destination = bytes((_IPV4 if isinstance(found, IPv4Address) else _IPV6,)) + found.packed + packed_port(port)
    has_credential = username is not None or password is not None
    yield Send(b"\x05\x02\x00\x02" if has_credential else b"\x05\x01\x00")
    version, method = yield ReceiveExactly(2)
    if version != _VERSION:
        raise ProxyFailed(f"does not speak SOCKS5: its answer begins with 0x{version:02x}")
    if method == _PASSWORD and has_credential:
        yield from _authenticate(username or "", password or "")
    elif method in (_NO_METHOD, _PASSWORD):
        raise AccountRefused("accepts none of the ways to log in" if has_credential else "asks for a credential")
    elif method != _NO_AUTHENTICATION:
        raise ProxyFailed(f"chose a way to log in that was not offered: 0x{method:02x}")
    yield Send(bytes((_VERSION, _CONNECT, 0)) + destination)
    yield from _read_reply()


def _authenticate(username: str, password: str) -> Handshake[None]:
    name, secret = sendable(username), sendable(password)
    if not (1 <= len(name) <= LONGEST_TEXT and 1 <= len(secret) <= LONGEST_TEXT):
        raise AccountRefused("needs a username and a password of 1 to 255 bytes each (RFC 1929)")
    yield Send(bytes((_AUTHENTICATION_VERSION, len(name))) + name + bytes((len(secret),)) + secret)
    _, status = yield ReceiveExactly(2)  # the version is not judged: some proxies answer 5 where 1 is due
    if status != 0:
        raise AccountRefused("refused the credential")


def _read_reply() -> Handshake[None]:
    # Two bytes first: a proxy that refuses may close without the rest.
    version, code = yield ReceiveExactly(2)
    if version != _VERSION:
        raise ProxyFailed(f"broke SOCKS5: its reply begins with 0x{version:02x}")
    if code != Reply.SUCCEEDED:
        raise _refusal(code)
    _, kind = yield ReceiveExactly(2)
    if kind not in (_IPV4, _NAME, _IPV6):
        raise ProxyFailed(f"broke SOCKS5: its reply has an address of the unknown type {kind}")
    yield from _receive_address(kind)
    yield ReceiveExactly(2)


def _refusal(code: int) -> UpstreamError:
    try:
        known = Reply(code)
    except ValueError:
        return ProxyFailed(f"answered with the unassigned SOCKS5 reply {code}")
    error = TargetUnreachable if known in _BLAMES_TARGET else ProxyFailed
    return error(f"answered with SOCKS5 reply {code}: {known.name.lower().replace('_', ' ')}")


def _receive_address(kind: int) -> Generator[Step, bytes, str]:
    if kind == _NAME:
        (length,) = yield ReceiveExactly(1)
        name = yield ReceiveExactly(length)
        return name.decode("ascii", "replace")
    packed = yield ReceiveExactly(4 if kind == _IPV4 else 16)
    return str(ip_address(packed))


def accept(verify: Verify, *, needs_credential: bool) -> Handshake[Requested]:
    """Serve a client up to its request; the caller then sends `reply(...)`.

    Args:
        verify: Judges the username and password; asked only where `needs_credential`.
        needs_credential: Choose the method "username and password", and no other.

    Raises:
        BadHandshake: The client does not speak SOCKS5, or asks for more than CONNECT; it was told so.
        AccountRefused: The client offered no credential, or a wrong one; it was told so.
    """
    version, count = yield ReceiveExactly(2)
    if version != _VERSION:
        raise BadHandshake(f"a client began SOCKS5 with 0x{version:02x}")
    offered = yield ReceiveExactly(count)
    method = _PASSWORD if needs_credential else _NO_AUTHENTICATION
    if method not in offered:
        yield Send(bytes((_VERSION, _NO_METHOD)))
        raise AccountRefused(f"a client does not offer the SOCKS5 method {method}")
    yield Send(bytes((_VERSION, method)))
    username = password = None
    if needs_credential:
        username, password = yield from _receive_credential(verify)
    host, port = yield from _receive_request()
    return Requested(host, port, username, password)


def _receive_credential(verify: Verify) -> Handshake[tuple[str, str]]:
    _, length = yield ReceiveExactly(2)
    username = (yield ReceiveExactly(length)).decode("utf-8", "replace")
    (length,) = yield ReceiveExactly(1)
    password = (yield ReceiveExactly(length)).decode("utf-8", "replace")
    accepted = verify(username, password)
    yield Send(bytes((_AUTHENTICATION_VERSION, 0 if accepted else 1)))
    if not accepted:
        raise AccountRefused("a client offered a wrong SOCKS5 credential")
    return username, password


def _receive_request() -> Handshake[tuple[str, int]]:
    _, command, _, kind = yield ReceiveExactly(4)
    if command != _CONNECT:
        yield Send(reply(Reply.COMMAND_NOT_SUPPORTED))
        raise BadHandshake(f"a client asked for the SOCKS5 command {command}")
    if kind not in (_IPV4, _NAME, _IPV6):
        yield Send(reply(Reply.ADDRESS_TYPE_NOT_SUPPORTED))
        raise BadHandshake(f"a client sent the unknown SOCKS5 address type {kind}")
    host = yield from _receive_address(kind)
    port = yield ReceiveExactly(2)
    return host, int.from_bytes(port, "big")


def reply(code: Reply) -> bytes:
    """Return a reply with the bound address 0.0.0.0:0, which clients ignore for CONNECT."""
    return bytes((_VERSION, code, 0, _IPV4)) + bytes(6)
