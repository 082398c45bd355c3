"""The thread of a cache that looks after its files: what others wrote, what is due, what waits."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from types import MethodType

__all__ = ["Watcher"]

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
