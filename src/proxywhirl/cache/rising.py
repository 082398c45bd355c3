"""What was read from the authority on its way up into L2: written there in batches, with what the log said since."""

from __future__ import annotations

from contextlib import AbstractContextManager

from proxywhirl.cache.following import bring_in_line
from proxywhirl.cache.front import Front
from proxywhirl.cache.guard import GuardedTier
from proxywhirl.cache.ladder import Ladder
from proxywhirl.cache.reading import RISING_KEPT
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Stretch

__all__ = ["Rising"]

NO_KEYS: list[str] = []


class Rising:
    """Empties what waits in the front, holding `writing`: no change of this process may come between."""

    def __init__(self, ladder: Ladder, front: Front, writing: AbstractContextManager[object]) -> None:
        self._ladder = ladder
        self._front = front
        self._writing = writing

    def lift(self, *, at_once: bool = False) -> None:
        """Write what waits for L2 in a batch. What cannot be written now is read from below again."""
        if not self._front.waiting or (self._front.waiting < RISING_KEPT and not at_once):
            return
        with self._writing:
            records, since, revision = self._front.take_rising()
            for window in self._ladder.windows:
                self._raise_into(window, records, since, revision)
            self._front.risen()

    def _raise_into(self, window: GuardedTier, records: list[Record], since: int | None, revision: int) -> None:
        """Write into a durable window what waits for it, and that it has followed the log with this."""
        if since is not None and not window.behind:
            stretch = Stretch(since, revision, records, (), admit=True)
            followed = window.call(lambda tier: tier.follow(stretch), None, len(records))
            if followed is not None:
                self._ladder.note_evictions(window.name, len(followed.evicted))
                return
        if since is not None:
            bring_in_line(window, self._ladder.authority)
        evicted = self._ladder.ask(window, lambda tier: tier.fill(records, revision), None, len(records))
        self._ladder.note_evictions(window.name, len(evicted or NO_KEYS))
