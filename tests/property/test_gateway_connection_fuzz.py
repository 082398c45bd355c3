"""Whatever comes, from either side and however it is cut, ends in an HTTP response or a closed connection."""

from __future__ import annotations

from itertools import pairwise

import h11
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.gateway import GatewayOptions
from proxywhirl.gateway.protocol.commands import (
    Dial,
    Ending,
    FromClient,
    FromUpstream,
    ReadClient,
    ReadEither,
    ReadUpstream,
    Relay,
    WriteClient,
    WriteUpstream,
)
from proxywhirl.gateway.protocol.connection import ClientConnection
from proxywhirl.models import Proxy
from proxywhirl.rotation.retries.pursuit import Choose, NoChoice
from proxywhirl.rotation.retries.send_policy import SendPolicy
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL

ENDPOINT = ProxyURL("http", "proxy.test", 8080, "alice", "s3cret")
CHUNKS = b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n"
REQUESTS = [
    b"GET http://t.test/a HTTP/1.1\r\nHost: t.test\r\n\r\n",
    b"\r\nHEAD http://t.test/ HTTP/1.1\r\nHost: t.test\r\n\r\n",
    b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nTransfer-Encoding: chunked\r\n\r\n%s" % CHUNKS,
    b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET http://t.test/ HTTP/1.0\r\n\r\n",
    b"CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n",
    b"NONSENSE\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nshort",
]


@st.composite
def cut(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """Cut bytes at arbitrary places."""
    places = draw(st.lists(st.integers(0, len(whole)), max_size=12))
    return [whole[a:b] for a, b in pairwise(sorted({0, len(whole), *places}))]


class World:
    """Answers a connection's commands: each connection upstream gives the same chunks and then ends."""

    def __init__(self, client: list[bytes], upstream: list[bytes]) -> None:
        self._client = [chunk for chunk in client if chunk]
        self._script = [chunk for chunk in upstream if chunk]
        self._upstream: list[bytes] = []
        self.downstream = b""
        self.ending = self._run()

    def _run(self) -> Ending:
        steps = ClientConnection(GatewayOptions(), ManualClock(), SendPolicy()).steps()
        answer: object = None
        while True:
            try:
                answer = self._answer(steps.send(answer))
            except StopIteration as end:
                ending: Ending = end.value
                return ending

    def _answer(self, command: object) -> object:  # noqa: PLR0911 - a table of commands
        match command:
            case ReadClient():
                return self._client.pop(0) if self._client else b""
            case WriteClient(data=data):
                self.downstream += data
            case Choose(exclude=exclude):
                return NoChoice("all were tried") if exclude else Proxy.of(ENDPOINT)
            case Dial():
                self._upstream = list(self._script)
                return ENDPOINT
            case WriteUpstream(data=data):
                assert data
            case ReadUpstream():
                return self._upstream.pop(0) if self._upstream else b""
            case ReadEither():
                if self._client:
                    return FromClient(self._client.pop(0))
                return FromUpstream(self._upstream.pop(0) if self._upstream else b"")
            case Relay():
                return 1, 1
        return None


def read(data: bytes, methods: list[bytes]) -> list[object]:
    """Read responses with a client's parser: status, fields, body and trailers of each, then what is odd."""
    found: list[object] = []
    for method in methods:
        if not data:
            break
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="x:1", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        client.receive_data(b"")
        try:
            found.append(_response(client))
        except h11.RemoteProtocolError:
            return [*found, "broken"]
        data = client.trailing_data[0]
    return [*found, "left over"] if data else found


def _response(client: h11.Connection) -> tuple[object, ...]:
    head: tuple[object, ...] = ()
    body = b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            head = (event.status_code, list(event.headers))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return *head, body, list(event.headers)
        elif event is h11.PAUSED:
            return *head, "tunnel"


def methods(requests: list[bytes]) -> list[bytes]:
    """Return the method of each request."""
    return [request.split()[0] for request in requests]


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.binary(max_size=40), max_size=6))
def test_arbitrary_bytes_never_break_the_connection(client: list[bytes], upstream: list[bytes]) -> None:
    """Noise on both sides: no exception, and what the client gets is one whole HTTP response or nothing."""
    world = World(client, upstream)
    assert not {"broken", "left over"}.intersection(map(str, read(world.downstream, [b"GET"])))
    assert b"s3cret" not in world.downstream


@given(st.data(), st.sampled_from(REQUESTS), st.sampled_from(RESPONSES))
def test_arbitrary_damage_never_breaks_the_connection(data: st.DataObject, request: bytes, response: bytes) -> None:
    """Nearly valid traffic with bytes changed and lost: no exception, and a first byte that is HTTP's."""

    def damage(whole: bytes) -> bytes:
        place = data.draw(st.integers(0, len(whole)))
        return whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + data.draw(st.integers(0, 3)) :]

    world = World(data.draw(cut(damage(request))), data.draw(cut(damage(response))))
    assert world.downstream.startswith(b"HTTP/1.1 ") or not world.downstream


@given(st.data(), st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4), st.sampled_from(RESPONSES))
def test_where_the_bytes_are_cut_changes_nothing(data: st.DataObject, requests: list[bytes], response: bytes) -> None:
    """A pipeline of requests gets the same bytes and the same ending, in one piece or in a hundred."""
    whole = b"".join(requests)
    at_once = World([whole], [response])
    byte_by_byte = World([bytes([byte]) for byte in whole], [bytes([byte]) for byte in response])
    anyhow = World(data.draw(cut(whole)), data.draw(cut(response)))
    for world in (byte_by_byte, anyhow):
        assert read(world.downstream, methods(requests)) == read(at_once.downstream, methods(requests))
        assert world.ending is at_once.ending


@given(st.data(), st.sampled_from(REQUESTS[:2]), st.sampled_from(RESPONSES))
def test_an_orderly_end_means_a_whole_answer(data: st.DataObject, request: bytes, response: bytes) -> None:
    """Whatever is cut off upstream, a connection that is closed in order carried a whole response."""
    world = World([request], [response[: data.draw(st.integers(0, len(response)))]])
    answer = read(world.downstream, methods([request]))
    if world.ending is Ending.CLOSE:
        assert len(answer) == 1
        assert answer[0] != "broken"
    else:
        assert answer == ["broken"]
