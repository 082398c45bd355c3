"""The judge: a small web server that tells each asker how its request arrived, so that no third party is needed.

Rules: it says only what the asker sent and where from, no secret among it (`wire.judge`), and keeps and logs nothing of
it; each connection has one request, one answer and a few seconds; what is over the limits is cut off.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from pathlib import Path
from typing import Self

import h11

from proxywhirl.errors import SettingsError
from proxywhirl.wire.judge import answer

PORT, HTTPS_PORT = 8898, 8443
MAX_CONNECTIONS = 4096

_HEAD_LIMIT = 16 * 1024  # bytes of a request
_BACKLOG = 4096
_HEADERS = [
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
]


class JudgeServer:
    """Serves a judge, as an async context manager. Belongs to one event loop.

    Args:
        host: The address to listen on, or a name that has some.
        port: For http://; 0 for a free one.
        tls: Serve https:// too, with this context.
        https_port: For https://; 0 for a free one.
        patience: Seconds for TLS, and for a request and its answer.
        max_connections: Who connects beyond it is cut off at once.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        tls: ssl.SSLContext | None = None,
        https_port: int = HTTPS_PORT,
        patience: float = 10.0,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._host = host.strip("[]")
        self._port = port
        self._tls = tls
        self._https_port = https_port
        self._patience = patience
        self._max_connections = max_connections
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Transport] = set()
        self.urls: list[str] = []

    async def __aenter__(self) -> Self:
        """Listen; `urls` tells where from then on, http:// first.

        Raises:
            SettingsError: An address cannot be had.
        """
        try:
            await self._listen("http", self._port, None)
            if self._tls is not None:
                await self._listen("https", self._https_port, self._tls)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop listening and cut off who is there."""
        for server in self._servers:
            server.close()
        for client in tuple(self._clients):
            client.abort()
        for server in self._servers:
            await server.wait_closed()
        await asyncio.sleep(0)  # transports that were aborted close their sockets in the loop's next turn

    async def _listen(self, scheme: str, port: int, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        if not self._host:  # to the system that means every address
            raise SettingsError("the judge cannot listen without an address: name one, such as 127.0.0.1")
        try:
            server = await loop.create_server(
                lambda: _JudgeConnection(self._clients, self._patience, self._max_connections),
                self._host,
                port,
                ssl=tls,
                ssl_handshake_timeout=self._patience if tls else None,
                ssl_shutdown_timeout=1.0 if tls else None,
                backlog=_BACKLOG,
            )
        except (OSError, UnicodeError) as exc:
            raise SettingsError(f"the judge cannot listen on {self._host}, port {port}: {_reason(exc)}") from exc
        self._servers.append(server)
        bound = server.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.urls.append(f"{scheme}://{host}:{bound}/")


def server_tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a server's context with a certificate (its chain after it) and its key, in PEM; both may be in one file.

    Raises:
        SettingsError: A file cannot be read, they do not belong together, or the key is encrypted.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = str(certificate) if key is None else f"{certificate} and {key}"
    try:
        # Without a password of its own OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as exc:
        words = "no certificate with the private key that belongs to it, not encrypted, in PEM"
        raise SettingsError(f"{files}: {words}") from exc
    except OSError as exc:
        raise SettingsError(f"{files} cannot be read: {exc.strerror}") from exc
    return context


def _reason(exc: OSError | UnicodeError) -> str:
    code = exc.errno if isinstance(exc, OSError) else None
    match code:
        case errno.EADDRINUSE:
            return "it is in use; choose another port, or 0 for a free one"
        case errno.EACCES:
            return "that needs privileges; choose a port above 1023"
        case int() if code > 0:
            return os.strerror(code)
        case _:
            return "it is no address of this machine"


class _JudgeConnection(asyncio.Protocol):
    """One connection: a request's head, an answer, the end."""

    __slots__ = ("_clients", "_end", "_max_connections", "_patience", "_protocol", "_transport")

    def __init__(self, clients: set[asyncio.Transport], patience: float, max_connections: int) -> None:
        self._clients = clients
        self._patience = patience
        self._max_connections = max_connections
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        self._transport: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a judge listens on streams")
        if len(self._clients) >= self._max_connections:
            transport.abort()
            return
        self._transport = transport
        self._clients.add(transport)
        self._end = asyncio.get_running_loop().call_later(self._patience, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio passes it
        if self._end is not None:
            self._end.cancel()
        if self._transport is not None:
            self._clients.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # only one request is answered
        try:
            self._protocol.receive_data(data)
            event = self._protocol.next_event()
            if isinstance(event, h11.Request):
                self._answer(self._transport, event)
        except h11.RemoteProtocolError as exc:
            self._refuse(self._transport, exc.error_status_hint)

    def _answer(self, transport: asyncio.Transport, request: h11.Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            self._refuse(transport, 405)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw_items()]
        body = answer(headers, transport.get_extra_info("peername")[0].partition("%")[0])
        self._send(transport, 200, b"" if request.method == b"HEAD" else body, len(body))

    def _refuse(self, transport: asyncio.Transport, status: int) -> None:
        if self._protocol.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(transport, status, b"", 0)
        else:
            transport.abort()

    def _send(self, transport: asyncio.Transport, status: int, body: bytes, length: int) -> None:
        head = h11.Response(status_code=status, headers=[*_HEADERS, ("Content-Length", str(length))])
        events = (head, h11.Data(body), h11.EndOfMessage())
        transport.write(b"".join(self._protocol.send(event) or b"" for event in events))
        transport.close()
