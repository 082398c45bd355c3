"""The SOCKS handshakes as transcripts of bytes, and each client against its own server side."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import (
    AccountRefused,
    BadHandshake,
    LocalFailure,
    ProxyFailed,
    TargetUnreachable,
    UpstreamError,
)
from proxywhirl.wire import http, socks4, socks5
from proxywhirl.wire.steps import Handshake, ReceiveExactly, ReceiveUntil, Requested, Send, Step

T = TypeVar("T")


class Cut(Exception):
    """The bytes ran out, as when a peer closes the connection."""


def take(step: Step, received: bytearray) -> bytes:
    """Answer a receiving step from `received`."""
    if isinstance(step, ReceiveUntil):
        found = received.find(step.delimiter)
        count = found + len(step.delimiter) if found >= 0 else len(received) + 1
        if found >= 0 and count > step.limit:
            raise Cut
    else:
        assert isinstance(step, ReceiveExactly)
        count = step.count
    if len(received) < count:
        raise Cut
    taken = bytes(received[:count])
    del received[:count]
    return taken


def play(handshake: Handshake[T], received: bytes) -> tuple[bytes, bytes, T]:
    """Drive a handshake from `received`; return what it sent, what it left unread, and its result."""
    sent, source = b"", bytearray(received)
    step = next(handshake)
    try:
        while True:
            if isinstance(step, Send):
                sent += step.data
                step = handshake.send(b"")
            else:
                step = handshake.send(take(step, source))
    except StopIteration as end:
        return sent, bytes(source), end.value


def refusal(handshake: Handshake[None], received: bytes) -> UpstreamError:
    """Return the error that an answer leads to."""
    with pytest.raises(UpstreamError) as caught:
        play(handshake, received)
    return caught.value


def nobody(username: str | None, password: str | None) -> bool:
    """Refuse every credential."""
    return False


def anybody(username: str | None, password: str | None) -> bool:
    """Accept every credential."""
    return True


V5_DONE = b"\5\0\0\1" + bytes(6)
V4_DONE = b"\0\x5a" + bytes(6)


def test_socks5_without_credential() -> None:
    """A name goes as a name; what follows the reply is the tunnel's."""
    sent, rest, _ = play(socks5.connect("example.com", 443), b"\5\0" + V5_DONE + b"tunnel")
    assert sent == b"\5\1\0" + b"\5\1\0\3\x0bexample.com\x01\xbb"
    assert rest == b"tunnel"


def test_socks5_with_credential() -> None:
    """A proxy that chooses the method gets username and password (RFC 1929)."""
    sent, _, _ = play(socks5.connect("10.0.0.1", 80, "bob", "pw"), b"\5\2" + b"\1\0" + V5_DONE)
    assert sent == b"\5\2\0\2" + b"\1\3bob\2pw" + b"\5\1\0\1\x0a\0\0\1\0\x50"


def test_socks5_credential_stays_here_when_nobody_asks() -> None:
    """A proxy that chooses no authentication is not sent the credential."""
    sent, _, _ = play(socks5.connect("::1", 80, "bob", "pw"), b"\5\0" + V5_DONE)
    assert sent == b"\5\2\0\2" + b"\5\1\0\4" + bytes(15) + b"\1\0\x50"


@pytest.mark.parametrize("bound", [b"\1" + bytes(6), b"\3\4host\0\1", b"\4" + bytes(18), b"\3\0\0\0"])
def test_socks5_reply_may_hold_any_address(bound: bytes) -> None:
    """The bound address of every type is read to its end, not a byte further."""
    assert play(socks5.connect("a.example", 1), b"\5\0" + b"\5\0\0" + bound + b"x")[1] == b"x"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, ProxyFailed),
        (2, TargetUnreachable),
        (3, TargetUnreachable),
        (4, TargetUnreachable),
        (5, TargetUnreachable),
        (6, TargetUnreachable),
        (7, ProxyFailed),
        (8, ProxyFailed),
        (9, ProxyFailed),
        (255, ProxyFailed),
    ],
)
def test_socks5_reply_says_who_is_to_blame(code: int, error: type[UpstreamError]) -> None:
    """Each reply is the error of the party that it blames, though the proxy closes after two bytes of it."""
    refused = refusal(socks5.connect("a.example", 1), b"\5\0" + bytes((5, code)))
    assert type(refused) is error
    assert f"reply {code}" in str(refused)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HT", ProxyFailed),
        (b"\5\1", ProxyFailed),
        (b"\5\xff", AccountRefused),
        (b"\5\2\1\1", AccountRefused),
        (b"\5\0\4\0", ProxyFailed),
        (b"\5\0\5\0\0\7", ProxyFailed),
    ],
    ids=["http", "GSSAPI", "no method", "refused", "other version in the reply", "unknown address type"],
)
def test_socks5_answers_out_of_place(answer: bytes, error: type[UpstreamError]) -> None:
    """Broken protocol is the proxy's failure, a refused credential the account's."""
    assert type(refusal(socks5.connect("a.example", 1, "bob", "pw"), answer)) is error


