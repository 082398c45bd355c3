"""Which proxy an incoming connection comes from, told by its addresses.

A fleet's proxies all leave from the same IP address, so each notes the two ends of a connection to a
target before it lets a byte flow; the origin at the other end looks them up. This needs no header, so
it works inside TLS and SOCKS too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from proxywhirl.net.connection import Connection


class Exits:
    """The open connections that the proxies of a fleet have made to targets."""

    def __init__(self) -> None:
        self._open: dict[tuple[object, object], tuple[Connection, str]] = {}

    @contextlib.contextmanager
    def noted(self, outgoing: Connection, name: str) -> Iterator[None]:
        """Hold `outgoing` as the connection of the proxy `name` until it is closed."""
        ends = _end(outgoing, "sockname"), _end(outgoing, "peername")
        mine = self._open[ends] = (outgoing, name)
        try:
            yield
        finally:
            if self._open.get(ends) is mine:  # the same ends may be in use again already
                del self._open[ends]

    def name_of(self, incoming: Connection) -> str | None:
        """Return the proxy that made a connection seen from its other end; None for no proxy of the fleet."""
        found = self._open.get((_end(incoming, "peername"), _end(incoming, "sockname")))
        return found and found[1]


def _end(connection: Connection, which: str) -> object:
    address = connection.writer.get_extra_info(which)
    return address and address[:2]  # IPv6 adds flow and scope; a socket that is gone has no address
