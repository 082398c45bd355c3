"""Sessions: a name that is to have the same proxy for a while.

A session ends when it was not used for its idle time or is older than its time to live; the next use of its name begins
a new one, with another proxy. When its proxy cannot serve (it is gone, set aside, banned by the site) a soft session
moves to another one, for good; a hard one is an error until it ends.

A new session, and one that moves, gets a proxy by consistent hashing, such that a lost proxy moves only its own
sessions. Every key has one point on a ring. The session is hashed to several probes; the key that comes
soonest after one of them has it. That balances as well as hundreds of points for each key would, in the memory of one.
Source: B. Appleton, M. O'Reilly, "Multi-probe consistent hashing", arXiv:1505.00062, 2015.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from proxywhirl.rotation.affinity.ledger import MOST_SESSIONS, Assignment
from proxywhirl.validation import require, require_number


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How long a session lasts, in seconds, and whether it may move.

    Raises:
        TypeError: A time is no number, or `hard` neither True nor False.
        ValueError: A time is not more than 0.
    """

    ttl: float = 3600.0
    idle: float = 600.0
    hard: bool = False

    def __post_init__(self) -> None:
        """Refuse sessions that end before they begin."""
        for name in ("ttl", "idle"):
            require_number(f"a session's {name}", getattr(self, name), "seconds")
        require("a session's hard", self.hard, bool, "True or False")

    def lasts(self, assignment: Assignment, now: float, used: float | None = None) -> bool:
        """Whether a session has not ended at a time (Unix seconds), nor begins long after it: a clock was set back.

        `used` is its last use, where that is not the one of the assignment.
        """
        return abs(now - assignment.since) < self.ttl and now - (assignment.used if used is None else used) < self.idle


def require_name(name: object) -> str:
    """Return the name of a session: any text that is not empty, since that is mostly a variable that was never set.

    Raises:
        ValueError: It is none. What it is instead is not repeated: it may be an account.
    """
    if not isinstance(name, str) or not name:
        found = "an empty one" if isinstance(name, str) else type(name).__name__
        raise ValueError(f"a session is a text that is not empty, not {found}")
    return name


def session_id(name: str) -> str:
    """Return what stands for a session's name wherever it is kept, since a name may be somebody's address.

    Its UTF-8 is hashed, with lone surrogates as that would have them, so that different names have different ids.
    """
    return _remembered(name) if len(name) <= _REMEMBERED else _hashed(name)


@lru_cache(maxsize=65_536)
def site_session_id(site: str) -> str:
    """Return what stands for the session of all requests to a site; no name has the same, as none has this byte."""
    return hashlib.sha256(b"\xff" + site.encode()).hexdigest()[:_DIGITS]


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


_DIGITS = 32
_REMEMBERED = 256  # characters: longer names are hashed each time, since so many of them would fill the memory
_remembered = lru_cache(maxsize=65_536)(_hashed)


class Sessions:
    """The proxies of sessions, by id: `known`, as was agreed on, which is only read; a session may have ended."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, Assignment] = OrderedDict()
        self._used: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.known)

    def last_use(self, session: str, known: Assignment) -> float:
        """Return when a session was last used (Unix seconds), here or as far as was agreed on."""
        used = self._used.get(session)
        return known.used if used is None or used < known.used else used

    def used(self, session: str) -> Assignment | None:
        """Return what a session has, with its last use."""
        known = self.known.get(session)
        return None if known is None else replace(known, used=self.last_use(session, known))

    def use(self, session: str, now: float) -> None:
        """Note a use. O(1)."""
        self._used[session] = now
        self.known.move_to_end(session)

    def put(self, session: str, assignment: Assignment) -> None:
        """Keep what a session has from now on."""
        self.known[session] = assignment
        self.known.move_to_end(session)
        if len(self.known) > MOST_SESSIONS:
            oldest, _ = self.known.popitem(last=False)
            self._used.pop(oldest, None)

    def learn(self, sessions: Mapping[str, Assignment | None]) -> None:
        """Take in what others agreed on about sessions that are known here; None ends one."""
        for session, assignment in sessions.items():
            if assignment is None:
                self.known.pop(session, None)
            elif session in self.known:
                self.known[session] = assignment

    def collect(self) -> dict[str, float]:
        """Return when sessions were last used, of those that were since the last call."""
        used, self._used = self._used, {}
        for session, at in used.items():
            known = self.known.get(session)
            if known is not None and at > known.used:
                self.known[session] = replace(known, used=at)
        return used


PROBES = 21
"""The paper's number: the fullest key then has about a tenth more than its share."""

FARTHEST = 1000
"""Keys to ask in vain: the pool finds one in a thousand in other ways, and others wait meanwhile."""

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
        hashed = hashlib.shake_128(name.encode("utf-8", "surrogatepass")).digest(8 * PROBES)
        for probe in struct.unpack(f">{PROBES}Q", hashed):
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
