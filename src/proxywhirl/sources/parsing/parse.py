"""Read a list of proxies in whatever format it is, as a stream, in bounded memory.

This is the one way for a list, wherever it comes from. The format is recognised by the content unless it is named.
Another package offers parsers by entry points of the group `proxywhirl.parsers`: the name is what the user writes
as the format, the object is a `Parser`. A built-in name cannot be taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from proxywhirl import plugins
from proxywhirl.errors import ListFormatError
from proxywhirl.sources.parsing.decode import Readable, lines_of, text_of
from proxywhirl.sources.parsing.items import Item
from proxywhirl.sources.parsing.lines import parse_text
from proxywhirl.sources.parsing.pages import parse_page
from proxywhirl.sources.parsing.recognise import ENOUGH, header_delimiter, recognised
from proxywhirl.sources.parsing.structured import parse_csv, parse_json, parse_json_lines
from proxywhirl.sources.parsing.wrapped import Unwrapped
from proxywhirl.urls import default_port

ENTRY_POINT_GROUP = "proxywhirl.parsers"

_DEEPEST = 3  # wrappings around a list


@dataclass(frozen=True, slots=True)
class Reading:
    """How a list is to be read: the scheme of entries that name none, and where in a document they stand."""

    scheme: str = "http"
    path: str | None = None


Parser = Callable[[Iterator[str], Reading], Iterator[Item]]
"""Reads the pieces of a text, whose line ends are `\\n`, as they come. Raises `ListFormatError` where it cannot."""


def parse_list(
    stream: Readable,
    *,
    scheme: str = "http",
    format_name: str | None = None,
    path: str | None = None,
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
    return _parsed(stream, Reading(scheme, path), format_name, parser, _DEEPEST)


def has_parser(name: str) -> bool:
    """Whether a format of that name can be read."""
    return name in _BUILT_IN or name in parser_names()


def parser_names() -> list[str]:
    """Return the name of every format that can be read, sorted."""
    return plugins.known_names(ENTRY_POINT_GROUP, [*_BUILT_IN, "base64"])


def _parsed(
    stream: Readable, reading: Reading, name: str | None, parser: Parser | None, deepest: int
) -> Iterator[Item]:
    texts = text_of(stream)
    head = _head(texts)
    whole = chain([head], texts)
    if parser is not None:
        return parser(whole, reading)
    name = name or ("json" if reading.path and head.lstrip()[:1] in ("{", "[") else recognised(head))
    if name != "base64":
        return _RECOGNISED.get(name, _BUILT_IN[name])(whole, reading)
    if not deepest:
        raise ListFormatError(f"more than {_DEEPEST} wrappings in base64")
    return _parsed(Unwrapped(whole), reading, None, None, deepest - 1)


def _head(texts: Iterable[str]) -> str:
    head = ""
    for text in texts:
        head += text
        if len(head) >= ENOUGH:
            break
    return head


def _json(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    return parse_json(texts, scheme=reading.scheme, path=reading.path)


def _json_lines(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    return parse_json_lines(lines_of(texts), scheme=reading.scheme)


def _csv(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    """Read a table; one without a header is columns, as any text may have them."""
    head = _head(texts)
    lines = lines_of(chain([head], texts))
    delimiter = header_delimiter(head)
    return parse_csv(lines, delimiter, scheme=reading.scheme) if delimiter else parse_text(lines, scheme=reading.scheme)


def _text(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    return parse_text(lines_of(texts), scheme=reading.scheme)


def _page(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    return parse_page(texts, scheme=reading.scheme, insist=True)


def _recognised_page(texts: Iterator[str], reading: Reading) -> Iterator[Item]:
    return parse_page(texts, scheme=reading.scheme)


_BUILT_IN: Mapping[str, Parser] = {
    "csv": _csv,
    "html": _page,
    "json": _json,
    "jsonl": _json_lines,
    "text": _text,
}
_RECOGNISED: Mapping[str, Parser] = {"html": _recognised_page}
