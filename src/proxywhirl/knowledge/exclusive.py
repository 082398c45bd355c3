"""Exclusive leases: one holder of a proxy at a time, among all processes that share a store.

The token of a hold is greater than every one before it. It is the time in microseconds, or one more than the last one
where that is not less: so it grows even where the file with the last one was lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxywhirl.clock import Clock
from proxywhirl.knowledge.format import hold_of, hold_text
from proxywhirl.state.records import Perishable
from proxywhirl.state.store import Store

KIND = "hold"
LAST_TOKEN = ""
"""The key under which the last token stands; no proxy has it."""

TOLD_FOR_SECONDS = 3600.0
"""For how long it stays written down that a hold has ended, for those who look rarely."""


class Holds:
    """Who holds which proxy. Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._mine: dict[str, int] = {}

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """See `Ledger`."""
        token: int | None = None

        def taken(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            nonlocal token
            last, end = _hold(held.get(key))
            token = None
            if end > now:
                return {}
            token = max(_token(held.get(LAST_TOKEN)) + 1, last + 1, int(now * 1e6))
            return {LAST_TOKEN: str(token), key: Perishable(hold_text(token, until), until + TOLD_FOR_SECONDS)}

        self._store.update(KIND, [LAST_TOKEN, key], taken)
        if token is not None:
            self._mine[key] = token
        return token

    def is_mine(self, key: str, token: int) -> bool:
        """Whether the last hold of a proxy that was given here has this token."""
        return self._mine.get(key) == token

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """See `Ledger`."""
        extended = False

        def longer(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            nonlocal extended
            holder, end = _hold(held.get(key))
            extended = holder == token and end > now
            return {key: Perishable(hold_text(token, until), until + TOLD_FOR_SECONDS)} if extended else {}

        self._store.update(KIND, [key], longer)
        return extended

    def free(self, key: str, token: int) -> None:
        """See `Ledger`."""
        now = self._clock.now()

        def freed(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            holder, end = _hold(held.get(key))
            if holder != token or end <= 0:
                return {}
            return {key: Perishable(hold_text(token, 0.0), now + TOLD_FOR_SECONDS)}

        self._store.update(KIND, [key], freed)


def _hold(text: str | None) -> tuple[int, float]:
    """Return token and end of a hold; one that cannot be read is over, and the tokens keep its holder out."""
    try:
        return hold_of(text) if text is not None else (0, 0.0)
    except ValueError:
        return 0, 0.0


def _token(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0
