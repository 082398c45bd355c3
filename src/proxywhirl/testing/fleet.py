"""A fleet of real proxies on this machine. Each can be made to fail while a test runs.

Rules: nothing leaves the machine: every host name that a proxy is asked for means 127.0.0.1, and an
address that is no loopback address is unreachable. What a block has started is gone when it ends:
ports, connections, tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Self

from proxywhirl.testing import http_proxy, socks_proxy
from proxywhirl.testing.origin import Origin
from proxywhirl.testing.proxy import Exits, FleetProxy, FleetSpec


class Fleet:
    """Running proxies, by place and by name. Made by `Fleet.start`.

    `exits` goes to the origin, so that it can tell through which proxy a request came.
    """

    def __init__(self, exits: Exits, proxies: list[FleetProxy]) -> None:
        self.exits = exits
        self.proxies = proxies

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, specs: Iterable[FleetSpec], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Run a proxy for each spec, on free ports, for the length of a block.

        Args:
            specs: What each proxy is to be.
            tls: The server's context for proxies of the scheme https.

        Raises:
            ValueError: Two proxies have the same name, or one is https and there is no `tls`.
        """
        fleet = cls(Exits(), [])
        async with contextlib.AsyncExitStack() as stack:
            for index, spec in enumerate(specs):
                if spec.scheme == "https" and tls is None:
                    raise ValueError("a proxy of the scheme https needs tls, a server's ssl.SSLContext")
                name = spec.name or f"{spec.scheme}-{index}"
                if name in (proxy.name for proxy in fleet):
                    raise ValueError(f"two proxies are named {name!r}")
                serve = (socks_proxy if spec.scheme.startswith("socks") else http_proxy).serve
                proxy = FleetProxy(spec, name, fleet.exits, serve, tls)
                stack.push_async_callback(proxy.aclose)
                fleet.proxies.append(proxy)
            yield fleet

    def urls(self) -> list[str]:
        """Return the proxies' URLs as lines of a list, credentials included: do not log them."""
        return [proxy.url.reveal() for proxy in self.proxies]

    def __getitem__(self, which: int | str) -> FleetProxy:
        """Return a proxy by its place or name."""
        if isinstance(which, int):
            return self.proxies[which]
        for proxy in self.proxies:
            if proxy.name == which:
                return proxy
        raise KeyError(which)

    def __iter__(self) -> Iterator[FleetProxy]:
        """Iterate over the proxies in the order of their specs."""
        return iter(self.proxies)

    def __len__(self) -> int:
        """Count the proxies."""
        return len(self.proxies)


@contextlib.contextmanager
def running_fleet(
    specs: Iterable[FleetSpec], *, tls: ssl.SSLContext | None = None, origin_tls: ssl.SSLContext | None = None
) -> Iterator[tuple[Fleet, Origin]]:
    """Run a fleet and an origin that knows it in a thread of their own, for the length of a block.

    For tests that are not async or drive another process.

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
        async with Fleet.start(specs, tls=tls) as fleet, Origin.start(fleet.exits, tls=origin_tls) as origin:
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
