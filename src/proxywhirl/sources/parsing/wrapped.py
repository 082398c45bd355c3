"""Take a list out of its base64 (RFC 4648, either alphabet), as a stream.

The whole list may be wrapped at once, with line breaks anywhere and padding or none, or each line by itself.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from proxywhirl.errors import ListFormatError
from proxywhirl.sources.parsing.decode import lines_of

_SHORTEST = 12  # characters: 1.2.3.4:1 is 9 bytes
_WRAPPED = re.compile(r"[A-Za-z0-9+/_=\s-]+")
_PADDING = re.compile(r"=+")
_LIST = re.compile(rb"[.:{\[]")  # every endpoint has one, and so has JSON
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_ENTRY = re.compile(rb"[^\s{\[]*[0-9A-Za-z]:[0-9]+|[a-z0-9]+://\S*[0-9]")
_LONGEST_ENTRY = 1024  # characters
_URL_SAFE = str.maketrans("-_", "+/")
_QUANTUM = 4  # characters for three bytes


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


class Unwrapped:
    """What a base64 text holds, as a stream of bytes.

    `read` raises `ListFormatError` where the text is not base64.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._pieces = _pieces(texts)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
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
