"""Probes of real proxies of every scheme and fault, with a real judge and real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from proxywhirl.errors import Blame, UpstreamError
from proxywhirl.health.geo import GeoDatabase
from proxywhirl.health.judge_server import JudgeServer
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.probe import Prober
from proxywhirl.models import Anonymity, Target
from proxywhirl.net.capacity import LagMeter
from proxywhirl.testing import Fault, Fleet, FleetSpec, ManualClock, Origin
from proxywhirl.urls import SCHEMES, ProxyURL

HTTP = ("http", "https")
TIMEOUT = 60.0  # longer than anything that answers should take
SHORT = 0.3  # for what never answers


@contextlib.asynccontextmanager
async def lab(authority: Any, *specs: FleetSpec, **options: Any) -> AsyncIterator[tuple[Fleet, Prober]]:
    """Run a fleet, and a judge that speaks http and https."""
    async with (
        asyncio.timeout(60),
        Fleet.start(specs, tls=authority.server) as fleet,
        JudgeServer(port=0, tls=authority.server, https_port=0) as judge,
    ):
        settings = {"timeout": TIMEOUT, "tls": authority.client, "proxy_tls": authority.client, **options}
        yield fleet, Prober(judges=judge.urls, **settings)


def levels(result: ProbeResult) -> list[str]:
    """Name the stages of a result."""
    return [stage.level.value for stage in result.stages]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Assert that a test leaves no descriptor open."""

    def descriptors() -> set[str]:
        gc.collect()
        return {entry.name for entry in Path("/dev/fd").iterdir()}

    before = descriptors()
    yield
    assert descriptors() == before


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_scheme_is_probed_at_every_level(scheme: str, authority: Any) -> None:
    """With its own credential each proxy reaches each level, whose stages are measured in seconds and bytes."""
    password = None if scheme.startswith("socks4") else "päss"
    async with lab(authority, FleetSpec(scheme, "bob", password)) as (fleet, prober):
        for level in Level:
            result = await prober.probe(fleet[0].url, level)
            assert (result.ok, result.error, result.reached) == (True, None, level)
            assert result.key == fleet[0].url.key
            expected = [below.value for below in Level if level.includes(below)]
            if scheme in HTTP and level is Level.HTTP:
                expected.remove("handshake")  # the credential goes with the request
            assert levels(result) == expected
            for stage in result.stages:
                assert 0 < stage.seconds < TIMEOUT
                assert (stage.bytes_up > 0, stage.bytes_down > 0) == (stage.level is not Level.TCP,) * 2
        assert all(request.authorized for request in fleet[0].requests)


async def test_bytes_are_those_on_the_wire(authority: Any) -> None:
    """What a CONNECT and its answer take is counted to the byte."""
    async with lab(authority, FleetSpec(), target=Target("http", "shop.example", 80)) as (fleet, prober):
        fleet[0].forbidden, fleet[0].fault = "shop.example", Fault.FORBID_DOMAIN
        result = await prober.probe(fleet[0].url, Level.HANDSHAKE)
    request = b"CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n"
    assert (result.bytes_up, result.stages[1].bytes_up) == (len(request), len(request))
    assert result.bytes_down > len("HTTP/1.1 403 \r\n\r\n")
    assert result.blame is Blame.TARGET_THROUGH_PROXY


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5"])
@pytest.mark.parametrize(
    ("fault", "level", "blame"),
    [
        (Fault.REFUSE, Level.TCP, Blame.PROXY),
        (Fault.HANG, Level.HANDSHAKE, Blame.PROXY),
        (Fault.SLOW, Level.HANDSHAKE, Blame.PROXY),
        (Fault.RESET, Level.HANDSHAKE, Blame.PROXY),
        (Fault.GARBAGE, Level.HANDSHAKE, Blame.PROXY),
        (Fault.GARBAGE, Level.HTTP, Blame.PROXY),
        (Fault.AUTH_REQUIRED, Level.HANDSHAKE, Blame.ACCOUNT),
        (Fault.AUTH_REQUIRED, Level.HTTP, Blame.ACCOUNT),
        (Fault.WRONG_CREDENTIALS, Level.HTTP, Blame.ACCOUNT),
        (Fault.FORBID_DOMAIN, Level.HANDSHAKE, Blame.TARGET_THROUGH_PROXY),
        (Fault.FORBID_DOMAIN, Level.HTTP, Blame.TARGET_THROUGH_PROXY),
        (Fault.TRUNCATE, Level.HTTP, Blame.PROXY),
        (Fault.FORGE, Level.HTTP, Blame.PROXY),
        (Fault.INTERCEPT, Level.TLS, Blame.PROXY),
    ],
)
async def test_every_fault_is_found_and_blamed(
    scheme: str, fault: Fault, level: Level, blame: Blame, authority: Any, nothing_left: None
) -> None:
    """Each fault keeps a proxy from a level, with the blame on the right party, no secret told, no socket left."""
    password = None if scheme.startswith("socks4") else "hunter2"
    username = "bob" if fault is Fault.WRONG_CREDENTIALS else None
    spec = FleetSpec(scheme, username, password and username and password, fault=fault, forbidden="127.0.0.1", delay=60)
    timeout = SHORT if fault in (Fault.HANG, Fault.SLOW) else TIMEOUT
    async with lab(authority, spec, timeout=timeout) as (fleet, prober):
        result = await prober.probe(fleet[0].url, level)
        assert result.error is not None
        assert result.error.startswith(fleet[0].url.canonical)
    assert (result.ok, result.blame) == (False, blame)
    assert result.reached is None or not result.reached.includes(level)
    assert "hunter2" not in repr(result)
    assert level.includes(result.stages[-1].level)


