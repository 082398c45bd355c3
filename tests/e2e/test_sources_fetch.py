"""Fetching from servers that misbehave: what is taken is whole, and everything else ends soon, as an error."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import os
import socket
import ssl
import struct
import time
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import SourceError
from proxywhirl.sources.fetching.body import Validators
from proxywhirl.sources.fetching.bounds import FetchOptions, is_public
from proxywhirl.sources.fetching.fetch import Fetcher, IsPublic, Resolve, resolve
from proxywhirl.sources.harvest import harvest
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.testing import ManualClock, Origin

LIST = "203.0.113.1:8080\n203.0.113.2:3128\n"
QUICK = FetchOptions(connect_timeout=2, read_timeout=0.3, total_timeout=2, max_bytes=100_000, attempts=2, wait=0)
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def spec(location: str, provenance: Provenance = Provenance.USER, **more: Any) -> SourceSpec:
    """Return a source, by default the user's own."""
    return SourceSpec("list", location, provenance=provenance, **more)


def fetch(
    source: SourceSpec | str,
    options: FetchOptions = QUICK,
    known: Validators | None = None,
    clock: ManualClock | None = None,
    resolver: Resolve = resolve,
    public: IsPublic = is_public,
) -> tuple[bytes | None, Validators]:
    """Fetch a source and return its content and validators."""

    async def run() -> tuple[bytes | None, Validators]:
        async with Fetcher(options, clock=clock or ManualClock(), resolver=resolver, public=public) as fetcher:
            asked = spec(source) if isinstance(source, str) else source
            fetched = await fetcher.fetch(asked, known or Validators())
            content = fetched.content.read() if fetched.content else None
            fetched.close()
            return content, fetched.validators

    return asyncio.run(run())


def failure(source: SourceSpec | str, **more: Any) -> str:
    """Return the words of the error that fetching a source ends in."""
    with pytest.raises(SourceError) as caught:
        fetch(source, **more)
    return str(caught.value)


