"""Probe one proxy: how far a request gets through it, how fast, and who is to blame where it fails.

An attempt goes level after level, with one socket open at a time:

=============  ===================================  =======================================
level          an HTTP proxy                        a SOCKS proxy
=============  ===================================  =======================================
``tcp``        connect                              connect
``handshake``  tunnel to the target, or to a judge  the same
``http``       ask the http:// judge, close         tunnel to the http:// judge, ask, close
``tls``        connect, tunnel, TLS with its end    the same
``full``       ask the https:// judge inside        the same
=============  ===================================  =======================================

An HTTP proxy is asked for the plain judge by a request with the judge's whole URL, and opens a tunnel only for the
levels after that.

Rules: the seconds of a probe count from when its socket begins to connect; nothing that this machine lacks, be it
descriptors, names or a turn of the event loop, counts against a proxy: it is probed again, and then the blame is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import (
    Blame,
    ForgedAnswer,
    InterceptedTLS,
    LocalFailure,
    ProxyFailed,
    SettingsError,
    TargetFailed,
    UpstreamError,
)
from proxywhirl.health.geo import GeoDatabase, Location
from proxywhirl.health.judges import Judges
from proxywhirl.health.levels import Level, ProbeResult, Stage
from proxywhirl.models import Anonymity, Target
from proxywhirl.net.capacity import LagMeter
from proxywhirl.net.channel import Channel, Line, TLSChannel
from proxywhirl.net.dial import FOREIGN, default_tls, handshake_with, translated
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.http import basic_credentials
from proxywhirl.wire.judge import Judge, Sighting, anonymity, question
from proxywhirl.wire.steps import Handshake

TRIES = 3
"""How often a proxy is probed at the most: again only where this machine spoiled the try. Each has its own timeout."""

_SERVE_ONE = "`proxywhirl judge` serves one"
_STALLED = 0.5  # the share of a timeout in which nobody looked at the sockets that makes a failure void
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class Prober:
    """Probes proxies; belongs to one event loop.

    Args:
        judges: The judges to ask, as URLs or parsed, or those that are known to answer; `http` and above need one with
            http://, and `tls` and `full` another one with https:// or an https target. Nobody else is ever asked.
        target: The end of the tunnel for `handshake`, and for `tls` where it is https; else a judge is.
        timeout: Seconds for all levels of one probe together, from the first connection on.
        tls: Verifies the tunnel's end; None stands for the system's trusted authorities.
        proxy_tls: Verifies proxies of the scheme https; None likewise.
        geo: Tells country and network of the exit, for `full`.
        clock: Measures the stages, and tells when.
        rng: Chooses among judges, and nonces.
        lag: Tells how much of the time this loop was held up.
        told: Says who is to blame by what a refusal says in the words of a proxy's vendor; None where it says nothing.

    Raises:
        SettingsError: The timeout is not above zero.
        ProxyURLError: A judge's URL is wrong.
    """

    def __init__(
        self,
        *,
        judges: Iterable[Judge | str] | Judges = (),
        target: Target | None = None,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        geo: GeoDatabase | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Random | None = None,
        lag: LagMeter | None = None,
        told: Callable[[ProxyURL, UpstreamError], Blame | None] = lambda _, __: None,
    ) -> None:
        if not timeout > 0:
            raise SettingsError(f"the timeout of a check must be above 0 seconds, not {timeout!r}")
        chance = rng or Random()  # noqa: S311  # a nonce need not be secret
        if not isinstance(judges, Judges):
            parsed = [Judge.parse(judge) if isinstance(judge, str) else judge for judge in judges]
            judges = Judges(parsed, tls=tls, clock=clock, rng=chance)
        self.judges = judges
        self.target = target
        self.timeout = timeout
        self.tls = tls
        self.proxy_tls = proxy_tls
        self.clock = clock
        self.rng = chance
        self._geo = geo
        self._lag = lag or LagMeter()
        self._told = told

    def require(self, level: Level) -> None:
        """See that everything is there that a level needs.

        Raises:
            SettingsError: Something is missing; the message says what.
        """
        self.destinations(level)

    async def probe(self, endpoint: ProxyURL, level: Level, *, key: str | None = None) -> ProbeResult:
        """Probe a proxy up to a level. What fails is in the result; `key` is the endpoint's where not given.

        Raises:
            SettingsError: What the level needs is not there.
        """
        with self._lag.running():
            wait: float | None = None
            for _ in range(TRIES):
                if wait is not None:
                    await asyncio.sleep(wait)
                held_up = self._lag.stalled()
                attempt = _Attempt(endpoint, level, self)
                await attempt.make()
                wait = attempt.void_for(self._lag.stalled() - held_up)
                if wait is None:
                    break
            else:
                words = "could not be judged: this machine was too busy; lower the concurrency"
                attempt.error = LocalFailure(f"{endpoint.canonical} {words}")
        return self._result(attempt, key or endpoint.key)

    def _result(self, attempt: _Attempt, key: str) -> ProbeResult:
        error = attempt.error
        seen = attempt.sealed_sighting or attempt.sighting  # the first cannot have been tampered with
        place = Location()
        if error is None and attempt.level is Level.FULL and seen is not None and self._geo is not None:
            place = self._geo.look_up(seen.address)
        return ProbeResult(
            key,
            attempt.level,
            attempt.reached,
            tuple(attempt.stages),
            self.clock.now(),
            error=None if error is None else str(error),
            blame=None if error is None else self._told(attempt.endpoint, error) or error.blame,
            exit_ip=None if seen is None else seen.address,
            anonymity=attempt.anonymity,
            country=place.country,
            asn=place.asn,
        )

    def destinations(self, level: Level) -> _Destinations:
        """Choose where to go for a level, by chance among several judges; `SettingsError` where there is none."""
        if level is Level.TCP:
            return _Destinations()
        if level is Level.HANDSHAKE:
            return _Destinations(tunnel=self._any_end())
        plain = self._judge("http")
        if plain is None:
            raise SettingsError(f"a check of level {level.value} needs a judge with an http:// URL: {_SERVE_ONE}")
        if level is Level.HTTP:
            return _Destinations(plain=plain)
        judge = self._judge("https")
        target = self.target if self.target is not None and self.target.scheme == "https" else None
        if judge is None and target is None:
            raise SettingsError(
                f"a check of level {level.value} needs an https:// target, or a judge with an https:// URL: "
                f"{_SERVE_ONE} with --tls-certificate"
            )
        if judge is None or (level is Level.TLS and target is not None):
            return _Destinations(plain=plain, sealed=target)
        return _Destinations(plain=plain, sealed=judge.target, sealed_judge=judge)

    def _any_end(self) -> Target:
        if self.target is not None:
            return self.target
        judge = self._judge("https") or self._judge("http")  # more proxies let a tunnel go to the ports of https
        if judge is None:
            raise SettingsError(f"a check of level handshake needs a target or a judge to ask for: {_SERVE_ONE}")
        return judge.target

    def _judge(self, scheme: str) -> Judge | None:
        fitting = [judge for judge in self.judges if judge.target.scheme == scheme]
        return self.rng.choice(fitting) if fitting else None


@dataclass(frozen=True, slots=True)
class _Destinations:
    """Where one attempt goes: the end of its first tunnel, the judge of plain text, and the end of its TLS."""

    tunnel: Target | None = None
    plain: Judge | None = None
    sealed: Target | None = None
    sealed_judge: Judge | None = None  # at `sealed`, where that is a judge to be asked


@dataclass(slots=True, eq=False)
class _Attempt:
    """An attempt, and after `make` what came of it.

    Attributes:
        reached: The deepest level that was reached.
        stages: Every level that was tried.
        error: What failed, and who is to blame for it; None where nothing did.
        sighting: What the judge of plain text saw.
        sealed_sighting: What the judge at the end of the TLS saw.
    """

    endpoint: ProxyURL
    level: Level
    prober: Prober
    reached: Level | None = None
    stages: list[Stage] = field(default_factory=list)
    error: UpstreamError | None = None
    sighting: Sighting | None = None
    sealed_sighting: Sighting | None = None
    _to: _Destinations = field(init=False)
    _direct: Sighting | None = None
    _addresses: list[tuple[socket.AddressFamily, str]] = field(default_factory=list)
    _handshakes: list[Handshake[None]] = field(default_factory=list)
    _line: Line | None = None
    _channel: Channel | None = None
    _up: int = 0  # on lines that are closed
    _down: int = 0
    _code: int | None = None
    _silence: float = 0.0  # seconds for which the proxy was waited for in vain

    def __post_init__(self) -> None:
        """Choose where to go."""
        self._to = self.prober.destinations(self.level)

    async def make(self) -> None:
        """Go as far as the level, or until something fails."""
        timeout = self.prober.timeout
        try:
            if self.level is Level.FULL and self._to.plain is not None:
                self._direct = await self.prober.judges.sees(self._to.plain, timeout)
            await self._look_up()
            async with asyncio.timeout(timeout):
                await self._run()
        # What was caught holds this frame by its traceback: kept in it, thousands of cycles a second would have to be
        # collected, which costs more than the probes.
        except TargetFailed as exc:  # names the target, and has nothing to say of the proxy
            self.error = type(exc)(str(exc))
        except UpstreamError as exc:
            self.error = exc.about(self.endpoint.canonical)
        except FOREIGN as exc:
            self._code = getattr(exc, "errno", None)
            self._silence = 0.0 if self._line is None else self._line.silence()
            self.error = translated(exc, self.endpoint, timeout)
        finally:
            self._close()

    def void_for(self, held_up: float) -> float | None:
        """Return the seconds after which to try again, if a failure says nothing of the proxy; else None.

        `held_up` is for how many seconds the loop stood still meanwhile. That says nothing of a proxy that was silent
        all the same: the system would know of its answer.
        """
        if self.error is None:
            return None
        if self._code in _EXHAUSTED:
            return self.prober.timeout / 4  # by then some probes under way will have ended
        enough = self.prober.timeout * _STALLED
        return 0.0 if self.error.blame is Blame.PROXY and held_up >= enough > self._silence else None

    @property
    def anonymity(self) -> Anonymity | None:
        """What is known of it, where the question was asked directly too."""
        if self._direct is None or self.sighting is None:
            return None
        if self.sealed_sighting is not None and self.sealed_sighting.address == self._direct.address:
            return "transparent"
        return anonymity(self._direct, self.sighting)

    @property
    def _is_http(self) -> bool:
        return self.endpoint.scheme in ("http", "https")

    async def _look_up(self) -> None:
        """Look up the names that this machine must know: no second of that is the proxy's."""
        self._addresses = _literal(self.endpoint)
        plain = self._to.plain.target if self._to.plain and not self._is_http else None
        ends = [end for end in (self._to.tunnel, plain, self._to.sealed) if end is not None]
        if self._addresses and not ends:
            return
        try:
            async with asyncio.timeout(self.prober.timeout):
                self._addresses = self._addresses or await _looked_up(self.endpoint)
                self._handshakes = [await handshake_with(self.endpoint, end) for end in ends]
        except TimeoutError as exc:
            raise LocalFailure("could not be looked up in time: this machine's name service is slow") from exc

    async def _run(self) -> None:
        with self._measured(Level.TCP):
            await self._connect()
        if self._to.tunnel is not None:
            with self._measured(Level.HANDSHAKE):
                await self._open_tunnel()
        if self._to.plain is not None:
            await self._ask_plain(self._to.plain)
        if self._to.sealed is not None:
            await self._pass_sealed(self._to.sealed)
        if self.level is Level.FULL:
            with self._measured(Level.FULL):
                await self._ask_sealed()

    @contextlib.contextmanager
    def _measured(self, level: Level) -> Iterator[None]:
        """Measure a block as the stage of a level, which is reached unless the block fails."""
        up_before, down_before = self._moved()
        began = self.prober.clock.monotonic()
        try:
            yield
            self.reached = level
        finally:
            seconds = self.prober.clock.monotonic() - began
            up, down = self._moved()
            self.stages.append(Stage(level, seconds, up - up_before, down - down_before))

    def _moved(self) -> tuple[int, int]:
        """Return the bytes sent and received so far."""
        if self._line is None:
            return self._up, self._down
        return self._up + self._line.bytes_up, self._down + self._line.bytes_down

    def _close(self) -> None:
        """Close the socket that is open."""
        self._up, self._down = self._moved()
        if self._line is not None:
            self._line.close()
            self._line = self._channel = None

    async def _connect(self) -> None:
        """Connect to the first address that answers; each but the last has its share of the time."""
        share = self.prober.timeout / len(self._addresses)
        for place, (family, host) in enumerate(self._addresses, start=1):
            self._close()
            self._channel = self._line = Line(family)
            if place == len(self._addresses):
                await self._line.connect(host, self.endpoint.port)
                return
            with contextlib.suppress(OSError):
                async with asyncio.timeout(share):
                    await self._line.connect(host, self.endpoint.port)
                    return

    async def _reach_proxy(self) -> Channel:
        """Return the channel on which the proxy is spoken to: for https, TLS with it comes first."""
        if self._channel is None:
            await self._connect()
        channel = self._channel
        if channel is None:  # a connection that did not raise is there
            raise LocalFailure("could not be dialled")
        if self.endpoint.scheme == "https":
            host = self.endpoint.host.strip("[]")
            tls = TLSChannel(channel, self.prober.proxy_tls or default_tls(), host)
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
        self._close()

    async def _pass_sealed(self, end: Target) -> None:
        if self._is_http:
            with self._measured(Level.HANDSHAKE):
                await self._open_tunnel()
            self.reached = Level.HTTP  # level HTTP came first
            self.stages.sort(key=lambda stage: stage.level.rank)
        with self._measured(Level.TLS):
            channel = self._channel or await self._open_tunnel()
            tls = TLSChannel(channel, self.prober.tls or default_tls(), end.host)
            try:
                await tls.start()
            except ssl.SSLCertVerificationError as exc:
                words = f"shows another certificate than that of {end.authority}: {exc.verify_message}"
                raise InterceptedTLS(words) from exc
            except ssl.SSLError as exc:
                words = f"broke TLS in the tunnel to {end.authority}: {exc.reason or 'cut'}"
                raise ProxyFailed(words) from exc
            self._channel = tls

    async def _ask_sealed(self) -> None:
        judge = self._to.sealed_judge
        if judge is None or self._channel is None:
            return
        try:
            self.sealed_sighting = await self._channel.drive(self._question(judge, absolute=False))
        except ForgedAnswer as exc:  # no proxy has a hand in what comes through verified TLS
            raise TargetFailed(f"reached {judge.url}, which is no judge") from exc

    def _question(self, judge: Judge, *, absolute: bool) -> Handshake[Sighting]:
        username, password = self.endpoint.username, self.endpoint.password
        has_credential = absolute and (username is not None or password is not None)
        authorization = basic_credentials(username or "", password or "") if has_credential else None
        nonce = f"{self.prober.rng.getrandbits(64):016x}"
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
