"""Find the proxies in JSON documents, JSON Lines and CSV tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from proxywhirl.errors import ListFormatError
from proxywhirl.sources.items import Ignored, Item, Rejected
from proxywhirl.sources.jsonstream import Cursor, decode_value
from proxywhirl.sources.records import field_name, is_record, parse_record
from proxywhirl.urls import protocol_scheme

__all__ = ["parse_csv", "parse_json", "parse_json_lines"]

_DEEPEST = 3  # lists stand under a key, or under a key of that
_ENDPOINT_KEY = re.compile(r"\S*[\w\]]:[0-9]{1,5}")  # {"203.0.113.9:8080": {...}}


def parse_json(texts: Iterator[str], *, scheme: str = "http") -> Iterator[Item]:
    """Read a JSON document: an array of proxies, or an object that holds some under any of its keys.

    A key that names a protocol (`{"socks5": [...]}`) sets the scheme of the list below it.

    Raises:
        ListFormatError: the document is damaged; what stands before the damage has been yielded.
    """
    cursor = Cursor(texts)
    yield from _container(cursor, scheme, _DEEPEST)
    cursor.end()


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
            yield from parse_record(value, number, scheme=scheme)


def parse_csv(lines: Iterable[str], delimiter: str, *, scheme: str = "http") -> Iterator[Item]:
    """Read a table whose first line that is neither blank nor a comment is its header.

    Each line is a row of its own: a quotation mark that is never closed must not swallow the rest.
    """
    names: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            yield Ignored(number)
            continue
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        if names is None:
            names = [field_name(name) for name in row]
            yield Ignored(number)
        else:
            yield from parse_record(dict(zip(names, row, strict=False)), number, scheme=scheme)


def _container(cursor: Cursor, scheme: str, depth: int) -> Iterator[Item]:
    """Read an array, an object that is one proxy, or an object that holds some."""
    opening, line = cursor.peek(), cursor.line
    if opening == "[":
        yield from _array(cursor, scheme)
    elif opening == "{" and depth and not _is_record_ahead(cursor):
        yield from _object(cursor, scheme, depth)
    else:
        yield from parse_record(cursor.value(), line, scheme=scheme)


def _is_record_ahead(cursor: Cursor) -> bool:
    value = cursor.preview()
    return isinstance(value, dict) and is_record(value)


def _array(cursor: Cursor, scheme: str) -> Iterator[Item]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        cursor.peek()
        line = cursor.line
        yield from parse_record(cursor.value(), line, scheme=scheme)
        if cursor.take(",", "]") == "]":
            return


def _object(cursor: Cursor, scheme: str, depth: int) -> Iterator[Item]:
    """Go through the members; those that cannot hold a proxy are facts about the list."""
    cursor.take("{")
    if cursor.peek() == "}":
        cursor.take("}")
        return
    while True:
        cursor.peek()
        line = cursor.line
        key = str(cursor.value())
        cursor.take(":")
        protocol = protocol_scheme(key)
        if _ENDPOINT_KEY.fullmatch(key):
            content = cursor.value()
            facts = content if isinstance(content, dict) else {}
            yield from parse_record({**facts, "proxy": key}, line, scheme=scheme)
        elif protocol or cursor.peek() in ("[", "{"):
            yield from _container(cursor, protocol or scheme, depth - 1)
        else:
            cursor.value()
        if cursor.take(",", "}") == "}":
            return
