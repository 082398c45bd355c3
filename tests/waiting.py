"""Wait for what other threads, tasks and processes do, and move the time of an event loop.

A guard ends a test that would otherwise hang. It says nothing about speed: no test may need it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

GUARD_SECONDS = 120.0

T = TypeVar("T")


def wait_until(holds: Callable[[], object]) -> None:
    """Return when another thread or process has come to a state."""
    guard = time.monotonic() + GUARD_SECONDS
    while not holds():
        assert time.monotonic() < guard, "what is waited for never came"
        time.sleep(0.005)


async def until(holds: Callable[[], object]) -> None:
    """Return when other tasks have come to a state."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not holds():  # noqa: ASYNC110  # sockets and other servers tell nobody of their state
            await asyncio.sleep(0.001)


class LoopTime:
    """Moves the clock of the running event loop, so that its timeouts are over when a test says so.

    Timeouts in a test with this are long: no slow machine reaches them by itself.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        true_time = loop.time
        loop.time = lambda: true_time() + self._ahead  # type: ignore[method-assign]  # a loop offers no other way

    def advance(self, seconds: float) -> None:
        """Let some seconds pass at once; call it in a task of the loop."""
        self._ahead += seconds


async def after(sending: Coroutine[Any, Any, T], hangs: Callable[[], object], seconds: float) -> T:
    """Send something, let some seconds pass once it hangs, and return what comes of it."""
    time, task = LoopTime(), asyncio.ensure_future(sending)
    await until(hangs)
    time.advance(seconds)
    return await task
