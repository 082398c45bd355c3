"""One client of the gateway as a transcript: what its connection asks for on the left, what it is told on the right."""

from __future__ import annotations

from typing import Self

from proxywhirl.events import Event
from proxywhirl.gateway.options import Credentials, GatewayOptions
from proxywhirl.gateway.protocol.commands import (
    Command,
    Dial,
    Ending,
    ReadClient,
    Release,
    WriteClient,
)
from proxywhirl.gateway.protocol.connection import ClientConnection
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.rotation.retries.pursuit import Choose, Publish
from proxywhirl.rotation.retries.send_policy import RetryBudget, RetryPolicy, SendPolicy
from proxywhirl.rotation.selection.request_options import NO_OPTIONS, RequestOptions
from proxywhirl.urls import ProxyURL

FIRST = ProxyURL("http", "first.test", 8080, "alice", "s3cret")
SECOND = ProxyURL("http", "second.test", 8080)
SOCKS = ProxyURL("socks5", "socks.test", 1080, "bob", "hidden")
ONE, TWO, THREE = Proxy.of(FIRST), Proxy.of(SECOND), Proxy.of(SOCKS)
TARGET = Target("http", "t.test", 80)
GET = b"GET http://t.test/a?b HTTP/1.1\r\nHost: t.test\r\n\r\n"
SENT = b"GET http://t.test/a?b HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n"
EMPTY = "the pool has no proxies: `proxywhirl import FILE` brings some in"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time."""
        return self.time


class Transcript:
    """Plays the world: `asks` states the connection's next command, `told` or `thrown` answers it."""

    def __init__(self, credentials: Credentials | None = None, *, policy: RetryPolicy | None = None) -> None:
        self.watch = Watch()
        self.budget = RetryBudget(clock=self.watch)
        options = GatewayOptions(credentials=credentials)
        self._steps = ClientConnection(options, self.watch, SendPolicy(policy or RetryPolicy(), self.budget)).steps()
        self.command: Command | None = None
        self.ending: Ending | None = None
        self.told(None)

    def asks(self, command: Command) -> Self:
        """State the command."""
        assert self.command == command
        return self

    def told(self, answer: object) -> Self:
        """Answer it."""
        try:
            self.command = self._steps.send(answer)
        except StopIteration as end:
            self.command, self.ending = None, end.value
        return self

    def thrown(self, exc: Exception) -> Self:
        """Answer it with a failure."""
        try:
            self.command = self._steps.throw(exc)
        except StopIteration as end:
            self.command, self.ending = None, end.value
        return self

    def after(self, seconds: float) -> Self:
        """Let time pass."""
        self.watch.time += seconds
        return self

    def request(self, data: bytes) -> Self:
        """Let the client send a request as its first bytes."""
        return self.asks(ReadClient(30.0, idle=True)).told(data)

    def chooses(self, *tried: Proxy, target: Target = TARGET, wish: RequestOptions = NO_OPTIONS) -> Self:
        """State that the next command chooses a proxy, and which ones were tried."""
        return self.asks(Choose(target, frozenset(proxy.key for proxy in tried), wish))

    def through(
        self, endpoint: ProxyURL, *tried: Proxy, target: Target | None = None, wish: RequestOptions = NO_OPTIONS
    ) -> Self:
        """Let the pool choose `endpoint` and the dial succeed."""
        self.chooses(*tried, target=target or TARGET, wish=wish).told(Proxy.of(endpoint))
        return self.asks(Dial(target, 10.0)).told(endpoint)

    def releases(self, *, ok: bool) -> Outcome:
        """State that the next command reports an outcome, and return that."""
        assert isinstance(self.command, Release)
        outcome = self.command.outcome
        assert outcome is not None
        assert outcome.ok is ok
        self.told(None)
        return outcome

    def publishes(self) -> Event:
        """State that the next command publishes an event, and return that."""
        assert isinstance(self.command, Publish)
        event = self.command.event
        self.told(None)
        return event

    def answers(self) -> bytes:
        """State that the next command writes to the client, and return the bytes."""
        assert isinstance(self.command, WriteClient)
        data = self.command.data
        self.told(None)
        return data
