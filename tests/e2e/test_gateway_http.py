"""Requests in absolute-form and through tunnels, with every kind of proxy behind the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx2
import pytest

from proxywhirl.testing import FleetSpec

if TYPE_CHECKING:
    from conftest import LabFactory

MEGABYTES_20 = 20 * 1024 * 1024
KINDS = [
    FleetSpec("http"),
    FleetSpec("http", "alice", "s3cret"),
    FleetSpec("https", "alice", "s3cret"),
    FleetSpec("socks4"),
    FleetSpec("socks4a", "alice"),
    FleetSpec("socks5", "alice", "s3cret"),
    FleetSpec("socks5h"),
]


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    """Give a body without a known length."""
    for number in range(count):
        yield bytes([number % 256]) * size


@pytest.mark.parametrize("https", [False, True], ids=["absolute-form", "tunnel"])
@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.scheme}{'-account' * bool(spec.username)}")
async def test_a_request_leaves_through_the_proxy(lab: LabFactory, spec: FleetSpec, https: bool) -> None:
    """With every scheme, account and form of request, the origin sees the fleet's proxy and no credential."""
    async with lab([spec], https=https) as running, running.client() as client:
        answer = await client.post(f"{running.origin.url}/where?x=1", content=b"body")
        assert answer.status_code == 200
        assert answer.json()["proxy"] == running.fleet[0].name
        (seen,) = running.origin.requests
        assert (seen.method, seen.path, seen.body_length) == ("POST", "/where?x=1", 4)
        assert not {name.lower() for name, _ in seen.headers} & {"proxy-authorization", "proxy-connection"}
        assert "s3cret" not in str(seen.headers)
        assert running.failed == []


async def test_requests_rotate(lab: LabFactory) -> None:
    """Each request leaves through the next proxy, though the client keeps one connection."""
    async with lab([FleetSpec(), FleetSpec("socks5"), FleetSpec()]) as running, running.client() as client:
        names = [(await client.get(running.origin.url)).json()["proxy"] for _ in range(6)]
    assert sorted(names[:3]) == sorted(proxy.name for proxy in running.fleet)
    assert names[:3] == names[3:]
    assert [(event.ok, event.attempts, event.status) for event in running.finished] == [(True, 1, 200)] * 6


async def test_the_clients_credential_ends_at_the_gateway(lab: LabFactory) -> None:
    """Neither the upstream nor the target gets what the client offered to the gateway."""
    async with lab([FleetSpec(), FleetSpec("http", "alice", "s3cret")], credentials=("me", "open sesame")) as running:
        offered = httpx2.Proxy(running.url, auth=("me", "open sesame"))
        async with running.client(offered) as client:
            for _ in range(2):
                assert (await client.get(running.origin.url)).status_code == 200
        async with running.client() as stranger:
            assert (await stranger.get(running.origin.url)).status_code == 407
        plain, paid = (dict(proxy.requests[0].headers) for proxy in running.fleet)
        assert "Proxy-Authorization" not in plain
        assert paid["Proxy-Authorization"] == "Basic YWxpY2U6czNjcmV0"
        assert len(running.origin.requests) == 2


@pytest.mark.parametrize("path", ["/status/204", "/status/304", "/status/404", "/status/503"])
async def test_statuses_of_the_target_pass_through(lab: LabFactory, path: str) -> None:
    """What the target answers is the answer, and is asked for once."""
    async with lab() as running, running.client() as client:
        assert (await client.get(running.origin.url + path)).status_code == int(path[-3:])
        assert len(running.fleet[0].requests) == 1


async def test_head_has_the_length_and_not_the_body(lab: LabFactory) -> None:
    """HEAD leaves the connection ready for the next request."""
    async with lab() as running, running.client() as client:
        answer = await client.head(f"{running.origin.url}/bytes/1000")
        assert (answer.headers["content-length"], answer.content) == ("1000", b"")
        assert (await client.get(f"{running.origin.url}/bytes/3")).content == b"\0\1\2"


