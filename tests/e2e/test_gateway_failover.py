"""Whatever a proxy does wrong, the client gets the target's answer from another one, or a clear error."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import httpx2
import pytest

from proxywhirl.errors import Blame, DecryptionError
from proxywhirl.events import EventBus
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.models import Proxy
from proxywhirl.net.connection import Connection
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing import Fault, FleetSpec
from proxywhirl.urls import ProxyURL
from tests.waiting import after

if TYPE_CHECKING:
    from conftest import LabFactory

PROXYS, ACCOUNTS, TARGETS = Blame.PROXY, Blame.ACCOUNT, Blame.TARGET_THROUGH_PROXY
BLAME = {
    Fault.REFUSE: PROXYS,
    Fault.HANG: PROXYS,
    Fault.RESET: PROXYS,
    Fault.GARBAGE: PROXYS,
    Fault.AUTH_REQUIRED: ACCOUNTS,
    Fault.WRONG_CREDENTIALS: ACCOUNTS,
}


@pytest.mark.parametrize("https", [False, True], ids=["absolute-form", "tunnel"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("fault", BLAME, ids=lambda fault: fault.value)
async def test_every_fault_is_failed_over(lab: LabFactory, fault: Fault, scheme: str, https: bool) -> None:
    """The second proxy serves what the first one spoils, and the first one is blamed for the right thing."""
    bad = FleetSpec(scheme, "alice", "s3cret", fault=fault)
    async with lab([bad, FleetSpec()], https=https, attempt_timeout=60) as running, running.client() as client:
        asking = client.get(running.origin.url)
        answer = await (
            after(asking, lambda: running.pool.snapshot()[0].in_flight, 60) if fault is Fault.HANG else asking
        )
        assert answer.json()["proxy"] == running.fleet[1].name
        (failed,) = running.failed
        assert (failed.outcome.blame, failed.final) == (BLAME[fault], False)
        assert "s3cret" not in repr(running.events)
        assert len(running.origin.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_forbidden_domain_is_the_proxys_word_only_in_a_tunnel(lab: LabFactory, scheme: str) -> None:
    """A refused tunnel goes to another proxy and blames neither; a 403 in absolute-form may be the target's own."""
    bad = FleetSpec(scheme, fault=Fault.FORBID_DOMAIN, forbidden="localhost")
    async with lab([bad, FleetSpec()], https=True) as running, running.client() as client:
        answer = await client.get(f"https://localhost:{running.origin.port}/")
        assert answer.json()["proxy"] == running.fleet[1].name
        assert [event.outcome.blame for event in running.failed] == [TARGETS]
        assert not any(use.failed for use in running.pool.snapshot())
    async with (
        lab([FleetSpec(fault=Fault.FORBID_DOMAIN, forbidden="localhost")]) as running,
        running.client() as client,
    ):
        assert (await client.get(f"http://localhost:{running.origin.port}/")).status_code == 403


async def test_a_short_answer_that_is_cut_is_asked_for_again(lab: LabFactory) -> None:
    """A truncated answer that the client has seen nothing of costs a failover and no more."""
    async with lab([FleetSpec(fault=Fault.TRUNCATE), FleetSpec()]) as running, running.client() as client:
        assert len((await client.get(f"{running.origin.url}/bytes/5000")).content) == 5000
        assert len(running.failed) == 1


@pytest.mark.parametrize("path", ["/bytes/500000", "/stream?chunks=3"])
async def test_a_long_answer_that_is_cut_looks_cut(lab: LabFactory, path: str) -> None:
    """After the first byte a truncated answer is an error to the client, never a short success."""
    async with lab([FleetSpec(fault=Fault.TRUNCATE), FleetSpec()]) as running, running.client() as client:
        with pytest.raises(httpx2.TransportError):
            await client.get(running.origin.url + path)
    assert [(event.final, event.outcome.status) for event in running.failed] == [(True, 200)]
    assert [event.ok for event in running.finished] == [False]


