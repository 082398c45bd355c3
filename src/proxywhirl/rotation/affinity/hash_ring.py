"""Consistent hashing: which proxy a name falls to, such that a lost proxy moves only the names that fell to it. Pure.

Every key has one point on a ring. A name is hashed to several probes; the key that comes soonest after one of them
has it. That balances as well as hundreds of points for each key would, in the memory of one. Source: B. Appleton, M.
O'Reilly, "Multi-probe consistent hashing", arXiv:1505.00062, 2015.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection

PROBES = 21
"""The paper's number: the fullest key then has about a tenth more than its share."""

FARTHEST = 1000
"""Keys to ask in vain: whoever finds one in a thousand has other ways to find it, and others wait meanwhile."""

_POINTS = 1 << 64
_MANY = 64  # keys to sort anew rather than to put in one by one


class HashRing:
    """The points of all keys, sorted. A change costs O(n) moves of memory: some 20 µs for 100,000 keys."""

    def __init__(self, keys: Collection[str]) -> None:
        self._points: list[tuple[int, str]] = sorted((_point(key), key) for key in keys)

    def __len__(self) -> int:
        return len(self._points)

    def add(self, keys: Collection[str]) -> None:
        """Put keys in; one that is in already is no error."""
        points = [(_point(key), key) for key in keys]
        if len(points) > _MANY:
            self._points = sorted({*self._points, *points})
            return
        for point in points:
            place = bisect_left(self._points, point)
            if self._points[place : place + 1] != [point]:
                self._points.insert(place, point)

    def remove(self, key: str) -> None:
        """Take a key out; one that is not in is no error."""
        point = (_point(key), key)
        place = bisect_left(self._points, point)
        if self._points[place : place + 1] == [point]:
            del self._points[place]

    def choose(self, name: str, admits: Callable[[str], bool]) -> str | None:
        """Return the key that a name falls to among those that `admits` says yes to.

        None where there is none, or where none of the `FARTHEST` next ones is. O(log n), and one more step for each key
        on the way that is not admitted.
        """
        points = self._points
        if not points:
            return None
        nearest = []
        for probe in _probes(name):
            place = bisect_left(points, (probe, ""))
            point, _ = points[place % len(points)]
            nearest.append(((point - probe) % _POINTS, place))
        nearest.sort()
        for _, place in nearest:
            key = points[place % len(points)][1]
            if admits(key):
                return key
        start = nearest[0][1]
        for step in range(1, min(len(points), FARTHEST + 1)):
            key = points[(start + step) % len(points)][1]
            if admits(key):
                return key
        return None


def _point(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _probes(name: str) -> list[int]:
    whole = hashlib.shake_128(name.encode("utf-8", "surrogatepass")).digest(8 * PROBES)
    return [int.from_bytes(whole[place : place + 8]) for place in range(0, len(whole), 8)]