@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5"])
async def test_an_interceptor_passes_below_tls_and_is_found_out_there(scheme: str, authority: Any) -> None:
    """A proxy that reads TLS works for plain text, and its certificate gives it away, whatever host is asked for."""
    async with lab(authority, FleetSpec(scheme, fault=Fault.INTERCEPT)) as (fleet, prober):
        assert (await prober.probe(fleet[0].url, Level.HTTP)).ok
        result = await prober.probe(fleet[0].url, Level.FULL)
    assert (result.reached, result.blame) == (Level.HTTP, Blame.PROXY)
    assert "shows another certificate than that of 127.0.0.1:" in (result.error or "")


@pytest.mark.parametrize("scheme", HTTP)
async def test_a_cached_answer_is_found_out(scheme: str, authority: Any) -> None:
    """The first answer is the judge's; the same one again answers no question."""
    async with lab(authority, FleetSpec(scheme, fault=Fault.STALE)) as (fleet, prober):
        assert (await prober.probe(fleet[0].url, Level.HTTP)).ok
        result = await prober.probe(fleet[0].url, Level.HTTP)
    assert (result.reached, result.blame) == (Level.TCP, Blame.PROXY)
    assert "answer to another question" in (result.error or "")


@pytest.mark.parametrize("scheme", HTTP)
@pytest.mark.parametrize("kind", ["transparent", "anonymous", "elite"])
async def test_full_tells_where_a_proxy_leads_and_what_it_tells(
    scheme: str, kind: Anonymity, authority: Any, tmp_path: Path
) -> None:
    """Exit, anonymity, country and network come from what the judge saw."""
    writer = MMDBWriter(6, ipv4_compatible=True)
    writer.insert_network(IPSet(["127.0.0.2/32"]), {"country": {"iso_code": "DE"}, "autonomous_system_number": 64500})
    writer.to_db_file(str(tmp_path / "geo.mmdb"))
    spec = FleetSpec(scheme, exit_host="127.0.0.2", anonymity=kind)
    with GeoDatabase([tmp_path / "geo.mmdb"]) as geo:
        async with lab(authority, spec, geo=geo) as (fleet, prober):
            result = await prober.probe(fleet[0].url, Level.FULL)
    assert result.error is None
    assert (result.exit_ip, result.anonymity) == ("127.0.0.2", kind)
    assert (result.country, result.asn) == ("DE", 64500)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_an_exit_at_our_own_address_is_transparent(scheme: str, authority: Any) -> None:
    """A proxy that leads out where we are hides nothing."""
    async with lab(authority, FleetSpec(scheme)) as (fleet, prober):
        result = await prober.probe(fleet[0].url, Level.FULL)
    assert (result.exit_ip, result.anonymity, result.country) == ("127.0.0.1", "transparent", None)


async def test_tls_verifies_the_target_where_there_is_one(authority: Any) -> None:
    """An https target is the end of the tunnel for `tls`; a certificate that nobody vouches for is refused."""
    async with Origin.start(tls=authority.server) as origin:
        target = Target("https", "127.0.0.1", origin.port)
        async with lab(authority, FleetSpec(), target=target) as (fleet, prober):
            assert (await prober.probe(fleet[0].url, Level.TLS)).ok
            assert fleet[0].requests[-1].target == target.authority
        async with lab(authority, FleetSpec(), target=target, tls=ssl.create_default_context()) as (fleet, prober):
            result = await prober.probe(fleet[0].url, Level.TLS)
        assert (result.reached, result.blame) == (Level.HTTP, Blame.PROXY)
        assert len(origin.requests) == 0


async def test_a_judge_that_is_none_is_not_the_proxys_fault(authority: Any) -> None:
    """What comes through verified TLS is the target's own word; a judge that does not answer us blames no proxy."""
    async with (
        Fleet.start([FleetSpec()]) as fleet,
        Origin.start(tls=authority.server) as origin,
        JudgeServer(port=0) as judge,
    ):
        sealed = f"https://127.0.0.1:{origin.port}/"
        prober = Prober(judges=[*judge.urls, sealed], tls=authority.client)
        result = await prober.probe(fleet[0].url, Level.FULL)
        assert (result.reached, result.blame) == (Level.TLS, Blame.TARGET)
        assert "which is no judge" in (result.error or "")
    gone = Prober(judges=[*judge.urls, sealed], tls=authority.client)
    result = await gone.probe(fleet[0].url, Level.FULL)
    assert (result.reached, result.blame, result.stages) == (None, Blame.TARGET, ())
    assert "does not answer this machine itself" in (result.error or "")


