"""The ledger: agreements of a pool that outlive the process or bind other processes too.

The pool itself waits for nothing. It calls a ledger where an agreement is asked for: when a session gets its proxy, and
when a lease is exclusive. Everything else (bans, when sessions were last used) is collected from it in batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MOST_SESSIONS = 100_000
"""Sessions that are in memory at once; the one that was assigned or used longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The proxy of a session. Times are Unix seconds; `moves` counts the proxies that it had before."""

    key: str
    since: float
    used: float
    moves: int = 0


class Ledger(Protocol):
    """Agreements that hold for every process on a home. Thread-safe; each call is one transaction.

    Raises:
        TierError: what is written down cannot be read or changed (from every method).
    """

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:
        """Give a session its proxy: `propose` gets what is written down, and returns what is to stand there."""

    def assigned(self, session: str) -> Assignment | None:
        """Return what is written down of a session."""

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """Give a proxy to one holder until a moment; None where another one has it beyond now.

        The number returned is greater than every one returned before, by whatever process: a fencing token.
        """

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """Give the holder of a token more time; False where it has ended or another holds the proxy."""

    def free(self, key: str, token: int) -> None:
        """End the hold of a token; nothing where it has ended already."""


class MemoryLedger:
    """A `Ledger` that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Assignment] = {}
        self._holds: dict[str, tuple[int, float]] = {}
        self._tokens = 0

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:
        """See `Ledger`."""
        with self._lock:
            agreed = self._sessions[session] = propose(self._sessions.pop(session, None))
            if len(self._sessions) > MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            return agreed

    def assigned(self, session: str) -> Assignment | None:
        """See `Ledger`."""
        with self._lock:
            return self._sessions.get(session)

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """See `Ledger`."""
        with self._lock:
            _, ends = self._holds.get(key, (0, now))
            if ends > now:
                return None
            self._tokens += 1
            self._holds[key] = (self._tokens, until)
            return self._tokens

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """See `Ledger`."""
        with self._lock:
            held, ends = self._holds.get(key, (0, now))
            if held != token or ends <= now:
                return False
            self._holds[key] = (token, until)
            return True

    def free(self, key: str, token: int) -> None:
        """See `Ledger`."""
        with self._lock:
            if self._holds.get(key, (0, 0.0))[0] == token:
                del self._holds[key]
