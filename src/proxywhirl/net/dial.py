"""Open a connection to a proxy, or through it to a target.

Rules: one deadline covers everything; whatever fails is an `UpstreamError` that names the redacted
proxy and blames the right party; no socket outlives a failed or cancelled attempt.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from proxywhirl.errors import ProxyFailed, UpstreamError
from proxywhirl.models import Target
from proxywhirl.net.connection import READ_LIMIT, Connection, drive
from proxywhirl.net.failures import FOREIGN, translated
from proxywhirl.net.handshakes import handshake_with
from proxywhirl.net.trust import default_tls
from proxywhirl.urls import ProxyURL

LAST_PORT = 65535


async def dial(
    endpoint: ProxyURL,
    target: Target | None,
    *,
    timeout: float,  # noqa: ASYNC109 - the deadline is the contract: its expiry is the proxy's failure
    tls: ssl.SSLContext | None = None,
    leads_back: Callable[[Connection], bool] | None = None,
) -> Connection:
    """Connect to a proxy and, where `target` is not None, have it open a tunnel there.

    Args:
        endpoint: The proxy with its credential.
        target: Where the tunnel ends; None for a connection to the proxy itself.
        timeout: Seconds for name lookup, TCP, TLS and handshake together.
        tls: For a proxy of the scheme https; None stands for the system's trusted authorities.
        leads_back: Tells that a fresh connection ends at the server on whose behalf it was made: a proxy
            that is this server would send each request round for ever.

    Raises:
        ProxyFailed: The proxy refused, timed out, or broke its protocol, or its address is none.
        AccountRefused: The proxy does not accept the credential, or asks for one, or cannot be sent this one.
        TargetUnreachable: The proxy answered that it cannot or will not reach the target.
        LocalFailure: This machine has no route, file descriptors, or name service left.
    """
    connected = False
    try:
        async with asyncio.timeout(timeout):
            handshake = None if target is None else await handshake_with(endpoint, target)
            connection = await _connect(endpoint, tls)
            connected = True
            try:
                _refuse_to_circle(connection, leads_back)
                if handshake is not None:
                    await drive(handshake, connection)
            except BaseException:  # a cancelled attempt must not leave its socket behind either
                connection.abort()
                raise
            return connection
    except UpstreamError as exc:
        raise exc.about(endpoint.canonical) from exc
    except FOREIGN as exc:
        failure = translated(exc, endpoint, timeout)
        failure.silent = connected and isinstance(exc, TimeoutError)
        raise failure from exc


def _refuse_to_circle(connection: Connection, leads_back: Callable[[Connection], bool] | None) -> None:
    if leads_back is not None and leads_back(connection):
        raise ProxyFailed("is this gateway itself: remove it from the pool")


async def _connect(endpoint: ProxyURL, tls: ssl.SSLContext | None) -> Connection:
    host = endpoint.host.strip("[]")
    if not 0 <= endpoint.port <= LAST_PORT:
        raise OverflowError  # as connecting does to an address; with a name, the system takes another port for it
    context = (tls or default_tls()) if endpoint.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        host,
        endpoint.port,
        ssl=context,
        server_hostname=host if context else None,
        limit=READ_LIMIT,
        **_racing(endpoint.host),
    )
    return Connection(reader, writer)


def _racing(host: str) -> dict[str, float]:
    """Race the addresses of a name (RFC 8305); a literal has one, and uvloop does not know the option."""
    is_literal = host.startswith("[") or host.replace(".", "").isdigit()
    stock_loop = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    return {"happy_eyeballs_delay": 0.25} if stock_loop and not is_literal else {}
