"""Probe one proxy: how far one gets through it, how fast, and who is to blame where one does not.

Rules: the seconds of a probe count from when its socket begins to connect; nothing that this machine lacks, be it
descriptors, names or a turn of the event loop, counts against a proxy: it is probed again, and then the blame is ours.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from random import Random

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import Blame, LocalFailure, SettingsError, UpstreamError
from proxywhirl.health.geo import GeoDatabase, Place
from proxywhirl.health.judges import Judges
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.probe_steps import Attempt, ProbeOptions
from proxywhirl.models import Target
from proxywhirl.net.capacity import LagMeter
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.judge import Judge

_TRIES = 3


def _nobody(_: ProxyURL, __: UpstreamError) -> None:
    return None


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
        told: Callable[[ProxyURL, UpstreamError], Blame | None] = _nobody,
    ) -> None:
        if not timeout > 0:
            raise SettingsError(f"the timeout of a check must be above 0 seconds, not {timeout!r}")
        chance = rng or Random()  # noqa: S311  # a nonce need not be secret: whoever could misuse it sees it
        if not isinstance(judges, Judges):
            parsed = [Judge.parse(judge) if isinstance(judge, str) else judge for judge in judges]
            judges = Judges(parsed, tls=tls, clock=clock, rng=chance)
        self._options = ProbeOptions(judges, target, timeout, tls, proxy_tls, geo, clock, chance)
        self._lag = lag or LagMeter()
        self._told = told

    def require(self, level: Level) -> None:
        """See that everything is there that a level needs.

        Raises:
            SettingsError: Something is missing; the message says what.
        """
        self._options.destinations(level)

    async def probe(self, endpoint: ProxyURL, level: Level, *, key: str | None = None) -> ProbeResult:
        """Probe a proxy up to a level. What fails is in the result; `key` is the endpoint's where not given.

        Raises:
            SettingsError: What the level needs is not there.
        """
        with self._lag.running():
            wait: float | None = None
            for _ in range(_TRIES):
                if wait is not None:
                    await asyncio.sleep(wait)
                held_up = self._lag.stalled()
                attempt = Attempt(endpoint, level, self._options)
                await attempt.make()
                wait = attempt.void_for(self._lag.stalled() - held_up)
                if wait is None:
                    break
            else:
                words = "could not be judged: this machine was too busy; lower the concurrency"
                attempt.error = LocalFailure(f"{endpoint.canonical} {words}")
        return self._result(attempt, key or endpoint.key, level, endpoint)

    def _result(self, attempt: Attempt, key: str, level: Level, endpoint: ProxyURL) -> ProbeResult:
        error = attempt.error
        seen = attempt.sealed_sighting or attempt.sighting  # the first cannot have been tampered with
        place = Place()
        if error is None and level is Level.FULL and seen is not None and self._options.geo is not None:
            place = self._options.geo.look_up(seen.address)
        return ProbeResult(
            key,
            level,
            attempt.reached,
            tuple(attempt.stages),
            self._options.clock.now(),
            error=None if error is None else str(error),
            blame=None if error is None else self._told(endpoint, error) or error.blame,
            exit_ip=None if seen is None else seen.address,
            anonymity=attempt.anonymity,
            country=place.country,
            asn=place.asn,
        )
