"""Text on the wire: a stranger's bytes made fit for a message, ours made into bytes."""

from __future__ import annotations

from contextlib import suppress

from proxywhirl.errors import AccountRefused, LocalFailure

_LONGEST = 60  # characters


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


def packed_port(port: int) -> bytes:
    """Return a target's port as SOCKS sends it.

    Raises:
        LocalFailure: There is no such port.
    """
    try:
        return port.to_bytes(2, "big")
    except OverflowError as exc:
        raise LocalFailure(f"cannot be asked for port {port}: ports go from 1 to 65535") from exc
