"""Deletes what has ended, and what is too much: once a minute, in bounded batches."""

from __future__ import annotations

import logging

from proxywhirl.clock import Clock
from proxywhirl.knowledge.bans import KIND as BANS
from proxywhirl.knowledge.exclusive import KIND as HOLDS
from proxywhirl.knowledge.sessions import KIND as SESSIONS
from proxywhirl.state.store import Store

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
WRITES = 10_000
LIMIT = 5_000


class Sweeper:
    """Keeps the records of a store few. Not thread-safe."""

    def __init__(self, store: Store, clock: Clock, kept: int) -> None:
        self._store = store
        self._clock = clock
        self._kept = kept
        self._next = 0.0
        self._written = 0
        self._told = False

    def wrote(self, count: int) -> None:
        """Note how many records were written: after many of them a sweep is due at once."""
        self._written += count

    def sweep(self) -> bool:
        """Delete a batch of each kind, where a sweep is due, and the rest with the next call; return whether it was.

        Raises:
            TierError: the store cannot be written to.
        """
        now = self._clock.monotonic()
        if now < self._next and self._written < WRITES:
            return False
        full = False
        for kind in (BANS, SESSIONS, HOLDS):
            swept = self._store.sweep(kind, now=self._clock.now(), most=self._kept, limit=LIMIT)
            full = full or swept.ended + swept.surplus == LIMIT
            if swept.surplus and not self._told:
                _log.warning("more than %d %ss are kept: those that are forgotten soonest go first", self._kept, kind)
                self._told = True
        if not full:
            self._next, self._written = now + INTERVAL_SECONDS, 0
        return True
