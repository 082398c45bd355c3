"""Bytes to text in bounded memory: any encoding that lists come in, never an exception for a byte.

A byte-order mark decides, or else the zero bytes that UTF-16 has in every other place of ASCII text.
Bytes that are not valid in that encoding are read as Latin-1, each by itself: a damaged country name must not
cost the proxy in front of it.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from typing import Protocol

from proxywhirl.errors import ListFormatError

CHUNK = 1 << 16
LONGEST_LINE = 1 << 16  # characters; of a longer line the beginning alone is kept

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
}

_LONGEST_MARK = max(map(len, _COMPRESSED))


class Readable(Protocol):
    """A binary stream: all that is asked of it is `read(size)`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


def text_of(stream: Readable) -> Iterator[str]:
    r"""Yield the text in pieces, with every line end as `\n`.

    Raises:
        ListFormatError: the stream is compressed.
    """
    data = _head(stream)
    for magic, name in _COMPRESSED.items():
        if data.startswith(magic):
            raise ListFormatError(f"the list is compressed ({name}): unpack it first")
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(_encoding(data))(_LATIN_1), translate=True)
    while data:
        yield decoder.decode(data)
        data = stream.read(CHUNK)
    yield decoder.decode(b"", final=True)


def lines_of(texts: Iterable[str]) -> Iterator[str]:
    """Yield the lines without their ends; a line beyond `LONGEST_LINE` is cut there and its rest dropped."""
    pending = ""
    for text in texts:
        first, *others = text.split("\n")
        pending += first[: LONGEST_LINE + 1 - len(pending)]
        if others:
            yield pending
            pending = others.pop()
            yield from others
    if pending:
        yield pending


def _head(stream: Readable) -> bytes:
    """Read enough to know an encoding by; a pipe may give one byte at a time."""
    data = b""
    while len(data) < _LONGEST_MARK:
        more = stream.read(CHUNK)
        if not more:
            break
        data += more
    return data


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"  # before UTF-16, whose mark is the beginning of this one
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = bytes(byte == 0 for byte in data[:4])
    return {b"\0\1\0\1": "utf-16-le", b"\1\0\1\0": "utf-16-be"}.get(zeros, "utf-8-sig")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_LATIN_1 = "proxywhirl.latin-1"
codecs.register_error(_LATIN_1, _as_latin_1)
