"""Unpack what a server sends, piece by piece, as far as it is allowed to grow.

Whether a body is gzip is told by its beginning (RFC 1952): servers say so where it is not, and do not where it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from proxywhirl.errors import SourceError

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})

_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16
_RAW_BITS = -zlib.MAX_WBITS
_PIECE = 1 << 18
_ZLIB_METHOD = 8  # RFC 1950: the low four bits of the first byte
_ZLIB_CHECK = 31  # the first two bytes are a multiple of it


class Inflater:
    """Give the content of a body that arrives in pieces.

    Args:
        encoding: What the server says that it is, one of `ENCODINGS`.
        limit: Bytes that are allowed, of the body and of its content.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._deflate = encoding == "deflate"
        self._limit = limit
        self._given = 0
        self._received = 0
        self._head: bytes | None = b""  # until it is known what it is
        self._unpacker: zlib._Decompress | None = None
        self._bits = _GZIP_BITS

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the content of the next piece.

        Raises:
            SourceError: it is damaged, or more than is allowed.
        """
        self._received += len(data)
        if self._received > self._limit:  # also where it is packed without an end, and unpacks to nothing
            raise self._too_large()
        if self._head is not None:
            self._head += data
            if len(self._head) < len(_GZIP):
                return
            data, self._head = self._head, None
            self._begin(data)
        yield from self._content(data)

    def finish(self) -> Iterator[bytes]:
        """Yield what is left at the end.

        Raises:
            SourceError: the packed body is cut off.
        """
        if self._head:
            yield from self._allowed(self._head)
        if self._unpacker is not None and not self._unpacker.eof:
            raise SourceError("the answer breaks off: its compressed content has no end", passing=True)

    def _begin(self, head: bytes) -> None:
        if head.startswith(_GZIP):
            self._unpacker = zlib.decompressobj(_GZIP_BITS)
        elif self._deflate:
            wrapped = head[0] & 0x0F == _ZLIB_METHOD and int.from_bytes(head[:2], "big") % _ZLIB_CHECK == 0
            self._bits = (
                zlib.MAX_WBITS if wrapped else _RAW_BITS
            )  # RFC 9110 section 8.4.1.2: some leave the wrapper out
            self._unpacker = zlib.decompressobj(self._bits)

    def _content(self, data: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield from self._allowed(data)
            return
        piece = b""
        while data or len(piece) == _PIECE:  # with no data left, a full piece may not have been the last one
            if self._unpacker.eof:
                if not (self._bits == _GZIP_BITS and data.startswith(_GZIP)):
                    return  # zeros or rubbish behind the end are no content
                self._unpacker = zlib.decompressobj(_GZIP_BITS)  # RFC 1952 section 2.2: another member
            try:
                piece = self._unpacker.decompress(data, _PIECE)
            except zlib.error as exc:
                raise SourceError("the answer's compressed content is damaged", passing=True) from exc
            data = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            yield from self._allowed(piece)

    def _allowed(self, piece: bytes) -> Iterator[bytes]:
        self._given += len(piece)
        if self._given > self._limit:
            raise self._too_large()
        if piece:
            yield piece

    def _too_large(self) -> SourceError:
        return SourceError(f"the list is larger than {self._limit} bytes: raise sources.max_bytes to allow it")
