"""Proxies that cannot be, in a pool or in a home: requests, checks and commands go on with the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import httpx2
import pytest

from proxywhirl import AsyncProxyWhirl, ProxyWhirl
from proxywhirl.events import AttemptFailed, EventBus
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.integrations.httpx.transport import WhirlTransport
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing import Fleet, FleetSpec, Origin, running_fleet
from proxywhirl.urls import ProxyURL

if TYPE_CHECKING:
    from cli.conftest import Run

STORED = (
    "http://127.0.0.1:70000",
    "http://localhost:70000",
    f"http://127.0.0.1:{'9' * 5000}",
    "http://1.2.3.999:80",
    "http://a..b:80",
    "socks5://:1080",
    "http://127.0.0.1",
    "gopher://127.0.0.1:1",
    "nothing",
)
"""What a home of an earlier release, or another's tier, may hold."""
IMPOSSIBLE = (
    ProxyURL("http", "127.0.0.1", 70000),
    ProxyURL("https", "a..b", 8080),
    ProxyURL("socks5", "a\0b", 1080),
)
PASSWORD = "s3cr3t\udc80"  # no protocol can send it


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Fleet, Origin]]:
    """Run a proxy that works, of each of two schemes, and an origin."""
    with running_fleet([FleetSpec(), FleetSpec("socks5", "bob", "hunter2")]) as (fleet, origin):
        yield fleet, origin


@pytest.fixture
def urls(running: tuple[Fleet, Origin]) -> list[ProxyURL]:
    """Give proxies of which the last one alone can be used."""
    plain, socks = (proxy.url for proxy in running[0])
    unsendable = [
        ProxyURL(url.scheme, url.host, url.port, f"user{n}", PASSWORD) for n, url in enumerate((plain, socks))
    ]
    return [*IMPOSSIBLE, *unsendable, plain]


@pytest.fixture
def stored(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, running: tuple[Fleet, Origin]) -> None:
    """Make a home with one proxy that works, and with URLs that are none of a proxy's."""
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_CONFIG", '{"enabled": false}')
    assert run("add", running[0][0].url.reveal(), *(f"http://127.0.0.1:{n}" for n, _ in enumerate(STORED, 1))).code == 0
    with closing(apsw.Connection(str(home / "db" / "proxywhirl.db"))) as connection:
        for number, url in enumerate(STORED, 1):
            connection.execute("UPDATE entries SET url = ? WHERE url = ?", (url, f"http://127.0.0.1:{number}"))
        assert connection.changes() == 1


async def test_the_gateway_fails_over(running: tuple[Fleet, Origin], urls: list[ProxyURL]) -> None:
    """Each request gets the target's answer; each impossible proxy is blamed, and no event shows a credential."""
    pool, events, failed = Pool.of(urls, "round_robin"), EventBus(), list[AttemptFailed]()
    events.subscribe(lambda event: failed.append(event) if isinstance(event, AttemptFailed) else None)
    async with asyncio.timeout(60), Gateway(pool, GatewayOptions(port=0), events=events) as gateway:
        host, port = gateway.address
        async with httpx2.AsyncClient(proxy=f"http://{host}:{port}", trust_env=False) as client:
            for _ in range(3):
                assert (await client.get(running[1].url)).status_code == 200
    assert {event.proxy.key for event in failed} == {url.key for url in urls[:-1]}
    assert all(event.outcome.counts_against_proxy for event in failed)
    assert all(event.proxy.url in (event.outcome.error or "") for event in failed)
    assert "s3cr3t" not in repr(failed)


async def test_the_transport_fails_over(running: tuple[Fleet, Origin], urls: list[ProxyURL]) -> None:
    """Each request gets the target's answer, and each impossible proxy is blamed."""
    pool = Pool.of(urls, "round_robin")
    async with httpx2.AsyncClient(transport=WhirlTransport(pool)) as client:
        for _ in range(3):
            assert (await client.get(running[1].url)).status_code == 200
    uses = {use.proxy.key: use for use in pool.snapshot()}
    assert {key for key, use in uses.items() if use.failed} == {url.key for url in urls[:-1]}
    assert not any(use.in_flight for use in uses.values())


async def test_the_last_error_names_the_proxy_and_shows_no_credential(running: tuple[Fleet, Origin]) -> None:
    """Where no other proxy is there, the client's own error tells what is wrong."""
    url = running[0][0].url
    pool = Pool.of([ProxyURL(url.scheme, url.host, url.port, "bob", PASSWORD)])
    async with httpx2.AsyncClient(transport=WhirlTransport(pool)) as client:
        with pytest.raises(httpx2.ProxyError, match=f"^{url.canonical} cannot be sent this credential") as caught:
            await client.get(running[1].url)
    assert "s3cr3t" not in repr((caught.value, caught.value.__cause__, caught.value.__context__))


@pytest.mark.usefixtures("stored")
async def test_clients_of_a_home_fail_over(home: Path, running: tuple[Fleet, Origin]) -> None:
    """Of a home that holds such URLs every request is served, by both clients."""
    target = running[1].url

    def synchronous() -> list[int]:
        with ProxyWhirl(home=home, strategy="round_robin") as whirl:
            return [whirl.get(target).status_code for _ in range(len(STORED) + 2)]

    assert set(await asyncio.to_thread(synchronous)) == {200}
    async with AsyncProxyWhirl(home=home, strategy="round_robin") as whirl:
        assert {(await whirl.get(target)).status_code for _ in range(3)} == {200}


@pytest.mark.usefixtures("stored")
def test_every_command_goes_on(run: Run, tmp_path: Path) -> None:
    """Each command that reads the store ends as usual, and a check finds out which one works."""
    for command in (
        ["list"],
        ["list", "--json"],
        ["explain", "--target", "http://shop.example/"],
        ["stats"],
        ["export", tmp_path / "out.jsonl"],
        ["check", "--all", "--level", "tcp"],
        ["list", "--status", "degraded"],
    ):
        ended = run(*command)
        assert ended.code == 0
    assert len(ended.rows) == 1
    assert run("doctor").code in (0, 1)
    assert run("doctor", "--repair").code in (0, 1)
    assert run("list").code == 0
