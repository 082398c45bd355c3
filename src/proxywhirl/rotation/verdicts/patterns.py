"""Regular expressions of users, searched in time that grows with the text alone.

They are RE2's: it knows no look-around and no back-reference, and hence no expression on which a page could make it
spend minutes, as the standard library's engine does on some that look harmless. Source: RE2's page "Syntax",
https://github.com/google/re2/wiki/Syntax.

Texts that rules look for: ASCII letters of either case, and `*` for whatever stands between.

They are no regular expressions on purpose: a text is found by a few searches from left to right, so that no rule
and no page can make the search go on for long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from proxywhirl.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Wording:
    """A text to look for; `parts` are what stands between its stars, in lower case.

    >>> Wording.of("Access*DENIED").is_in(b"<p>access is denied</p>")
    True
    """

    text: str
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Take a text apart; it is looked for in UTF-8."""
        return cls(text, tuple(text.encode().lower().split(b"*")))

    @property
    def says_nothing(self) -> bool:
        """Whether it would be found in anything."""
        return not any(self.parts)

    def is_in(self, lowered: bytes) -> bool:
        """Tell whether it stands anywhere in a text that is in lower case: one search for each part."""
        place = 0
        for part in self.parts:
            place = lowered.find(part, place)
            if place < 0:
                return False
            place += len(part)
        return True

    def is_all_of(self, lowered: bytes) -> bool:
        """Tell whether it is the whole of a text that is in lower case."""
        first, *others = self.parts
        if not lowered.startswith(first):  # so ends nearly every comparison
            return False
        if not others:
            return len(lowered) == len(first)
        *middle, last = others
        place, end = len(first), len(lowered) - len(last)
        if end < place or not lowered.endswith(last):
            return False
        for part in middle:
            place = lowered.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True


NEEDS_EXTRA = "a regular expression needs the extra `patterns`: pip install 'proxywhirl[patterns]'"


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression to look for; case means nothing, and `.` is any byte."""

    text: str
    _compiled: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, text: str) -> Self:
        """Compile an expression.

        Raises:
            SettingsError: it is none; or RE2 is not installed, and the message says how to install it.
        """
        try:
            import re2  # noqa: PLC0415  # an extra
        except ImportError as exc:
            raise SettingsError(NEEDS_EXTRA) from exc
        options = re2.Options()
        options.case_sensitive = False
        options.dot_nl = True
        options.log_errors = False  # what is wrong is raised
        try:
            return cls(text, re2.compile(text.encode(), options))
        except re2.error as exc:
            reason = exc.args[0].decode("utf-8", "replace")
            raise SettingsError(f"{text!r} is no regular expression of RE2: {reason}") from None

    def is_in(self, text: bytes) -> bool:
        """Tell whether it matches anywhere in a text; takes O(length)."""
        return self._compiled.search(text) is not None
