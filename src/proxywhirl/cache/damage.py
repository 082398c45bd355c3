"""What can be told from a line that is not what was written. Pure.

A damaged line is lost, and nothing but it: whole lines that it runs into are found again, and a removal is heeded where
its checksum tells which one it was, since what was removed must not come back.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from proxywhirl.cache.shard import decode_line

__all__ = ["removal_in", "whole_lines"]

_START = re.compile(rb'\{"op":"')
_END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_END_LENGTH = len(b',"crc":"00000000"}')
STARTS_TRIED = 4

# The CRC-32 of one byte, without what its start and end add; the highest byte of each is unlike all others.
_TABLE = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
_BY_HIGHEST = {value >> 24: n for n, value in enumerate(_TABLE)}


def whole_lines(text: bytes) -> list[tuple[int, int]]:
    """Return where whole lines stand in a text without newlines, as (start, end)."""
    found: list[tuple[int, int]] = []
    starts = [match.start() for match in _START.finditer(text)]
    for match in _END.finditer(text):
        after = found[-1][1] if found else 0
        before = [start for start in starts if after <= start < match.start()]
        for start in before[: -STARTS_TRIED - 1 : -1]:
            if decode_line(text[start : match.end()]) is not None:
                found.append((start, match.end()))
                break
    return found


def removal_in(text: bytes) -> dict[str, Any] | None:
    """Return the fields of a removal in which one byte is wrong; None where it is none, or more is wrong."""
    mended = _mend(text)
    fields = None if mended is None else decode_line(mended)
    return fields if fields is not None and fields.get("op") in {"del", "evict"} else None


def _mend(text: bytes) -> bytes | None:
    """Put the one byte right for which the checksum does not fit."""
    body, end = text[:-_END_LENGTH], text[-_END_LENGTH:]
    right_end = b',"crc":"%08x"}' % zlib.crc32(body)
    if len(end) == _END_LENGTH and sum(a != b for a, b in zip(end, right_end, strict=True)) == 1:
        return body + right_end
    if not _END.fullmatch(end):
        return None
    difference = zlib.crc32(body) ^ int(end[8:16], 16)
    for place in range(len(body) - 1, -1, -1):  # the difference that the wrong byte made right after it
        n = _BY_HIGHEST[difference >> 24]
        if _TABLE[n] == difference:
            return b"%s%c%s" % (body[:place], body[place] ^ n, body[place + 1 :]) + end
        difference = ((difference ^ _TABLE[n]) << 8 | n) & 0xFFFFFFFF
    return None
