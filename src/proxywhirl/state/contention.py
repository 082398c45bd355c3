"""Waiting for a lock that another process holds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from proxywhirl.backoff import Backoff

PAUSE = Backoff(0.0001, 0.005)


def pauses(seconds: float) -> Iterator[None]:
    """Yield at once, and again after each pause, until the time is over: a try belongs to each.

    Nearly always the first try goes well, and no clock is asked. The clock is the system's, since it is another process
    that is waited for. The pauses double up to 5 ms.
    """
    yield
    if seconds <= 0:
        return
    deadline, tries = time.monotonic() + seconds, 1
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(PAUSE.seconds(tries), left))
        yield
        tries += 1
