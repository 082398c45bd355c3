"""The SOCKS proxies of the fleet, on the server sides of `proxywhirl.wire`."""

from __future__ import annotations

from proxywhirl.errors import AccountRefused
from proxywhirl.net.connection import Connection
from proxywhirl.testing.proxy import Fault, FleetProxy, ProxiedRequest
from proxywhirl.testing.tunnel import carry
from proxywhirl.wire import socks4, socks5
from proxywhirl.wire.steps import Requested


async def serve(proxy: FleetProxy, connection: Connection) -> None:
    """Serve the one request of a client connection."""
    fault = proxy.fault
    if fault is Fault.RESET:
        await connection.reader.read(1)
    if await proxy.obstructs(connection):
        return
    is_socks5 = proxy.spec.scheme.startswith("socks5")
    requested = await _accept(proxy, connection, is_socks5=is_socks5)
    granted, forbidden, failed = _REPLIES[is_socks5]
    if proxy.forbids(requested.host):
        connection.writer.write(forbidden)
        return
    if fault is Fault.BAD_GATEWAY:
        connection.writer.write(failed)
        return
    is_open = False
    try:
        async with proxy.reach(requested.host, requested.port) as target:
            connection.writer.write(granted)
            is_open = True
            await carry(connection, target, fault, requested.host)
    except OSError:
        if is_open:
            raise
        connection.writer.write(failed)


async def _accept(proxy: FleetProxy, connection: Connection, *, is_socks5: bool) -> Requested:
    method = "SOCKS5" if is_socks5 else "SOCKS4"
    offered = False

    def verify(username: str | None, password: str | None) -> bool:
        nonlocal offered
        offered = username is not None
        # SOCKS4 carries no password: the user id alone decides.
        return proxy.admits(username, password if is_socks5 else proxy.spec.password)

    handshake = socks5.accept(verify, needs_credential=proxy.needs_credential) if is_socks5 else socks4.accept(verify)
    try:
        requested = await connection.drive(handshake)
    except AccountRefused:
        proxy.requests.append(ProxiedRequest(method, "", False if offered else None))
        raise
    host = f"[{requested.host}]" if ":" in requested.host else requested.host
    proxy.requests.append(ProxiedRequest(method, f"{host}:{requested.port}", True if offered else None))
    return requested


_REPLIES = {
    True: (
        socks5.reply(socks5.Reply.SUCCEEDED),
        socks5.reply(socks5.Reply.NOT_ALLOWED),
        socks5.reply(socks5.Reply.HOST_UNREACHABLE),
    ),
    False: (socks4.reply(socks4.GRANTED), socks4.reply(socks4.REJECTED), socks4.reply(socks4.REJECTED)),
}
