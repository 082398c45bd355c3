"""Connect only where a source may lead: the address that is checked is the one that is connected to.

A name is looked up once, here, so that a name server that answers differently the next time gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

import httpcore2

from proxywhirl.errors import SourceError

IsPublic = Callable[[str], bool]
"""Tells whether an address is one of the public internet."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Looks up the addresses of a host and port, in the order in which to try them."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections for httpcore2, to those addresses of a host alone that are `allowed`.

    `connect_tcp` raises `SourceError` where a host has none.
    """

    def __init__(self, allowed: IsPublic, resolver: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolver
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look the host up and try its addresses, one after the other, within the time."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout("looking up the host took too long") from exc
        except (OSError, UnicodeError) as exc:
            raise httpcore2.ConnectError("its name cannot be resolved") from exc
        allowed = list(filter(self._allowed, addresses))
        if not allowed:
            raise SourceError(
                f"{host} is not on the public internet: only a source that you added yourself may be there"
            )
        share = None if timeout is None else timeout / len(allowed)
        for address in allowed[:-1]:
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # the last one's failure is told
        return await self._network.connect_tcp(allowed[-1], port, share, local_address, socket_options)
