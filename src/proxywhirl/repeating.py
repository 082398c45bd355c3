"""The thread that does something again and again beside its owner: feed a pool, look after a cache's files."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from types import MethodType

from proxywhirl.errors import TierError

_log = logging.getLogger(__name__)


class Repeating:
    """Calls a bound method every so many seconds, until it is stopped or the method's object is gone.

    It is a daemon, and keeps no object alive. What the method raises ends nothing: a `TierError` is logged once until
    the method goes well again, anything else is a defect and logged with its traceback.

    Args:
        act: The bound method.
        seconds: From the end of one call to the next.
        name: The thread's.
        failing: What a `TierError` means, for the log.
    """

    def __init__(self, act: Callable[[], object], seconds: float, *, name: str, failing: str) -> None:
        if not isinstance(act, MethodType):
            raise TypeError("a thread that repeats keeps no object alive: give it a bound method")
        self._act = weakref.WeakMethod(act)
        self._seconds = seconds
        self._failing = failing
        self._failed = False
        self._awake = threading.Event()
        self._stopped = False
        self._acting = False
        self._last: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let it act now."""
        self._awake.set()

    def stop(self, timeout: float | None = None) -> None:
        """End the thread and wait for it, up to `timeout` seconds; it ends when a call under way has ended."""
        self._stopped = True
        self._awake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def end_with(self, last: Callable[[], None]) -> None:
        """End the thread and call something when it acts no more: now, or in the thread, which is not waited for.

        May be called at any moment and by any thread, as the garbage collector does: it takes no lock.
        """
        self._stopped = True
        self._last.append(last)
        self._awake.set()
        if not self._acting:
            self._end()

    def _run(self) -> None:
        while not self._stopped:
            self._awake.wait(self._seconds)
            self._awake.clear()
            act = self._act()
            self._acting = True  # before the last look at `_stopped`, which `end_with` sets before it looks at this
            if act is None or self._stopped:
                break
            try:
                act()
                self._failed = False
            except TierError as exc:
                if not self._failed:
                    _log.warning("%s: %s", self._failing, exc)
                self._failed = True
            except Exception:  # noqa: BLE001  # the thread's last guard: without it nothing would be done any more
                _log.exception("the thread %s met a defect", self._thread.name)
            del act
            self._acting = False
        self._acting = False
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(IndexError):  # of two threads one gets it
            self._last.pop()()
