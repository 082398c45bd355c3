"""One proxy of a fleet: its specification, its fault, and the requests that it has seen.

The servers (`http_proxy`, `socks_proxy`, `tunnel`) speak the protocols and ask the `FleetProxy` what to do:

- A test changes `fault`, `delay` and `forbidden` at any time; requests that begin from then on go by them.
- Every host name means this machine, and every other machine is refused: a fleet needs no internet.
- All proxies leave from the same IP address. Each notes the two ends of a connection to a target before it lets a byte
  flow, and the origin at the other end looks them up (`Exits`). This works inside TLS and SOCKS too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from proxywhirl.models import Anonymity
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.testing.server import LoopbackServer
from proxywhirl.urls import SCHEMES, ProxyURL

REMEMBERED = 10_000
FORGED_PAGE = b"<html><body>Welcome! This page comes from the proxy.</body></html>\n"
_GARBAGE = b"\x00\xff\xfe\x01 this is neither HTTP nor SOCKS \x80\x81\r\n\r\n" * 4


class Fault(Enum):
    """A way to fail. It concerns the requests that begin while it is set."""

    NONE = "none"
    REFUSE = "refuse"  # the port refuses connections; a request on an open one gets it closed
    HANG = "hang"  # a connection is accepted and a request never answered
    SLOW = "slow"  # every request waits for the proxy's `delay` first
    RESET = "reset"  # the connection is reset (RST) when the request has been read
    AUTH_REQUIRED = "auth-required"  # every request is refused for its credential, or the lack of one
    WRONG_CREDENTIALS = "wrong-credentials"  # even the right credential is refused
    TRUNCATE = "truncate"  # half of the declared body, or of a tunnel's first answer, then the end
    GARBAGE = "garbage"  # the answer is no protocol's
    FORBID_DOMAIN = "forbid-domain"  # 403, or its like in SOCKS, for the proxy's `forbidden` host
    BAD_GATEWAY = "bad-gateway"  # 502, or its like in SOCKS, at once and whatever is asked for
    INTERCEPT = "intercept"  # TLS in a tunnel ends at the proxy, which shows a certificate of its own and reads all
    FORGE = "forge"  # 200 and a page of the proxy's own, in the target's place
    STALE = "stale"  # a URL asked for before gets the answer that it had then (HTTP proxies, outside tunnels)


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What a proxy of a fleet is to be.

    Args:
        scheme: http, https (needs the fleet's `tls`), socks4, socks4a, socks5 or socks5h.
        username: Ask clients for this username.
        password: And for this password; SOCKS4 has none.
        name: What the origin calls it; by default the scheme and the place in the fleet (`http-0`).
        fault: How it fails from the start.
        delay: Seconds that `Fault.SLOW` waits.
        forbidden: The host that `Fault.FORBID_DOMAIN` refuses.
        host: The loopback address to listen on.
        anonymity: What an HTTP proxy adds to a request outside tunnels: nothing (elite), Via (anonymous), or Via and
            X-Forwarded-For with the client's address (transparent).
        exit_host: The loopback address to leave from, such as 127.0.0.2; by default the system's choice.

    Raises:
        ValueError: The scheme is unknown, or there is a password without a username.
    """

    scheme: str = "http"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str = ""
    fault: Fault = Fault.NONE
    delay: float = 1.0
    forbidden: str = "forbidden.example"
    host: str = "127.0.0.1"
    anonymity: Anonymity = "elite"
    exit_host: str = ""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {self.scheme!r}; known: {', '.join(SCHEMES)}")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")


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


class Exits:
    """The open connections that the proxies of a fleet have made to targets, by their two ends."""

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