async def test_a_cut_answer_to_an_old_client_is_reset(lab: LabFactory) -> None:
    """Where only the connection's end ends a body, a cut one ends in a reset."""
    async with lab([FleetSpec(fault=Fault.TRUNCATE)]) as running:
        client = await running.connect()
        client.writer.write(f"GET {running.origin.url}/stream?chunks=3 HTTP/1.0\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        await client.aclose()


async def test_a_post_is_sent_once(lab: LabFactory) -> None:
    """A POST that a proxy took and did not answer is not sent to another one."""
    specs = [FleetSpec(fault=Fault.RESET), FleetSpec(fault=Fault.RESET)]
    async with lab(specs) as running, running.client() as client:
        answer = await client.post(running.origin.url, content=b"pay")
        assert (answer.status_code, "1 proxy tried" in answer.text) == (502, True)
        assert sum(len(proxy.requests) for proxy in running.fleet) == 1


async def test_a_post_goes_on_while_nothing_of_it_was_sent(lab: LabFactory) -> None:
    """A proxy that cannot be reached has seen nothing: the POST goes to another one."""
    async with lab([FleetSpec(fault=Fault.REFUSE), FleetSpec()]) as running, running.client() as client:
        assert (await client.post(running.origin.url, content=b"pay")).json()["body_length"] == 3
        assert len(running.origin.requests) == 1


async def test_all_failed_is_502_and_none_is_503(lab: LabFactory) -> None:
    """Errors are text for people, say what happened, and the target is never asked directly."""
    async with lab([FleetSpec("http", "alice", "s3cret", fault=Fault.REFUSE)] * 3) as running:
        specs = [proxy.url for proxy in running.fleet]
        async with running.client() as client:
            answer = await client.get(running.origin.url)
            assert answer.status_code == 502
            assert "3 proxies tried" in answer.text
            assert "refused" in answer.text.lower()
            assert "s3cret" not in answer.text
            running.pool.discard([url.key for url in specs])
            answer = await client.get(running.origin.url)
            assert answer.status_code == 503
            assert "proxywhirl import" in answer.text
            with pytest.raises(httpx2.ProxyError, match="503"):
                await client.get(running.origin.url.replace("http:", "https:"))
        assert not running.origin.requests


async def test_the_total_timeout_is_504(lab: LabFactory) -> None:
    """When the time for all attempts is over, the client hears so, whatever proxies are left."""
    specs = [FleetSpec(fault=Fault.HANG)] * 5
    async with lab(specs, attempt_timeout=0.3, total_timeout=0.5) as running, running.client() as client:
        answer = await client.get(running.origin.url)
        assert (answer.status_code, "its time was over" in answer.text) == (504, True)
        assert sum(len(proxy.requests) for proxy in running.fleet) <= 2


async def test_a_proxy_killed_in_the_middle_of_a_load_costs_no_request(lab: LabFactory) -> None:
    """While proxies die, refuse and get slow, every request succeeds as long as one is healthy."""
    specs = [FleetSpec(), FleetSpec("socks5"), FleetSpec(), FleetSpec(delay=0.05)]
    async with lab(specs) as running, running.client() as client:
        served: Counter[str] = Counter()
        for number in range(200):
            if number == 50:
                running.fleet[0].kill()
            if number == 100:
                running.fleet[1].fault = Fault.REFUSE
                running.fleet[3].fault = Fault.SLOW
            answer = await client.get(running.origin.url)
            assert answer.status_code == 200
            served[answer.json()["proxy"]] += 1
    assert set(served) == {proxy.name for proxy in running.fleet}
    assert running.failed


async def test_a_kill_in_the_middle_of_a_body_looks_like_one(lab: LabFactory) -> None:
    """A download whose proxy dies breaks off; it does not end."""
    async with (
        lab() as running,
        running.client() as client,
        client.stream("GET", f"{running.origin.url}/bytes/50000000") as answer,
    ):
        running.fleet[0].kill()
        with pytest.raises(httpx2.TransportError):
            await answer.aread()
    assert [event.ok for event in running.finished] == [False]


async def test_an_early_refusal_of_a_large_upload_reaches_the_client(lab: LabFactory) -> None:
    """An upstream that answers 413 before the body has come is heard, though the rest cannot be sent."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await Connection(reader, writer).aclose()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    pool = Pool.of([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    async with asyncio.timeout(60), server, Gateway(pool, GatewayOptions(port=0), events=EventBus()) as gateway:
        host, port = gateway.address
        async with httpx2.AsyncClient(proxy=f"http://{host}:{port}", trust_env=False) as client:
            answer = await client.put("http://target.test/", content=bytes(5_000_000))
            assert answer.status_code == 413


async def test_a_credential_that_cannot_be_read_is_our_failure() -> None:
    """A store that cannot decrypt ends in a clear 502 that blames no proxy, not in a broken connection."""

    def unreadable(key: str) -> ProxyURL:
        raise DecryptionError(f"{key} was stored under another key")

    pool = Pool(resolve=unreadable)
    pool.update([Proxy.of(ProxyURL("http", "127.0.0.1", 1, "alice", "s3cret"))])
    async with asyncio.timeout(60), Gateway(pool, GatewayOptions(port=0), events=EventBus()) as gateway:
        host, port = gateway.address
        async with httpx2.AsyncClient(proxy=f"http://{host}:{port}", trust_env=False) as client:
            answer = await client.get("http://target.test/")
    assert (answer.status_code, "stored under another key" in answer.text) == (502, True)
    assert [use.failed for use in pool.snapshot()] == [0]
