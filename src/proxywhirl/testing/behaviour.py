"""How one proxy of the fleet is to behave now, and what it has seen: what all its connections share."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from proxywhirl.models import Anonymity
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.testing.exits import Exits
from proxywhirl.testing.faults import Fault, obstructed

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """A request as it reached a proxy of the fleet.

    `method` is the HTTP method, or SOCKS4 or SOCKS5; `target` the URL or `host:port` asked for ("" where
    the client was refused before it said so). `authorized` is None where no credential was offered.
    `headers` may hold one, so no repr shows them.
    """

    method: str
    target: str
    authorized: bool | None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RememberedAnswer:
    """What `Fault.STALE` answers again."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(slots=True, eq=False)
class Behaviour:
    """The state that a test may change at any time; it holds for requests that begin from then on."""

    name: str
    scheme: str
    username: str | None
    password: str | None = field(repr=False)
    exits: Exits
    fault: Fault
    delay: float
    forbidden: str
    anonymity: Anonymity
    exit_host: str
    remembered: dict[str, RememberedAnswer] = field(default_factory=dict)
    requests: deque[ProxiedRequest] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def needs_credential(self) -> bool:
        """Whether clients must log in."""
        return self.username is not None or self.fault is Fault.AUTH_REQUIRED

    def admits(self, username: str | None, password: str | None) -> bool:
        """Judge what a client offered (None: nothing)."""
        if self.fault is Fault.AUTH_REQUIRED or (self.fault is Fault.WRONG_CREDENTIALS and username is not None):
            return False
        return self.username is None or (username, password or "") == (self.username, self.password or "")

    def forbids(self, host: str) -> bool:
        """Whether the fault FORBID_DOMAIN is set for this host."""
        return self.fault is Fault.FORBID_DOMAIN and host == self.forbidden

    async def obstructs(self, connection: Connection) -> bool:
        """Act as the fault demands; True when the request is not to be answered any more."""
        return await obstructed(self.fault, self.delay, connection)

    @contextlib.asynccontextmanager
    async def reach(self, host: str, port: int) -> AsyncIterator[Connection]:
        """Connect to a target for the length of a block, noted as coming from this proxy.

        Raises:
            OSError: The target cannot be reached.
        """
        here = (self.exit_host, 0) if self.exit_host else None
        streams = await asyncio.open_connection(_on_this_machine(host), port, limit=READ_LIMIT, local_addr=here)
        outgoing = Connection(*streams)
        with self.exits.noted(outgoing, self.name):
            try:
                yield outgoing
            except BaseException:
                outgoing.abort()
                raise
            await outgoing.aclose()


def _on_this_machine(host: str) -> str:
    """Take every name for this machine, and refuse every other machine: the fleet needs no internet."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return "127.0.0.1"
    if not address.is_loopback:
        raise ConnectionRefusedError(f"the fleet stays on this machine, and {host} is not on it")
    return host
