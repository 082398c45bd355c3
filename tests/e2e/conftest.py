"""A gateway in front of a fleet of proxies in front of an origin, all real and all on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from proxywhirl.events import AttemptFailed, Event, EventBus, RequestFinished
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.net.connection import Connection
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing import Fleet, FleetSpec, Origin


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and contexts for servers that it vouches for and clients that trust it."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    file: Path


@dataclass
class Lab:
    """What a test can reach of the running whole."""

    fleet: Fleet
    origin: Origin
    gateway: Gateway
    pool: Pool
    port: int
    trust: ssl.SSLContext
    events: list[Event] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The gateway's address, for a client to use as its proxy."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, proxy: str | httpx2.Proxy | None = None) -> httpx2.AsyncClient:
        """Make a client that goes through the gateway."""
        return httpx2.AsyncClient(proxy=proxy or self.url, verify=self.trust, trust_env=False, timeout=300)

    async def connect(self) -> Connection:
        """Open a bare connection to the gateway."""
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))

    @property
    def failed(self) -> list[AttemptFailed]:
        """The failed attempts so far."""
        return [event for event in self.events if isinstance(event, AttemptFailed)]

    @property
    def finished(self) -> list[RequestFinished]:
        """The finished requests so far."""
        return [event for event in self.events if isinstance(event, RequestFinished)]


LabFactory = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority for 127.0.0.1 and localhost."""
    root = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    root.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    root.configure_trust(client)
    file = tmp_path_factory.mktemp("authority") / "root.pem"
    root.cert_pem.write_to_path(str(file))
    return Authority(server, client, file)


@pytest.fixture
def lab(authority: Authority) -> LabFactory:
    """Give a context manager that runs the whole; at its end no task is left."""

    @contextlib.asynccontextmanager
    async def run(
        specs: Iterable[FleetSpec] = (FleetSpec(),), *, https: bool = False, **options: Any
    ) -> AsyncIterator[Lab]:
        before = asyncio.all_tasks()
        events = EventBus()
        async with (
            asyncio.timeout(600),
            Fleet.start(specs, tls=authority.server) as fleet,
            Origin.start(fleet.exits, tls=authority.server if https else None) as origin,
        ):
            pool = Pool.of(fleet.urls(), "round_robin")
            settings: dict[str, Any] = {"port": 0, "tls": authority.client, **options}
            gateway = Gateway(pool, GatewayOptions(**settings), events=events)
            _, port = await gateway.start()
            running = Lab(fleet, origin, gateway, pool, port, authority.client)
            events.subscribe(running.events.append)
            try:
                yield running
            finally:
                await gateway.aclose()
        assert asyncio.all_tasks() == before

    return run


@dataclass(frozen=True)
class Asked:
    """A request as it reached the list server, its header names in lower case."""

    path: str
    headers: dict[str, str]


Answer = Callable[[socket.socket, Asked], None]


class ListServer:
    """A web server that answers each path with whatever bytes a test likes, and then closes the connection."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.pages: dict[str, bytes | Answer] = {}
        self.requests: list[Asked] = []
        self.stopping = threading.Event()
        self._socket = socket.create_server((host, 0))
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def url(self, path: str = "/", host: str = "") -> str:
        """Return the URL of a path, with the host spelled in another way if need be."""
        return f"http://{host or self.host}:{self._socket.getsockname()[1]}{path}"

    def put(self, path: str, body: str | bytes, status: str = "200 OK", **headers: str) -> str:
        """Serve an ordinary answer under a path, and return its URL."""
        content = body.encode() if isinstance(body, str) else body
        named = {"Content-Length": str(len(content)), **{name.replace("_", "-"): headers[name] for name in headers}}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.pages[path] = f"HTTP/1.1 {status}\r\nConnection: close\r\n{head}\r\n".encode() + content
        return self.url(path)

    def serve(self, path: str, answer: bytes | Answer) -> str:
        """Serve raw bytes, or what a function sends, under a path; return its URL."""
        self.pages[path] = answer
        return self.url(path)

    def asked(self, path: str) -> list[Asked]:
        """Return the requests for a path."""
        return [request for request in self.requests if request.path == path]

    def close(self) -> None:
        """Stop, and wait for what is being answered."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            line, *fields = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
            pairs = (field.split(": ", 1) for field in fields)
            asked = Asked(line.split()[1], {name.lower(): value for name, value in pairs})
            self.requests.append(asked)
            answer = self.pages.get(asked.path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            if callable(answer):
                answer(connection, asked)
            else:
                connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)


@pytest.fixture
def lists() -> Iterator[ListServer]:
    """Run a list server."""
    server = ListServer()
    yield server
    server.close()


@pytest.fixture
def outside() -> Iterator[ListServer]:
    """Run a list server on another loopback address, which a test may declare to be public."""
    server = ListServer("127.0.0.2")
    yield server
    server.close()
