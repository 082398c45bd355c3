"""The thread that keeps a pool in line with the store while requests are being served."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from proxywhirl.errors import TierError

_log = logging.getLogger(__name__)

FEED_INTERVAL_SECONDS = 0.1


class Feeder:
    """Calls `feed` every `FEED_INTERVAL_SECONDS` until it is stopped."""

    def __init__(self, feed: Callable[[], None]) -> None:
        self._feed = feed
        self._stopped = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="proxywhirl-feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(FEED_INTERVAL_SECONDS):
            try:
                self._feed()
                self._failing = False
            except TierError as exc:
                if not self._failing:  # once, not ten times a second
                    _log.warning("the pool stays as it is until the store can be read again: %s", exc)
                self._failing = True
            except Exception:  # noqa: BLE001  # the thread's last guard: without it the pool would stand still for good
                _log.exception("feeding the pool ended in a defect")
