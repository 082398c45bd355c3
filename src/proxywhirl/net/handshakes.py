"""Which handshake asks a proxy for a tunnel.

Names: the target's name always goes to the proxy, which resolves it, except with the scheme socks4,
whose protocol has only IPv4 addresses: there it is resolved on this machine first.
"""

from __future__ import annotations

import asyncio
import socket

from proxywhirl.errors import TargetUnreachable
from proxywhirl.models import Target
from proxywhirl.urls import ProxyURL
from proxywhirl.wire import http, socks4, socks5
from proxywhirl.wire.steps import Handshake


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
