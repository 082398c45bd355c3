"""The SOCKS proxies of the fleet, on the server sides of `proxywhirl.wire`."""

from __future__ import annotations

from proxywhirl.errors import AccountRefused
from proxywhirl.net.connection import Connection, drive
from proxywhirl.testing.behaviour import Behaviour, ProxiedRequest
from proxywhirl.testing.faults import Fault
from proxywhirl.testing.tunnel import carry
from proxywhirl.wire import socks4, socks5
from proxywhirl.wire.steps import Requested


async def serve(behaviour: Behaviour, connection: Connection) -> None:
    """Serve the one request of a client connection."""
    fault = behaviour.fault
    if fault is Fault.RESET:
        await connection.reader.read(1)
    if await behaviour.obstructs(connection):
        return
    is_socks5 = behaviour.scheme.startswith("socks5")
    requested = await _accept(behaviour, connection, is_socks5=is_socks5)
    granted, forbidden, failed = _REPLIES[is_socks5]
    if behaviour.forbids(requested.host):
        connection.writer.write(forbidden)
        return
    if fault is Fault.BAD_GATEWAY:
        connection.writer.write(failed)
        return
    is_open = False
    try:
        async with behaviour.reach(requested.host, requested.port) as target:
            connection.writer.write(granted)
            is_open = True
            await carry(connection, target, fault, requested.host)
    except OSError:
        if is_open:
            raise
        connection.writer.write(failed)


async def _accept(behaviour: Behaviour, connection: Connection, *, is_socks5: bool) -> Requested:
    method = "SOCKS5" if is_socks5 else "SOCKS4"
    offered = False

    def verify(username: str | None, password: str | None) -> bool:
        nonlocal offered
        offered = username is not None
        # SOCKS4 carries no password: the user id alone decides.
        return behaviour.admits(username, password if is_socks5 else behaviour.password)

    handshake = (
        socks5.accept(verify, needs_credential=behaviour.needs_credential) if is_socks5 else socks4.accept(verify)
    )
    try:
        requested = await drive(handshake, connection)
    except AccountRefused:
        behaviour.requests.append(ProxiedRequest(method, "", False if offered else None))
        raise
    host = f"[{requested.host}]" if ":" in requested.host else requested.host
    behaviour.requests.append(ProxiedRequest(method, f"{host}:{requested.port}", True if offered else None))
    return requested


_REPLIES = {
    True: (
        socks5.reply(socks5.Reply.SUCCEEDED),
        socks5.reply(socks5.Reply.NOT_ALLOWED),
        socks5.reply(socks5.Reply.HOST_UNREACHABLE),
    ),
    False: (socks4.reply(socks4.GRANTED), socks4.reply(socks4.REJECTED), socks4.reply(socks4.REJECTED)),
}
