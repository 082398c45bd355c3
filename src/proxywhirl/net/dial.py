"""Open a connection to a proxy, or through it to a target, and tell who is to blame where that fails.

One deadline covers name lookup, TCP, TLS and handshake. The target's name goes to the proxy, which resolves it. The
scheme socks4 alone has only IPv4 addresses: there the name is resolved on this machine first.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from proxywhirl.errors import LocalFailure, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.models import Target
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.urls import ProxyURL
from proxywhirl.wire import http, socks4, socks5
from proxywhirl.wire.steps import Handshake

_LAST_PORT = 65535

FOREIGN = (OSError, EOFError, asyncio.LimitOverrunError, ValueError, OverflowError)
"""All that connecting to a proxy and speaking to it raises: the last two where its address is none."""

# What this machine lacks, whatever proxy is dialled: descriptors, memory, ports, a route, permission.
_OURS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EAFNOSUPPORT,
        errno.EACCES,
        errno.EPERM,
    }
)


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
        timeout: Seconds for all of it.
        tls: For a proxy of the scheme https; None stands for the system's trusted authorities.
        leads_back: Tells that a fresh connection ends at the server on whose behalf it was made: a proxy
            that is this server would send each request round for ever.

    Raises:
        ProxyFailed: The proxy refused, timed out, or broke its protocol, or its address is none.
        AccountRefused: The proxy does not accept the credential, or asks for one, or cannot be sent this one.
        TargetUnreachable: The proxy cannot or will not reach the target.
        LocalFailure: This machine has no route, file descriptors, or name service left.
    """
    connected = False
    try:
        async with asyncio.timeout(timeout):
            handshake = None if target is None else await handshake_with(endpoint, target)
            connection = Connection(*await _opened(endpoint, tls))
            connected = True
            if leads_back is not None and leads_back(connection):
                connection.abort()
                raise ProxyFailed("is this gateway itself: remove it from the pool")
            try:
                if handshake is not None:
                    await connection.drive(handshake)
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


def _opened(
    endpoint: ProxyURL, tls: ssl.SSLContext | None
) -> Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host = endpoint.host.strip("[]")
    if not 0 <= endpoint.port <= _LAST_PORT:
        raise OverflowError  # as connecting does to an address; with a name, the system takes another port for it
    context = (tls or default_tls()) if endpoint.scheme == "https" else None
    # The addresses of a name race (RFC 8305). A literal has one, and uvloop does not know the option.
    is_literal = endpoint.host.startswith("[") or host.replace(".", "").isdigit()
    stock_loop = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    racing = {"happy_eyeballs_delay": 0.25} if stock_loop and not is_literal else {}
    return asyncio.open_connection(
        host, endpoint.port, ssl=context, server_hostname=host if context else None, limit=READ_LIMIT, **racing
    )


@functools.cache
def default_tls() -> ssl.SSLContext:
    """Return a client's context with the system's authorities, loaded once: it costs tens of milliseconds."""
    return ssl.create_default_context()


async def handshake_with(endpoint: ProxyURL, target: Target) -> Handshake[None]:
    """Return the handshake that has `endpoint` open a tunnel to `target`, with the endpoint's own credential.

    Raises:
        TargetUnreachable: The scheme is socks4, and the target has no IPv4 address that this machine can find.
    """
    match endpoint.scheme:
        case "http" | "https":
            return http.connect(target.authority, endpoint.username, endpoint.password)
        case "socks5" | "socks5h":
            return socks5.connect(target.host, target.port, endpoint.username, endpoint.password)
        case "socks4":
            return socks4.connect(await _ipv4(target), target.port, endpoint.username)
        case _:
            return socks4.connect(target.host, target.port, endpoint.username)


async def _ipv4(target: Target) -> str:
    """Find the IPv4 address of a target here, since socks4 cannot carry its name."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (socket.gaierror, ValueError, OverflowError) as exc:
        raise TargetUnreachable(
            f"needs an IPv4 address (socks4) and {target.host} has none that this machine can find"
        ) from exc
    return str(found[0][4][0])


def translated(
    exc: OSError | EOFError | asyncio.LimitOverrunError | ValueError | OverflowError, proxy: ProxyURL, timeout: float
) -> UpstreamError:
    """Return the error to raise `from exc`, one of `FOREIGN`; `timeout` is how many seconds were allowed."""
    error: type[UpstreamError] = ProxyFailed
    match exc:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            error, words = LocalFailure, "could not be looked up: this machine's name service does not answer"
        case socket.gaierror() | UnicodeError():
            words = "has no address: its name cannot be resolved"
        case ssl.SSLError():
            words = _tls_words(exc)
        case TimeoutError():
            words = f"did not answer within {timeout:g} s"
        case OSError(errno=code) if code in _OURS and not _is_nowhere(proxy.host):
            error, words = LocalFailure, f"could not be dialled from this machine: {os.strerror(code)}"
        case OSError(errno=code):  # asyncio joins the failures of several addresses into one without a number
            words = f"could not be connected to: {os.strerror(code) if code else 'none of its addresses answers'}"
        case OverflowError():
            words = "has no port that exists: they go from 1 to 65535"
        case ValueError():
            words = "has an address that cannot be dialled"
        case EOFError():
            words = "closed the connection during the handshake"
        case _:
            words = "answered more than a handshake may hold"
    return error(f"{proxy.canonical} {words}")


def _is_nowhere(host: str) -> bool:
    """Whether it is an address of many, or of none, to which no machine has a route."""
    with suppress(ValueError):
        address = ip_address(host.strip("[]"))
        return address.is_multicast or address.is_reserved
    return False


def _tls_words(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted: {exc.verify_message}"
    return f"failed in TLS: {exc.reason or 'the connection was cut'}"
