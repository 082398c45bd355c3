"""SOCKS4 and SOCKS4A, both sides (the two memos by Ying-Da Lee; there is no RFC).

Rules: an IPv4 literal goes as an address, a name in the 4A form; IPv6 does not exist here. The user
id is all that SOCKS4 has of a credential: a password is never sent.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from proxywhirl.errors import AccountRefused, BadHandshake, ProxyFailed, TargetUnreachable
from proxywhirl.wire.steps import (
    LONGEST_TEXT,
    Handshake,
    ReceiveExactly,
    ReceiveUntil,
    Requested,
    Send,
    Verify,
    literal_or_name,
    packed_port,
    sendable,
)

GRANTED, REJECTED, NO_IDENTD, IDENTITY_REFUSED = 0x5A, 0x5B, 0x5C, 0x5D
_VERSION = 4
_CONNECT = 1
_NAME_FOLLOWS = IPv4Address("0.0.0.1")  # 4A: any 0.0.0.x with x > 0


def connect(host: str, port: int, user_id: str | None = None) -> Handshake[None]:
    """Ask for a connection to `host:port`, a name only of a proxy that speaks 4A.

    Raises:
        ProxyFailed: The proxy does not speak SOCKS4.
        AccountRefused: It refuses the user id, or this one cannot be sent.
        TargetUnreachable: It rejects the request, or the target is an IPv6 address.
        LocalFailure: `host` is no ASCII name of at most 255 bytes, or there is no such port.
    """
    found = literal_or_name(host)
    if isinstance(found, IPv6Address):
        raise TargetUnreachable("cannot reach an IPv6 address: SOCKS4 has none")
    address, name = (_NAME_FOLLOWS, found + b"\0") if isinstance(found, bytes) else (found, b"")
    identity = sendable(user_id or "")
    if b"\0" in identity or len(identity) > LONGEST_TEXT:
        raise AccountRefused("cannot be sent this username: SOCKS4 takes at most 255 bytes, none of them zero")
    yield Send(bytes((_VERSION, _CONNECT)) + packed_port(port) + address.packed + identity + b"\0" + name)
    version, code = yield ReceiveExactly(2)
    if version != 0:
        raise ProxyFailed(f"does not speak SOCKS4: its reply begins with 0x{version:02x}")
    if code == REJECTED:
        raise TargetUnreachable("rejected the SOCKS4 request (0x5b)")
    if code in (NO_IDENTD, IDENTITY_REFUSED):
        raise AccountRefused(f"refused the SOCKS4 user id (0x{code:02x})")
    if code != GRANTED:
        raise ProxyFailed(f"answered with the unassigned SOCKS4 code 0x{code:02x}")
    yield ReceiveExactly(6)  # the bound port and address say nothing for CONNECT


def accept(verify: Verify) -> Handshake[Requested]:
    """Serve a client up to its request; the caller then sends `reply(...)`.

    Args:
        verify: Judges the user id, given as the username (None where it is empty) without a password.

    Raises:
        BadHandshake: The client does not speak SOCKS4, or asks for more than CONNECT; it was told so.
        AccountRefused: `verify` said no; the client was told so.
    """
    head = yield ReceiveExactly(8)
    if head[0] != _VERSION or head[1] != _CONNECT:
        yield Send(reply(REJECTED))
        raise BadHandshake(f"a client began SOCKS4 with 0x{head[0]:02x} 0x{head[1]:02x}")
    port = int.from_bytes(head[2:4], "big")
    address = IPv4Address(head[4:8])
    user_id = yield from _receive_text()
    host = str(address)
    if 0 < int(address) < 256:  # noqa: PLR2004 - 0.0.0.x
        host = yield from _receive_text()
    if not verify(user_id or None, None):
        yield Send(reply(IDENTITY_REFUSED))
        raise AccountRefused("a client offered a wrong SOCKS4 user id")
    return Requested(host, port, user_id or None)


def _receive_text() -> Handshake[str]:
    return (yield ReceiveUntil(b"\0", LONGEST_TEXT + 1))[:-1].decode("utf-8", "replace")


def reply(code: int) -> bytes:
    """Return a reply with the bound address 0.0.0.0:0, which clients ignore for CONNECT."""
    return bytes((0, code)) + bytes(6)
