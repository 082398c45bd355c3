"""What the origin answers to each path: plain values, no I/O.

==================  ==============================================================
`/status/N`         status N (200 to 599) with the echo
`/bytes/N`          N bytes, where byte i is i modulo 256
`/slow?ms=N`        the echo after N milliseconds
`/stream?chunks=N`  N chunks of 1 KiB with chunked coding
`/close`            the echo without a length, ended by closing the connection
anything else       the echo: a JSON object that tells what was asked, through whom
==================  ==============================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_PATTERN = bytes(range(256)) * 256
_PATHS = re.compile(
    r"/(?:(status)/([2-5]\d\d)|(bytes)/(\d{1,10})|(slow)\?ms=(\d{1,6})|(stream)\?chunks=(\d{1,6})|(close))"
)


class Framing(Enum):
    """How the end of a body is told."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: `length` bytes in `body`, after `delay` seconds. `headers` come beside those of its framing."""

    body: Iterator[bytes]
    length: int
    status: int = 200
    delay: float = 0.0
    framing: Framing = Framing.LENGTH
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def page_for(path: str, echo: bytes) -> Page:
    """Return the page at a path with its query."""
    match = _PATHS.fullmatch(path)
    kind, number = (*filter(None, match.groups()), "0")[:2] if match else ("", "0")
    count = int(number)
    match kind:
        case "bytes":
            return Page(_pattern(count), count, content_type="application/octet-stream")
        case "stream":
            chunks = (_PATTERN[:1024] for _ in range(count))
            return Page(chunks, count * 1024, framing=Framing.CHUNKED, content_type="application/octet-stream")
        case "status":
            return Page(iter((echo,)), len(echo), status=count)
        case "slow":
            return Page(iter((echo,)), len(echo), delay=count / 1000)
        case "close":
            return Page(iter((echo,)), len(echo), framing=Framing.CLOSE)
        case _:
            return Page(iter((echo,)), len(echo))


def _pattern(count: int) -> Iterator[bytes]:
    for start in range(0, count, len(_PATTERN)):
        yield _PATTERN[: count - start]
