"""The httpx2 transport through the public fleet: every scheme, every fault."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable

import httpx2
import pytest
import trustme

from proxywhirl.errors import DecryptionError, PoolEmpty
from proxywhirl.integrations.httpx.transport import WhirlTransport
from proxywhirl.models import Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing import Fault, Fleet, FleetSpec, Origin
from proxywhirl.urls import ProxyURL

SCHEMES = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"]
DECEITS = {Fault.INTERCEPT, Fault.FORGE}  # in plain text no client can tell them from good answers: probes can
CASES = [
    (fault, https)
    for fault in Fault
    for https in (False, True)
    if fault not in {Fault.NONE, Fault.STALE} and (https or fault not in DECEITS)
]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a server's TLS context for 127.0.0.1, and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def running(
    specs: Iterable[FleetSpec], contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, https: bool, patience: float = 5
) -> AsyncIterator[tuple[Fleet, Origin, Pool, httpx2.AsyncClient]]:
    """Run a fleet, an origin, and a client that goes through a pool of that fleet."""
    server, trust = contexts
    async with (
        Fleet.start(specs, tls=server) as fleet,
        Origin.start(fleet.exits, tls=server if https else None) as origin,
    ):
        pool = Pool.of(fleet.urls(), "round_robin")
        transport = WhirlTransport(pool, attempt_timeout=patience, tls=trust, proxy_tls=trust)
        async with httpx2.AsyncClient(transport=transport) as client:
            yield fleet, origin, pool, client
        assert all(use.in_flight == 0 for use in pool.snapshot())


async def test_a_credential_that_cannot_be_read_costs_no_request(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """Another proxy serves, and no proxy is blamed; where there is no other, the error says what is wrong."""
    unreadable = ProxyURL("http", "127.0.0.1", 1, "alice", "s3cret")
    async with running([FleetSpec()], contexts, https=False) as (fleet, origin, _, _):
        good = fleet[0].url

        def resolve(key: str) -> ProxyURL:
            if key == unreadable.key:
                raise DecryptionError("it was stored under another key")
            return good

        pool = Pool("round_robin", resolve=resolve)
        pool.update(map(Proxy.of, (unreadable, good)))
        async with httpx2.AsyncClient(transport=WhirlTransport(pool)) as client:
            assert [(await client.get(origin.url)).status_code for _ in range(3)] == [200] * 3
            assert [(use.in_flight, use.failed) for use in pool.snapshot()] == [(0, 0)] * 2
            pool.discard([good.key])
            with pytest.raises(httpx2.ConnectError, match="its credential cannot be read: it was stored"):
                await client.get(origin.url)


@pytest.mark.parametrize("https", [False, True])
async def test_every_scheme_with_and_without_an_account(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], https: bool
) -> None:
    """Twelve proxies of six schemes take turns; each serves its share, and the target sees no credential."""
    specs = [FleetSpec(scheme, name=scheme) for scheme in SCHEMES]
    for scheme in SCHEMES:
        password = None if scheme.startswith("socks4") else "pass:wörd/@"
        specs.append(FleetSpec(scheme, "bob", password, name=f"{scheme}-account"))
    async with running(specs, contexts, https=https) as (_, origin, pool, client):
        through = [(await client.get(f"{origin.url}/")).json()["proxy"] for _ in range(24)]
        assert through == [spec.name for spec in specs] * 2
        assert not any("proxy-authorization" in str(seen.headers).lower() for seen in origin.requests)
        assert {(use.served, use.failed) for use in pool.snapshot()} == {(2, 0)}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(("fault", "https"), CASES)
async def test_every_fault_is_survived(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], fault: Fault, scheme: str, https: bool
) -> None:
    """While one proxy works, every request succeeds, whatever the other does."""
    specs = [
        FleetSpec(scheme, "bob", "pw", name="bad", fault=fault, delay=30, forbidden="127.0.0.1"),
        FleetSpec(name="good"),
    ]
    async with running(specs, contexts, https=https, patience=0.7) as (_, origin, _, client):
        responses = [await client.get(f"{origin.url}/") for _ in range(4)]
    assert {response.json()["proxy"] for response in responses} == {"good"}


async def test_a_killed_proxy_is_left_and_found_again(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """With the only proxy killed requests fail and never go directly; once it is back, they succeed."""
    async with running([FleetSpec(name="only")], contexts, https=False) as (fleet, origin, pool, client):
        await client.get(f"{origin.url}/")
        fleet["only"].kill()
        with pytest.raises(httpx2.TransportError):
            await client.get(f"{origin.url}/")
        assert len(origin.requests) == 1
        fleet["only"].revive()
        assert (await client.get(f"{origin.url}/")).json()["proxy"] == "only"
        pool.discard([use.proxy.key for use in pool.snapshot()])
        with pytest.raises(PoolEmpty):
            await client.get(f"{origin.url}/")
        assert len(origin.requests) == 2
