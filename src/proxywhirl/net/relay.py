"""Carry bytes both ways between two connections until both sides have ended.

Rules:
- The end of one side is passed on as a half-close, while the other way goes on.
- TLS has no half-close. There the end of the answers closes the asking side; after the end of the questions the
  answering side has a short time left.
- A side is read only when its bytes can be written (back-pressure).
- Unless both sides end regularly, both connections are reset: a cut stream never looks complete.
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
    """Carry bytes between `a`, which asks, and `b`, which answers; return when both have ended or one broke.

    It gives up after `idle_timeout` seconds without a byte in either direction. The caller closes the connections
    afterwards. Cancelled, it resets both and leaves no task.
    """
    loop, patience = asyncio.get_running_loop(), idle_timeout
    up = down = 0
    clean = False

    async def carry(source: Connection, sink: Connection) -> None:
        nonlocal up, down, patience
        while data := await source.reader.read(_CHUNK):
            watch.reschedule(loop.time() + patience)
            sink.writer.write(data)
            await sink.writer.drain()
            if source is a:
                up += len(data)
            else:
                down += len(data)
        if sink.writer.can_write_eof():
            sink.writer.write_eof()
        elif source is b:
            sink.writer.close()
        else:
            patience = min(patience, _ANSWER_GRACE)
            watch.reschedule(loop.time() + patience)

    try:
        async with asyncio.timeout(idle_timeout) as watch, asyncio.TaskGroup() as group:
            group.create_task(carry(a, b))
            group.create_task(carry(b, a))
        clean = True
    except* OSError:  # a reset on either side, or the idle timeout, which is one too
        pass
    finally:
        if not clean:
            a.reset()
            b.reset()
    return Transferred(up, down, clean)
