"""Bytes to text in bounded memory, out of any encoding and out of base64.

Rules:

- A byte-order mark decides the encoding, or else the zero bytes that UTF-16 has in every other place of ASCII text.
- Bytes that are not valid in that encoding are read as Latin-1, each by itself: a damaged country name must not cost
  the proxy in front of it. No byte is an error.
- A list in base64 (RFC 4648, either alphabet) may be wrapped at once, with line breaks anywhere and padding or none, or
  each line by itself.
"""

from __future__ import annotations

import base64
import codecs
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from proxywhirl.errors import ListFormatError

LONGEST_LINE = 1 << 16  # characters; of a longer line the beginning alone is kept

_HEAD = 1 << 14  # bytes: 4,096 characters in any encoding, to know a format by
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
}

_SHORTEST = 12  # characters: 1.2.3.4:1 is 9 bytes
_WRAPPED = re.compile(r"[A-Za-z0-9+/_=\s-]+")
_PADDING = re.compile(r"=+")
_LIST = re.compile(rb"[.:{\[]")  # every endpoint has one, and so has JSON
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_ENTRY = re.compile(rb"[^\s{\[]*[0-9A-Za-z]:[0-9]+|[a-z0-9]+://\S*[0-9]")
_LONGEST_ENTRY = 1024  # characters
_URL_SAFE = str.maketrans("-_", "+/")
_QUANTUM = 4  # characters for three bytes


def text_of(pieces: Iterable[bytes]) -> Iterator[str]:
    r"""Yield the text in pieces, with every line end as `\n`; the first piece is enough to know a format by.

    Raises:
        ListFormatError: the bytes are compressed.
    """
    rest = iter(pieces)
    head = b""
    while len(head) < _HEAD and (piece := next(rest, None)) is not None:  # a pipe may give one byte at a time
        head += piece
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise ListFormatError(f"the list is compressed ({name}): unpack it first")
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(_encoding(head))(_LATIN_1), translate=True)
    yield from map(decoder.decode, chain([head], rest))
    last = decoder.decode(b"", final=True)
    if last:
        yield last


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


def is_wrapped(head: str) -> bool:
    """Whether a text that begins so is base64, and a list lies within, perhaps wrapped once more."""
    if not _WRAPPED.fullmatch(head):
        return False
    if _is_entry(next(iter(head.split()), "")):
        return True
    sample = "".join(head.split()).partition("=")[0]
    sample = sample[: len(sample) // _QUANTUM * _QUANTUM] if len(sample) > _QUANTUM * _SHORTEST else sample
    try:
        inside = _decoded(sample)
    except ListFormatError:
        return False
    if len(sample) < _SHORTEST or _CONTROL.search(inside) or not _is_text(inside):
        return False
    return bool(_LIST.search(inside)) or is_wrapped(inside.decode("latin-1"))


def unwrapped(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield what a text in base64 holds.

    Raises:
        ListFormatError: the text is not base64.
    """
    rest = iter(texts)
    head = next(rest, "")
    whole = chain([head], rest)
    if _is_entry(next(iter(head.split()), "")):
        yield from (_decoded(line.strip()) + b"\n" for line in lines_of(whole))
        return
    pending = ""
    for text in whole:
        *parts, pending = _PADDING.split(pending + "".join(text.split()))  # padding ends a part: another may follow
        yield from map(_decoded, parts)
        cut = len(pending) // _QUANTUM * _QUANTUM
        yield _decoded(pending[:cut])
        pending = pending[cut:]
    yield _decoded(pending)


def _is_entry(word: str) -> bool:
    """Whether a word holds a single proxy: then each line is wrapped by itself, as no line end lies within."""
    try:
        return len(word) <= _LONGEST_ENTRY and _ENTRY.fullmatch(_decoded(word)) is not None
    except ListFormatError:
        return False


def _decoded(text: str) -> bytes:
    bare = text.rstrip("=").translate(_URL_SAFE)
    with suppress(ValueError):  # left before ours is raised: its own context would keep the text
        return base64.b64decode(bare + "=" * (-len(bare) % _QUANTUM), validate=True)
    raise ListFormatError("not base64: it is cut off or damaged")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return exc.start > 0 and exc.end >= len(data) - 3  # a character that the sample cuts in two
    return True


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"  # before UTF-16, whose mark is the beginning of this one
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if re.match(rb"(?s)(?:[^\0]\0){2}", data):
        return "utf-16-le"
    return "utf-16-be" if re.match(rb"(?s)(?:\0[^\0]){2}", data) else "utf-8-sig"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_LATIN_1 = "proxywhirl.latin-1"
codecs.register_error(_LATIN_1, _as_latin_1)
