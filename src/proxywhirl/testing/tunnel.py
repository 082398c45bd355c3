"""The tunnel that a proxy of the fleet has opened, whole or cut short."""

from __future__ import annotations

import asyncio

from proxywhirl.net.connection import Connection
from proxywhirl.net.relay import relay
from proxywhirl.testing.faults import Fault

__all__ = ["carry"]

_IDLE = 60.0  # seconds: longer than any test should wait
_CHUNK = 64 * 1024  # bytes


async def carry(client: Connection, target: Connection, fault: Fault) -> None:
    """Carry bytes until both sides have ended; with TRUNCATE only half of the target's first answer."""
    if fault is not Fault.TRUNCATE:
        await relay(client, target, idle_timeout=_IDLE)
        return
    requests = asyncio.create_task(_copy(client, target))
    try:
        answer = await target.reader.read(_CHUNK)
        client.writer.write(answer[: len(answer) // 2])
        await client.writer.drain()
    finally:
        requests.cancel()
        await asyncio.wait({requests})


async def _copy(source: Connection, sink: Connection) -> None:
    while data := await source.reader.read(_CHUNK):
        sink.writer.write(data)
        await sink.writer.drain()
