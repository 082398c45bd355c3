"""Proxies that cannot be: whatever the address and the credential, what fails is that proxy's own failure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxywhirl.errors import AccountRefused, Blame, LocalFailure, ProxyFailed
from proxywhirl.health.levels import Level
from proxywhirl.health.probe import Prober
from proxywhirl.models import Target
from proxywhirl.net.dial import dial
from proxywhirl.urls import SCHEMES, ProxyURL
from proxywhirl.wire import http, socks4, socks5

TIMEOUT = 20.0  # nothing here takes long
TARGET = Target("http", "127.0.0.1", 9)


class ShutIn(asyncio.SelectorEventLoop):
    """A loop that asks no name server and hears of no machine but this one."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Do all that comes before a question to a name server."""
        found = socket.getaddrinfo("127.0.0.1" if host == "localhost" else host, port, flags=socket.AI_NUMERICHOST)
        if not all(ip_address(str(address[0])).is_loopback for *_, address in found):
            raise socket.gaierror(socket.EAI_NONAME, "nobody beyond this machine is asked")
        kinds = (0, socket.SOCK_STREAM)
        return [answer for answer in found if answer[1] in kinds]


HERE = ["127.0.0.1", "localhost"]
SPELLED = ["a..b", "x" * 64 + ".example", "y." * 200 + "z", "", ".", ".a", "1.2.3.999", "[::g]", "a\0b", "\udc80"]
# Without digits and colons no text can be the address of another machine.
TEXTS = st.text(st.characters(exclude_categories=["N"], exclude_characters=":"), max_size=300)
PORTS = st.sampled_from([-1, 65536, 70000, 2**31, 2**64]) | st.integers(max_value=-1) | st.integers(min_value=65536)
WITHOUT_HOST = st.builds(
    ProxyURL,
    scheme=st.sampled_from(list(SCHEMES)),
    host=st.sampled_from(SPELLED) | TEXTS.filter(lambda text: text.strip("[]") != "localhost"),
    port=st.integers(0, 65535) | PORTS,
)
WITHOUT_PORT = st.builds(ProxyURL, scheme=st.sampled_from(list(SCHEMES)), host=st.sampled_from(HERE), port=PORTS)


def always(*urls: ProxyURL) -> Callable[[Any], Any]:
    """Try these too, each time."""

    def decorated(test: Any) -> Any:
        for url in urls:
            test = example(url=url)(test)
        return test

    return decorated


IMPOSSIBLE = always(
    ProxyURL("http", "127.0.0.1", 70000),
    ProxyURL("http", "localhost", 70000),  # a name service takes that for port 4464
    ProxyURL("https", "a..b", 8080),
    ProxyURL("socks5", "a\0b", 1080),
)


@IMPOSSIBLE
@given(url=WITHOUT_HOST | WITHOUT_PORT)
@settings(max_examples=150)
def test_dialling_what_cannot_be_is_that_proxys_failure(url: ProxyURL) -> None:
    """Whatever the address, with a target or without, one error comes of it, which names the proxy."""
    with asyncio.Runner(loop_factory=ShutIn) as runner:
        for target in (None, TARGET):
            with pytest.raises(ProxyFailed) as caught:
                runner.run(dial(url, target, timeout=TIMEOUT))
            assert str(caught.value).startswith(f"{url.canonical} ")
            assert url.host not in HERE or "has no port that exists" in str(caught.value)


@IMPOSSIBLE
@given(url=WITHOUT_HOST | WITHOUT_PORT)
@settings(max_examples=100)
def test_probing_what_cannot_be_is_that_proxys_failure(url: ProxyURL) -> None:
    """Whatever the address, a check of any level has a result, which blames the proxy."""

    async def probe(level: Level) -> None:
        prober = Prober(judges=["http://127.0.0.1:9/"], target=TARGET, timeout=TIMEOUT)
        result = await prober.probe(url, level, key="k")
        assert (result.ok, result.blame) == (False, Blame.PROXY)
        assert (result.error or "").startswith(f"{url.canonical} ")

    with asyncio.Runner(loop_factory=ShutIn) as runner:
        for level in (Level.TCP, Level.HANDSHAKE, Level.HTTP):
            runner.run(probe(level))


MARK = "s3cr3t"
CREDENTIALS = st.none() | st.text(st.characters(), max_size=300).map(lambda text: MARK + text)


def behind(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all that is behind it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def logs_in_socks5(username: str | None, password: str | None) -> None:
    """Go as far as a proxy that wants the password."""
    handshake = socks5.connect("a.example", 80, username, password)
    for answer in (None, b"", b"\x05\x02"):
        handshake.send(answer)  # type: ignore[arg-type]  # a generator begins with None


@example(username=MARK + "\udc80", password="x")
@example(username="x", password=MARK + "\udc80")
@example(username=MARK + "x" * 300, password=None)
@given(username=CREDENTIALS, password=CREDENTIALS)
def test_a_credential_that_cannot_be_sent_is_refused_and_not_shown(username: str | None, password: str | None) -> None:
    """A protocol sends a credential or says that it cannot, which is the account's failure; no exception holds it."""
    for log_in in (
        lambda: http.authorization(ProxyURL("http", "203.0.113.9", 8080, username, password)),
        lambda: next(http.connect("a.example:80", username, password)),
        lambda: next(socks4.connect("a.example", 80, username)),
        lambda: logs_in_socks5(username, password),
    ):
        refused = None
        try:
            log_in()
        except AccountRefused as exc:
            refused = exc
        assert not any(MARK in repr(error) for error in behind(refused))


@given(port=st.integers().filter(lambda port: not 0 <= port <= 65535))
def test_a_port_of_the_target_that_does_not_exist_is_nobodys_failure(port: int) -> None:
    """What was asked for is at fault, not the proxy."""
    for connect in (socks4.connect, socks5.connect):
        with pytest.raises(LocalFailure, match="ports go from 1 to 65535"):
            next(connect("a.example", port))
