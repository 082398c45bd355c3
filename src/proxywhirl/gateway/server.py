"""The gateway itself: a listening server that gives each client a session and a driver of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Self

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import GatewayError
from proxywhirl.events import EventBus
from proxywhirl.gateway.driver import Driver
from proxywhirl.gateway.listener import Listener, bind
from proxywhirl.gateway.options import GatewayOptions
from proxywhirl.gateway.protocol.connection import Session
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.send_policy import Conduct

_log = logging.getLogger(__name__)

_GRACE = 2.0  # seconds in which requests under way may end when the gateway closes


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
        conduct: Conduct | None = None,
    ) -> None:
        self._conduct = conduct or Conduct()
        self._pool = pool
        self._options = options
        self._events = events
        self._clock = clock
        self._port = options.port
        self._listener: Listener | None = None
        # A client is its bare socket until its driver has taken it over.
        self._clients: dict[asyncio.Task[None], socket.socket | Driver] = {}

    async def start(self) -> tuple[str, int]:
        """Listen, and return the address.

        Raises:
            GatewayError: The address cannot be had, or the gateway was started before.
        """
        if self._listener is not None:
            raise GatewayError("the gateway was started before: make another one")
        sockets = await bind(self._options.host, self._options.port, loopback_only=self._options.credentials is None)
        self._listener = Listener(sockets, self._welcome)
        self._listener.resume()
        self._port = sockets[0].getsockname()[1]
        return self.address

    @property
    def address(self) -> tuple[str, int]:
        """Where a started gateway listens: the host of the options and the port that was bound."""
        return self._options.host, self._port

    async def aclose(self) -> None:
        """Stop listening, give requests under way two seconds to end, then close every connection."""
        if self._listener is not None:
            self._listener.close()
        for task, client in self._clients.items():
            if isinstance(client, Driver) and not client.idle:
                client.stop()
            else:
                task.cancel()
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

    def _welcome(self, connection: socket.socket) -> None:
        task = asyncio.create_task(self._serve(connection))
        self._clients[task] = connection
        task.add_done_callback(self._farewell)
        if len(self._clients) >= self._options.max_connections and self._listener is not None:
            self._listener.pause()

    def _leads_back(self, outgoing: Connection) -> bool:
        return self._listener is not None and self._listener.is_other_end_of(outgoing)

    def _farewell(self, task: asyncio.Task[None]) -> None:
        client = self._clients.pop(task)
        if isinstance(client, socket.socket):
            client.close()
        if self._listener is not None:
            self._listener.resume()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=READ_LIMIT)
            driver = Driver(
                Connection(reader, writer),
                self._pool,
                self._events,
                tls=self._options.tls,
                leads_back=self._leads_back,
            )
            task = asyncio.current_task()
            if task is not None:
                self._clients[task] = driver
            session = Session(self._options.limits, self._clock, self._options.credentials, conduct=self._conduct)
            await driver.run(session.steps())
        except Exception:  # noqa: BLE001 - logged; a defect of ours must end one connection, not the gateway
            _log.exception("a client's connection ended in a defect")