def test_socks5_asks_for_a_credential_that_there_is_not() -> None:
    """A proxy that wants a login from who has none refuses the account."""
    assert type(refusal(socks5.connect("a.example", 1), b"\5\xff")) is AccountRefused


@pytest.mark.parametrize(("username", "password"), [("", "pw"), ("bob", ""), ("b" * 256, "pw"), ("bob", "ä" * 128)])
def test_socks5_credential_that_cannot_be_sent(username: str, password: str) -> None:
    """A username or password that is not 1 to 255 bytes is refused by name and not sent."""
    refused = refusal(socks5.connect("a.example", 1, username, password), b"\5\2")
    assert type(refused) is AccountRefused
    assert "1 to 255 bytes" in str(refused)


@pytest.mark.parametrize("host", ["", "x" * 256, "bücher.example"])
def test_impossible_host_is_our_own_failure(host: str) -> None:
    """A host that neither protocol can carry is nobody else's fault."""
    for handshake in (socks5.connect(host, 1), socks4.connect(host, 1)):
        with pytest.raises(LocalFailure):
            next(handshake)


def test_socks4_with_an_address() -> None:
    """An IPv4 literal goes as SOCKS4, with the username as user id."""
    sent, rest, _ = play(socks4.connect("127.0.0.1", 80, "bob"), V4_DONE + b"tunnel")
    assert sent == b"\4\1\0\x50\x7f\0\0\1bob\0"
    assert rest == b"tunnel"


def test_socks4a_with_a_name() -> None:
    """A name goes as SOCKS4A."""
    sent, _, _ = play(socks4.connect("example.com", 443), V4_DONE)
    assert sent == b"\4\1\1\xbb\0\0\0\1\0example.com\0"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"\0\x5b", TargetUnreachable),
        (b"\0\x5c", AccountRefused),
        (b"\0\x5d", AccountRefused),
        (b"\0\x42", ProxyFailed),
        (b"\5\xff", ProxyFailed),
    ],
)
def test_socks4_reply_says_who_is_to_blame(answer: bytes, error: type[UpstreamError]) -> None:
    """Each code is the error of the party that it blames."""
    assert type(refusal(socks4.connect("a.example", 1), answer)) is error


def test_socks4_cannot_carry_ipv6_or_a_zero_byte() -> None:
    """An IPv6 target may be reached by another proxy; a user id with a zero byte would end early."""
    with pytest.raises(TargetUnreachable):
        next(socks4.connect("::1", 1))
    with pytest.raises(AccountRefused):
        next(socks4.connect("127.0.0.1", 1, "bob\0evil.example"))


names = st.from_regex(r"[a-z][a-z0-9-]{0,30}(\.[a-z]{2,8}){0,3}", fullmatch=True)
ports = st.integers(0, 65535)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(st.one_of(names, st.ip_addresses().map(str)), ports, texts, texts)
def test_socks5_server_understands_the_client(host: str, port: int, username: str, password: str) -> None:
    """What the client asks for is what the server hears, whatever the host, port and credential."""
    answers = b"\5\2" + b"\1\0" + V5_DONE
    sent, _, _ = play(socks5.connect(host, port, username, password), answers)
    answered, rest, heard = play(socks5.accept(anybody, needs_credential=True), sent)
    assert (heard.host, heard.port, heard.username, heard.password) == (host, port, username, password)
    assert answered + socks5.reply(socks5.Reply.SUCCEEDED) == answers
    assert rest == b""


