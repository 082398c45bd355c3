"""Pages that fail whoever asks: what the caller gets, through both senders, and what the pool is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import httpx2
import pytest

from proxywhirl.errors import Blame
from proxywhirl.rotation.retries.send_policy import HELD_RESPONSE
from proxywhirl.rotation.verdicts.response import CUT, SILENT
from proxywhirl.testing import Fault, FleetSpec
from tests.senders import SENDERS, Rig, rig

TUNNELS = [FleetSpec("socks5")] * 6  # what a proxy itself says is not in these: what comes is the page's
WORDS = b"The site's own words.\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
NONSENSE = b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Pages:
    """Answers every request with the same bytes, and then ends the connection; counts the requests."""

    def __init__(self, answer: bytes, *, reset: bool = False, hangs: bool = False) -> None:
        self.answer = answer
        self.reset = reset
        self.hangs = hangs
        self.asked = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request of a connection: what the client sends next is left."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self.answer)
            await writer.drain()
            if self.hangs:
                await reader.read()
        if self.reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, answer: bytes, *, reset: bool = False, hangs: bool = False) -> AsyncIterator[Pages]:
        """Run it for the length of a block."""
        pages = cls(answer, reset=reset, hangs=hangs)
        server = await asyncio.start_server(pages.serve, "127.0.0.1", 0)
        async with server:
            pages.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield pages


async def fails(running: Rig, url: str) -> str:
    """Ask for a page, state that it is no answer, and return the words of the error."""
    try:
        answer = await running.send(url)
    except httpx2.TransportError as exc:
        return str(exc)
    assert answer.status_code == 502
    return answer.text


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("answer", [b"", HALF, NONSENSE], ids=["nothing", "half", "nonsense"])
async def test_a_page_that_is_no_whole_answer_is_told_apart_from_a_proxy_that_fails(
    sender: str, answer: bytes, reset: bool
) -> None:
    """Whether it closes or resets, at its head or in its body: each attempt is reported with the sign of that."""
    async with rig(sender, TUNNELS) as running, Pages.start(answer, reset=reset) as pages:
        assert (
            "closed the connection" in (words := await fails(running, pages.url)) or "broke" in words or "HTTP" in words
        )
        told = {(outcome.blame, outcome.rule, outcome.reached) for outcome in running.reports}
        assert told == {(Blame.PROXY, CUT, True)}
        assert pages.asked == len(running.reports)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("answer", [b"", HALF, NONSENSE], ids=["nothing", "half", "nonsense"])
async def test_a_page_that_breaks_off_for_all_costs_few_tries_and_no_proxy(sender: str, answer: bytes) -> None:
    """The caller reads that several proxies met the same, and each of them serves the next page as before."""
    async with rig(sender, TUNNELS * 2) as running, Pages.start(answer) as pages:
        for number in range(len(TUNNELS) * 2):
            assert (await running.send(f"/{number}")).status_code == 200
        assert "several proxies met the same at this target" in await fails(running, pages.url)
        assert pages.asked <= 4
        assert {use.set_aside_until for use in running.pool.snapshot()} == {None}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_breaks_off_has_reached_the_target_only_where_that_is_seen(sender: str, scheme: str) -> None:
    """Where a proxy is asked for the page itself, nothing tells whether the target heard of it; a tunnel tells."""
    async with rig(sender, [FleetSpec(scheme, fault=Fault.RESET)]) as running:
        await fails(running, running.origin.url)
        assert [outcome.reached for outcome in running.reports] == [False]
    async with rig(sender, [FleetSpec(scheme, fault=Fault.TRUNCATE)]) as running:
        await fails(running, running.origin.url)
        assert [outcome.reached for outcome in running.reports] == [True]


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("answer", [LONG, CHUNKS], ids=["long", "chunks"])
async def test_a_body_that_breaks_off_on_its_way_to_the_caller_is_an_error_and_reported(
    sender: str, answer: bytes
) -> None:
    """It never looks whole, is asked for once, and the pool learns that the page was cut."""
    async with rig(sender, TUNNELS) as running, Pages.start(answer) as pages:
        with pytest.raises(httpx2.TransportError):
            await running.send(pages.url)
        assert pages.asked == 1
        assert [(outcome.status, outcome.rule) for outcome in running.reports] == [(200, CUT)]


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_page_that_hangs_is_told_apart_too(sender: str) -> None:
    """Silence has a sign of its own."""
    async with rig(sender, TUNNELS, attempt=0.2, total=0.3) as running, Pages.start(b"", hangs=True) as pages:
        with contextlib.suppress(httpx2.TransportError):
            assert (await running.send(pages.url)).status_code == 504
        assert {(outcome.blame, outcome.rule) for outcome in running.reports} == {(Blame.PROXY, SILENT)}


def framed(status: int, framing: str) -> bytes:
    """Return a refusal, its body framed in one of the ways of HTTP/1."""
    head = b"HTTP/1.1 %d Refused\r\nX-Own: yes\r\n" % status
    long = WORDS * (HELD_RESPONSE // len(WORDS) + 1)
    return {
        "length": head + b"Content-Length: %d\r\n\r\n" % len(WORDS) + WORDS,
        "long": head + b"Content-Length: %d\r\n\r\n" % len(long) + long,
        "chunked": head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(WORDS), WORDS),
        "until-close": b"HTTP/1.0 %d Refused\r\nX-Own: yes\r\n\r\n" % status + WORDS,
        "head": head + b"Content-Length: 5000\r\n\r\n",
    }[framing]


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("framing", ["length", "long", "chunked", "until-close", "head"])
@pytest.mark.parametrize("status", [403, 429, 503])
async def test_what_a_page_answers_to_all_is_passed_on_as_it_came(sender: str, framing: str, status: int) -> None:
    """Status, fields and body of the last answer are the site's own, however it is framed, after four tries at most."""
    method = "HEAD" if framing == "head" else "GET"
    async with rig(sender, TUNNELS) as running, Pages.start(framed(status, framing)) as pages:
        answer = await running.send(pages.url, method)
        assert (answer.status_code, answer.headers["X-Own"]) == (status, "yes")
        assert set(answer.content.splitlines()) == (set() if framing == "head" else {WORDS.strip()})
        assert pages.asked <= 4


async def test_a_connection_that_was_closed_while_it_was_kept_costs_one_more_try_at_most() -> None:
    """Where every proxy has a kept connection, a page that closes it is tried anew: no other kept one is used."""

    class Kind(Pages):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Serve good pages on a connection, until one is asked for that closes it."""
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while b"/good" in await reader.readuntil(b"\r\n\r\n"):
                    writer.write(self.answer)
                self.asked += 1
            writer.close()

    async with rig("transport", TUNNELS) as running, Kind.start(GOOD) as pages:
        for _ in range(2 * len(TUNNELS)):
            assert (await running.send(f"{pages.url}/good")).status_code == 200
        await fails(running, f"{pages.url}/closes")
        ours = [outcome for outcome in running.reports if outcome.blame is Blame.US]
        assert len(ours) == 1
        assert pages.asked <= 1 + len(TUNNELS)
