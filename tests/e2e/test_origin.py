"""The test origin, asked without a proxy: it does what its documentation says."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from proxywhirl.testing import Origin


async def test_origin_echoes_what_it_was_asked() -> None:
    """The echo tells method, path, headers as spelled, and the body's length and digest."""
    body = b"x" * 200_000
    async with Origin.start() as origin, httpx2.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{origin.url}/a?b=c", content=body, headers={"X-Mixed-Case": "Yes"})
    echo = response.json()
    assert (echo["proxy"], echo["method"], echo["path"]) == (None, "POST", "/a?b=c")
    assert ["X-Mixed-Case", "Yes"] in echo["headers"]
    assert (echo["body_length"], echo["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert json.loads(origin.requests[0].echo()) == echo


async def test_origin_reads_chunked_bodies_and_keeps_alive() -> None:
    """A body without a length is read, and one connection serves several requests."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    async with Origin.start() as origin:
        reader, writer = await asyncio.open_connection(origin.host, origin.port)
        for _ in range(2):
            writer.write(b"PUT / HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["body_length"] == 3
        writer.close()
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.post(origin.url, content=chunks())).json()["body_length"] == 9


async def test_origin_tells_who_waits_to_continue() -> None:
    """A client that expects 100-continue gets it before its body is read."""
    async with Origin.start() as origin, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(origin.host, origin.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: o\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(
    ("path", "status", "length", "header"),
    [
        ("/status/404", 404, None, "content-length"),
        ("/status/204", 204, 0, None),
        ("/bytes/100000", 200, 100_000, "content-length"),
        ("/bytes/0", 200, 0, "content-length"),
        ("/slow?ms=1", 200, None, "content-length"),
        ("/stream?chunks=3", 200, 3072, "transfer-encoding"),
        ("/close", 200, None, "connection"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_origin_paths(method: str, path: str, status: int, length: int | None, header: str | None) -> None:
    """Each path answers with its status, length and framing; HEAD gets the head alone."""
    async with Origin.start() as origin, httpx2.AsyncClient(trust_env=False) as client:
        for _ in range(2):  # the connection, where it lives on, is in order
            response = await client.request(method, origin.url + path)
            assert response.status_code == status
            assert header is None or header in response.headers
            if method == "HEAD":
                assert response.content == b""
            elif length is not None:
                assert (
                    response.content == (bytes(range(256)) * (length // 256 + 1))[:length] or header != "content-length"
                )
                assert len(response.content) == length
            else:
                assert response.json()["path"] == path