@given(st.one_of(names, st.ip_addresses(v=4).filter(lambda ip: not 0 < int(ip) < 256).map(str)), ports, texts)
def test_socks4_server_understands_the_client(host: str, port: int, user_id: str) -> None:
    """What the client asks for is what the server hears, as SOCKS4 and as 4A."""
    sent, _, _ = play(socks4.connect(host, port, user_id), socks4.reply(socks4.GRANTED))
    answered, rest, heard = play(socks4.accept(anybody), sent)
    assert heard == Requested(host, port, user_id)
    assert (answered, rest) == (b"", b"")


def test_requested_hides_the_credential() -> None:
    """What a client offered is in no repr."""
    assert "secret" not in repr(Requested("a.example", 1, "secret", "secret"))


@pytest.mark.parametrize(
    ("handshake", "request_bytes", "told"),
    [
        (socks5.accept(nobody, needs_credential=True), b"\5\1\0", b"\5\xff"),
        (socks5.accept(nobody, needs_credential=True), b"\5\1\2\1\1a\1b", b"\5\2\1\1"),
        (socks4.accept(nobody), b"\4\1\0\1\x7f\0\0\1bob\0", b"\0\x5d" + bytes(6)),
    ],
    ids=["none offered", "wrong password", "wrong user id"],
)
def test_server_tells_a_client_that_it_refuses(
    handshake: Handshake[Requested], request_bytes: bytes, told: bytes
) -> None:
    """A client without the right credential hears so in the protocol's words before the error."""
    sent = b""
    received = bytearray(request_bytes)
    with pytest.raises(AccountRefused):  # noqa: PT012 - the handshake is one statement spread over steps
        step = next(handshake)
        while True:
            if isinstance(step, Send):
                sent += step.data
            step = handshake.send(b"" if isinstance(step, Send) else take(step, received))
    assert sent == told


@pytest.mark.parametrize("request_bytes", [b"GE", b"\5\1\0\5\2\0\1", b"\5\1\0\5\1\0\x09"])
def test_socks5_server_refuses_what_it_does_not_do(request_bytes: bytes) -> None:
    """Another version, command or address type is the client's fault."""
    with pytest.raises(BadHandshake):
        play(socks5.accept(anybody, needs_credential=False), request_bytes)


def test_socks4_server_refuses_what_it_does_not_do() -> None:
    """Another version or command is the client's fault."""
    with pytest.raises(BadHandshake):
        play(socks4.accept(anybody), b"\4\2\0\1\x7f\0\0\1\0")


garbage = st.one_of(
    st.binary(max_size=300),
    st.builds(
        bytes.__add__, st.sampled_from([b"\5\0", b"\5\2", b"\5\2\1\0", b"\0\x5a", b"HTTP/1.1 200 "]), st.binary()
    ),
    st.lists(st.sampled_from([b"HTTP/1.1 ", b"200", b"100", b"\r\n", b"\n", b":", b" ", b"x", b"\xff"])).map(b"".join),
)


@given(garbage, st.booleans())
def test_no_answer_raises_anything_but_an_upstream_error(answer: bytes, secret: bool) -> None:
    """Whatever a proxy answers, a client ends, waits for more, or raises an `UpstreamError` without the secret."""
    login = ("user", "hunter2-hunter2") if secret else (None, None)
    for handshake in (
        http.connect("example.com:443", *login),
        socks5.connect("example.com", 443, *login),
        socks4.connect("example.com", 443, login[0]),
    ):
        message = ""
        try:
            play(handshake, answer)
        except Cut:
            continue
        except UpstreamError as exc:
            message = str(exc)
        assert "hunter2" not in message


@given(garbage)
def test_no_request_raises_anything_but_its_errors(request_bytes: bytes) -> None:
    """Whatever a client sends, a server side ends, waits for more, or raises one of its two errors."""
    for handshake in (
        socks5.accept(nobody, needs_credential=True),
        socks5.accept(anybody, needs_credential=False),
        socks4.accept(anybody),
    ):
        try:
            play(handshake, request_bytes)
        except (Cut, BadHandshake, AccountRefused):
            continue
