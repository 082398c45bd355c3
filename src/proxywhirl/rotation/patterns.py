"""Regular expressions of users, searched in time that grows with the text alone.

They are RE2's: it knows no look-around and no back-reference, and hence no expression on which a page could make it
spend minutes, as the standard library's engine does on some that look harmless. Source: RE2's page "Syntax",
https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from proxywhirl.errors import SettingsError

__all__ = ["NEEDS_EXTRA", "Pattern"]

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
