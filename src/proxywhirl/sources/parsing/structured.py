"""Find the proxies in JSON documents, JSON Lines and CSV tables, of any size.

- A `Cursor` walks through the arrays and objects of a JSON document without holding them. Only a value that is asked
  for is decoded, and none may be larger than `LARGEST_VALUE`.
- An object is one proxy (`is_record`), or it holds some under its keys. A key that names a protocol sets the scheme of
  what stands below it.
- Errors of the decoder hold the text, credentials included. Ours are raised after those are left: else they would keep
  them as their context.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from proxywhirl.errors import ListFormatError
from proxywhirl.hosts import IPV4
from proxywhirl.sources.parsing.decode import is_wrapped, lines_of, unwrapped
from proxywhirl.sources.parsing.lines import heading_scheme, parse_line, parse_text
from proxywhirl.sources.parsing.records import (
    NOTHING_KNOWN,
    Candidate,
    Ignored,
    Item,
    ParseOptions,
    Rejected,
    field_name,
    header_delimiter,
    is_record,
    parse_object,
)
from proxywhirl.urls import parse_plain

LARGEST_VALUE = 1 << 20  # characters

_LARGEST_PREVIEW = 1 << 16  # characters: no record of one proxy is larger
_DEEPEST_LIST = 3  # lists stand under a key, or under a key of that
_DEEPEST_PATH = 64  # values within each other on the way to what is looked for
_LONGEST_TOKEN = 16  # characters: an error this near to the end of a piece may be a token cut in two
_BEYOND_REASON = "a number or a nesting beyond reason"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_ENDPOINT_KEY = re.compile(rf"\S*[\w\]]:[0-9]{{1,5}}|{IPV4}")  # {"203.0.113.9:8080": {...}}
_DIVIDER = re.compile(r"[\s|,;:=+-]*")  # between the header and the rows of a Markdown table


def parse_json(texts: Iterable[str], options: ParseOptions) -> Iterator[Item]:
    """Read a JSON document: an array of proxies, or an object that holds some under any of its keys.

    A key that names a protocol (`{"socks5": [...]}`) sets the scheme of the list below it. A path names the keys under
    which the list stands, with dots between; the elements of an array on the way are all gone through.

    Raises:
        ListFormatError: the document is damaged, or has nothing under the path; what stands before the damage has
            been yielded.
    """
    cursor = Cursor(texts)
    keys = [] if options.path is None else options.path.split(".")
    found = False
    while cursor.peek():  # one document after the other is JSON Lines with its objects spread over lines
        for _ in cursor.descend(keys):
            found = True
            yield from _container(cursor, options.scheme, _DEEPEST_LIST)
        cursor.skip(",")
    if keys and not found:
        raise ListFormatError(f"the JSON document has nothing under the path {options.path!r}: correct the path")


def parse_json_lines(texts: Iterable[str], options: ParseOptions) -> Iterator[Item]:
    """Read one JSON value from each line; a damaged line is rejected, the others are read."""
    for number, line in enumerate(lines_of(texts), 1):
        text = line.strip(" \t\ufeff").rstrip(",")
        try:
            value = decode_value(text) if text else None
        except ListFormatError as exc:
            yield Rejected(number, str(exc))
            continue
        if isinstance(value, dict) and not is_record(value):
            cursor = Cursor([text], number)
            yield from list(_container(cursor, options.scheme, _DEEPEST_LIST)) or [Ignored(number)]
        else:
            yield from _value(value, number, options.scheme)


def parse_csv(texts: Iterator[str], options: ParseOptions) -> Iterator[Item]:
    """Read a table whose first line that is neither blank nor a comment is its header.

    Each line is a row of its own: a quotation mark that is never closed must not swallow the rest. A table without a
    header is columns, as any text may have them.
    """
    head = next(texts, "")
    whole = chain([head], texts)
    delimiter = header_delimiter(head)
    if delimiter is None:
        yield from parse_text(whole, options)
        return
    names: list[str] = []
    header: list[str] = []
    for number, line in enumerate(lines_of(whole), 1):
        if _DIVIDER.fullmatch(line) or line.lstrip().startswith("#"):
            yield Ignored(number)
            continue
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        if not header:
            names, header = [field_name(name) for name in row], row
        if row == header:  # again, where tables were put together
            yield Ignored(number)
        else:
            yield from parse_object(dict(zip(names, row, strict=False)), number, scheme=options.scheme)


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
    for entry, line in enumerate(cursor.elements(), 1):
        for item in _value(cursor.value(), line, scheme):
            # A document without line ends is all on line 1: there the number of the entry tells more.
            yield replace(item, reason=f"entry {entry}: {item.reason}") if isinstance(item, Rejected) else item


def _object(cursor: Cursor, scheme: str, depth: int) -> Iterator[Item]:
    """Go through the members; those that cannot hold a proxy are facts about the list."""
    for key, line in cursor.members():
        protocol = heading_scheme(key.replace("_", " "))
        if _ENDPOINT_KEY.fullmatch(key):
            content = cursor.value()
            facts = content if isinstance(content, dict) else {} if ":" in key else {"port": content}
            yield from parse_object({**facts, "proxy" if ":" in key else "ip": key}, line, scheme=scheme)
        elif protocol or cursor.peek() in ("[", "{"):
            yield from _container(cursor, protocol or scheme, depth - 1)
        else:
            yield from _inner_list(cursor.value(), line, scheme)


def _inner_list(content: object, line: int, scheme: str) -> Iterator[Item]:
    """Read a whole list that is one string, perhaps in base64, as the interfaces of code hosts have it."""
    if isinstance(content, str):
        text = b"".join(unwrapped([content])).decode("utf-8", "replace") if is_wrapped(content) else content
        if "\n" in text:
            yield from _value(text, line, scheme)


def decode_value(text: str) -> object:
    """Decode one JSON value.

    Raises:
        ListFormatError: the text is not JSON; the message does not quote it.
    """
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as exc:
        reason = f"{_reason(exc)} at column {exc.pos + 1}"
    except (ValueError, RecursionError):
        reason = _BEYOND_REASON
    else:
        return value
    raise ListFormatError(f"not JSON: {reason}")


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" starting at")


class Cursor:
    """A position in a JSON text that arrives in pieces; `line` (from 1) is that of the next character.

    Its methods raise `ListFormatError` where the document is damaged.
    """

    def __init__(self, texts: Iterable[str], line: int = 1) -> None:
        self._texts = iter(texts)
        self._buffer = ""
        self._position = 0
        self.line = line
        self._column = 1

    def peek(self) -> str:
        """Return the next character that is no white space; empty at the end."""
        character = self._buffer[self._position : self._position + 1]
        if character > " ":
            return character
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._advance(match.end() if match else self._position)
            if self._position < len(self._buffer) or not self._more():
                return self._buffer[self._position : self._position + 1]

    def skip(self, character: str) -> bool:
        """Go past the next character if it is the one given; whether it was."""
        if self.peek() != character:
            return False
        self._advance(self._position + 1)
        return True

    def value(self) -> object:
        """Decode the next value whole, which may not be larger than `LARGEST_VALUE`, and go past it."""
        decoded = self._decode(LARGEST_VALUE)
        if decoded is None:
            raise self._broken(f"a single value of more than {LARGEST_VALUE} characters")
        found, end = decoded
        self._advance(end)
        return found

    def preview(self) -> object:
        """Decode the next value and stay in front of it; None where it is larger than a record."""
        decoded = self._decode(_LARGEST_PREVIEW)
        return None if decoded is None else decoded[0]

    def elements(self) -> Iterator[int]:
        """Go through an array; stop at each element for the caller to take, and give its line."""
        for _ in self._within("[", "]"):
            yield self.line

    def members(self) -> Iterator[tuple[str, int]]:
        """Go through an object; stop at each value for the caller to take, and give its key and the key's line."""
        for _ in self._within("{", "}"):
            line = self.line
            key = str(self.value())
            self._take(":")
            yield key, line

    def descend(self, keys: Sequence[str], depth: int = _DEEPEST_PATH) -> Iterator[None]:
        """Stop at each value under the keys, one within the other, for the caller to take; pass over all else."""
        if not keys:
            yield
        elif not depth:
            raise self._broken(_BEYOND_REASON)
        elif self.peek() == "[":
            for _ in self.elements():
                yield from self.descend(keys, depth - 1)
        elif self.peek() == "{":
            for key, _ in self.members():
                if key == keys[0]:
                    yield from self.descend(keys[1:], depth - 1)
                else:
                    self._pass_over()
        else:
            self._pass_over()

    def _within(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        while self.peek() != closing:
            yield
            if not self.skip(","):
                break
        self._take(closing)

    def _pass_over(self) -> None:
        """Go past the next value, of whatever size, without holding it."""
        depth = 0
        while True:
            if self.skip("[") or self.skip("{"):
                depth += 1
            elif depth and (self.skip("]") or self.skip("}")):
                depth -= 1
            else:
                self.value()
            while depth and (self.skip(",") or self.skip(":")):
                pass
            if not depth:
                return

    def _take(self, character: str) -> None:
        if not self.skip(character):
            raise self._broken(f"expected {character}")

    def _decode(self, largest: int) -> tuple[object, int] | None:
        """Return the next value and where it ends, None where it is too large."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as exc:
                where, reason = exc.pos, _reason(exc)
                cut_short = exc.msg.startswith("Unterminated") or where > len(self._buffer) - _LONGEST_TOKEN
            except (ValueError, RecursionError):
                where, reason, cut_short = self._position, _BEYOND_REASON, False
            else:
                if end - self._position > largest:
                    return None
                if end < len(self._buffer) or not self._more():  # a number may go on in the next piece
                    return found, end
                continue
            if cut_short and len(self._buffer) - self._position > largest:
                return None
            if not (cut_short and self._more()):
                self._advance(where)
                raise self._broken(reason)

    def _more(self) -> bool:
        """Drop what was read and take more text: as much as is held, so that retries cost O(1) each."""
        held = len(self._buffer) - self._position
        pieces: list[str] = []
        taken = 0
        while taken <= held and (piece := next(self._texts, None)) is not None:
            pieces.append(piece)
            taken += len(piece)
        if taken:
            self._buffer = "".join([self._buffer[self._position :], *pieces])
            self._position = 0
        return bool(taken)

    def _advance(self, position: int) -> None:
        lines = self._buffer.count("\n", self._position, position)
        if lines:
            self.line += lines
            self._column = position - self._buffer.rfind("\n", self._position, position)
        else:
            self._column += position - self._position
        self._position = position

    def _broken(self, what: str) -> ListFormatError:
        return ListFormatError(
            f"not a readable JSON list: {what} at line {self.line}, column {self._column}; "
            "repair it, or write one JSON value on each line"
        )
