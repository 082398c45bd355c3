"""One attempt at one proxy, level after level, with one socket open at a time.

The way up is the same for every scheme, but for what it is made of: an HTTP proxy is asked for the plain judge by a
request with the judge's whole URL, and opens a tunnel only for what comes after; a SOCKS proxy opens one for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from proxywhirl.clock import Clock
from proxywhirl.errors import ForgedAnswer, InterceptedTLS, LocalFailure, ProxyFailed, TargetFailed
from proxywhirl.health.levels import Level, Stage
from proxywhirl.health.requirements import Equipment, Errand
from proxywhirl.models import Target
from proxywhirl.net.channel import Channel, Line, TLSChannel
from proxywhirl.net.dial import default_tls, handshake_with
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.http import basic_credentials
from proxywhirl.wire.judge import Judge, Sighting, question
from proxywhirl.wire.steps import Handshake


class Climb:
    """An attempt: `prepare`, `run`, and `close` in any case. `sighting` and `sealed_sighting` are what judges saw."""

    __slots__ = (
        "_addresses",
        "_channel",
        "_down",
        "_endpoint",
        "_equipment",
        "_errand",
        "_handshakes",
        "_line",
        "_up",
        "reached",
        "sealed_sighting",
        "sighting",
        "stages",
    )

    def __init__(self, endpoint: ProxyURL, errand: Errand, equipment: Equipment) -> None:
        self._endpoint = endpoint
        self._errand = errand
        self._equipment = equipment
        self._addresses: list[tuple[socket.AddressFamily, str]] = []
        self._handshakes: list[Handshake[None]] = []
        self._line: Line | None = None
        self._channel: Channel | None = None
        self._up = self._down = 0  # on lines that are closed
        self.reached: Level | None = None
        self.stages: list[Stage] = []
        self.sighting: Sighting | None = None
        self.sealed_sighting: Sighting | None = None

    async def prepare(self) -> None:
        """Look up the names that this machine must know: no second of that is the proxy's.

        Raises:
            LocalFailure: The name service took longer than a probe may take.
            TargetUnreachable: The scheme is socks4, and a target has no IPv4 address.
            OSError: The proxy's name has no address.
        """
        self._addresses = _literal(self._endpoint)
        errand = self._errand
        if self._addresses and not (errand.tunnel or errand.sealed or (errand.plain and not self._is_http)):
            return
        plain = errand.plain.target if errand.plain and not self._is_http else None
        try:
            async with asyncio.timeout(self._equipment.timeout):
                self._addresses = self._addresses or await _looked_up(self._endpoint)
                ends = [end for end in (errand.tunnel, plain, errand.sealed) if end is not None]
                self._handshakes = [await handshake_with(self._endpoint, end) for end in ends]
        except TimeoutError as exc:
            raise LocalFailure("could not be looked up in time: this machine's name service is slow") from exc

    async def run(self, level: Level) -> None:
        """Climb to a level. What fails is the error that says who is to blame, or one of the network's."""
        with self._measured(Level.TCP):
            await self._connect()
        if self._errand.tunnel is not None:
            with self._measured(Level.HANDSHAKE):
                await self._open_tunnel()
        if self._errand.plain is not None:
            await self._ask_plain(self._errand.plain)
        if self._errand.sealed is not None:
            await self._pass_sealed(self._errand.sealed)
        if level is Level.FULL:
            with self._measured(Level.FULL):
                await self._ask_sealed()

    def close(self) -> None:
        """Close the socket that is open."""
        if self._line is not None:
            self._up += self._line.bytes_up
            self._down += self._line.bytes_down
            self._line.close()
            self._line = self._channel = None

    def silence(self) -> float:
        """Return for how many seconds the proxy has been waited for in vain."""
        return 0.0 if self._line is None else self._line.silence()

    @property
    def _is_http(self) -> bool:
        return self._endpoint.scheme in ("http", "https")

    def _measured(self, level: Level) -> _Measured:
        return _Measured(self, level, self._equipment.clock)

    def moved(self) -> tuple[int, int]:
        """Return the bytes sent and received so far."""
        if self._line is None:
            return self._up, self._down
        return self._up + self._line.bytes_up, self._down + self._line.bytes_down

    async def _connect(self) -> None:
        """Connect to the first address that answers; each but the last has its share of the time."""
        share = self._equipment.timeout / len(self._addresses)
        for place, (family, host) in enumerate(self._addresses, start=1):
            self.close()
            self._channel = self._line = Line(family)
            if place == len(self._addresses):
                await self._line.connect(host, self._endpoint.port)
                return
            with contextlib.suppress(OSError):
                async with asyncio.timeout(share):
                    await self._line.connect(host, self._endpoint.port)
                    return

    async def _reach_proxy(self) -> Channel:
        """Return the channel on which the proxy is spoken to: for https, TLS with it comes first."""
        channel = self._channel
        if channel is None:
            await self._connect()
            channel = self._channel
        if channel is None:  # a connection that did not raise is there
            raise LocalFailure("could not be dialled")
        if self._endpoint.scheme == "https":
            host = self._endpoint.host.strip("[]")
            tls = TLSChannel(channel, self._equipment.proxy_tls or default_tls(), host)
            await tls.start()
            channel = self._channel = tls
        return channel

    async def _open_tunnel(self) -> Channel:
        channel = await self._reach_proxy()
        await channel.drive(self._handshakes.pop(0))
        return channel

    async def _ask_plain(self, judge: Judge) -> None:
        if self._is_http:
            with self._measured(Level.HTTP):
                channel = await self._reach_proxy()
                self.sighting = await channel.drive(self._question(judge, absolute=True))
        else:
            with self._measured(Level.HANDSHAKE):
                channel = await self._open_tunnel()
            with self._measured(Level.HTTP):
                self.sighting = await channel.drive(self._question(judge, absolute=False))
        self.close()

    async def _pass_sealed(self, end: Target) -> None:
        if self._is_http:
            with self._measured(Level.HANDSHAKE):
                await self._open_tunnel()
            self.reached = Level.HTTP  # that came first
            self.stages.sort(key=lambda stage: stage.level.rank)
        with self._measured(Level.TLS):
            channel = self._channel or await self._open_tunnel()
            self._channel = await self._sealed(channel, end)

    async def _sealed(self, channel: Channel, end: Target) -> Channel:
        tls = TLSChannel(channel, self._equipment.tls or default_tls(), end.host)
        try:
            await tls.start()
        except ssl.SSLCertVerificationError as exc:
            words = f"shows another certificate than that of {end.authority}: {exc.verify_message}"
            raise InterceptedTLS(words) from exc
        except ssl.SSLError as exc:
            words = f"broke TLS in the tunnel to {end.authority}: {exc.reason or 'cut'}"
            raise ProxyFailed(words) from exc
        return tls

    async def _ask_sealed(self) -> None:
        judge = self._errand.sealed_judge
        if judge is None or self._channel is None:
            return
        try:
            self.sealed_sighting = await self._channel.drive(self._question(judge, absolute=False))
        except ForgedAnswer as exc:  # no proxy has a hand in what comes through verified TLS
            raise TargetFailed(f"reached {judge.url}, which is no judge") from exc

    def _question(self, judge: Judge, *, absolute: bool) -> Handshake[Sighting]:
        username, password = self._endpoint.username, self._endpoint.password
        has_credential = absolute and (username is not None or password is not None)
        authorization = basic_credentials(username or "", password or "") if has_credential else None
        nonce = f"{self._equipment.rng.getrandbits(64):016x}"
        return question(judge, nonce, absolute=absolute, authorization=authorization)


def _literal(endpoint: ProxyURL) -> list[tuple[socket.AddressFamily, str]]:
    host = endpoint.host.strip("[]")
    for family in (socket.AF_INET, socket.AF_INET6):
        # What only looks like an address must not reach `connect`, which would look it up and hold up the loop.
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return [(family, host)]
    return []


async def _looked_up(endpoint: ProxyURL) -> list[tuple[socket.AddressFamily, str]]:
    found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    return [(family, str(address[0])) for family, _, _, _, address in found]


class _Measured:
    """Measures a block as the stage of a level, which is reached unless the block fails."""

    __slots__ = ("_before", "_began", "_climb", "_clock", "_level")

    def __init__(self, climb: Climb, level: Level, clock: Clock) -> None:
        self._climb = climb
        self._level = level
        self._clock = clock
        self._before = (0, 0)
        self._began = 0.0

    def __enter__(self) -> None:
        self._before = self._climb.moved()
        self._began = self._clock.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        (up, down), (up_before, down_before) = self._climb.moved(), self._before
        seconds = self._clock.monotonic() - self._began
        self._climb.stages.append(Stage(self._level, seconds, up - up_before, down - down_before))
        if kind is None:
            self._climb.reached = self._level
