"""What a tier removes that is the lowest for a time, noted for the tier below it, which is off and holds it still.

The log of the tier is no substitute: it is cut off at a length, `clear` begins it anew, and it does not tell what was
removed from what left for want of room. The latter is nobody's wish, and the tier below keeps it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxywhirl.cache.debt import DebtFile
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Batch, Decision, Tier
from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError

__all__ = ["REMOVED", "Removals"]

_log = logging.getLogger(__name__)

REMOVED = "removed.jsonl"
MOST_KEPT = 1_000_000
PAGE = 1_000


class Removals:
    """Keys and when they were removed, in a file beside those of the second tier.

    A key counts only where the tier does not hold it: a process may die after it has noted a removal and before it
    has removed anything, and what was removed may come again.
    """

    def __init__(self, directory: Path, *, clock: Clock, fsync: bool = False) -> None:
        self._file = DebtFile(directory, name=REMOVED, fsync=fsync, limit=MOST_KEPT)
        self._clock = clock

    def noting(self, decide: Decision) -> Decision:
        """Return the decision so that what it removes is noted before it goes."""

        def decided(present: Mapping[str, Record]) -> Batch:
            held = frozenset(present)
            batch = decide(present)
            self._note([key for key in batch.deletes if key in held])
            return batch

        return decided

    def note_all(self, tier: Tier) -> None:
        """Note everything that a tier holds, before it is cleared."""
        page = tier.scan("", PAGE)
        while page:
            self._note([record.key for record in page])
            page = tier.scan(page[-1].key, PAGE)

    def noted(self) -> dict[str, float]:
        """Return the keys, and when each was removed last (Unix seconds). Raises `TierError` as the file does."""
        return {debt.key: debt.at for debt in self._file.pending()}

    def forget(self) -> None:
        """Forget all: the tier below knows. Raises `TierError` as the file does."""
        self._file.settle(lambda _: None)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file in a forked child."""
        self._file.abandon()

    def _note(self, keys: Sequence[str]) -> None:
        try:
            self._file.note((), keys, base=0, at=self._clock.now(), merge=False)
        except CacheError as exc:
            _log.error(
                "that %d entries were removed cannot be noted, so they are back when the third tier is enabled: %s",
                len(keys),
                exc,
            )
