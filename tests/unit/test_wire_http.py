"""The HTTP tunnel handshake as transcripts of bytes."""

from __future__ import annotations

import traceback
from asyncio import LimitOverrunError

import pytest

from proxywhirl.errors import AccountRefused, LocalFailure, ProxyFailed, TargetUnreachable, UpstreamError
from proxywhirl.wire.http import basic_credentials, connect
from proxywhirl.wire.steps import Handshake, ReceiveUntil, Send, quoted


def play(handshake: Handshake[None], received: bytes) -> tuple[bytes, bytes]:
    """Drive a handshake from `received`; return what it sent and what it left unread."""
    sent = b""
    step = next(handshake)
    try:
        while True:
            answer = b""
            if isinstance(step, Send):
                sent += step.data
            else:
                assert isinstance(step, ReceiveUntil)
                end = received.index(step.delimiter) + 1
                if end > step.limit:
                    raise LimitOverrunError("as the driver does", end)
                answer, received = received[:end], received[end:]
            step = handshake.send(answer)
    except StopIteration:
        return sent, received


def refusal(answer: bytes, username: str | None = None, password: str | None = None) -> UpstreamError:
    """Return the error that an answer leads to."""
    with pytest.raises(UpstreamError) as caught:
        play(connect("example.com:443", username, password), answer)
    return caught.value


def test_request_is_written_as_the_rfc_shows_it() -> None:
    """CONNECT names the authority twice and has no body."""
    sent, _ = play(connect("example.com:443"), b"HTTP/1.1 200 OK\r\n\r\n")
    assert sent == b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"


def test_credential_is_sent_as_basic() -> None:
    """A credential goes in Proxy-Authorization, in UTF-8, at once."""
    sent, _ = play(connect("example.com:443", "jürgen", "p:ä"), b"HTTP/1.1 200 OK\r\n\r\n")
    assert f"\r\nProxy-Authorization: {basic_credentials('jürgen', 'p:ä')}\r\n".encode() in sent
    assert basic_credentials("jürgen", "p:ä") == "Basic asO8cmdlbjpwOsOk"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\nVia: old\n\n",
        b"HTTP/1.1 200\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n",
    ],
    ids=["usual", "bare line feeds", "meaningless framing", "interim responses"],
)
def test_any_success_opens_the_tunnel_and_leaves_its_bytes(head: bytes) -> None:
    """Any 2xx is a tunnel, and what follows the head is not touched."""
    assert play(connect("example.com:443"), head + b"tunnel\n\nbytes")[1] == b"tunnel\n\nbytes"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (101, ProxyFailed),
        (302, ProxyFailed),
        (402, AccountRefused),
        (403, TargetUnreachable),
        (407, AccountRefused),
        (451, TargetUnreachable),
        (499, TargetUnreachable),
        (502, TargetUnreachable),
        (503, TargetUnreachable),
        (504, TargetUnreachable),
        (600, ProxyFailed),
    ],
)
def test_status_says_who_is_to_blame(status: int, error: type[UpstreamError]) -> None:
    """Each status that opens no tunnel is the error of the party that it blames."""
    refused = refusal(f"HTTP/1.1 {status} Because\r\n\r\n".encode())
    assert type(refused) is error
    assert status == 101 or f"{status} Because" in str(refused)


@pytest.mark.parametrize("answer", [b"\x05\x00\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"])
def test_garbage_is_the_proxys_failure(answer: bytes) -> None:
    """What is no HTTP response is the proxy's failure."""
    assert type(refusal(answer)) is ProxyFailed


def test_head_without_end_is_refused() -> None:
    """64 KiB of interim responses and headers are the most that is read."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    play(connect("example.com:443"), interim * 1000 + b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(LimitOverrunError):
        play(connect("example.com:443"), interim * 2000 + b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 no hunter2\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1 hunter2\r\n",
        b"HTTP/1.1 502 dXNlcjpodW50ZXIy\r\n\r\n",
    ],
)
def test_echoed_credential_is_in_no_message(answer: bytes) -> None:
    """A proxy that echoes the credential does not get it into an error."""
    text = "".join(traceback.format_exception(refusal(answer, "user", "hunter2"), chain=True))
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))  # without the source
    assert "hunter2" not in text
    assert "dXNlcjpodW50ZXIy" not in text


def test_send_hides_its_bytes() -> None:
    """A step's repr shows no byte of a credential."""
    assert "hunter2" not in repr(Send(b"hunter2"))


@pytest.mark.parametrize("authority", ["a b:1", "a\r\nX: y:1", "bücher.example:443"])
def test_impossible_authority_is_our_own_failure(authority: str) -> None:
    """An authority that could inject a header or is not ASCII is never sent."""
    with pytest.raises(LocalFailure):
        next(connect(authority))


def test_strangers_words_are_made_printable_and_short() -> None:
    """Quoted bytes are one short line of printable ASCII."""
    assert quoted(b"a\x1b[2J\r\nb\xff") == "a.[2J..b."
    assert len(quoted(b"x" * 5000)) == 61


def test_a_refusal_carries_its_head_and_shows_none_of_it() -> None:
    """Status and headers go along for who can decode them; a credential that they echo is in no text of the error."""
    refused = refusal(b"HTTP/1.1 502 Gone\r\nX-BRD-Err-Code: peer_30030\r\nX-Echo: bob:s3cret\r\n\r\n", "bob", "s3cret")
    assert refused.refusal == (502, ((b"x-brd-err-code", b"peer_30030"), (b"x-echo", b"bob:s3cret")))
    shown = "".join(traceback.format_exception(refused)) + repr(refused) + str(refused.about("http://203.0.113.7:80"))
    assert "s3cret" not in shown
    assert refusal(b"nonsense\r\n").refusal is None
