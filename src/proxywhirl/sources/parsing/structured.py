"""Find the proxies in JSON documents, JSON Lines and CSV tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from proxywhirl.errors import ListFormatError
from proxywhirl.hosts import IPV4
from proxywhirl.sources.parsing.decode import CHUNK
from proxywhirl.sources.parsing.fields import field_name, heading_scheme
from proxywhirl.sources.parsing.items import NOTHING_KNOWN, Candidate, Ignored, Item, Rejected
from proxywhirl.sources.parsing.jsonstream import Cursor, decode_value
from proxywhirl.sources.parsing.lines import parse_line
from proxywhirl.sources.parsing.records import is_record, parse_object
from proxywhirl.sources.parsing.wrapped import Unwrapped, is_wrapped
from proxywhirl.urls import parse_plain

_DEEPEST = 3  # lists stand under a key, or under a key of that
_ENDPOINT_KEY = re.compile(rf"\S*[\w\]]:[0-9]{{1,5}}|{IPV4}")  # {"203.0.113.9:8080": {...}}
_DIVIDER = re.compile(r"[\s|,;:=+-]*")  # between the header and the rows of a Markdown table


def parse_json(texts: Iterator[str], *, scheme: str = "http", path: str | None = None) -> Iterator[Item]:
    """Read a JSON document: an array of proxies, or an object that holds some under any of its keys.

    A key that names a protocol (`{"socks5": [...]}`) sets the scheme of the list below it. A `path` names the keys
    under which the list stands, with dots between; the elements of an array on the way are all gone through.

    Raises:
        ListFormatError: the document is damaged, or has nothing under the path; what stands before the damage has
            been yielded.
    """
    cursor = Cursor(texts)
    found = False
    while cursor.peek():  # one document after the other is JSON Lines with its objects spread over lines
        if path is None:
            yield from _container(cursor, scheme, _DEEPEST)
        else:
            for _ in cursor.descend(path.split(".")):
                found = True
                yield from _container(cursor, scheme, _DEEPEST)
        cursor.skip(",")
    if path is not None and not found:
        raise ListFormatError(f"the JSON document has nothing under the path {path!r}: correct the path")


def parse_json_lines(lines: Iterable[str], *, scheme: str = "http") -> Iterator[Item]:
    """Read one JSON value from each line; a damaged line is rejected, the others are read."""
    for number, line in enumerate(lines, 1):
        text = line.strip(" \t\ufeff").rstrip(",")
        try:
            value = decode_value(text) if text else None
        except ListFormatError as exc:
            yield Rejected(number, str(exc))
            continue
        if isinstance(value, dict) and not is_record(value):
            yield from list(_container(Cursor(iter([text]), number), scheme, _DEEPEST)) or [Ignored(number)]
        else:
            yield from _value(value, number, scheme)


def parse_csv(lines: Iterable[str], delimiter: str, *, scheme: str = "http") -> Iterator[Item]:
    """Read a table whose first line that is neither blank nor a comment is its header.

    Each line is a row of its own: a quotation mark that is never closed must not swallow the rest.
    """
    names: list[str] | None = None
    header: list[str] = []
    for number, line in enumerate(lines, 1):
        if _DIVIDER.fullmatch(line) or line.lstrip().startswith("#"):
            yield Ignored(number)
            continue
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        if names is None:
            names = [field_name(name) for name in row]
            header = row
        if row == header:  # again, where tables were put together
            yield Ignored(number)
        else:
            yield from parse_object(dict(zip(names, row, strict=False)), number, scheme=scheme)


def _container(cursor: Cursor, scheme: str, depth: int) -> Iterator[Item]:
    """Read an array, an object that is one proxy, or an object that holds some."""
    opening, line = cursor.peek(), cursor.line
    if opening == "[":
        yield from _array(cursor, scheme)
    elif opening == "{" and depth and not _is_record_ahead(cursor):
        yield from _object(cursor, scheme, depth)
    else:
        yield from _value(cursor.value(), line, scheme)


def _value(value: object, number: int, scheme: str) -> Iterator[Item]:
    """Read a string in any spelling of a line, a text of several lines, a row of fields, or an object."""
    if isinstance(value, str):
        plain = parse_plain(value, scheme)
        if plain:
            yield Candidate(plain, NOTHING_KNOWN, number)
            return
        for line in value.splitlines() or [""]:
            yield from parse_line(line, number, scheme=scheme)
    elif isinstance(value, dict):
        yield from parse_object(value, number, scheme=scheme)
    elif isinstance(value, list) and any(isinstance(field, list | dict) for field in value):
        for field in value:
            yield from _value(field, number, scheme)
    elif isinstance(value, list):
        row = "\t".join("" if field is None else str(field) for field in value)
        yield from parse_line(row, number, scheme=scheme)
    else:
        yield Ignored(number)


def _is_record_ahead(cursor: Cursor) -> bool:
    value = cursor.preview()
    return isinstance(value, dict) and is_record(value)


def _array(cursor: Cursor, scheme: str) -> Iterator[Item]:
    cursor.take("[")
    entry = 0
    while cursor.peek() != "]":
        entry += 1
        line = cursor.line
        for item in _value(cursor.value(), line, scheme):
            # A document without line ends is all on line 1: there the number of the entry tells more.
            yield replace(item, reason=f"entry {entry}: {item.reason}") if isinstance(item, Rejected) else item
        if not cursor.skip(","):
            break
    cursor.take("]")


def _object(cursor: Cursor, scheme: str, depth: int) -> Iterator[Item]:
    """Go through the members; those that cannot hold a proxy are facts about the list."""
    cursor.take("{")
    while cursor.peek() != "}":
        line = cursor.line
        key = str(cursor.value())
        cursor.take(":")
        protocol = heading_scheme(key.replace("_", " "))
        if _ENDPOINT_KEY.fullmatch(key):
            content = cursor.value()
            facts = content if isinstance(content, dict) else {} if ":" in key else {"port": content}
            yield from parse_object({**facts, "proxy" if ":" in key else "ip": key}, line, scheme=scheme)
        elif protocol or cursor.peek() in ("[", "{"):
            yield from _container(cursor, protocol or scheme, depth - 1)
        else:
            content = cursor.value()
            if isinstance(content, str):
                yield from _inner_list(content, line, scheme)
        if not cursor.skip(","):
            break
    cursor.take("}")


def _inner_list(text: str, line: int, scheme: str) -> Iterator[Item]:
    """Read a whole list that is one string, perhaps in base64, as the interfaces of code hosts have it."""
    if is_wrapped(text):
        wrapped = Unwrapped([text])
        text = b"".join(iter(lambda: wrapped.read(CHUNK), b"")).decode("utf-8", "replace")
    if "\n" in text:
        yield from _value(text, line, scheme)
