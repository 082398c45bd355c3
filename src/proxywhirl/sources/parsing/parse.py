"""Read a list of proxies in whatever format it is, as a stream, in bounded memory.

This is the one way for a list, wherever it comes from. The format is recognised by the beginning of the content unless
it is named: names of files and types of media are often wrong. Another package offers parsers by entry points of the
group `proxywhirl.parsers`: the name is what the user writes as the format, the object is a `Parser`. A built-in name
cannot be taken over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Protocol

from proxywhirl import plugins
from proxywhirl.errors import ListFormatError
from proxywhirl.sources.parsing.decode import is_wrapped, text_of, unwrapped
from proxywhirl.sources.parsing.lines import parse_text
from proxywhirl.sources.parsing.pages import parse_page
from proxywhirl.sources.parsing.records import Item, ParseOptions, header_delimiter
from proxywhirl.sources.parsing.structured import decode_value, parse_csv, parse_json, parse_json_lines
from proxywhirl.urls import default_port

ENTRY_POINT_GROUP = "proxywhirl.parsers"

_DEEPEST = 3  # wrappings around a list
_CHUNK = 1 << 16  # bytes
_ARRAY = re.compile(r"""\[\s*(?:["\[{\]]|null\b)""")  # not [socks5], nor [2001:db8::1]:80
_OBJECT = re.compile(r"""\{\s*["}]""")
_PAGE = re.compile(
    r"(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*(?:<!doctype\s+html|<(?:html|head|body|table|thead|tbody|tr)[\s>])",
    re.IGNORECASE | re.DOTALL,
)


class Readable(Protocol):
    """A binary stream: all that is asked of it is `read(size)`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


Parser = Callable[[Iterator[str], ParseOptions], Iterator[Item]]
"""Reads the pieces of a text, whose line ends are `\\n`, as they come. Raises `ListFormatError` where it cannot."""

_BUILT_IN: Mapping[str, Parser] = {
    "csv": parse_csv,
    "html": parse_page,
    "json": parse_json,
    "jsonl": parse_json_lines,
    "text": parse_text,
}


def parse_list(
    stream: Readable, *, scheme: str = "http", format_name: str | None = None, path: str | None = None
) -> Iterator[Item]:
    """Return every proxy of a list, every line that is wrong, and every line that is none, as they come.

    Args:
        stream: Progress can be told by the bytes that are read from it, in pieces of 64 KiB. The memory needed
            does not grow with the list, but for a web page, which is held whole.
        scheme: Of the entries that name none; a heading or a column of the list has the last word.
        format_name: One of `parser_names()`; None to recognise it by the content.
        path: Where in a JSON document the proxies stand, such as `data.proxies`: the names of members, with dots
            between; the elements of an array need none.

    Raises:
        ProxyURLError: `scheme` is unknown.
        UnknownNameError: `format_name` is unknown.
        SettingsError: what reads that format cannot be loaded.
        ListFormatError: the stream is compressed, or not of that format, or damaged; what stands before the
            damage has been yielded.
    """
    default_port(scheme)
    parser = None
    if format_name is not None and format_name != "base64":
        parser = plugins.find("format", ENTRY_POINT_GROUP, format_name, _BUILT_IN, also=("base64",))
    options = ParseOptions(scheme, path)
    pieces: Iterator[bytes] = iter(partial(stream.read, _CHUNK), b"")
    for _ in range(1 + _DEEPEST):
        texts = text_of(pieces)
        head = next(texts)
        whole = chain([head], texts)
        if parser is not None:
            return parser(whole, options)
        name = format_name or ("json" if path and head.lstrip()[:1] in ("{", "[") else _recognised(head))
        if name == "html":
            return parse_page(whole, options, insist=False)
        if name != "base64":
            return _BUILT_IN[name](whole, options)
        pieces, format_name = unwrapped(whole), None
    raise ListFormatError(f"more than {_DEEPEST} wrappings in base64")


def has_parser(name: str) -> bool:
    """Whether a format of that name can be read."""
    return name in _BUILT_IN or name in parser_names()


def parser_names() -> list[str]:
    """Return the name of every format that can be read, sorted."""
    return plugins.known_names(ENTRY_POINT_GROUP, [*_BUILT_IN, "base64"])


def _recognised(head: str) -> str:
    """Return the name of the format of a text that begins so."""
    start = head.lstrip()
    if start.startswith(("{", "[", '"')) and _is_json_lines(start):
        return "jsonl"
    if _ARRAY.match(start) or _OBJECT.match(start):
        return "json"
    if _PAGE.match(start):
        return "html"
    if header_delimiter(start):
        return "csv"
    return "base64" if is_wrapped(head) else "text"


def _is_json_lines(start: str) -> bool:
    """Whether one of the first two lines is a whole value and the other begins like it."""
    lines = [line.strip() for line in start.split("\n") if line.strip()][:2]
    if len(lines) < 2 or lines[0][0] != lines[1][0]:  # noqa: PLR2004 - one line alone is a document
        return False
    check = all if lines[0][0] == '"' else any  # a quoted field begins like a JSON string
    return check(map(_is_whole, (lines[0].rstrip(","), lines[1])))


def _is_whole(line: str) -> bool:
    try:
        decode_value(line)
    except ListFormatError:
        return False
    return True