@pytest.mark.parametrize("path", ["/stream?chunks=100", "/close"])
async def test_bodies_without_a_length_arrive_whole(lab: LabFactory, path: str) -> None:
    """Chunked and close-delimited bodies end where they end, on a connection that goes on."""
    async with lab() as running, running.client() as client:
        answer = await client.get(running.origin.url + path)
        assert len(answer.content) == 102_400 if "stream" in path else answer.json()["path"] == "/close"
        assert (await client.get(running.origin.url)).status_code == 200


@pytest.mark.parametrize("spec", KINDS[2:6:3], ids=lambda spec: spec.scheme)
async def test_a_chunked_upload_arrives_whole(lab: LabFactory, spec: FleetSpec) -> None:
    """A request body without a length goes up as it comes."""
    async with lab([spec]) as running, running.client() as client:
        answer = (await client.put(running.origin.url, content=pieces(300, 1000))).json()
    expected = b"".join([piece async for piece in pieces(300, 1000)])
    assert (answer["body_length"], answer["body_sha256"]) == (300_000, hashlib.sha256(expected).hexdigest())


@pytest.mark.parametrize("https", [False, True], ids=["absolute-form", "tunnel"])
async def test_twenty_megabytes_travel_both_ways(lab: LabFactory, https: bool) -> None:
    """Large bodies arrive to the byte, up and down."""
    body = bytes(range(256)) * (MEGABYTES_20 // 256)
    async with lab(https=https) as running, running.client() as client:
        down = await client.get(f"{running.origin.url}/bytes/{MEGABYTES_20}")
        assert down.content == body
        up = (await client.post(running.origin.url, content=body)).json()
        assert up["body_sha256"] == hashlib.sha256(body).hexdigest()
    (use,) = running.pool.snapshot()
    assert (use.served, use.failed, use.in_flight) == (1 if https else 2, 0, 0)


async def test_two_hundred_clients_at_once(lab: LabFactory) -> None:
    """Two hundred connections are served together, each its own answer."""
    async with lab([FleetSpec(), FleetSpec("socks5"), FleetSpec(), FleetSpec("socks4")]) as running:

        async def ask(number: int) -> str:
            async with running.client() as client:
                answer = (await client.get(f"{running.origin.url}/{number}")).json()
                assert answer["path"] == f"/{number}"
                return str(answer["proxy"])

        served = Counter(await asyncio.gather(*map(ask, range(200))))
    assert set(served.values()) == {50}


async def test_pipelined_and_kept_connections(lab: LabFactory) -> None:
    """Three requests in one packet are answered in order, and the connection still serves a fourth."""
    async with lab([FleetSpec(), FleetSpec()]) as running:
        client = await running.connect()
        request = "GET {0}/{1} HTTP/1.1\r\nHost: x\r\n\r\n".format
        client.writer.write("".join(request(running.origin.url, number) for number in range(3)).encode())
        for number in range(4):
            if number == 3:
                client.writer.write(request(running.origin.url, number).encode())
            head = await client.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert json.loads(await client.reader.readexactly(length))["path"] == f"/{number}"
        await client.aclose()


async def test_a_client_of_http_1_0_is_served_and_closed(lab: LabFactory) -> None:
    """An old client gets a body without chunks, ended by the connection."""
    async with lab() as running:
        client = await running.connect()
        client.writer.write(f"GET {running.origin.url}/stream?chunks=3 HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert len(body) == 3 * 1024
        await client.aclose()


async def test_a_half_closed_client_still_gets_its_answer(lab: LabFactory) -> None:
    """A client may end its sending side right after the request."""
    async with lab() as running:
        client = await running.connect()
        client.writer.write(f"GET {running.origin.url}/bytes/9 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.writer.write_eof()
        assert (await client.reader.read()).endswith(bytes(range(9)))
        await client.aclose()
