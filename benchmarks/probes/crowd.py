"""A crowd of proxies in a process of its own: some answer, some refuse, some swallow everything.

Who answers does what a proxy and the judge behind it do together, at the least cost, so that the machine's processors
are left to what is measured. Each has a loopback address of its own. One half of the black holes never answers a
connection, the other half not even the request for one. The process prints where they are, as JSON, and ends with its
stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
from collections.abc import Iterator

from proxywhirl.net.capacity import make_room
from proxywhirl.wire.judge import answer

BACKLOG = 4096
MOST_CONNECTIONS = 4096
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
TEMPLATE = answer([("Host", "127.0.0.1:8898"), ("Accept", "application/json"), ("Probe-Nonce", "NONCE")], "127.0.0.1")


def address(network: int, number: int) -> str:
    """Return the loopback address of a number in a network of 65,536."""
    return f"127.{network}.{number >> 8}.{number & 255}"


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """Listen on an address; 0 is a free port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(backlog)
    listener.setblocking(False)
    return listener


class Answering(asyncio.Protocol):
    """A proxy, and the judge that it is asked for."""

    def __init__(self) -> None:
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a whole head."""
        self.received += data
        if self.transport is None or b"\r\n\r\n" not in self.received:
            return
        nonce = self.received.partition(b"Probe-Nonce: ")[2].partition(b"\r\n")[0]
        body = TEMPLATE.replace(b"NONCE", nonce)
        self.transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (HEAD, len(body), body))
        self.transport.close()


def full_backlog() -> Iterator[socket.socket]:
    """Yield a listener that drops each request for a connection, and what keeps it full."""
    listener = listening("127.3.0.1", 0, 0)
    yield listener
    for _ in range(4):
        waiting = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
        yield waiting


async def run(alive: int, refusing: int, holes: int) -> None:
    """Serve until stdin ends."""
    make_room(alive + MOST_CONNECTIONS)
    loop = asyncio.get_running_loop()
    port = 0
    proxies: list[tuple[str, str, int]] = []
    servers: list[asyncio.Server] = []
    for number in range(alive):
        listener = listening(address(1, number), port, BACKLOG)
        port = listener.getsockname()[1]
        servers.append(await loop.create_server(Answering, sock=listener))
        proxies.append(("alive", address(1, number), port))
    closed = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    closed.bind(("127.2.0.1", 0))  # and never listens
    proxies += [("refusing", address(2, number), closed.getsockname()[1]) for number in range(refusing)]
    silent = listening("127.3.0.1", 0, BACKLOG)
    dropping = list(full_backlog())
    for number in range(holes):
        listener = silent if number % 2 else dropping[0]
        proxies.append(("hole", *listener.getsockname()))
    random.Random(1).shuffle(proxies)
    print(json.dumps(proxies), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()
    for each in (closed, silent, *dropping):
        each.close()


def main() -> None:
    """Serve what is asked for."""
    parser = argparse.ArgumentParser(description="Run a crowd of proxies.")
    for kind in ("alive", "refusing", "holes"):
        parser.add_argument(kind, type=int)
    asked = parser.parse_args()
    asyncio.run(run(asked.alive, asked.refusing, asked.holes))


if __name__ == "__main__":
    main()
