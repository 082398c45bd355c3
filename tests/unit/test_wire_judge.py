"""The conversation with a judge as transcripts of bytes."""

from __future__ import annotations

import json

import pytest

from proxywhirl.errors import (
    AccountRefused,
    ForgedAnswer,
    ProxyFailed,
    ProxyURLError,
    TargetUnreachable,
    UpstreamError,
)
from proxywhirl.wire.judge import ANSWER_LIMIT, Judge, Sighting, answer, question
from proxywhirl.wire.steps import Handshake, ReceiveSome, Send

JUDGE = Judge.parse("http://judge.example/here?x=1")
TOLD = answer([("Host", "judge.example"), ("Probe-Nonce", "n1")], "203.0.113.9")


def play(handshake: Handshake[Sighting], *pieces: bytes) -> tuple[bytes, Sighting]:
    """Drive a question with an answer that arrives in pieces and then ends; return what was sent, and the result."""
    sent, arriving = b"", [*pieces, b""]
    step = next(handshake)
    try:
        while True:
            if isinstance(step, Send):
                sent += step.data
                step = handshake.send(b"")
            else:
                assert isinstance(step, ReceiveSome)
                piece = arriving.pop(0)
                if len(piece) > step.limit:
                    arriving.insert(0, piece[step.limit :])
                step = handshake.send(piece[: step.limit])
    except StopIteration as end:
        return sent, end.value


def ask(*pieces: bytes, absolute: bool = False, authorization: str | None = None) -> tuple[bytes, Sighting]:
    """Ask `JUDGE` with the nonce of `TOLD`."""
    return play(question(JUDGE, "n1", absolute=absolute, authorization=authorization), *pieces)


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Write a response with a length."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def refusal(*pieces: bytes) -> UpstreamError:
    """Return the error that an answer leads to."""
    with pytest.raises(UpstreamError) as caught:
        ask(*pieces)
    return caught.value


def test_a_question_names_the_path_or_the_whole_url() -> None:
    """In a tunnel the path is asked for, of an HTTP proxy the URL, and to that alone goes the credential."""
    inside, _ = ask(response(TOLD))
    assert inside.startswith(b"GET /here?x=1 HTTP/1.1\r\nHost: judge.example:80\r\n")
    assert b"\r\nProbe-Nonce: n1\r\n" in inside
    assert b"Authorization" not in inside
    outside, _ = ask(response(TOLD), absolute=True, authorization="Basic Ym9iOnB3")
    assert outside.startswith(b"GET http://judge.example:80/here?x=1 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic Ym9iOnB3\r\n" in outside


@pytest.mark.parametrize(
    "whole",
    [
        response(TOLD),
        b"HTTP/1.0 200 OK\r\n\r\n" + TOLD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(TOLD), TOLD),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + response(TOLD),
    ],
    ids=["length", "until it closes", "chunked", "after an interim response"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_every_framing_is_read_in_pieces_of_any_size(whole: bytes, size: int) -> None:
    """Proxies change the framing, and the network the pieces: the sighting is the same."""
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    _, seen = ask(*pieces)
    assert seen == Sighting("203.0.113.9", (("Host", "judge.example"), ("Probe-Nonce", "n1")))


@pytest.mark.parametrize(
    ("whole", "error", "words"),
    [
        (b"", ProxyFailed, "closed the connection without an answer"),
        (b"\x05\xff", ProxyFailed, "no HTTP response"),
        (b"HTTP/1.1 whatever\r\n\r\n", ProxyFailed, "no HTTP response"),
        (response(TOLD)[:-1], ProxyFailed, "cut the judge's answer short"),
        (b"HTTP/1.1 200 OK\r\n", ProxyFailed, "no HTTP response"),
        (response(b"x" * ANSWER_LIMIT), ProxyFailed, "more than 65536 bytes"),
        (response(b"", "407 Who?"), AccountRefused, "407"),
        (response(b"", "402 Pay"), AccountRefused, "402"),
        (response(b"", "403 No"), TargetUnreachable, "403"),
        (response(b"", "502 Gone"), TargetUnreachable, "502"),
        (response(b"", "302 Found", "Location: http://portal.example/\r\n"), ForgedAnswer, "302"),
        (response(b"<html>Welcome</html>"), ForgedAnswer, "no judge says"),
        (response(b"[" * 60_000), ForgedAnswer, "no judge says"),
        (response(b'{"nonce": "n1", "address": "nowhere", "headers": []}'), ForgedAnswer, "no judge says"),
        (response(b'{"nonce": "n1", "address": "::1", "headers": 7}'), ForgedAnswer, "no judge says"),
        (response(answer([("Probe-Nonce", "n0")], "203.0.113.9")), ForgedAnswer, "another question"),
    ],
)
def test_a_wrong_answer_blames_the_right_party(whole: bytes, error: type[UpstreamError], words: str) -> None:
    """What the answer is decides whose fault it is; none of the answer's own words is repeated."""
    failed = refusal(whole)
    assert type(failed) is error
    assert words in str(failed)
    assert "Welcome" not in str(failed)


def test_a_judge_withholds_credentials() -> None:
    """Of headers that carry a credential it tells the name alone, in any spelling."""
    secret = [("Proxy-Authorization", "Basic c2VjcmV0"), ("COOKIE", "id=secret"), ("authorization", "Bearer secret")]
    told = answer([*secret, ("Via", "1.1 squid")], "::ffff:203.0.113.9")
    assert json.loads(told) == {
        "nonce": "",
        "address": "203.0.113.9",
        "headers": [["Proxy-Authorization", None], ["COOKIE", None], ["authorization", None], ["Via", "1.1 squid"]],
    }


@pytest.mark.parametrize(
    "url",
    ["judge.example", "ftp://judge.example/", "http://bob:pw@judge.example/", "http://judge.example/a b", "http:///x"],
)
def test_a_wrong_url_is_refused(url: str) -> None:
    """A judge is an absolute http or https URL without a credential, which no message shows."""
    with pytest.raises(ProxyURLError) as caught:
        Judge.parse(url)
    assert "pw" not in str(caught.value)


def test_a_url_is_kept_with_its_port_and_path() -> None:
    """The port becomes explicit; path and query stay, the fragment goes."""
    assert Judge.parse("https://[::1]/j?a=b#c").url == "https://[::1]:443/j?a=b"
    assert Judge.parse("http://judge.example").url == "http://judge.example:80/"
