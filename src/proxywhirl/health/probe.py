"""Probe one proxy: how far one gets through it, how fast, and who is to blame where one does not.

Rules: the seconds of a probe count from when its socket begins to connect; nothing that this machine lacks, be it
descriptors, names or a turn of the event loop, counts against a proxy: it is probed again, and then the blame is ours.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import Blame, LocalFailure, SettingsError, TargetFailed, UpstreamError
from proxywhirl.health.anonymity import anonymity
from proxywhirl.health.baseline import DirectSightings
from proxywhirl.health.geo import GeoDatabase, Place
from proxywhirl.health.judges import Panel
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.probe_steps import Climb
from proxywhirl.health.requirements import Equipment
from proxywhirl.models import Anonymity, Target
from proxywhirl.net.capacity import LagMeter
from proxywhirl.net.dial import FOREIGN, translated
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.judge import Judge, Sighting

_TRIES = 3
_STALLED = 0.5  # the share of a timeout in which nobody looked at the sockets that makes a failure void
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def _nobody(_: ProxyURL, __: UpstreamError) -> None:
    return None


class Prober:
    """Probes proxies; belongs to one event loop.

    Args:
        judges: The judges to ask, as URLs or parsed, or a panel of them; `http` and above need one with http://, and
            `tls` and `full` another one with https:// or an https target. Nobody else is ever asked.
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
        judges: Iterable[Judge | str] | Panel = (),
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
        parsed: Panel | tuple[Judge, ...] = judges if isinstance(judges, Panel) else tuple(_parsed(judges))
        chance = rng or Random()  # noqa: S311  # a nonce need not be secret: whoever could misuse it sees it
        self._equipment = Equipment(parsed, target, timeout, tls, proxy_tls, geo, clock, chance)
        self._direct = DirectSightings(self._equipment)
        self._lag = lag or LagMeter()
        self._told = told

    def require(self, level: Level) -> None:
        """See that everything is there that a level needs.

        Raises:
            SettingsError: Something is missing; the message says what.
        """
        self._equipment.errand(level)

    async def probe(self, endpoint: ProxyURL, level: Level, *, key: str | None = None) -> ProbeResult:
        """Probe a proxy up to a level. What fails is in the result; `key` is the endpoint's where not given.

        Raises:
            SettingsError: What the level needs is not there.
        """
        with self._lag.running():
            wait = 0.0
            for turn in range(_TRIES):
                if turn:
                    await asyncio.sleep(wait)
                held_up = self._lag.stalled()
                attempt = await self._attempt(endpoint, level)
                wait = _void(attempt, self._lag.stalled() - held_up, self._equipment.timeout)
                if wait < 0:
                    break
            else:
                words = "could not be judged: this machine was too busy; lower the concurrency"
                attempt = replace(attempt, error=LocalFailure(f"{endpoint.canonical} {words}"))
        blame = None if attempt.error is None else self._told(endpoint, attempt.error) or attempt.error.blame
        return self._result(attempt, key or endpoint.key, level, blame)

    async def _attempt(self, endpoint: ProxyURL, level: Level) -> _Attempt:
        errand = self._equipment.errand(level)
        climb = Climb(endpoint, errand, self._equipment)
        direct: Sighting | None = None
        error: UpstreamError | None = None
        code, silence = None, 0.0
        timeout = self._equipment.timeout
        try:
            if level is Level.FULL and errand.plain is not None:
                direct = await self._direct.of(errand.plain)
            await climb.prepare()
            async with asyncio.timeout(timeout):
                await climb.run(level)
        # What was caught holds this frame by its traceback: kept in it, thousands of cycles a second would have to be
        # collected, which costs more than the probes.
        except TargetFailed as exc:  # names the target, and has nothing to say of the proxy
            error = type(exc)(str(exc))
        except UpstreamError as exc:
            error = exc.about(endpoint.canonical)
        except FOREIGN as exc:
            code, silence = getattr(exc, "errno", None), climb.silence()
            error = translated(exc, endpoint, timeout)
        finally:
            climb.close()
        return _Attempt(climb, error, code, silence, direct)

    def _result(self, attempt: _Attempt, key: str, level: Level, blame: Blame | None) -> ProbeResult:
        climb, error = attempt.climb, attempt.error
        seen = climb.sealed_sighting or climb.sighting  # the first cannot have been tampered with
        place = Place()
        if error is None and level is Level.FULL and seen is not None and self._equipment.geo is not None:
            place = self._equipment.geo.look_up(seen.address)
        return ProbeResult(
            key,
            level,
            climb.reached,
            tuple(climb.stages),
            self._equipment.clock.now(),
            error=None if error is None else str(error),
            blame=blame,
            exit_ip=None if seen is None else seen.address,
            anonymity=attempt.anonymity,
            country=place.country,
            asn=place.asn,
        )


@dataclass(frozen=True, slots=True)
class _Attempt:
    climb: Climb
    error: UpstreamError | None
    code: int | None
    silence: float
    direct: Sighting | None

    @property
    def anonymity(self) -> Anonymity | None:
        """What is known of it, where the question was asked directly too."""
        seen = self.climb.sighting
        if self.direct is None or seen is None:
            return None
        sealed = self.climb.sealed_sighting
        if sealed is not None and sealed.address == self.direct.address:
            return "transparent"
        return anonymity(self.direct, seen)


def _void(attempt: _Attempt, held_up: float, timeout: float) -> float:
    """Return the seconds after which to try again, if a failure says nothing of the proxy; else a negative number.

    A loop that was held up says nothing of a proxy that was silent all the same: the system would know of its answer.
    """
    if attempt.error is None:
        return -1.0
    if attempt.code in _EXHAUSTED:
        return timeout / 4  # some of what is under way will have ended
    enough = timeout * _STALLED
    return 0.0 if attempt.error.blame is Blame.PROXY and held_up >= enough > attempt.silence else -1.0


def _parsed(judges: Iterable[Judge | str]) -> Iterator[Judge]:
    return (Judge.parse(judge) if isinstance(judge, str) else judge for judge in judges)
