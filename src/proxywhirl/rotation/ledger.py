"""What a pool has written down by others, since it must outlive the process or bind other processes too.

The pool itself waits for nothing. It calls a ledger where an agreement is asked for: when a session gets its proxy, and
when a lease is exclusive. Everything else (bans, when sessions were last used) is collected from it in batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Assignment", "Ledger"]


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
        ...

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """Give a proxy to one holder until a moment; None where another one has it beyond now.

        The number returned is greater than every one returned before, by whatever process: a fencing token.
        """
        ...

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """Give the holder of a token more time; False where it has ended or another holds the proxy."""
        ...

    def free(self, key: str, token: int) -> None:
        """End the hold of a token; nothing where it has ended already."""
        ...
