"""Sessions: a name that is to have the same proxy for a while.

A session ends when it was not used for its idle time or is older than its time to live; the next use of its name begins
a new one, with another proxy. When its proxy cannot serve (it is gone, set aside, banned by the site) a soft session
moves to another one, for good; a hard one is an error until it ends.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
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
    return _digest(b"\xff" + site.encode())


def _hashed(name: str) -> str:
    return _digest(name.encode("utf-8", "surrogatepass"))


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:32]


_REMEMBERED = 256  # characters: longer names are hashed each time, since so many of them would fill the memory
_remembered = lru_cache(maxsize=65_536)(_hashed)


class Sessions:
    """The proxies of sessions, by id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Assignment] = OrderedDict()
        self._used: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, session: str) -> Assignment | None:
        """Return what a session has, as it was agreed on; it may have ended."""
        return self._known.get(session)

    def last_use(self, session: str, known: Assignment) -> float:
        """Return when a session was last used (Unix seconds), here or as far as was agreed on."""
        used = self._used.get(session)
        return known.used if used is None or used < known.used else used

    def used(self, session: str) -> Assignment | None:
        """Return what a session has, with its last use."""
        known = self._known.get(session)
        return None if known is None else replace(known, used=self.last_use(session, known))

    def use(self, session: str, now: float) -> None:
        """Note a use. O(1)."""
        self._used[session] = now
        self._known.move_to_end(session)

    def put(self, session: str, assignment: Assignment) -> None:
        """Keep what a session has from now on."""
        self._known[session] = assignment
        self._known.move_to_end(session)
        if len(self._known) > MOST_SESSIONS:
            oldest, _ = self._known.popitem(last=False)
            self._used.pop(oldest, None)

    def learn(self, sessions: Mapping[str, Assignment | None]) -> None:
        """Take in what others agreed on about sessions that are known here; None ends one."""
        for session, assignment in sessions.items():
            if assignment is None:
                self._known.pop(session, None)
            elif session in self._known:
                self._known[session] = assignment

    def collect(self) -> dict[str, float]:
        """Return when sessions were last used, of those that were since the last call."""
        used, self._used = self._used, {}
        for session, at in used.items():
            known = self._known.get(session)
            if known is not None and at > known.used:
                self._known[session] = replace(known, used=at)
        return used
