"""What a cache does from time to time: write access counts, sweep expired entries, keep a history.

The calls of the cache do it, when it is due and no other thread is at it, except for a hit in L1: that has the watcher
do it, so that it never waits for a durable tier. What may have to wait for other writers is the watcher's alone.

The thread of a cache that looks after its files: what others wrote, what is due, what waits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import weakref
from collections.abc import Callable
from types import MethodType

from proxywhirl.cache.coordination.breaker import in_passing
from proxywhirl.cache.models import CacheConfig
from proxywhirl.clock import Clock

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.05


class Watcher:
    """Calls a bound method about 20 times a second until it is stopped or the method's object is gone."""

    def __init__(self, look: Callable[[], None]) -> None:
        if not isinstance(look, MethodType):
            raise TypeError("a watcher keeps no object alive: give it a bound method")
        self._look = weakref.WeakMethod(look)
        self._awake = threading.Event()
        self._stopped = False
        self._looking = False
        self._last: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="proxywhirl-cache", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let it look now."""
        self._awake.set()

    def stop(self, timeout: float | None = None) -> None:
        """End the thread and wait for it, up to `timeout` seconds; it ends by itself when what it does has ended."""
        self._stopped = True
        self._awake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def end_with(self, last: Callable[[], None]) -> None:
        """End the thread and call something when it looks no more: now, or in the thread, which is not waited for.

        May be called at any moment and by any thread, as the garbage collector does: it takes no lock.
        """
        self._stopped = True
        self._last.append(last)
        self._awake.set()
        if not self._looking:
            self._end()

    def _run(self) -> None:
        while not self._stopped:
            self._awake.wait(INTERVAL_SECONDS)
            self._awake.clear()
            look = self._look()
            self._looking = True  # before the last look at `_stopped`, which `end_with` sets before it looks at this
            if look is None or self._stopped:
                break
            try:
                look()
            except Exception:  # noqa: BLE001  # the thread's last guard: without it nothing would be noticed any more
                _log.exception("looking after the cache ended in a defect")
            del look
            self._looking = False
        self._looking = False
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(IndexError):  # of two threads one gets it
            self._last.pop()()


Task = Callable[[], object]


class Upkeep:
    """Runs `flush`, `sweep` (which says whether more is left) and `remember` when the configuration says.

    `due` is when calls have something to do, on the wall clock, for those who have only that at hand.
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
        if now < (self._next if watching else self._next_of_calls) or not self._busy.acquire(blocking=False):
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
        self._next_of_calls = min(self._due[1:])
        self._next = min(self._due[0], self._next_of_calls)
        self.due = self._clock.now() + self._next_of_calls - now

    def _sweep_all(self) -> None:
        while not self._stopped and self._sweep():
            pass
