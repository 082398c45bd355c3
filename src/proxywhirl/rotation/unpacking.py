"""The beginning of a body as text, whatever coding it was sent in.

Whether a body is gzip (RFC 1952) or zstd (RFC 8878) is told by its beginning, whether it is another by trying: clients
hand on what they unpacked themselves together with the header that says it is packed. What is packed in a way that is
not known here, such as br and zstd without the extra `bodies`, gives no text in which anything could be found: status
and headers speak alone.
"""

from __future__ import annotations

import sys
import zlib
from functools import cache
from types import ModuleType

__all__ = ["beginning"]

_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW = 23  # log₂ of bytes: no more may be asked of who unpacks a response (RFC 9659 section 3)


def beginning(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of the content, of a damaged or cut body what can be had.

    What a body can cost is bounded by its coding: gzip and deflate unpack no more than `limit`, zstd keeps 8 MB
    meanwhile, and br unpacks up to 16 MB, its largest window (RFC 7932 section 9.1), which takes some 30 ms.

    Args:
        body: As it was sent, or already unpacked.
        coding: The last one that Content-Encoding names, in lower case.
        limit: Bytes, of what is read too: a body that unpacks to nothing without an end costs no more.
    """
    body = body[:limit]
    if body.startswith(_GZIP):
        return _inflated(body, _GZIP_BITS, limit)
    if body.startswith(_ZSTD):
        return _unpacked_zstd(body, limit)
    if coding == b"br":
        return _unpacked_brotli(body, limit) or body
    if coding == b"deflate":  # RFC 9110 section 8.4.1.2: some leave the wrapper out
        return _inflated(body, zlib.MAX_WBITS, limit) or _inflated(body, -zlib.MAX_WBITS, limit) or body
    return body


def _inflated(body: bytes, bits: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(bits)
    try:
        return unpacker.decompress(body, limit)
    except zlib.error:
        return b""


def _unpacked_brotli(body: bytes, limit: int) -> bytes:
    brotli = _brotli()
    if brotli is None:
        return b""
    try:
        content: bytes = brotli.Decompressor().process(body, output_buffer_limit=limit)
    except brotli.error:
        return b""
    return content[:limit]  # it keeps to its limit by whole buffers


def _unpacked_zstd(body: bytes, limit: int) -> bytes:
    zstd = _zstd()
    if zstd is None:
        return b""
    try:
        unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW})
        content: bytes = unpacker.decompress(body, max_length=limit)
    except zstd.ZstdError:
        return b""
    return content


@cache  # an import that fails is looked for in every directory of the path
def _brotli() -> ModuleType | None:
    try:
        import brotli  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    module: ModuleType = brotli
    return module


@cache
def _zstd() -> ModuleType | None:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415  # not in every build
        else:
            from backports import zstd  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    return zstd
