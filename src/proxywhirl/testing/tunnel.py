"""The tunnel that a proxy of the fleet has opened: whole, cut short, or with the proxy as a man in its middle."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.net.relay import relay
from proxywhirl.testing.proxy import FORGED_PAGE, Fault
from proxywhirl.testing.server import CHUNK

_IDLE = 60.0  # seconds: longer than any test should wait
_VALID = dt.timedelta(days=1)
_TLS_HANDSHAKE = b"\x16"  # a record's type (RFC 8446 section 5.1)
_FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(FORGED_PAGE), FORGED_PAGE)


async def carry(client: Connection, target: Connection, fault: Fault, host: str) -> None:
    """Carry bytes to `host` and back until both sides have ended, as the fault demands.

    TRUNCATE lets half of the target's first answer through; FORGE answers what is asked first; INTERCEPT reads along.
    """
    match fault:
        case Fault.TRUNCATE:
            await _truncate(client, target)
        case Fault.FORGE:
            await client.reader.read(CHUNK)
            client.writer.write(_FORGED)
        case Fault.INTERCEPT:
            await _intercept(client, target, host)
        case _:
            await relay(client, target, idle_timeout=_IDLE)


async def _truncate(client: Connection, target: Connection) -> None:
    requests = asyncio.create_task(_copy(client, target))
    try:
        answer = await target.reader.read(CHUNK)
        client.writer.write(answer[: len(answer) // 2])
        await client.writer.drain()
    finally:
        requests.cancel()
        await asyncio.wait({requests})


async def _copy(source: Connection, sink: Connection) -> None:
    while data := await source.reader.read(CHUNK):
        sink.writer.write(data)
        await sink.writer.drain()


async def _intercept(client: Connection, target: Connection, host: str) -> None:
    first = await client.reader.read(CHUNK)
    if not first.startswith(_TLS_HANDSHAKE):
        target.writer.write(first)
        await relay(client, target, idle_timeout=_IDLE)
        return
    # Through a pair of sockets, since the client's connection may be TLS already, and has begun the inner one.
    near, far = socket.socketpair()
    tunnel = Connection(*await asyncio.open_connection(sock=near, limit=READ_LIMIT))
    tunnel.writer.write(first)
    async with asyncio.TaskGroup() as group:
        group.create_task(relay(client, tunnel, idle_timeout=_IDLE))
        group.create_task(_read_along(far, target, host))
    tunnel.abort()


async def _read_along(client: socket.socket, target: Connection, host: str) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError, EOFError):  # a client that sees through it breaks off
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=_own_certificate(host))
        inner = Connection(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        try:
            await target.writer.start_tls(trusting)
            await relay(inner, target, idle_timeout=_IDLE)
        finally:
            inner.abort()


@functools.lru_cache(maxsize=64)
def _own_certificate(host: str) -> ssl.SSLContext:
    """Make a server's context with a key of its own and a certificate for `host` that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Interception")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # a context takes a chain from files alone
        chain = Path(folder, "chain.pem")
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
        context.load_cert_chain(chain)
    return context
