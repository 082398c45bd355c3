"""The gateway itself: a listening server that gives each client a driver of its own.

asyncio's own server accepts without end. Here a full gateway stops accepting, so that further clients wait in the
system's backlog and are served in their turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from typing import Self

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import GatewayError
from proxywhirl.events import EventBus
from proxywhirl.gateway.driver import Driver
from proxywhirl.gateway.options import GatewayOptions, is_loopback, open_without_credentials
from proxywhirl.gateway.protocol.connection import ClientConnection
from proxywhirl.net.connection import Connection
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.send_policy import SendPolicy

_log = logging.getLogger(__name__)

_BACKLOG = 1024
_EXHAUSTED_PAUSE = 0.5  # seconds without accepting when the system has no descriptor left
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_GRACE = 2.0  # seconds in which requests under way may end when the gateway closes


async def bind(host: str, port: int, *, loopback_only: bool) -> list[socket.socket]:
    """Bind and listen on every address of `host`, all on one port (a free one for 0).

    Raises:
        GatewayError: The host has no address, its port cannot be had, or, where `loopback_only`, it has an
            address that other machines can reach: a hosts file may make "localhost" anything.
    """
    loop = asyncio.get_running_loop()
    name = host.strip("[]") or None
    try:
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise GatewayError(f"the gateway cannot listen on {host!r}: it is no address of this machine") from exc
    if loopback_only and (exposed := [str(address[0]) for *_, address in found if not is_loopback(str(address[0]))]):
        raise GatewayError(open_without_credentials(f"{host} is {exposed[0]}, which"))
    listeners: list[socket.socket] = []
    refused: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            listeners.append(_listen(family, (address[0], port, *address[2:])))
        except OSError as exc:
            refused = exc
            # "localhost" may stand for an IPv6 address that this machine does not have.
            if exc.errno not in _NO_SUCH_FAMILY:
                break
        else:
            port = listeners[0].getsockname()[1]
            refused = None
    if refused is not None and (not listeners or refused.errno not in _NO_SUCH_FAMILY):
        for listener in listeners:
            listener.close()
        raise GatewayError(_explain(host, port, refused)) from refused
    return listeners


def _listen(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _explain(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another with --port, or --port 0 for a free one"
    if exc.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges: choose one above 1023 with --port"
    return f"the gateway cannot listen on {host}, port {port}: {os.strerror(exc.errno or 0)}"


class Gateway:
    """An HTTP/1.1 forward proxy whose every request leaves through a proxy of the pool.

    Use it as an async context manager, or `start` and `aclose` it once. Belongs to one event loop.

    Args:
        pool: Chooses the proxy for each request; may change while the gateway runs.
        options: Where to listen, for whom, and how long to wait.
        events: Gets `AttemptFailed` and `RequestFinished`.
        clock: Tells how much of a timeout has passed.
        conduct: How far requests are pursued, and how responses are judged; None for its defaults.
    """

    def __init__(
        self,
        pool: Pool,
        options: GatewayOptions,
        *,
        events: EventBus,
        clock: Clock = SYSTEM_CLOCK,
        conduct: SendPolicy | None = None,
    ) -> None:
        self._policy = conduct or SendPolicy()
        self._pool = pool
        self._options = options
        self._events = events
        self._clock = clock
        self._port = options.port
        self._sockets: list[socket.socket] = []
        self._addresses: set[tuple[object, ...]] = set()
        self._accepting = False
        self._closed = False
        self._clients: dict[asyncio.Task[None], Driver] = {}

    async def start(self) -> tuple[str, int]:
        """Listen, and return the address.

        Raises:
            GatewayError: The address cannot be had, or the gateway was started before.
        """
        if self._sockets:
            raise GatewayError("the gateway was started before: make another one")
        options = self._options
        self._sockets = await bind(options.host, options.port, loopback_only=options.credentials is None)
        self._addresses = {listener.getsockname()[:2] for listener in self._sockets}
        self._port = self._sockets[0].getsockname()[1]
        self._resume()
        return self.address

    @property
    def address(self) -> tuple[str, int]:
        """Where a started gateway listens: the host of the options and the port that was bound."""
        return self._options.host, self._port

    async def aclose(self) -> None:
        """Stop listening, give requests under way two seconds to end, then close every connection."""
        self._pause()
        self._closed = True
        for listener in self._sockets:
            listener.close()  # clients in the backlog are refused
        for task, client in self._clients.items():
            if client.idle:
                task.cancel()
            else:
                client.stop()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=_GRACE)
            for task in late:
                task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        # Transports that were aborted close their sockets in the loop's next turn.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _resume(self) -> None:
        """Accept connections, unless it is done already or the gateway is closed."""
        if not self._accepting and not self._closed:
            self._accepting = True
            for listener in self._sockets:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _pause(self) -> None:
        """Leave further connections in the backlog."""
        if self._accepting:
            self._accepting = False
            for listener in self._sockets:
                asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        # The last connection that was taken may have left no room for this one.
        if not self._accepting:
            return
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as exc:
            _log.warning("the gateway cannot accept a connection: %s", os.strerror(exc.errno or 0))
            self._pause()
            asyncio.get_running_loop().call_later(_EXHAUSTED_PAUSE, self._resume)
            return
        accepted.setblocking(False)
        driver = Driver(accepted, self._pool, self._events, tls=self._options.tls, leads_back=self._leads_back)
        steps = ClientConnection(self._options, self._clock, self._policy).steps()
        task = asyncio.create_task(driver.run(steps))
        self._clients[task] = driver
        task.add_done_callback(self._farewell)
        if len(self._clients) >= self._options.max_connections:
            self._pause()

    def _farewell(self, task: asyncio.Task[None]) -> None:
        self._clients.pop(task).drop()
        self._resume()

    def _leads_back(self, outgoing: Connection) -> bool:
        """Tell whether a connection that was made on this machine arrives here."""
        peer, local = outgoing.writer.get_extra_info("peername"), outgoing.writer.get_extra_info("sockname")
        if peer is None or local is None:  # lost already
            return False
        # An unspecified address stands for all of this machine's; it reaches its own from the very same one.
        everywhere = "::" if ":" in peer[0] else "0.0.0.0"  # noqa: S104 - compared, not bound
        is_here = peer[0] == local[0] or is_loopback(peer[0])
        return peer[:2] in self._addresses or (is_here and (everywhere, peer[1]) in self._addresses)
