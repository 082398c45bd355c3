"""The thread of a cache that looks after its files: what others wrote, what is due, what waits."""

from __future__ import annotations

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

    def _run(self) -> None:
        while not self._stopped:
            self._awake.wait(INTERVAL_SECONDS)
            self._awake.clear()
            look = self._look()
            if look is None or self._stopped:
                return
            try:
                look()
            except Exception:  # noqa: BLE001  # the thread's last guard: without it nothing would be noticed any more
                _log.exception("looking after the cache ended in a defect")
            del look