def dripping(connection: socket.socket, _: object) -> None:
    """Send one byte after the other without an end."""
    connection.sendall(OK + b"\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"1")
            time.sleep(0.02)


def reset(connection: socket.socket, _: object) -> None:
    """Send half of a list and reset the connection."""
    connection.sendall(OK + b"Content-Length: 1000\r\n\r\n" + LIST.encode())
    time.sleep(0.05)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def endless(connection: socket.socket, _: object) -> None:
    """Send a list that does not end."""
    connection.sendall(OK + b"\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(LIST.encode() * 1000)


def silent(connection: socket.socket, _: object) -> None:
    """Take the request and say nothing."""
    connection.settimeout(5)
    with contextlib.suppress(OSError):
        connection.recv(1)


def test_a_list_comes_whole_with_its_validators(lists: Any) -> None:
    """What the server says of the version comes with the content, and is sent along the next time."""
    url = lists.put("/l", LIST, ETag='"v1"', Last_Modified="Mon, 06 Jul 2026 00:00:00 GMT")
    content, validators = fetch(url)
    assert content == LIST.encode()
    assert validators == Validators('"v1"', "Mon, 06 Jul 2026 00:00:00 GMT")
    lists.put("/l", "", "304 Not Modified")
    assert fetch(url, known=validators) == (None, validators)
    assert lists.requests[1].headers["if-none-match"] == '"v1"'
    assert lists.requests[1].headers["if-modified-since"] == "Mon, 06 Jul 2026 00:00:00 GMT"
    assert "if-none-match" not in lists.requests[0].headers


def test_a_304_that_nobody_asked_for_is_an_error(lists: Any) -> None:
    """Without validators there is nothing that could be unchanged."""
    assert failure(lists.put("/l", "", "304 Not Modified")) == "it answers 304"


@pytest.mark.parametrize("answer", [dripping, endless, silent, reset])
def test_what_does_not_end_well_is_an_error(lists: Any, answer: Any) -> None:
    """A drip, an endless body, silence and a reset end, each with its own words."""
    words = {
        dripping: "it was not done within 1 s",
        endless: "the list is larger than 100000 bytes: raise sources.max_bytes to allow it",
        silent: "nothing came from it for 0.3 s",
        reset: "the connection was cut",
    }
    assert failure(lists.serve("/l", answer), options=replace(QUICK, total_timeout=1)) == words[answer]


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 9999\r\n\r\n" + LIST.encode(),
        OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\n203.0.113.1:8080\r\n",
        OK + b"Content-Length: x\r\n\r\n" + LIST.encode(),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        OK + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=["truncated", "chunks cut", "no number", "no HTTP", "nothing", "huge header"],
)
def test_an_answer_that_breaks_off_is_tried_again_and_is_an_error(lists: Any, answer: bytes) -> None:
    """Nothing of it is used; a second attempt is made, since it may pass."""
    assert failure(lists.serve("/l", answer)) in ("the answer breaks off, or is not HTTP", "the connection was cut")
    assert len(lists.requests) == 2


def test_a_bomb_is_stopped_at_the_bound(lists: Any) -> None:
    """A thousand times what came over the wire is an error and no outage; so are layers of empty members."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    options = replace(QUICK, max_bytes=5_000_000, total_timeout=5)
    url = lists.put("/l", bomb, Content_Encoding="gzip")
    assert "larger than 5000000 bytes" in failure(url, options=options)
    url = lists.put("/m", gzip.compress(b"") * 300_000, Content_Encoding="gzip")
    assert "larger than 5000000 bytes" in failure(url, options=options)
    assert len(lists.requests) == 2


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(LIST.encode()), "gzip"),
        (gzip.compress(LIST.encode()), "x-gzip"),
        (gzip.compress(LIST.encode()), "identity"),
        (gzip.compress(LIST[:17].encode()) + gzip.compress(LIST[17:].encode()), "gzip"),
        (gzip.compress(LIST.encode()) + bytes(100), "gzip"),
        (zlib.compress(LIST.encode()), "deflate"),
        (zlib.compress(LIST.encode())[2:-4], "deflate"),
        (LIST.encode(), "gzip"),
    ],
    ids=["gzip", "x-gzip", "not told", "members", "padded", "deflate", "raw deflate", "not packed"],
)
def test_a_packed_list_is_unpacked(lists: Any, body: bytes, encoding: str) -> None:
    """Whether it is packed is told by its bytes, whatever the server says of it."""
    assert fetch(lists.put("/l", body, Content_Encoding=encoding))[0] == LIST.encode()


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_a_packed_list_that_is_cut_is_an_error(lists: Any, cut: int) -> None:
    """Though the length is that which the server declared."""
    url = lists.put("/l", gzip.compress(LIST.encode())[:-cut], Content_Encoding="gzip")
    assert failure(url) == "the answer breaks off: its compressed content has no end"


def test_an_encoding_that_was_not_asked_for_is_named(lists: Any) -> None:
    """What cannot be unpacked is not taken for a list."""
    assert "'br'" in failure(lists.put("/l", b"\x0b\x02\x80", Content_Encoding="br"))
    assert lists.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "429 Too Many", "408 Timeout"])
def test_a_failure_that_may_pass_is_tried_again(lists: Any, status: str) -> None:
    """A server that recovers gives its list at the second attempt."""

    def answer(connection: socket.socket, _: object) -> None:
        first = len(lists.requests) == 1
        connection.sendall(
            f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            if first
            else OK + b"\r\n" + LIST.encode()
        )

    assert fetch(lists.serve("/l", answer))[0] == LIST.encode()
    assert len(lists.requests) == 2


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "410 Gone", "204 No Content", "206 Partial"])
def test_a_refusal_is_an_error_at_once(lists: Any, status: str) -> None:
    """To ask again would change nothing."""
    url = lists.put("/l", "", status)
    assert failure(url) == f"it answers {status[:3]}"
    assert len(lists.requests) == 1


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("120", 120.0),
        (format_datetime(datetime(2026, 7, 1, 0, 10, tzinfo=UTC), usegmt=True), 600.0),
        ("99999999999", 86_400.0),
    ],
)
def test_a_long_pause_that_is_asked_for_is_left_for_another_time(lists: Any, text: str, pause: float) -> None:
    """The error tells how long; nothing is asked again meanwhile."""
    clock = ManualClock(datetime(2026, 7, 1, tzinfo=UTC).timestamp())
    with pytest.raises(SourceError) as caught:
        fetch(lists.put("/l", "", "429 Too Many Requests", Retry_After=text), clock=clock)
    assert caught.value.retry_after == pause
    assert len(lists.requests) == 1


def test_a_short_pause_is_waited_for(lists: Any) -> None:
    """A server that wants no time gets none, and is asked again."""
    failure(lists.put("/l", "", "503 Busy", Retry_After="0"))
    assert len(lists.requests) == 2


def test_redirects_are_followed_as_far_as_is_reasonable(lists: Any) -> None:
    """Some are; a circle and a long chain are errors."""
    lists.put("/l", LIST)
    for number in range(9):
        lists.put(f"/{number}", "", "302 Found", Location=f"/{number - 1}" if number else "/l")
    assert fetch(lists.url("/4"))[0] == LIST.encode()
    assert failure(lists.url("/8")) == "more than 5 redirects"
    assert failure(lists.put("/circle", "", "301 Moved", Location="/circle#again")) == "its redirects lead in a circle"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "it redirects to a file: URL, which is not followed"),
        ("gopher://127.0.0.1/", "it redirects to a gopher: URL, which is not followed"),
        ("http://[::1", "it redirects to nowhere"),
        ("", "it redirects to nowhere"),
    ],
)
def test_a_redirect_to_what_is_no_web_page_is_refused(lists: Any, location: str, words: str) -> None:
    """No redirect reaches a file."""
    assert failure(lists.put("/l", "", "302 Found", Location=location)) == words


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "0"])
def test_a_public_source_reaches_no_private_address(lists: Any, host: str) -> None:
    """Whatever the address is spelled like, it is the one connected to that counts."""
    words = failure(spec(lists.url("/l", host), Provenance.CATALOGUE))
    assert "is not on the public internet" in words or "cannot be connected to" in words
    assert lists.requests == []


def test_a_name_that_changes_its_address_gains_nothing(lists: Any) -> None:
    """It is looked up once, and the address that was checked is the one that is connected to."""
    answers = iter([["127.0.0.1"], ["93.184.215.14"]])

    async def resolver(host: str, port: int) -> list[str]:
        return next(answers)

    source = spec(lists.url("/l", "rebinding.example"), Provenance.PLUGIN)
    assert "rebinding.example is not on the public internet" in failure(source, resolver=resolver)
    assert next(answers) == ["93.184.215.14"]


def test_the_users_own_source_may_be_anywhere_and_lead_on_inside(lists: Any) -> None:
    """A private server may redirect to another private one."""
    lists.put("/l", LIST)
    assert fetch(lists.put("/r", "", "307 Go", Location=lists.url("/l", "localhost")))[0] == LIST.encode()


@pytest.mark.parametrize("provenance", [Provenance.CATALOGUE, Provenance.PLUGIN, Provenance.USER])
def test_a_source_on_a_public_address_leads_to_no_private_one(lists: Any, outside: Any, provenance: Provenance) -> None:
    """Whoever named it: a redirect, also one by way of another public page, is refused before a connection is made."""
    public = outside.host.__eq__
    lists.put("/l", LIST)
    source = spec(outside.put("/on", "", "302 Found", Location="/in"), provenance)
    for place in ("127.0.0.1", "localhost"):
        outside.put("/in", "", "302 Found", Location=lists.url("/l", place))
        words = failure(source, public=public)
        assert words == f"{place} is not on the public internet: only a source that you added yourself may be there"
    assert lists.requests == []
    outside.put("/in", "", "302 Found", Location=outside.put("/l", LIST))
    assert fetch(source, public=public)[0] == LIST.encode()


def test_of_several_addresses_only_those_are_tried_that_are_allowed(lists: Any, outside: Any) -> None:
    """A name with a private address beside a public one is reached at the latter."""

    async def both(host: str, port: int) -> list[str]:
        return [lists.host, outside.host]

    source = spec(outside.put("/l", LIST).replace(outside.host, "both.example"), Provenance.CATALOGUE)
    assert fetch(source, resolver=both, public=outside.host.__eq__)[0] == LIST.encode()
    assert lists.requests == []


def test_credentials_go_to_the_server_that_they_are_for_alone(lists: Any) -> None:
    """Userinfo becomes a header for the source's own server; after a redirect elsewhere it is not sent."""
    lists.put("/l", LIST)
    lists.put("/r", "", "302 Found", Location=lists.url("/l", "localhost"))
    fetch(lists.url("/r").replace("://", "://bob:hunter2@"))
    assert lists.asked("/r")[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in lists.asked("/l")[0].headers
    assert "hunter2" not in lists.asked("/r")[0].headers["host"]


def test_no_cookie_is_kept(lists: Any) -> None:
    """What one answer sets is not sent with the next request."""
    lists.put("/l", LIST)
    fetch(lists.put("/r", "", "302 Found", Location="/l", Set_Cookie="a=b"))
    assert "cookie" not in lists.asked("/l")[0].headers


def test_the_environment_changes_nothing(lists: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would connect where we do not look."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert fetch(lists.put("/l", LIST))[0] == LIST.encode()


def test_a_server_that_is_not_there_is_named_by_its_fault() -> None:
    """A refused connection and a name that does not exist are told apart."""

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "it cannot be connected to: " in failure(f"http://127.0.0.1:{port}/")
    assert failure("http://lists.example/", resolver=nowhere).startswith("it cannot be connected to: ")


def test_the_second_address_is_tried_when_the_first_refuses(lists: Any) -> None:
    """A host with a dead address is still reached."""

    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    assert fetch(lists.put("/l", LIST).replace("127.0.0.1", "two.example"), resolver=two)[0] == LIST.encode()


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """Plain or packed; what is no file, is missing or too large is an error."""
    path = tmp_path / "list.txt"
    for content in (LIST.encode(), b"203.0.113.9:1\n"):
        path.write_bytes(content)
        assert fetch(str(path))[0] == content
    path.write_bytes(gzip.compress(LIST.encode()))
    assert fetch(str(path))[0] == LIST.encode()
    path.write_bytes(b"x" * 100_001)
    assert "larger than 100000 bytes" in failure(str(path))
    os.mkfifo(tmp_path / "pipe")
    assert failure(str(tmp_path / "pipe")) == f"{tmp_path / 'pipe'} is no file"
    assert failure(str(tmp_path / "none")) == f"{tmp_path / 'none'} cannot be read: No such file or directory"


def harvested(content: bytes | str, provenance: Provenance = Provenance.USER, **more: Any) -> list[str]:
    """Return the proxies that are taken from what a source gave."""
    data = content if isinstance(content, bytes) else content.encode()
    return [
        url.canonical
        for url, _ in harvest(io.BytesIO(data), spec("http://l.example/", provenance, **more)).proxies.values()
    ]


@pytest.mark.parametrize(
    "content",
    [
        LIST.replace("\n", "\r\n").encode("utf-16"),
        LIST.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + LIST.encode(),
        LIST.replace("\n", " M\xfcnchen\n").encode("latin-1"),
        LIST.encode("utf-32"),
    ],
    ids=["utf-16 and CRLF", "CR", "mark", "latin-1", "utf-32"],
)
def test_any_encoding_and_line_end_is_borne(content: bytes) -> None:
    """The bytes decide, not what the server says of them."""
    assert harvested(content) == ["http://203.0.113.1:8080", "http://203.0.113.2:3128"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the list is empty"),
        (b" \n\n", "the list is empty"),
        (b"<!DOCTYPE html><html><body><h1>502</h1>nginx 1.18.0</body></html>", "a web page came"),
        (b"Too many requests", "there is no proxy in it"),
        (b"203.0.113.1:99999\n", r"there is no proxy in it; line 1: "),
        (b'["203.0.113.1:80", "203.0', "not a readable JSON list"),
        (b"\x28\xb5\x2f\xfd rest", "compressed"),
    ],
)
def test_an_answer_without_a_proxy_is_an_error_that_says_what_came(content: bytes, words: str) -> None:
    """An error page with the status 200 is no list; a document that breaks off is none either."""
    with pytest.raises(SourceError, match=words):
        harvested(content)


def test_a_public_list_puts_no_private_address_into_the_pool() -> None:
    """Else any list could make us connect to services of this machine and its network."""
    content = "127.0.0.1:80\n10.0.0.1:80\nlocalhost:80\n[::1]:80\n8.8.4.4:80\nproxy.example:80\n"
    assert harvested(content, Provenance.CATALOGUE) == ["http://8.8.4.4:80", "http://proxy.example:80"]
    assert len(harvested(content)) == 6


def test_https_is_spoken_and_certificates_are_checked(authority: Any) -> None:
    """A list comes over TLS from a server that is trusted, and from no other."""

    async def run(tls: ssl.SSLContext | None) -> bytes:
        async with Origin.start(tls=authority.server) as origin, Fetcher(QUICK, tls=tls) as fetcher:
            fetched = await fetcher.fetch(spec(f"{origin.url}/bytes/100"))
            assert fetched.content is not None
            with fetched.content as content:
                return content.read()

    assert len(asyncio.run(run(authority.client))) == 100
    with pytest.raises(SourceError, match="it cannot be connected to: its certificate is not trusted"):
        asyncio.run(run(None))


def test_reading_a_list_ends_too() -> None:
    """Who is asked whether it takes too long may say so, now and again."""
    answers = iter([False, False, True])
    content = io.BytesIO(b"203.0.113.1:80\n" * 9999)
    with pytest.raises(SourceError, match="after 2000 lines the time was over"):
        harvest(content, spec("http://l.example/"), too_long=lambda: next(answers))
