"""What a cache does from time to time: write access counts, sweep expired entries, keep a history.

Without the background thread the calls of the cache do it, when it is due and no other thread is at it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from proxywhirl.cache.models import CacheConfig, CacheStatistics
from proxywhirl.clock import Clock

__all__ = ["Upkeep"]

HISTORY_LENGTH = 720


class Upkeep:
    """Runs `flush`, `sweep` (which says whether more is left) and `statistics` when the configuration says."""

    def __init__(
        self,
        config: CacheConfig,
        *,
        clock: Clock,
        lock: threading.RLock,
        flush: Callable[[], None],
        sweep: Callable[[], bool],
        statistics: Callable[[], CacheStatistics],
    ) -> None:
        self.history: deque[tuple[datetime, CacheStatistics]] = deque(maxlen=HISTORY_LENGTH)
        self._clock = clock
        self._lock = lock
        self._sweep = sweep
        self._statistics = statistics
        self._tasks: list[tuple[float, Callable[[], object]]] = [(config.flush_interval_seconds, flush)]
        if not config.enable_background_cleanup:
            self._tasks.append((config.ttl_cleanup_interval, sweep))
        if config.enable_statistics:
            self._tasks.append((config.statistics_interval, self._remember))
        self._due = [clock.monotonic() + interval for interval, _ in self._tasks]
        self._next = min(self._due)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if config.enable_background_cleanup:
            self._thread = threading.Thread(
                target=self._clean, args=(config.cleanup_interval_seconds,), name="proxywhirl-cleanup", daemon=True
            )
            self._thread.start()

    def tick(self) -> None:
        """Do what is due, unless another thread is at it. Costs one comparison where nothing is due."""
        now = self._clock.monotonic()  # a wall clock that is set back must not put it off
        if now < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            for place, (interval, task) in enumerate(self._tasks):
                if now >= self._due[place]:
                    self._due[place] = now + interval
                    task()
            self._next = min(self._due)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End the background thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _remember(self) -> None:
        self.history.append((datetime.fromtimestamp(self._clock.now(), UTC), self._statistics()))

    def _clean(self, interval: float) -> None:
        while not self._stopped.wait(interval):
            more = True
            while more and not self._stopped.is_set():
                with self._lock:
                    more = self._sweep()
