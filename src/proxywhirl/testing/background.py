"""A fleet and its origin in a thread of their own, for tests that are not async or drive another process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from proxywhirl.testing.fleet import Fleet
from proxywhirl.testing.origin import Origin
from proxywhirl.testing.proxy import FleetSpec


@contextlib.contextmanager
def running_fleet(
    specs: Iterable[FleetSpec], *, tls: ssl.SSLContext | None = None, origin_tls: ssl.SSLContext | None = None
) -> Iterator[tuple[Fleet, Origin]]:
    """Run a fleet and an origin that knows it, for the length of a block.

    Args:
        specs: What each proxy is to be.
        tls: The server's context for proxies of the scheme https.
        origin_tls: Make the origin serve https with this context.

    Raises:
        ValueError: As `Fleet.start`.
    """
    ready: Future[tuple[Fleet, Origin]] = Future()
    stop: Future[None] = Future()

    async def run() -> None:
        async with (
            Fleet.start(specs, tls=tls) as fleet,
            Origin.start(fleet.exits, tls=origin_tls) as origin,
        ):
            ready.set_result((fleet, origin))
            await asyncio.wrap_future(stop)

    with ThreadPoolExecutor(1, thread_name_prefix="fleet") as threads:
        ended = threads.submit(asyncio.run, run())
        started: tuple[Future[Any], ...] = (ready, ended)
        wait(started, return_when=FIRST_COMPLETED)
        try:
            if ready.done():
                yield ready.result()
        finally:
            stop.set_result(None)
            ended.result()  # raises what kept the fleet from starting, or a defect of one of its servers
