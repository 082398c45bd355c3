"""When a store that failed is asked again: after a back-off that doubles, told in the log once."""

from __future__ import annotations

import logging
import threading

from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError

_log = logging.getLogger(__name__)

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0


class Patience:
    """Whether a store is well enough to be asked; `meanwhile` says what its sickness means. Thread-safe."""

    def __init__(self, clock: Clock, meanwhile: str) -> None:
        self._clock = clock
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0

    def may_ask(self) -> bool:
        """Whether it is well, or has failed and been left alone for long enough."""
        return not self._pause or self._clock.monotonic() >= self._until

    def failed(self, exc: CacheError) -> None:
        """Leave the store alone for a while."""
        with self._lock:
            if not self._pause:
                _log.warning("%s until the state is well again: %s", self._meanwhile, exc)
            self._pause = min(LONGEST_SECONDS, self._pause * 2) or FIRST_SECONDS
            self._until = self._clock.monotonic() + self._pause

    def succeeded(self) -> None:
        """Ask the store as ever."""
        if self._pause:
            with self._lock:
                self._pause = 0.0
            _log.warning("the state is well again: it is read and written as before")
