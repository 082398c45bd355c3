"""The beginning of a body as text, whatever coding it was sent in.

Whether a body is gzip is told by its beginning (RFC 1952): clients hand on what they unpacked themselves together with
the header that says it is packed. What is packed in a way that is not known here is left as it is: nothing is found in
it, and status and headers speak alone.
"""

from __future__ import annotations

import zlib

__all__ = ["beginning"]

_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16


def beginning(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of the content, of a damaged or cut body what can be had.

    Args:
        body: As it was sent, or already unpacked.
        coding: The last one that Content-Encoding names, in lower case.
        limit: Bytes, of what is read too: a body that unpacks to nothing without an end costs no more.
    """
    body = body[:limit]
    if body.startswith(_GZIP):
        return _inflated(body, _GZIP_BITS, limit)
    if coding == b"deflate":  # RFC 9110 section 8.4.1.2: some leave the wrapper out
        return _inflated(body, zlib.MAX_WBITS, limit) or _inflated(body, -zlib.MAX_WBITS, limit) or body
    return body


def _inflated(body: bytes, bits: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(bits)
    try:
        return unpacker.decompress(body, limit)
    except zlib.error:
        return b""
