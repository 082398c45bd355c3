"""Texts that rules look for: ASCII letters of either case, and `*` for whatever stands between.

They are no regular expressions on purpose: a text is found by a few searches from left to right, so that no rule
and no page can make the search go on for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

__all__ = ["Wording"]


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
