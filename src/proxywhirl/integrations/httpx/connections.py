"""The connections behind the httpx2 transport: one set for each proxy identity, none shared.

httpcore2 speaks HTTP. `proxywhirl.net` dials every connection under it, so that all schemes of proxies work alike and
a failure names the party to blame. An http target behind an http or https proxy is asked for in absolute-form;
everything else goes through a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import httpcore2

from proxywhirl.errors import TargetUnreachable
from proxywhirl.models import Target
from proxywhirl.net.connection import Connection
from proxywhirl.net.dial import dial
from proxywhirl.urls import ProxyURL

_KEEPALIVE = 5.0  # seconds: many proxies close an idle connection soon after
_IDLE_CONNECTIONS = 20  # kept open for each identity
THE_PROXY = ""
"""The host of what a proxy is asked for in absolute-form. The dialer knows the proxy, and does the TLS of an https one:
what runs over its streams is plain http. No URL of a caller has this host."""


class ProxiedStream(httpcore2.AsyncNetworkStream):
    """A dialled connection as httpcore2 wants it."""

    def __init__(self, connection: Connection, proxy: str) -> None:
        self._connection = connection
        self._proxy = proxy

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - interface
        """Read what there is, up to `max_bytes`; b"" at the end."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connection.reader.read(max_bytes)
        except TimeoutError as exc:
            raise httpcore2.ReadTimeout from exc
        except OSError as exc:
            raise httpcore2.ReadError(str(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - interface
        """Send all of `buffer`."""
        try:
            async with asyncio.timeout(timeout):
                self._connection.writer.write(buffer)
                await self._connection.writer.drain()
        except TimeoutError as exc:
            raise httpcore2.WriteTimeout from exc
        except OSError as exc:
            raise httpcore2.WriteError(str(exc)) from exc

    async def aclose(self) -> None:
        """Close without a farewell: nothing more is needed of it, and a request must not wait."""
        self._connection.abort()
        with contextlib.suppress(OSError):  # how it was lost is of no interest any more
            await self._connection.writer.wait_closed()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - interface
    ) -> Self:
        """Begin TLS with the target.

        Raises:
            TargetUnreachable: It failed; another proxy may lead to the real target.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._connection.writer.start_tls(ssl_context, server_hostname=server_hostname)
        except OSError as exc:  # an SSLError and a TimeoutError are ones too
            self._connection.abort()
            raise TargetUnreachable(f"no TLS with {server_hostname} through {self._proxy}: {_why(exc)}") from exc
        except BaseException:
            self._connection.abort()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """Answer httpcore2, which drops an idle connection that `is_readable`."""
        if info == "is_readable":
            reader = self._connection.reader
            # The loop has already read what came, so the socket does not tell; the reader shows only its end.
            return reader.at_eof() or bool(reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._connection.writer.get_extra_info(names.get(info, info))


def _why(exc: OSError) -> str:
    match exc:
        case ssl.SSLCertVerificationError():
            return exc.verify_message
        case ssl.SSLError():
            return exc.reason or "the connection was cut"
        case TimeoutError():
            return "it took too long"
        case _:
            return "the connection was cut"


@dataclass(frozen=True, slots=True)
class Dialer(httpcore2.AsyncNetworkBackend):
    """Opens connections through one proxy, or to it where the host is `THE_PROXY`; `timeout` is in seconds."""

    endpoint: ProxyURL
    timeout: float
    tls: ssl.SSLContext | None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - interface
        local_address: str | None = None,  # noqa: ARG002 - interface
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002 - interface
    ) -> ProxiedStream:
        """Dial; `timeout` may shorten the one of the dialer, never lengthen it."""
        seconds = self.timeout if timeout is None else min(timeout, self.timeout)
        target = None if host == THE_PROXY else Target("http", host, port)  # a tunnel does not ask for the scheme
        connection = await dial(self.endpoint, target, timeout=seconds, tls=self.tls)
        return ProxiedStream(connection, self.endpoint.canonical)


class Identity:
    """The connections that belong to one proxy under one credential."""

    def __init__(self, key: str, endpoint: ProxyURL, dialer: Dialer, tls: ssl.SSLContext) -> None:
        self.key = key
        self.endpoint = endpoint
        self.users = 0
        self.pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE,
            network_backend=dialer,
        )

    def forwards(self, scheme: str) -> bool:
        """Tell whether the proxy sees requests of that scheme, and answers them, itself."""
        return scheme == "http" and self.endpoint.scheme in ("http", "https")


class Identities:
    """At most `limit` identities, the least recently used closed first, but none while it is in use."""

    def __init__(self, limit: int, *, timeout: float, tls: ssl.SSLContext, proxy_tls: ssl.SSLContext | None) -> None:
        self._limit = limit
        self._timeout = timeout
        self._tls = tls
        self._proxy_tls = proxy_tls
        self._known: OrderedDict[str, Identity] = OrderedDict()
        self._outdated: list[Identity] = []  # to be closed; nobody uses them

    def __len__(self) -> int:
        return len(self._known)

    def check_out(self, key: str, endpoint: ProxyURL, *, anew: bool = False) -> Identity:
        """Return the connections of a proxy: new ones where its credential has changed, or that is asked for.

        `key` is the proxy's, and may differ from the endpoint's: sessions of a vendor may differ in the password.
        """
        identity = self._known.get(key)
        if identity is None or anew or identity.endpoint != endpoint:
            if identity is not None and not identity.users:
                self._outdated.append(identity)
            identity = Identity(key, endpoint, Dialer(endpoint, self._timeout, self._proxy_tls), self._tls)
            self._known[key] = identity
        self._known.move_to_end(key)
        identity.users += 1
        return identity

    async def check_in(self, identity: Identity) -> None:
        """Give back what was checked out, and close what is outdated or too much."""
        identity.users -= 1
        if not identity.users and self._known.get(identity.key) is not identity:
            self._outdated.append(identity)
        self._evict()
        while self._outdated:
            await self._outdated.pop().pool.aclose()

    async def aclose(self) -> None:
        """Close everything, used or not."""
        while self._known or self._outdated:
            identity = self._outdated.pop() if self._outdated else self._known.popitem()[1]
            await identity.pool.aclose()

    def _evict(self) -> None:
        while len(self._known) > self._limit:
            idle = next((key for key, identity in self._known.items() if not identity.users), None)
            if idle is None:
                return
            self._outdated.append(self._known.pop(idle))