async def test_our_own_address_is_asked_for_once_and_for_full_alone(authority: Any) -> None:
    """The judge hears directly from us once, however many proxies are probed, and not at all below `full`."""
    async with Fleet.start([FleetSpec("socks5", exit_host="127.0.0.2")]) as fleet:
        heard: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(writer.get_extra_info("peername")[0])
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        judge = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        prober = Prober(judges=[judge], target=Target("https", "127.0.0.1", 9), clock=ManualClock())
        await asyncio.gather(*(prober.probe(fleet[0].url, Level.TLS) for _ in range(3)))
        assert heard == ["127.0.0.2"] * 3
        await asyncio.gather(*(prober.probe(fleet[0].url, Level.FULL) for _ in range(5)))
        assert heard[3:] == ["127.0.0.1"]
        server.close()


async def test_a_name_is_tried_at_each_of_its_addresses(authority: Any) -> None:
    """A proxy by name is found at the address that answers."""
    async with lab(authority, FleetSpec("socks5")) as (fleet, prober):
        by_name = ProxyURL("socks5", "localhost", fleet[0].url.port)
        assert (await prober.probe(by_name, Level.HTTP)).ok
        nobody = ProxyURL("http", "x" * 64, 80)  # no such name can be asked for, so that nobody is
        result = await prober.probe(nobody, Level.TCP)
    assert (result.reached, result.stages) == (None, ())
    assert "has no address" in (result.error or "")


async def test_a_result_says_when(authority: Any) -> None:
    """The time is that of the clock that was passed, and stages are measured by it."""
    clock = ManualClock()
    async with lab(authority, FleetSpec(), clock=clock) as (fleet, prober):
        result = await prober.probe(fleet[0].url, Level.HTTP, key="my-key")
    assert (result.at, result.latency, result.key) == (clock.now(), 0.0, "my-key")


class HeldUp(LagMeter):
    """Tells that the loop stood still for as long as a probe may take between any two looks."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def stalled(self) -> float:
        """Return more each time."""
        self.looks += 1
        return TIMEOUT * self.looks


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.GARBAGE, Fault.FORGE])
async def test_what_fails_while_the_loop_stands_still_is_not_the_proxys_fault(fault: Fault, authority: Any) -> None:
    """Such a failure is probed again, three times in all, and then it is our own."""
    async with lab(authority, FleetSpec(fault=fault), lag=HeldUp(), timeout=TIMEOUT) as (fleet, prober):
        result = await prober.probe(fleet[0].url, Level.HTTP)
        assert len(fleet[0].requests) == 3
    assert result.blame is Blame.US
    assert "lower the concurrency" in (result.error or "")


async def test_a_silent_proxy_is_blamed_even_by_a_busy_machine(authority: Any) -> None:
    """The system would know of an answer that nobody looked at: where there is none, the proxy was silent."""
    async with lab(authority, FleetSpec(fault=Fault.HANG), lag=HeldUp(), timeout=SHORT) as (fleet, prober):
        result = await prober.probe(fleet[0].url, Level.HTTP)
        assert len(fleet[0].requests) == 1
    assert result.blame is Blame.PROXY
    assert f"did not answer within {SHORT:g} s" in (result.error or "")


async def test_one_good_try_is_enough_on_a_busy_machine(authority: Any) -> None:
    """A success needs no second look, however busy the loop was."""
    async with lab(authority, FleetSpec(), lag=HeldUp(), rng=Random(1)) as (fleet, prober):
        assert (await prober.probe(fleet[0].url, Level.HTTP)).ok
        assert len(fleet[0].requests) == 1


async def test_a_cancelled_probe_leaves_nothing(authority: Any, nothing_left: None) -> None:
    """Its socket closes with it, and the next probe works."""
    async with lab(authority, FleetSpec(fault=Fault.HANG)) as (fleet, prober):
        task = asyncio.create_task(prober.probe(fleet[0].url, Level.HTTP))
        while not fleet[0].requests:  # noqa: ASYNC110 - sockets tell nobody of their state
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fleet[0].fault = Fault.NONE
        assert (await prober.probe(fleet[0].url, Level.HTTP)).ok


async def test_whom_a_vendor_blames_is_blamed(authority: Any) -> None:
    """A refused tunnel is asked about with its head; where nothing is said of it, its status tells."""
    asked = []

    def told(endpoint: ProxyURL, error: UpstreamError) -> Blame | None:
        asked.append((endpoint, error.refusal and error.refusal[0]))
        return Blame.PROXY if len(asked) == 1 else None

    async with lab(authority, FleetSpec("http", "bob", "s3cret"), told=told) as (fleet, prober):
        wrong = fleet[0].url.with_credential("bob", "wrong")
        blamed = [(await prober.probe(wrong, Level.HANDSHAKE)).blame for _ in range(2)]
    assert blamed == [Blame.PROXY, Blame.ACCOUNT]
    assert asked == [(wrong, 407)] * 2
