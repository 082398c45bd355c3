"""Carry bytes both ways between two connections until both sides have ended.

Rules: one side's end is passed on as a half-close while the other way goes on; a side that has no
half-close (TLS) is closed when the answers have ended, and left a short time for its answer when the
questions have; a reader is only read when its bytes can be written (back-pressure); a relay that ends in
any way but both sides' regular end resets both connections, so that a cut stream never looks complete.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxywhirl.net.connection import Connection

_CHUNK = 64 * 1024  # bytes
_ANSWER_GRACE = 5.0  # seconds without a byte, once the end of the questions could not be passed on


@dataclass(frozen=True, slots=True)
class Transferred:
    """Bytes carried each way; `clean` when both sides ended regularly, neither reset nor idle."""

    a_to_b: int
    b_to_a: int
    clean: bool = True


async def relay(a: Connection, b: Connection, *, idle_timeout: float) -> Transferred:
    """Carry bytes both ways; return when both sides have ended, one broke, or nothing moved for too long.

    The caller closes the connections afterwards. Cancelled, it resets both and leaves no task.

    Args:
        a: The side that asks.
        b: The side that answers.
        idle_timeout: Seconds without a byte in either direction after which the relay gives up.
    """
    up, down = _Direction(a, b), _Direction(b, a)
    down.is_last_word = True
    clean = False
    try:
        async with asyncio.timeout(idle_timeout) as watch, asyncio.TaskGroup() as group:
            idle = _Idle(watch, idle_timeout)
            group.create_task(up.run(idle))
            group.create_task(down.run(idle))
        clean = True
    except* OSError:  # a reset on either side, or the idle timeout, which is one too
        pass
    finally:
        if not clean:
            a.reset()
            b.reset()
    return Transferred(up.moved, down.moved, clean)


class _Idle:
    """The idle timeout that both directions push ahead."""

    __slots__ = ("_loop", "_seconds", "_watch")

    def __init__(self, watch: asyncio.Timeout, seconds: float) -> None:
        self._watch = watch
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()

    def moved(self) -> None:
        self._watch.reschedule(self._loop.time() + self._seconds)

    def shorten(self) -> None:
        self._seconds = min(self._seconds, _ANSWER_GRACE)
        self.moved()


class _Direction:
    __slots__ = ("_sink", "_source", "is_last_word", "moved")

    def __init__(self, source: Connection, sink: Connection) -> None:
        self._source = source.reader
        self._sink = sink.writer
        self.is_last_word = False
        self.moved = 0

    async def run(self, idle: _Idle) -> None:
        while data := await self._source.read(_CHUNK):
            idle.moved()
            self._sink.write(data)
            await self._sink.drain()
            self.moved += len(data)
        if self._sink.can_write_eof():
            self._sink.write_eof()
        elif self.is_last_word:
            self._sink.close()
        else:
            idle.shorten()
