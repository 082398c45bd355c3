"""Who is owed a turn: found by whoever may have it, in a bounded number of requests, a few looks at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection

from proxywhirl.rotation.strategies.urn import admitted
from proxywhirl.rotation.strategy import Barred

__all__ = ["LOOKED_AT", "Owed"]

LOOKED_AT = 8
"""Of those that are owed a turn, for each request."""

_SLACK = 64  # places left behind that are not worth writing the line anew for
_MOST_ROUNDS = 4096

_LAST = "\U0010ffff"  # sorts after every key

_Round = tuple[int, int]  # the number that was looked at last, and the one at which the round ends


class Owed:
    """A line of keys, and for each kind of request how far it has looked along it.

    One place for all would not do: where two sites take turns, each would look at the same part of the line for ever,
    and who is in the other part would wait for as long. A kind of request is told by the sets that bar from it. Its
    round ends where the line ended when the round began, so that those who come meanwhile do not put off the end.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._line: list[tuple[int, str]] = []  # sorted; what differs from `_numbers` was left
        self._next = 1
        self._rounds: OrderedDict[tuple[int, ...], _Round] = OrderedDict()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

    def put(self, key: str) -> None:
        """Put a key that is not in at the end of the line."""
        self._numbers[key] = self._next
        self._line.append((self._next, key))
        self._next += 1

    def discard(self, key: str) -> bool:
        """Take a key out, and tell whether it was in."""
        found = self._numbers.pop(key, None) is not None
        if len(self._line) > 2 * len(self._numbers) + _SLACK:
            self._line = [(number, key) for number, key in self._line if self._numbers.get(key) == number]
        return found

    def take(self, exclude: Collection[str], barred: Barred, passed: list[str]) -> str | None:
        """Take out the next one that is admitted among the few that this kind of request looks at now.

        Those on the way that this request excludes, and that nothing bars, are taken out too and put into `passed`.
        """
        kind = tuple(map(id, barred))
        looked, end = self._rounds.pop(kind, (0, 0))
        if looked >= end:
            looked, end = 0, self._next - 1
        place = bisect_right(self._line, (looked, _LAST))
        few = self._line[place : place + LOOKED_AT]
        taken = None
        for looked, key in few:
            if self._numbers.get(key) == looked and admitted(key, (), barred):
                self.discard(key)
                if key not in exclude:
                    taken = key
                    break
                passed.append(key)
        if taken is None and len(few) < LOOKED_AT:
            looked = end  # what stood at the end of the round has left
        self._rounds[kind] = (looked, end)
        if len(self._rounds) > _MOST_ROUNDS:
            self._rounds.popitem(last=False)
        return taken

    def take_any(self, exclude: Collection[str], barred: Barred) -> str | None:
        """Take out the first one that is admitted, wherever it is. O(n)."""
        for key in self._numbers:
            if admitted(key, exclude, barred):
                self.discard(key)
                return key
        return None
