"""Each proxy once in every turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from proxywhirl.rotation.sites import Site
from proxywhirl.rotation.strategies.owed import Owed
from proxywhirl.rotation.strategies.urn import admitted
from proxywhirl.rotation.strategy import Barred

__all__ = ["RoundRobin"]

_SLACK = 64  # places left behind that are not worth rebuilding a queue for


class RoundRobin:
    """A queue: its front is the next to serve, and who serves goes to its end.

    Who is excluded by a request is passed over and keeps its place, so it serves as soon as a request does not
    exclude it. Who is barred, as by a site, is owed a turn: it leaves the queue, so that a thousand of them are not
    passed over again and again, and serves before the queue does once a request that admits it looks at it (`Owed`).
    So between two turns of a proxy there are at most a few times as many requests that could have it as there are
    proxies: nobody starves.

    Who is removed leaves its place behind, as `_left` remembers; it is dropped when it comes to the front. A
    key's oldest places are those that it left. They never outnumber those who are in by more than a constant.
    """

    def __init__(self) -> None:
        # A deque and a set take a third of the memory of an OrderedDict, and are filled ten times as fast.
        self._turn: deque[str] = deque()
        self._keys: set[str] = set()
        self._left: dict[str, int] = {}
        self._owed = Owed()

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
        if self._owed.discard(key):
            return
        self._left[key] = self._left.get(key, 0) + 1
        if len(self._turn) > 2 * len(self._keys) + _SLACK:
            self._turn = deque(key for key in self._turn if not self._drop(key))

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Return who is owed a turn, else the first in turn, and send it to the end."""
        if self._owed:
            passed: list[str] = []
            key = self._owed.take(exclude, barred, passed)
            if passed:
                self._turn.extendleft(reversed(passed))
            if key is not None:
                self._turn.append(key)
                return key
        key = self._in_turn(exclude, barred)
        if key is None and self._owed:
            key = self._owed.take_any(exclude, barred)
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
                self._owed.put(key)
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
