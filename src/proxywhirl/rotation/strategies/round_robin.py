"""Each proxy once in every turn.

A proxy that is barred when its turn comes has a skipped turn. Each request looks at a few of these proxies, so that one
that may have it finds it in a bounded number of requests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Collection

from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred, admitted

LOOKED_AT = 8
"""Of the keys whose turn was skipped, for each request."""

_SLACK = 64  # places left behind that are not worth writing the line anew for
_MOST_ROUNDS = 4096

_LAST = "\U0010ffff"  # sorts after every key

_Round = tuple[int, int]  # the number that was looked at last, and the one at which the round ends


class SkippedTurns:
    """The keys with a skipped turn, and for each kind of request how far it has looked along it.

    One place for all would not do: if two sites take turns, each would look at the same part of the queue for ever, and
    a proxy in the other part would wait for ever. A kind of request is told by its tables of barred keys. Its round
    ends where the queue ended when the round began, so that proxies that come meanwhile do not put off the end.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._line: list[tuple[int, str]] = []  # sorted; a place that differs from `_numbers` was left
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
            looked = end  # the key at the end of the round has left
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


class RoundRobin:
    """A queue: its front is the next to serve, and goes to the end then.

    A proxy that a request excludes is passed over and keeps its place, so it serves as soon as a request does not
    exclude it. The turn of a barred one, as by a site, is skipped: it leaves the queue, so that a thousand of them are
    not passed over again and again, and serves before the queue does once a request that admits it looks at it
    (`SkippedTurns`). So between two turns of a proxy there are at most a few times as many requests that could have it
    as there are proxies: none starves.

    A proxy that is removed leaves its place behind, as `_left` remembers; it is dropped when it comes to the front. A
    key's oldest places are those that it left. They never outnumber the proxies that are in by more than a constant.
    """

    def __init__(self) -> None:
        # A deque and a set take a third of the memory of an OrderedDict, and are filled ten times as fast.
        self._turn: deque[str] = deque()
        self._keys: set[str] = set()
        self._left: dict[str, int] = {}
        self._skipped = SkippedTurns()

    def add(self, keys: Collection[str]) -> None:
        """Put new proxies at the end of the turn; a known one keeps its place."""
        if not self._keys.isdisjoint(keys):
            keys = [key for key in keys if key not in self._keys]
        self._keys.update(keys)
        self._turn.extend(keys)

    def remove(self, key: str) -> None:
        """Take a proxy out of the ring."""
        if key not in self._keys:
            return
        self._keys.remove(key)
        if self._skipped.discard(key):
            return
        self._left[key] = self._left.get(key, 0) + 1
        if len(self._turn) > 2 * len(self._keys) + _SLACK:
            self._turn = deque(key for key in self._turn if not self._drop(key))

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Return one with a skipped turn, else the first in turn, and send it to the end."""
        if self._skipped:
            passed: list[str] = []
            key = self._skipped.take(exclude, barred, passed)
            if passed:
                self._turn.extendleft(reversed(passed))
            if key is not None:
                self._turn.append(key)
                return key
        key = self._in_turn(exclude, barred)
        if key is None and self._skipped:
            key = self._skipped.take_any(exclude, barred)
            if key is not None:
                self._turn.append(key)
        return key

    def _in_turn(self, exclude: Collection[str], barred: Barred) -> str | None:
        turn = self._turn
        passed: list[str] = []
        chosen: str | None = None
        while turn:
            key = turn.popleft()
            if self._left and self._drop(key):
                continue
            if not barred or admitted(key, (), barred):
                if key not in exclude:
                    chosen = key
                    turn.append(key)
                    break
                passed.append(key)
            else:
                self._skipped.put(key)
        if passed:
            turn.extendleft(reversed(passed))
        return chosen

    def _drop(self, key: str) -> bool:
        """Whether the first place of a key was left by it; it is forgotten then."""
        places = self._left.get(key, 0)
        if places > 1:
            self._left[key] = places - 1
        elif places:
            del self._left[key]
        return places > 0
