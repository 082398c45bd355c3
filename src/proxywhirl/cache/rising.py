"""Writing into the durable windows what waits for them in the front: promotions and single puts, in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from proxywhirl.cache.following import bring_in_line, filled, followed
from proxywhirl.cache.front import Front
from proxywhirl.cache.guard import GuardedTier, may_wait
from proxywhirl.cache.ladder import Ladder
from proxywhirl.cache.record import Record
from proxywhirl.cache.soundness import fault_of
from proxywhirl.cache.tier import Stretch

__all__ = ["RISING_KEPT", "RISING_MOST", "Lift"]

RISING_KEPT = 500
RISING_MOST = 2 * RISING_KEPT  # while the windows cannot be written to
NO_KEYS: list[str] = []
NO_RECORDS: dict[str, Record] = {}


class Lift:
    """Empties what waits: where it is much, and whenever it must be below.

    `writing` is the lock of changes, `notice` follows what other processes wrote and sets `counted_elsewhere` where
    they did: hits are not in the log, and may have been written since a record was read that waits here.
    """

    def __init__(self, ladder: Ladder, front: Front, *, writing: threading.RLock, notice: Callable[[], None]) -> None:
        self.counted_elsewhere = False
        self._ladder = ladder
        self._front = front
        self._writing = writing
        self._notice = notice

    def let_rise(self, *, at_once: bool = False) -> None:
        """Write what waits for L2 in a batch. What cannot be written now is read from below again."""
        if not self._front.waiting or (self._front.waiting < RISING_KEPT and not at_once):
            return
        if not self._writing.acquire(blocking=may_wait()):  # so that no change of this process comes between
            return
        try:
            self._notice()
            rising, since, revision = self._front.take_rising()
            records = [record for record in rising if fault_of(record) is None]  # damage is not to spread
            if self.counted_elsewhere:
                self.counted_elsewhere = False
                self._count_again(records)
            if all([self._raise_into(window, records, since, revision) for window in self._ladder.windows]):  # noqa: C419  # none is left out
                self._front.risen()
            else:
                self._front.rise_again(since)
        finally:
            self._writing.release()

    def _count_again(self, records: Sequence[Record]) -> None:
        """Give records the hits that other processes have written since these were read."""
        keys = [record.key for record in records]
        authority = self._ladder.authority
        stored = self._ladder.ask(authority, lambda tier: tier.get_many(keys), NO_RECORDS, len(keys))
        for record in records:
            known = stored.get(record.key)
            if known is not None and known.generation == record.generation:
                record.access_count = max(record.access_count, known.access_count)

    def _raise_into(self, window: GuardedTier, records: list[Record], since: int | None, revision: int) -> bool:
        """Write into a durable window what waits for it, and that it has followed the log with this.

        Returns False where another process is writing to it: what waits goes on waiting then.
        """
        if since is not None and not window.behind:
            stretch = Stretch(since, revision, records, (), admit=True)
            done = window.write(partial(followed, stretch), None, len(records))
            if done is not None:
                self._ladder.note_evictions(window.name, len(done.evicted))
                return True
            if not window.sick and window.call(lambda tier: tier.revision, -1) == since:
                return False
        if since is not None:
            window.behind = True
            bring_in_line(window, self._ladder.authority)
        evicted = self._ladder.write(window, partial(filled, records, revision), None, len(records))
        self._ladder.note_evictions(window.name, len(evicted or NO_KEYS))
        return True
