"""Collect a source's body, unpacked, in memory while it is small, and up to its bound.

A body is recognised as gzip by its beginning (RFC 1952): the headers of servers are wrong in both directions.
"""

from __future__ import annotations

import stat
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from proxywhirl.errors import SourceError

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})

_IN_MEMORY = 1 << 20  # bytes: a larger list waits on the disk
_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16
_PIECE = 1 << 18
_ZLIB_METHOD = 8  # RFC 1950: the low four bits of the first byte
_ZLIB_CHECK = 31  # the first two bytes are a multiple of it


@dataclass(frozen=True, slots=True)
class Validators:
    """The version that a source told, to ask only for a newer one (RFC 9110 section 8.8)."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a conditional request; none where nothing is known."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


NO_VALIDATORS = Validators()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave: `content` is unpacked, from its beginning; None where nothing has changed. Close it."""

    content: IO[bytes] | None
    validators: Validators

    def close(self) -> None:
        """Let the content go. Idempotent."""
        if self.content is not None:
            self.content.close()


class ListBody:
    """A body as far as it has come. A context manager that lets it go where an error ends it.

    Args:
        encoding: What the sender says that it is, one of `ENCODINGS`.
        limit: Bytes that are allowed, packed or unpacked.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._deflate = encoding == "deflate"
        self._limit = limit
        self._received = 0
        self._head: bytes | None = b""  # until it is known what it is
        self._unpacker: zlib._Decompress | None = None
        self._bits = _GZIP_BITS
        self._content = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed at the exit, or by who takes it

    def take(self, piece: bytes) -> None:
        """Add the next piece.

        Raises:
            SourceError: it is damaged, or more than is allowed.
        """
        self._received += len(piece)
        if self._received > self._limit:  # also where it is packed without an end, and unpacks to nothing
            raise self._too_large()
        if self._head is not None:
            self._head += piece
            if len(self._head) < len(_GZIP):
                return
            piece, self._head = self._head, None
            self._begin(piece)
        self._unpack(piece)

    def whole(self, validators: Validators) -> Fetched:
        """Return the body, which has come to its end.

        Raises:
            SourceError: the packed body is cut off.
        """
        if self._head:
            self._write(self._head)
        if self._unpacker is not None and not self._unpacker.eof:
            raise SourceError("the answer breaks off: its compressed content has no end", passing=True)
        self._content.seek(0)
        return Fetched(self._content, validators)

    def _begin(self, head: bytes) -> None:
        if head.startswith(_GZIP):
            self._unpacker = zlib.decompressobj(_GZIP_BITS)
        elif self._deflate:
            wrapped = head[0] & 0x0F == _ZLIB_METHOD and int.from_bytes(head[:2], "big") % _ZLIB_CHECK == 0
            self._bits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS  # RFC 9110 section 8.4.1.2: some leave it out
            self._unpacker = zlib.decompressobj(self._bits)

    def _unpack(self, data: bytes) -> None:
        if self._unpacker is None:
            self._write(data)
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
            self._write(piece)

    def _write(self, piece: bytes) -> None:
        if self._content.tell() + len(piece) > self._limit:
            raise self._too_large()
        self._content.write(piece)

    def _too_large(self) -> SourceError:
        return SourceError(f"the list is larger than {self._limit} bytes: raise sources.max_bytes to allow it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._content.close()


def read_file(path: Path, limit: int) -> Fetched:
    """Copy a file, which may change while it is being read, and may be packed with gzip.

    Raises:
        SourceError: it cannot be read, or is more than `limit` bytes.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):  # a pipe or a device might never end
            with path.open("rb") as stream, ListBody("", limit) as body:
                while piece := stream.read(_CHUNK):
                    body.take(piece)
                return body.whole(NO_VALIDATORS)
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
    raise SourceError(f"{path} is no file")
