"""Read JSON documents of any size, one value at a time.

A cursor walks through arrays and objects without holding them; only a value that is asked for is
decoded, and none may be larger than `LARGEST_VALUE`. Errors of the decoder hold the text, credentials
included: ours are raised after they are left, or they would keep it as their context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from proxywhirl.errors import ListFormatError

LARGEST_VALUE = 1 << 20  # characters

_LARGEST_PREVIEW = 1 << 16  # characters: no record of one proxy is larger
_DEEPEST = 64  # values within each other on the way to what is looked for
_LONGEST_TOKEN = 16  # characters: an error this near to the end of a piece may be a token cut in two
_BEYOND_REASON = "a number or a nesting beyond reason"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


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
    """A position in a JSON text that arrives in pieces."""

    def __init__(self, texts: Iterator[str], line: int = 1) -> None:
        self._texts = texts
        self._buffer = ""
        self._position = 0
        self._line = line
        self._column = 1

    @property
    def line(self) -> int:
        """The line, from 1, of the next character."""
        return self._line

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

    def take(self, *expected: str) -> str:
        """Return the next character and go past it.

        Raises:
            ListFormatError: it is none of those expected.
        """
        found = self.peek()
        if found not in expected or not found:
            raise self._broken(f"expected {' or '.join(expected)}")
        self._advance(self._position + 1)
        return found

    def skip(self, character: str) -> bool:
        """Go past the next character if it is the one given; whether it was."""
        if self.peek() != character:
            return False
        self._advance(self._position + 1)
        return True

    def value(self) -> object:
        """Decode the next value whole and go past it.

        Raises:
            ListFormatError: it is damaged, or larger than `LARGEST_VALUE`.
        """
        decoded = self._decode(LARGEST_VALUE)
        if decoded is None:
            raise self._broken(f"a single value of more than {LARGEST_VALUE} characters")
        found, end = decoded
        self._advance(end)
        return found

    def descend(self, keys: Sequence[str], depth: int = _DEEPEST) -> Iterator[None]:
        """Stop at each value under the keys, one within the other, for the caller to take; pass over all else.

        Raises:
            ListFormatError: the document is damaged, or nested beyond reason.
        """
        opening = self.peek()
        if not keys:
            yield
        elif not depth:
            raise self._broken(_BEYOND_REASON)
        elif opening == "[":
            yield from self._elements(keys, depth - 1)
        elif opening == "{":
            self.take("{")
            while self.peek() != "}":
                key = self.value()
                self.take(":")
                if key == keys[0]:
                    yield from self.descend(keys[1:], depth - 1)
                else:
                    self.pass_over()
                if not self.skip(","):
                    break
            self.take("}")
        else:
            self.pass_over()

    def pass_over(self) -> None:
        """Go past the next value, of whatever size, without holding it."""
        depth = 0
        while True:
            character = self.peek()
            if character in ("[", "{"):
                self.take(character)
                depth += 1
            elif character in ("]", "}") and depth:
                self.take(character)
                depth -= 1
            else:
                self.value()
            while depth and (self.skip(",") or self.skip(":")):
                pass
            if not depth:
                return

    def _elements(self, keys: Sequence[str], depth: int) -> Iterator[None]:
        self.take("[")
        while self.peek() != "]":
            yield from self.descend(keys, depth)
            if not self.skip(","):
                break
        self.take("]")

    def preview(self) -> object:
        """Decode the next value and stay in front of it; None where it is larger than a record.

        Raises:
            ListFormatError: it is damaged.
        """
        decoded = self._decode(_LARGEST_PREVIEW)
        return None if decoded is None else decoded[0]

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
            self._line += lines
            self._column = position - self._buffer.rfind("\n", self._position, position)
        else:
            self._column += position - self._position
        self._position = position

    def _broken(self, what: str) -> ListFormatError:
        return ListFormatError(
            f"not a readable JSON list: {what} at line {self._line}, column {self._column}; "
            "repair it, or write one JSON value on each line"
        )
