"""Make bytes from a stranger fit for a message: printable, on one line, short."""

from __future__ import annotations

__all__ = ["quoted"]

_LONGEST = 60  # characters


def quoted(data: bytes) -> str:
    r"""Return the beginning of `data` with everything but printable ASCII replaced by dots.

    >>> quoted(b"Bad\x1b[31m Gateway\r\n")
    'Bad.[31m Gateway'
    """
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data.strip()[: _LONGEST + 1])  # noqa: PLR2004 - ASCII
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
