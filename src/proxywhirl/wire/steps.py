"""The commands that a handshake gives to its driver, and how texts stand on the wire.

`ReceiveSome` is for a conversation that nothing follows: it may take more than the handshake needs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias, TypeVar

from proxywhirl.errors import AccountRefused, LocalFailure

T = TypeVar("T")

LONGEST_TEXT = 255  # bytes of a name or a credential in SOCKS: one byte of SOCKS5 says the length, SOCKS4 has the DNS's
_LONGEST = 60  # characters of a stranger's text in a message


@dataclass(frozen=True, slots=True)
class Send:
    """Write `data`, all of it, then resume with `b""`. No repr shows it, since it may hold a credential."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceiveExactly:
    """Resume with exactly `count` bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class ReceiveUntil:
    """Resume with the bytes up to and including `delimiter`: at most `limit` of them, 64 KiB or less."""

    delimiter: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class ReceiveSome:
    """Resume with what has arrived, at least one byte and at most `limit`; with `b""` when the other side has ended."""

    limit: int


Step: TypeAlias = Send | ReceiveExactly | ReceiveUntil | ReceiveSome
Handshake: TypeAlias = Generator[Step, bytes, T]

Verify: TypeAlias = Callable[[str | None, str | None], bool]
"""What a server side asks about the username and password offered (None: nothing was offered)."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What a client asked a proxy for; `host` is a name or an address without brackets."""

    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def quoted(data: bytes) -> str:
    r"""Return the beginning of `data` with everything but printable ASCII replaced by dots.

    >>> quoted(b"Bad\x1b[31m Gateway\r\n")
    'Bad.[31m Gateway'
    """
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data.strip()[: _LONGEST + 1])  # noqa: PLR2004 - ASCII
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def sendable(credential: str) -> bytes:
    """Return a username or a password in UTF-8, as all protocols here send them.

    Raises:
        AccountRefused: It has no such form. Python's error would show it, so none is behind this one.
    """
    with suppress(UnicodeEncodeError):
        return credential.encode()
    raise AccountRefused("cannot be sent this credential: a character of it has no UTF-8 form")


def literal_or_name(host: str) -> IPv4Address | IPv6Address | bytes:
    """Return the address that a host is, or its name as SOCKS sends it: in ASCII.

    Raises:
        LocalFailure: It is neither an address nor an ASCII name of 1 to 255 bytes, none of them zero.
    """
    with suppress(ValueError):
        return ip_address(host)
    if not host.isascii() or not 1 <= len(host) <= LONGEST_TEXT or "\0" in host:
        raise LocalFailure("cannot be asked for a host that is no ASCII name of 1 to 255 bytes")
    return host.encode()


def packed_port(port: int) -> bytes:
    """Return a target's port as SOCKS sends it.

    Raises:
        LocalFailure: There is no such port.
    """
    try:
        return port.to_bytes(2, "big")
    except OverflowError as exc:
        raise LocalFailure(f"cannot be asked for port {port}: ports go from 1 to 65535") from exc