class FleetProxy:
    """A running proxy. Every member may be used from any thread and takes effect at once.

    `requests` holds the last 10,000 requests that reached it, oldest first. `delay` is in seconds, for `Fault.SLOW`;
    `forbidden` is the host that `Fault.FORBID_DOMAIN` refuses. Its server alone calls what is below `aclose`.
    """

    def __init__(
        self,
        spec: FleetSpec,
        name: str,
        exits: Exits,
        serve: Callable[[FleetProxy, Connection], Awaitable[None]],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.delay = spec.delay
        self.forbidden = spec.forbidden
        self.requests: deque[ProxiedRequest] = deque(maxlen=REMEMBERED)
        self.remembered: dict[str, RememberedAnswer] = {}
        self._exits = exits
        self._server = LoopbackServer(partial(serve, self), host=spec.host, tls=tls if spec.scheme == "https" else None)
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        self.url = ProxyURL(spec.scheme, host, self._server.port, spec.username, spec.password)
        self._loop = asyncio.get_running_loop()
        self._fault, self._alive = spec.fault, True
        self._set(self._fault, alive=True)

    def __repr__(self) -> str:
        """Return name, address and fault, never the credential."""
        return f"<FleetProxy {self.name} {self.url.canonical} {self.fault.value}>"

    @property
    def fault(self) -> Fault:
        """How it fails now; set it at any time. It concerns requests that begin from then on."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._in_loop(lambda: self._set(fault, alive=self._alive))

    def kill(self) -> None:
        """Refuse connections and break all that are open, as if its process had died."""
        self._in_loop(lambda: self._set(self._fault, alive=False))

    def revive(self) -> None:
        """Take connections again, on the same port, with the fault that is set."""
        self._in_loop(lambda: self._set(self._fault, alive=True))

    async def aclose(self) -> None:
        """Kill it for good and give up its port; the fleet does this."""
        await self._server.aclose()

    def _in_loop(self, action: Callable[[], None]) -> None:
        """Act in the fleet's loop, and wait for it where another thread asks."""
        try:
            is_inside = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # no loop runs in this thread
            is_inside = False
        if is_inside:
            action()
        else:
            asyncio.run_coroutine_threadsafe(_as_coroutine(action), self._loop).result(timeout=10)

    def _set(self, fault: Fault, *, alive: bool) -> None:
        self._fault, self._alive = fault, alive
        if alive and fault is not Fault.REFUSE:
            self._server.open()
        else:
            self._server.shut()
        if not alive:
            self._server.drop()

    @property
    def needs_credential(self) -> bool:
        """Whether clients must log in."""
        return self.spec.username is not None or self.fault is Fault.AUTH_REQUIRED

    def admits(self, username: str | None, password: str | None) -> bool:
        """Judge what a client offered (None: nothing)."""
        if self.fault is Fault.AUTH_REQUIRED or (self.fault is Fault.WRONG_CREDENTIALS and username is not None):
            return False
        spec = self.spec
        return spec.username is None or (username, password or "") == (spec.username, spec.password or "")

    def forbids(self, host: str) -> bool:
        """Whether the fault FORBID_DOMAIN is set for this host."""
        return self.fault is Fault.FORBID_DOMAIN and host == self.forbidden

    async def obstructs(self, client: Connection) -> bool:
        """Act on a request as the fault demands; True when it is not to be answered any more."""
        match self.fault:
            case Fault.SLOW:
                await asyncio.sleep(self.delay)
                return False
            case Fault.HANG:
                while await client.reader.read(65536):
                    continue
            case Fault.RESET:
                client.reset()
            case Fault.GARBAGE:
                client.writer.write(_GARBAGE)
            case Fault.REFUSE:
                client.abort()
            case _:
                return False
        return True

    @contextlib.asynccontextmanager
    async def reach(self, host: str, port: int) -> AsyncIterator[Connection]:
        """Connect to a target for the length of a block, noted as coming from this proxy.

        Raises:
            OSError: The target cannot be reached.
        """
        here = (self.spec.exit_host, 0) if self.spec.exit_host else None
        streams = await asyncio.open_connection(_on_this_machine(host), port, limit=READ_LIMIT, local_addr=here)
        outgoing = Connection(*streams)
        with self._exits.noted(outgoing, self.name):
            try:
                yield outgoing
            except BaseException:
                outgoing.abort()
                raise
            await outgoing.aclose()


async def _as_coroutine(action: Callable[[], None]) -> None:
    action()


def _on_this_machine(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return "127.0.0.1"
    if not address.is_loopback:
        raise ConnectionRefusedError(f"the fleet stays on this machine, and {host} is not on it")
    return host
