"""What a cache does from time to time.

==========  ====================================  =======================================  =========================
task        what it does                          every                                    who does it
==========  ====================================  =======================================  =========================
flush       write access counts and times         `flush_interval_seconds`                 the thread
remember    add a point to the history            `statistics_interval`                    calls and the thread
sweep       remove all that has expired           `cleanup_interval_seconds`, where        calls and the thread
                                                  `enable_background_cleanup` is set
sweep       remove a bounded batch of it          `ttl_cleanup_interval`, where not        calls; the thread if asked
==========  ====================================  =======================================  =========================

A call does what is due in passing, unless another thread is at it. A hit in L1 asks the thread to do it instead, so
that it never waits for a durable tier. The thread alone waits for other writers.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

from proxywhirl.cache.coordination.breaker import in_passing
from proxywhirl.cache.models import CacheConfig
from proxywhirl.clock import Clock

Task = Callable[[], object]


class Upkeep:
    """Runs `flush`, `sweep` (which says whether more is left) and `remember` when the configuration says.

    `next_of_calls` is when calls have something to do, by the monotonic clock; `due` is the same on the wall clock, for
    those who have only that at hand.
    """

    def __init__(
        self, config: CacheConfig, *, clock: Clock, flush: Task, sweep: Callable[[], bool], remember: Task
    ) -> None:
        self._clock = clock
        self._sweep = sweep
        self._busy = threading.Lock()
        self._tasks: list[tuple[float, Task]] = [(config.flush_interval_seconds, flush)]
        if config.enable_statistics:
            self._tasks.append((config.statistics_interval, remember))
        self._watched = len(self._tasks)
        if config.enable_background_cleanup:
            self._tasks.append((config.cleanup_interval_seconds, self._sweep_all))
            self._watched = len(self._tasks)
        else:
            self._tasks.append((config.ttl_cleanup_interval, sweep))
        self._due = [clock.monotonic() + interval for interval, _ in self._tasks]
        self._plan(clock.monotonic())
        self._stopped = False
        self._asked = False

    def ask(self) -> None:
        """Let the next tick of the watcher do everything that is due."""
        self._asked = True
        self.due = math.inf

    def tick(self, *, watching: bool = False) -> None:
        """Do what is due, unless another thread is at it. Costs one comparison where nothing is due.

        Calls of the cache sweep, and remember a point of the history, in passing. `watching` flushes, and waits for
        other writers; it leaves out the sweep, which is the business of puts and gets, unless a get has asked for it.
        """
        now = self._clock.monotonic()  # a wall clock that is set back must not put it off
        if now < (self._next if watching else self.next_of_calls) or not self._busy.acquire(blocking=False):
            return
        everything, self._asked = self._asked or not watching, False
        first = 0 if watching else 1
        try:
            with contextlib.nullcontext() if watching else in_passing():
                for place, (interval, task) in enumerate(self._tasks[first:], start=first):
                    if now >= self._due[place] and not self._stopped and (place < self._watched or everything):
                        self._due[place] = now + interval
                        task()
            self._plan(now)
        finally:
            self._busy.release()

    def stop(self) -> None:
        """Do nothing any more; wait for what another thread is at."""
        self._stopped = True
        with self._busy:
            pass

    def _plan(self, now: float) -> None:
        self.next_of_calls = min(self._due[1:])
        self._next = min(self._due[0], self.next_of_calls)
        self.due = self._clock.now() + self.next_of_calls - now

    def _sweep_all(self) -> None:
        while not self._stopped and self._sweep():
            pass
