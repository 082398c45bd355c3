"""Read a list of proxies in whatever format it is, as a stream, in bounded memory.

The format is recognised by the content: names of files and types of media are often wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from proxywhirl.errors import ListFormatError
from proxywhirl.sources.decode import Readable, lines_of, text_of
from proxywhirl.sources.fields import field_name, names_endpoint
from proxywhirl.sources.items import Item
from proxywhirl.sources.jsonstream import decode_value
from proxywhirl.sources.lines import parse_text
from proxywhirl.sources.structured import parse_csv, parse_json, parse_json_lines
from proxywhirl.urls import default_port

__all__ = ["parse_list"]

_ENOUGH = 4096  # characters to know a format by
_ARRAY = re.compile(r"""\[\s*(?:["\[{\]]|null\b)""")  # not [socks5], nor [2001:db8::1]:80
_OBJECT = re.compile(r"""\{\s*["}]""")
_DELIMITERS = ",;\t|"


def parse_list(stream: Readable, *, scheme: str = "http") -> Iterator[Item]:
    """Return every proxy of a list, every line that is wrong, and every line that is none, as they come.

    The list is text in any spelling, JSON, JSON Lines or CSV. `scheme` is that of the entries that name
    none; a heading or a column of the list has the last word. Progress can be told by the bytes that
    were read from `stream`, in pieces of 64 KiB; the memory needed does not grow with the list.

    Raises:
        ProxyURLError: `scheme` is unknown.
        ListFormatError: the stream is compressed, or JSON that is damaged; what stands before the
            damage has been yielded.
    """
    default_port(scheme)
    texts = text_of(stream)
    head = _head(texts)
    whole = chain([head], texts)
    start = head.lstrip()
    if start.startswith(("{", "[", '"')) and _is_json_lines(start):
        return parse_json_lines(lines_of(whole), scheme=scheme)
    if _ARRAY.match(start) or _OBJECT.match(start):
        return parse_json(whole, scheme=scheme)
    delimiter = _header_delimiter(start)
    if delimiter:
        return parse_csv(lines_of(whole), delimiter, scheme=scheme)
    return parse_text(lines_of(whole), scheme=scheme)


def _head(texts: Iterable[str]) -> str:
    head = ""
    for text in texts:
        head += text
        if len(head) >= _ENOUGH:
            break
    return head


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


def _header_delimiter(start: str) -> str | None:
    """Return what separates the columns where the first line is a header, else None."""
    lines = (line.strip() for line in start.split("\n"))
    first = next((line for line in lines if line and not line.startswith("#")), "")
    for delimiter in _DELIMITERS:
        names = [field_name(name) for name in first.split(delimiter)]
        if len(names) > 1 and names_endpoint(names) and not re.search(r"[0-9]\.[0-9]|://", first):
            return delimiter
    return None
