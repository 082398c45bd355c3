"""What changes in a message on its way, and what must never travel on."""

from __future__ import annotations

import h11
import pytest

from proxywhirl.gateway.protocol.messages import (
    Destination,
    Refusal,
    declared_length,
    destination,
    request_upstream,
    response_downstream,
    trailers_onward,
)
from proxywhirl.models import Target
from proxywhirl.urls import ProxyURL

PROXY = ProxyURL("http", "proxy.test", 8080)


def request(target: str, *fields: tuple[str, str], method: str = "GET") -> h11.Request:
    """Make a client's request."""
    return h11.Request(method=method, target=target, headers=[("Host", "other.test"), *fields])


def sent(head: h11.Request, *, via: ProxyURL | None = PROXY, expect: bool = False) -> h11.Request:
    """Return what goes upstream for it."""
    route = destination(head)
    assert isinstance(route, Destination)
    return request_upstream(head, route, via=via, expect=expect)


@pytest.mark.parametrize(
    ("url", "target", "absolute", "origin"),
    [
        ("http://t.test", Target("http", "t.test", 80), b"http://t.test/", b"/"),
        ("http://t.test?q=1", Target("http", "t.test", 80), b"http://t.test/?q=1", b"/?q=1"),
        ("HTTP://T.test:81/a", Target("http", "t.test", 81), b"http://T.test:81/a", b"/a"),
        ("http://u:p@t.test/@x", Target("http", "t.test", 80), b"http://t.test/@x", b"/@x"),
        ("http://u:p/@t.test/", None, b"", b""),
        ("http://[::1]:8/#f", Target("http", "::1", 8), b"http://[::1]:8/", b"/"),
        ("http://t.test/a//b?c=/d", Target("http", "t.test", 80), b"http://t.test/a//b?c=/d", b"/a//b?c=/d"),
    ],
)
def test_the_target_is_read_and_written_without_userinfo(
    url: str, target: Target | None, absolute: bytes, origin: bytes
) -> None:
    """Absolute-form goes to an HTTP proxy, origin-form to a target; neither holds userinfo or fragment."""
    route = destination(request(url))
    if target is None:
        assert isinstance(route, Refusal)
        return
    assert isinstance(route, Destination)
    assert route.target == target
    assert sent(request(url)).target == absolute
    assert sent(request(url), via=None).target == origin


def test_options_for_the_whole_server_becomes_an_asterisk() -> None:
    """OPTIONS without a path asks about the server (RFC 9112 section 3.2.4)."""
    head = request("http://t.test", method="OPTIONS")
    assert sent(head, via=None).target == b"*"
    assert sent(head).target == b"http://t.test"


def test_host_is_the_authority_of_the_target() -> None:
    """The Host that came is replaced, whatever it says (RFC 9112 section 3.2.2)."""
    hosts = [value for name, value in sent(request("http://u@T.test:81/")).headers if name == b"host"]
    assert hosts == [b"T.test:81"]


def test_fields_of_one_hop_end_here() -> None:
    """Hop-by-hop fields, and those that Connection names, go no further; all others do, in their order."""
    head = request(
        "http://t.test/",
        ("Connection", "keep-alive, X-Secret"),
        ("X-Secret", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Accept", "a"),
        ("Cookie", "b"),
        ("Accept", "c"),
    )
    fields = list(sent(head).headers)
    assert fields == [
        (b"host", b"t.test"),
        (b"accept", b"a"),
        (b"cookie", b"b"),
        (b"accept", b"c"),
        (b"connection", b"close"),
    ]


def test_connection_cannot_take_the_framing_away() -> None:
    """A length that Connection names stays: without it the body would be read as the next request."""
    head = request("http://t.test/", ("Connection", "content-length, host"), ("Content-Length", "5"))
    assert (b"content-length", b"5") in list(sent(head).headers)


def test_chunks_win_over_a_length() -> None:
    """A message with both framings travels on with one (RFC 9112 section 6.3)."""
    head = request("http://t.test/", ("Content-Length", "5"), ("Transfer-Encoding", "chunked"))
    names = [name for name, _ in sent(head).headers]
    assert b"transfer-encoding" in names
    assert b"content-length" not in names
    response = h11.Response(status_code=200, headers=[("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
    assert declared_length(response) is None
    assert list(response_downstream(response).headers) == []


def test_the_credential_goes_to_the_proxy_alone() -> None:
    """A proxy with an account gets its credential; a connection to the target never carries one."""
    head = request("http://t.test/")
    paid = ProxyURL("https", "proxy.test", 443, "alice", "s3cret")
    assert (b"proxy-authorization", b"Basic YWxpY2U6czNjcmV0") in list(sent(head, via=paid).headers)
    assert not [name for name, _ in sent(head, via=None).headers if name == b"proxy-authorization"]


def test_an_expectation_travels_only_while_the_client_waits() -> None:
    """Once the body is at hand nobody has to be asked for it."""
    head = request("http://t.test/", ("Expect", "100-continue"), ("Content-Length", "1"))
    assert (b"expect", b"100-continue") in list(sent(head, expect=True).headers)
    assert (b"expect", b"100-continue") not in list(sent(head, expect=False).headers)


def test_a_response_keeps_its_words_and_loses_its_hop() -> None:
    """Status, reason, and end-to-end fields, repeated and in their order, come back as they were."""
    response = h11.Response(
        status_code=299,
        reason=b"Odd Words",
        headers=[
            ("Set-Cookie", "a=1"),
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Proxy-Authenticate", "Basic"),
            ("Set-Cookie", "b=2"),
        ],
    )
    passed = response_downstream(response)
    assert (passed.status_code, passed.reason) == (299, b"Odd Words")
    assert list(passed.headers) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_a_response_without_content_has_no_length() -> None:
    """A 204 that declares a body travels on without it: a client that believed it would wait for ever."""
    assert list(response_downstream(h11.Response(status_code=204, headers=[("Content-Length", "2")])).headers) == []


def test_a_trailer_cannot_change_what_the_head_decided() -> None:
    """Trailers that would change framing, routing or identity are dropped (RFC 9110 section 6.5.1)."""
    trailers = [(b"x-sum", b"7"), (b"content-length", b"1"), (b"host", b"x"), (b"authorization", b"y")]
    assert trailers_onward(trailers) == [(b"x-sum", b"7")]


def test_connect_with_a_body_is_refused() -> None:
    """A body of CONNECT has no meaning, so its bytes must not be taken for the tunnel's."""
    head = request("t.test:443", ("Content-Length", "5"), method="CONNECT")
    assert isinstance(destination(head), Refusal)
