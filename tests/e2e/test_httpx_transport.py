"""The httpx2 transport over real sockets: small proxies and an origin on the loopback interface."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import httpx2
import pytest
import trustme

from proxywhirl.clock import SYSTEM_CLOCK
from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.integrations.httpx.transport import WhirlTransport
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.urls import ProxyURL
from tests.waiting import after

BIG = 200_000
SECRET = "s3cret/:@"


@dataclass
class Head:
    """The head of a request as a server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """Read one request, its body included."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        head = cls(method, target, dict(line.lower().split(": ", 1) for line in lines[1:-2]))
        if "content-length" in head.headers:
            head.body = await reader.readexactly(int(head.headers["content-length"]))
        elif "transfer-encoding" in head.headers:
            head.body = await reader.readuntil(b"0\r\n\r\n")
        return head


@dataclass
class Server:
    """Something that listens on the loopback interface and closes all that it opened."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    seen: list[Head] = field(default_factory=list)
    port: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def hold(self, writer: asyncio.StreamWriter) -> None:
        """Close this with the server."""
        self._writers.add(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hold(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        raise NotImplementedError


@dataclass
class Origin(Server):
    """Answers `/` with a word, `/big` in chunks; `/cut` breaks off and `/once` closes after the answer."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client closes."""
        while True:
            head = await Head.read(reader)
            self.seen.append(head)
            path = "/" + head.target.rpartition("/")[2]
            if path == "/big":
                chunk = b"%x\r\n%s\r\n" % (BIG, b"b" * BIG)
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")
            elif path == "/cut":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"c" * 100)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await writer.drain()
            if path in ("/cut", "/once") or head.headers.get("connection") == "close":
                return


Mood = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream(Server):
    """A proxy: http or socks5, with or without an account; `mood` takes its place where it is set."""

    scheme: str = "http"
    account: tuple[str, str] | None = None
    mood: Mood | None = None
    opened: int = 0

    @property
    def url(self) -> ProxyURL:
        """The proxy's URL with its credential."""
        username, password = self.account or (None, None)
        return ProxyURL(self.scheme, self.host, self.port, username, password)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection as its scheme says."""
        self.opened += 1
        if self.mood is not None:
            await self.mood(reader, writer)
        elif self.scheme == "socks5":
            await self._socks5(reader, writer)
        else:
            await self._http(reader, writer)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await Head.read(reader)
        self.seen.append(head)
        if self.account:
            token = base64.b64encode(":".join(self.account).encode()).decode().lower()
            if head.headers.get("proxy-authorization") != f"basic {token}":
                await refuse_account(reader, writer)
                return
        if head.method == "CONNECT":
            host, _, port = head.target.rpartition(":")
            there = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            url = httpx2.URL(head.target)
            there = await asyncio.open_connection(url.host, url.port)
            headers = {**head.headers, "connection": "close"}
            headers.pop("proxy-authorization", None)
            lines = [f"{head.method} {url.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
            there[1].write("\r\n".join([*lines, "", ""]).encode() + head.body)
        await self._relay((reader, writer), there)

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02" if self.account else b"\x05\x00")
        if self.account:
            _, length = await reader.readexactly(2)
            username = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            right = (username.decode(), password.decode()) == self.account
            writer.write(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return
        kind = (await reader.readexactly(4))[3]
        size = 4 if kind == 1 else (await reader.readexactly(1))[0]
        address = await reader.readexactly(size)
        host = ".".join(map(str, address)) if kind == 1 else address.decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.seen.append(Head("SOCKS5", f"{host}:{port}", {}))
        there = await asyncio.open_connection(host, port)
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await self._relay((reader, writer), there)

    async def _relay(
        self,
        a: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        b: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.hold(b[1])

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        await asyncio.gather(copy(a[0], b[1]), copy(b[0], a[1]))


async def refuse_account(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 407."""
    writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def refuse_after_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the whole request, then answer 407."""
    await Head.read(reader)
    await refuse_account(reader, writer)


async def slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection at once."""
    writer.transport.abort()


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the whole request, then reset the connection."""
    await Head.read(reader)
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read forever and never answer."""
    while await reader.read(65536):
        pass


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a response and go on with what is no header: an echo of the credential, where there is one."""
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    echo = [line.replace(b": ", b" ") for line in lines if b": Basic " in line]
    writer.write(b"\r\n".join([b"HTTP/1.1 200 OK", *echo, b"\x00\xff", b"", b""]))
    await writer.drain()


async def farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request and close, without having said so."""
    await Head.read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def tire(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, keep the connection, and reset it when the next one has come."""
    await Head.read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    await Head.read(reader)
    writer.transport.abort()


async def truncate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Declare five bytes and send two."""
    await Head.read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
    await writer.drain()


class Rig:
    """A pool over some proxies, what was reported to it, and a client that goes through it."""

    def __init__(self, upstreams: list[Upstream], tls: ssl.SSLContext, limit: int = 128, timeout: float = 60) -> None:
        self.store = {u.url.key: u.url for u in upstreams}
        self.reports: list[tuple[int, Outcome]] = []
        self.pool = Pool("round_robin", resolve=self.store.get, on_report=self.heard)
        self.pool.update(map(Proxy.of, self.store.values()))
        self.transport = WhirlTransport(
            self.pool, attempt_timeout=timeout, tls=tls, proxy_tls=tls, max_identities=limit
        )
        self.client = httpx2.AsyncClient(transport=self.transport, timeout=2 * timeout)

    def heard(self, proxy: Proxy, outcome: Outcome) -> None:
        """Keep a report."""
        self.reports.append((proxy.port, outcome))

    async def __aenter__(self) -> httpx2.AsyncClient:
        return await self.client.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        assert all(use.in_flight == 0 for use in self.pool.snapshot()), "a lease was left out"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Give a certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def trust(ca: trustme.CA) -> ssl.SSLContext:
    """Trust that authority and none else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


@pytest.fixture
def server_tls(ca: trustme.CA) -> ssl.SSLContext:
    """Serve as 127.0.0.1 under a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """Run an origin."""
    async with Origin() as server:
        yield server


@pytest.fixture
async def sound() -> AsyncIterator[Upstream]:
    """Run an http proxy that works."""
    async with Upstream() as server:
        yield server


async def test_an_http_proxy_gets_absolute_form_and_its_own_credential(origin: Origin, trust: ssl.SSLContext) -> None:
    """The proxy is asked for the whole URL with its credential, of which the target sees nothing."""
    async with Upstream(account=("bob", SECRET)) as proxy:
        rig = Rig([proxy], trust)
        async with rig as client:
            response = await client.get(f"http://127.0.0.1:{origin.port}/a?b=c")
    assert (response.status_code, response.text) == (200, "hello")
    assert proxy.seen[0].target == f"http://127.0.0.1:{origin.port}/a?b=c"
    assert "proxy-authorization" in proxy.seen[0].headers
    assert "proxy-authorization" not in origin.seen[0].headers
    [(port, outcome)] = rig.reports
    assert (port, outcome.ok, outcome.status, outcome.bytes_down) == (proxy.port, True, 200, 5)
    assert outcome.latency is not None
    assert outcome.latency > 0


@pytest.mark.parametrize("account", [None, ("bob", SECRET)])
@pytest.mark.parametrize("target_tls", [False, True])
@pytest.mark.parametrize(("scheme", "proxy_tls"), [("http", False), ("https", True), ("socks5", False)])
async def test_every_scheme_reaches_http_and_https_targets(
    trust: ssl.SSLContext,
    server_tls: ssl.SSLContext,
    scheme: str,
    proxy_tls: bool,
    target_tls: bool,
    account: tuple[str, str] | None,
) -> None:
    """Through each kind of proxy, with an account or none, both kinds of target answer and see no credential."""
    async with (
        Origin(tls=server_tls if target_tls else None) as origin,
        Upstream(tls=server_tls if proxy_tls else None, scheme=scheme, account=account) as proxy,
        Rig([proxy], trust) as client,
    ):
        url = f"{'https' if target_tls else 'http'}://127.0.0.1:{origin.port}/"
        response = await client.post(url, content=b"x" * 1000, headers={"Proxy-Authorization": "Basic mine"})
        assert response.text == "hello"
        big = await client.get(url + "big")
        assert big.content == b"b" * BIG
    assert origin.seen[0].body == b"x" * 1000
    assert all("proxy-authorization" not in head.headers for head in origin.seen)
    if target_tls and scheme != "socks5":
        assert proxy.seen[0].method == "CONNECT"
        assert proxy.opened == 1, "the tunnel was not used again"


async def test_an_ipv6_target_keeps_its_brackets(trust: ssl.SSLContext) -> None:
    """In absolute-form and in a tunnel alike, the authority of an IPv6 target is well-formed."""
    async with Origin(host="::1") as origin, Upstream() as proxy, Rig([proxy], trust) as client:
        response = await client.get(f"http://[::1]:{origin.port}/")
    assert response.text == "hello"
    assert proxy.seen[0].target == f"http://[::1]:{origin.port}/"


@pytest.mark.parametrize(
    ("mood", "blame"),
    [
        (slam, Blame.PROXY),
        (swallow, Blame.PROXY),
        (hang, Blame.PROXY),
        (babble, Blame.PROXY),
        (truncate, Blame.PROXY),
        (refuse_account, Blame.ACCOUNT),
    ],
)
async def test_an_idempotent_request_fails_over(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext, mood: Mood, blame: Blame
) -> None:
    """Whatever a proxy does to a GET, the next one serves it, and the first is blamed and set aside."""
    async with Upstream(mood=mood) as bad:
        rig = Rig([bad, sound], trust, timeout=60)
        async with rig as client:
            asking = client.get(f"http://127.0.0.1:{origin.port}/")
            response = await (after(asking, lambda: bad.opened, 60) if mood is hang else asking)
            assert response.text == "hello"
        assert [(port, outcome.ok, outcome.blame) for port, outcome in rig.reports] == [
            (bad.port, False, blame),
            (sound.port, True, None),
        ]
        assert rig.pool.snapshot()[0].set_aside_until is not None


@pytest.mark.parametrize("mood", [slam, hang, babble, refuse_account])
async def test_a_tunnel_that_does_not_open_fails_over_whatever_the_method(
    sound: Upstream, trust: ssl.SSLContext, server_tls: ssl.SSLContext, mood: Mood
) -> None:
    """Before a tunnel stands nothing of the request was sent, so that a POST too goes to another proxy."""
    async with Origin(tls=server_tls) as origin, Upstream(mood=mood) as bad:
        async with Rig([bad, sound], trust, timeout=60) as client:
            asking = client.post(f"https://127.0.0.1:{origin.port}/", content=b"once")
            response = await (after(asking, lambda: bad.opened, 60) if mood is hang else asking)
        assert response.text == "hello"
        assert [head.body for head in origin.seen] == [b"once"]


async def test_a_refused_connection_fails_over(origin: Origin, sound: Upstream, trust: ssl.SSLContext) -> None:
    """A proxy that nobody runs any more costs a POST nothing but the attempt."""
    async with Upstream() as gone:
        pass
    async with Rig([gone, sound], trust) as client:
        response = await client.post(f"http://127.0.0.1:{origin.port}/", content=b"once")
    assert response.text == "hello"
    assert [head.body for head in origin.seen] == [b"once"]


async def test_a_post_that_was_sent_is_not_repeated(origin: Origin, sound: Upstream, trust: ssl.SSLContext) -> None:
    """Once a byte of a POST has left, its failure is the caller's to judge."""
    async with Upstream(mood=swallow) as bad, Rig([bad, sound], trust) as client:
        with pytest.raises(httpx2.TransportError, match=f"http://127.0.0.1:{bad.port} "):
            await client.post(f"http://127.0.0.1:{origin.port}/", content=b"once")
    assert (sound.opened, origin.seen) == (0, [])


async def test_a_post_refused_by_407_is_repeated(origin: Origin, sound: Upstream, trust: ssl.SSLContext) -> None:
    """A 407 says that the proxy passed nothing on: a POST from memory goes to another proxy."""
    async with Upstream(mood=refuse_after_reading) as bad, Rig([bad, sound], trust) as client:
        response = await client.post(f"http://127.0.0.1:{origin.port}/", content=b"once")
    assert response.status_code == 200
    assert [head.body for head in origin.seen] == [b"once"]


async def chunks() -> AsyncIterator[bytes]:
    """Give a body that can be read but once."""
    yield b"piece"


async def test_a_streamed_body_fails_over_until_it_is_begun(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext
) -> None:
    """A body that cannot be read twice still survives a proxy that cannot be connected to."""
    async with Upstream() as gone:
        pass
    async with Rig([gone, sound], trust) as client:
        response = await client.put(f"http://127.0.0.1:{origin.port}/", content=chunks())
    assert response.status_code == 200
    assert b"piece" in origin.seen[0].body


@pytest.mark.parametrize("mood", [swallow, refuse_after_reading])
async def test_a_streamed_body_is_not_sent_twice(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext, mood: Mood
) -> None:
    """Once it is begun there is nothing left to send again: the failure is raised, even for a PUT."""
    async with Upstream(mood=mood) as bad, Rig([bad, sound], trust) as client:
        with pytest.raises(httpx2.TransportError):
            await client.put(f"http://127.0.0.1:{origin.port}/", content=chunks())
    assert (sound.opened, origin.seen) == (0, [])


async def test_an_error_of_the_callers_own_body_passes_through(sound: Upstream, trust: ssl.SSLContext) -> None:
    """What the caller's generator raises reaches the caller, even a TimeoutError, and nobody is blamed."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"piece"
        raise TimeoutError("the caller's own")

    rig = Rig([sound], trust)
    async with rig as client:
        with pytest.raises(TimeoutError, match="the caller's own"):
            await client.put("http://127.0.0.1:9/", content=broken())
    assert rig.reports == []


async def test_an_empty_pool_sends_nothing(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without proxies there is no request: neither a direct one nor one through the environment's proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{sound.port}")
    async with Rig([], trust) as client:
        with pytest.raises(PoolEmpty):
            await client.get(f"http://127.0.0.1:{origin.port}/")
    assert (origin.seen, sound.opened) == ([], 0)


@pytest.mark.parametrize("mood", [slam, swallow, babble, refuse_account])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_last_failure_is_raised_without_any_credential(
    origin: Origin, trust: ssl.SSLContext, mood: Mood, scheme: str
) -> None:
    """When all have failed, one httpx2 error counts them and names the last; no secret is in its traceback."""
    async with (
        Upstream(mood=mood, account=("first-user", SECRET)) as one,
        Upstream(mood=mood, account=("other-user", SECRET)) as two,
    ):
        rig = Rig([one, two], trust)
        async with rig as client:
            with pytest.raises(httpx2.TransportError, match=f"2 proxies were tried.*{two.port}") as caught:
                await client.get(f"{scheme}://127.0.0.1:{origin.port}/")
    assert isinstance(caught.value, httpx2.ProxyError) == (mood is refuse_account)
    told = "".join(traceback.format_exception(caught.value)) + repr(rig.reports) + repr(rig.pool.snapshot())
    encoded = [base64.b64encode(f"{u}:{SECRET}".encode()).decode() for u in ("first-user", "other-user")]
    assert not any(secret in told for secret in (SECRET, "first-user", "other-user", *encoded))
    assert origin.seen == []


async def test_no_attempt_begins_after_the_total(origin: Origin, trust: ssl.SSLContext) -> None:
    """When the total has passed, the failure at hand is raised although proxies are left."""

    class Jumping:
        """A clock on which every reading is a minute after the last."""

        time = 0.0

        def now(self) -> float:
            return SYSTEM_CLOCK.now()

        def monotonic(self) -> float:
            self.time += 60.0
            return self.time

    async with Upstream(mood=slam) as one, Upstream(mood=slam) as two:
        transport = WhirlTransport(
            Pool.of([one.url, two.url], "round_robin"), total_timeout=60.0, tls=trust, clock=Jumping()
        )
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
            with pytest.raises(httpx2.TransportError, match=f"http://127.0.0.1:{one.port}"):
                await client.get(f"http://127.0.0.1:{origin.port}/")
    assert (one.opened, two.opened) == (1, 0)


async def test_a_proxy_that_is_gone_is_passed_over(origin: Origin, sound: Upstream, trust: ssl.SSLContext) -> None:
    """A proxy removed from the store after the choice is not used and not missed."""
    async with Upstream() as removed:
        rig = Rig([removed, sound], trust)
        del rig.store[removed.url.key]
        async with rig as client:
            response = await client.get(f"http://127.0.0.1:{origin.port}/")
        assert response.status_code == 200
        assert (removed.opened, len(rig.pool)) == (0, 1)


async def test_a_changed_password_is_used_at_once(origin: Origin, trust: ssl.SSLContext) -> None:
    """The next request speaks to the proxy with the new password, on a new connection."""
    async with Upstream(account=("bob", "old")) as proxy:
        rig = Rig([proxy], trust)
        async with rig as client:
            assert (await client.get(f"http://127.0.0.1:{origin.port}/")).status_code == 200
            proxy.account = ("bob", "new")
            rig.store[proxy.url.key] = proxy.url
            assert (await client.get(f"http://127.0.0.1:{origin.port}/")).status_code == 200
    assert len(rig.reports) == 2


async def test_idle_identities_are_bounded_and_those_in_use_are_kept(origin: Origin, trust: ssl.SSLContext) -> None:
    """More proxies than may be kept: each serves, the idle ones are closed, a running response is not cut."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Upstream(scheme="socks5")) for _ in range(6)]
        rig = Rig(proxies, trust, limit=2)
        async with rig as client, client.stream("GET", f"http://127.0.0.1:{origin.port}/big") as running:
            for _ in range(5):
                assert (await client.get(f"http://127.0.0.1:{origin.port}/")).text == "hello"
            assert len(rig.transport._identities) <= 2
            assert len(await running.aread()) == BIG
        assert [proxy.opened for proxy in proxies] == [1] * 6


async def test_a_stream_is_reported_when_it_ends(origin: Origin, sound: Upstream, trust: ssl.SSLContext) -> None:
    """A large response is handed on as it comes and reported, with its bytes, at its end."""
    rig = Rig([sound], trust)
    async with rig as client, client.stream("GET", f"http://127.0.0.1:{origin.port}/big") as response:
        assert rig.reports == []
        assert rig.pool.snapshot()[0].in_flight == 1
        assert len(await response.aread()) == BIG
        assert [(outcome.ok, outcome.bytes_down) for _, outcome in rig.reports] == [(True, BIG)]


async def test_a_stream_that_is_closed_early_is_no_failure(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext
) -> None:
    """A caller who has read enough blames nobody."""
    rig = Rig([sound], trust)
    async with rig as client, client.stream("GET", f"http://127.0.0.1:{origin.port}/big"):
        pass
    assert [outcome.ok for _, outcome in rig.reports] == [True]


async def test_a_stream_that_breaks_off_is_raised_and_reported(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext
) -> None:
    """A large response that is cut short is an error, never a clean end; another proxy comes too late."""
    async with Upstream() as other:
        rig = Rig([sound, other], trust)
        async with rig as client:
            with pytest.raises(httpx2.RemoteProtocolError, match=f"http://127.0.0.1:{sound.port}"):
                await client.get(f"http://127.0.0.1:{origin.port}/cut")
        [(_, outcome)] = rig.reports
    assert (outcome.ok, outcome.blame, outcome.status, outcome.bytes_down) == (False, Blame.PROXY, 200, 100)


async def test_a_kept_connection_that_has_ended_is_replaced(trust: ssl.SSLContext) -> None:
    """Even the only proxy of a pool serves on when its kept connection breaks, and is not blamed."""
    async with Upstream(mood=tire) as proxy:
        rig = Rig([proxy], trust)
        async with rig as client:
            for _ in range(3):
                assert (await client.get("http://127.0.0.1:9/")).text == "hello"
        assert proxy.opened == 3
        assert {outcome.blame for _, outcome in rig.reports} == {None, Blame.US}


async def test_a_post_on_a_kept_connection_that_has_ended_is_not_repeated(trust: ssl.SSLContext) -> None:
    """Nobody knows what became of a POST on a connection that broke: it is raised."""
    async with Upstream(mood=tire) as proxy, Rig([proxy], trust) as client:
        assert (await client.get("http://127.0.0.1:9/")).text == "hello"
        with pytest.raises(httpx2.TransportError, match=f"http://127.0.0.1:{proxy.port} "):
            await client.post("http://127.0.0.1:9/", content=b"once")
        assert proxy.opened == 1


async def test_a_kept_connection_that_was_closed_in_time_is_not_used(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext
) -> None:
    """A POST goes out on a new connection when the kept one is known to have been closed."""
    async with Upstream(mood=farewell) as closer, Rig([closer, sound], trust) as client:
        url = f"http://127.0.0.1:{origin.port}/"
        await client.get(url)
        await client.get(url)  # through the other proxy; meanwhile the close arrives
        assert (await client.post(url, content=b"once")).text == "hello"
        assert closer.opened == 2


async def test_a_connection_closed_while_idle_is_nobodys_fault(origin: Origin, trust: ssl.SSLContext) -> None:
    """A kept tunnel that the target has closed meanwhile is not used, or not held against the proxy."""
    async with Upstream(scheme="socks5") as one, Upstream(scheme="socks5") as two:
        rig = Rig([one, two], trust)
        async with rig as client:
            for _ in range(6):
                assert (await client.get(f"http://127.0.0.1:{origin.port}/once")).text == "hello"
        assert not any(outcome.counts_against_proxy for _, outcome in rig.reports)


async def test_a_target_whose_certificate_is_wrong_is_not_the_proxys_failure(
    sound: Upstream, server_tls: ssl.SSLContext
) -> None:
    """TLS that fails with the target is a ConnectError that says why, blamed on the pair."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trustme.CA().configure_trust(stranger)
    rig = Rig([sound], stranger)
    async with Origin(tls=server_tls) as origin, rig as client:
        with pytest.raises(httpx2.ConnectError, match=r"no TLS with 127\.0\.0\.1 through http:"):
            await client.get(f"https://127.0.0.1:{origin.port}/")
        assert origin.seen == []
    assert [outcome.blame for _, outcome in rig.reports] == [Blame.TARGET_THROUGH_PROXY]


async def test_a_request_that_is_wrong_itself_is_not_tried_again(sound: Upstream, trust: ssl.SSLContext) -> None:
    """A header that HTTP cannot carry is the caller's error, told at once."""
    async with Upstream() as other:
        rig = Rig([sound, other], trust)
        async with rig as client:
            with pytest.raises(httpx2.LocalProtocolError):
                await client.get("http://127.0.0.1:9/", headers={"bad header": "x"})
    assert [outcome.blame for _, outcome in rig.reports] == [Blame.US]


async def test_a_cancelled_request_gives_everything_back(origin: Origin, trust: ssl.SSLContext) -> None:
    """Cancelling a request releases its lease without a report and closes its connection."""
    reached = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Head.read(reader)
        reached.set()
        await hang(reader, writer)

    async with Upstream(mood=silence) as proxy:
        rig = Rig([proxy], trust)
        async with rig as client:
            task = asyncio.create_task(client.get(f"http://127.0.0.1:{origin.port}/"))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert rig.reports == []


async def test_a_hundred_requests_at_once_are_spread_evenly(origin: Origin, trust: ssl.SSLContext) -> None:
    """Concurrent requests all succeed, and each of four proxies serves a quarter of them."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Upstream()) for _ in range(4)]
        async with Rig(proxies, trust) as client:
            responses = await asyncio.gather(*(client.get(f"http://127.0.0.1:{origin.port}/") for _ in range(100)))
        assert {response.text for response in responses} == {"hello"}
        assert [len(proxy.seen) for proxy in proxies] == [25] * 4


async def test_a_trace_of_the_callers_own_still_hears_everything(
    origin: Origin, sound: Upstream, trust: ssl.SSLContext
) -> None:
    """The transport listens to httpcore2's trace and passes every event on."""
    heard: list[str] = []

    async def trace(name: str, _info: dict[str, object]) -> None:
        await asyncio.sleep(0)
        heard.append(name)

    async with Rig([sound], trust) as client:
        await client.get(f"http://127.0.0.1:{origin.port}/", extensions={"trace": trace})
    assert {"connection.connect_tcp.started", "http11.send_request_headers.started"} <= set(heard)
