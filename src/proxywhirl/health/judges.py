"""The judges, and whether they can be relied on: a bad one would make every proxy look dead.

Each is asked directly, as a proxy would ask it. If some judges of a scheme work, only these are used. If none answers
this machine, all are used: the way out may lead through proxies alone.

`Outage` tells a failure of our own network, or of the judges, from proxies that died at once: in an outage no failure
counts.

For level `full` a judge is asked without a proxy too: what it sees of us tells a transparent proxy.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TypeVar

from proxywhirl.clock import Clock
from proxywhirl.errors import TargetFailed, UpstreamError
from proxywhirl.health.levels import ProbeResult, Report
from proxywhirl.models import Target
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.net.dial import default_tls
from proxywhirl.wire.judge import Judge, Sighting, question

_log = logging.getLogger(__name__)

S = TypeVar("S", bound=ProbeResult | Report)

VERDICT_LASTS = 2.0  # seconds: what fails meanwhile may be laid at a proxy once
TIMEOUT = 3.0

_UNANSWERED = (OSError, EOFError, asyncio.LimitOverrunError, UnicodeError)


class Reliability(Enum):
    """Whether a failure through a proxy counts."""

    GOOD = "good"  # the judges are reliable
    WORSE = "worse"  # a judge turned bad lately: which one a probe has asked is not known
    NONE = "none"  # no judge of a scheme answers this machine: its network is down, or all judges are


@dataclass(slots=True, eq=False)
class Judges:
    """Judges; the ones that answer are given out. Belongs to one event loop.

    `target` is what proxies are asked for instead, where the user named it: it has to be there too. `tls` verifies what
    has https://; None stands for the system's trusted authorities.
    """

    judges: Sequence[Judge]
    _: KW_ONLY
    target: Target | None = None
    tls: ssl.SSLContext | None
    clock: Clock
    rng: random.Random
    _out: dict[Judge, str] = field(default_factory=dict, init=False)
    _reliability: Reliability = field(default=Reliability.GOOD, init=False)
    _until: float = field(default=0.0, init=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _direct: dict[Judge, tuple[asyncio.Task[Sighting], float]] = field(default_factory=dict, init=False)

    def __iter__(self) -> Iterator[Judge]:
        bad = self._schemes_without_any()
        return iter([judge for judge in self.judges if judge not in self._out or judge.target.scheme in bad])

    async def examine(self) -> Reliability:
        """Ask every judge whether it is one, unless that was done seconds ago; changes are logged."""
        if self.target is not None and not await reaches(self.target, self.tls):
            return Reliability.NONE
        async with self._asking:
            if self.clock.monotonic() >= self._until and self.judges:
                answers = await asyncio.gather(*map(self._fault_of, self.judges))
                self._take(dict(zip(self.judges, answers, strict=True)))
                self._until = self.clock.monotonic() + VERDICT_LASTS
            return self._reliability

    async def sees(self, judge: Judge, seconds: float) -> Sighting:
        """Return what an http:// judge sees of us: the one request for a result that is made without a proxy.

        It may take so many seconds. It is made once; after a failure again, at most once in that time.

        Raises:
            TargetFailed: It does not answer, or is no judge: no proxy is to blame for that.
        """
        now = self.clock.monotonic()
        task, at = self._direct.get(judge, (None, now))
        failed = task is not None and task.done() and (task.cancelled() or task.exception() is not None)
        if task is None or (failed and now - at >= seconds):
            task = asyncio.create_task(self._seen_directly(judge, seconds))
            self._direct[judge] = task, now
        return await asyncio.shield(task)  # one probe that is cancelled must not take it from the others

    async def _seen_directly(self, judge: Judge, seconds: float) -> Sighting:
        try:
            return await self._ask(judge, seconds)
        except (UpstreamError, *_UNANSWERED) as exc:
            raise TargetFailed(
                f"the judge {judge.url} does not answer this machine itself, so that nobody can tell "
                "a transparent proxy: see that it runs, or choose another"
            ) from exc

    async def _fault_of(self, judge: Judge) -> str | None:
        """Return what is wrong with a judge, None where nothing is."""
        try:
            await self._ask(judge, TIMEOUT)
        except ssl.SSLCertVerificationError as exc:
            return f"its certificate is not trusted here: {exc.verify_message}"
        except TimeoutError:
            return f"it did not answer this machine itself within {TIMEOUT:g} s"
        except UpstreamError as exc:
            return f"asked by this machine itself, it {exc}"
        except _UNANSWERED as exc:
            return f"it does not answer this machine itself: {exc}"
        return None

    async def _ask(self, judge: Judge, seconds: float) -> Sighting:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await _connect(judge.target, self.tls)
                return await connection.drive(question(judge, f"{self.rng.getrandbits(64):016x}", absolute=False))
        finally:
            if connection is not None:
                connection.abort()

    def _take(self, answers: dict[Judge, str | None]) -> None:
        before, self._out = self._out, {judge: why for judge, why in answers.items() if why is not None}
        for judge in self._out.keys() - before.keys():
            _log.warning("the judge %s is not relied on: %s", judge.url, self._out[judge])
        for judge in before.keys() - self._out.keys():
            _log.warning("the judge %s answers again", judge.url)
        if self._schemes_without_any():
            self._reliability = Reliability.NONE
        else:
            self._reliability = Reliability.WORSE if self._out.keys() - before.keys() else Reliability.GOOD

    def _schemes_without_any(self) -> set[str]:
        """Return the schemes that have no reliable judge."""
        schemes = {judge.target.scheme for judge in self.judges}
        return schemes - {judge.target.scheme for judge in self.judges if judge not in self._out}


async def reaches(target: Target, tls: ssl.SSLContext | None) -> bool:
    """Whether a target can be connected to directly, from here, with TLS where that is its scheme; nothing is sent."""
    try:
        async with asyncio.timeout(TIMEOUT):
            connection = await _connect(target, tls)
    except (OSError, UnicodeError):
        return False
    connection.abort()
    return True


async def _connect(target: Target, tls: ssl.SSLContext | None) -> Connection:
    sealed = target.scheme == "https"
    streams = await asyncio.open_connection(
        target.host,
        target.port,
        ssl=(tls or default_tls()) if sealed else None,
        server_hostname=target.host if sealed else None,
        limit=READ_LIMIT,
    )
    return Connection(*streams)


class Outage:
    """Sifts results by whether the judges could be relied on when the results came.

    `examine` looks at the judges; it is called where there are failures, and until all is well again.
    """

    def __init__(self, examine: Callable[[], Awaitable[Reliability]]) -> None:
        self._examine = examine
        self._last = Reliability.GOOD

    async def prepare(self) -> None:
        """Look at the judges before the first result."""
        self._tell(await self._examine())

    async def sift(self, results: Sequence[S]) -> tuple[list[S], list[S]]:
        """Divide results, in the order in which they came, into those that count and those that teach nothing.

        - One of several judges turned bad: no failure counts.
        - No judge answers: no failure counts after the last success. Until then one did, if only through proxies.
        - A judge answers again: no failure counts before the first success.
        """
        if self._last is Reliability.GOOD and all(result.ok for result in results):
            return list(results), []
        before, now = self._last, await self._examine()
        self._tell(now)
        successes = [place for place, result in enumerate(results) if result.ok]
        first, last = 0, len(results)
        if now is not Reliability.GOOD:
            last = 0 if now is Reliability.WORSE else max(successes, default=0)
        elif before is Reliability.NONE:
            first = min(successes, default=last)
        counted: list[S] = []
        dropped: list[S] = []
        for place, result in enumerate(results):
            (counted if result.ok or first <= place < last else dropped).append(result)
        return counted, dropped

    def _tell(self, now: Reliability) -> None:
        before, self._last = self._last, now
        if now is Reliability.NONE and before is not Reliability.NONE:
            _log.warning(
                "no proxy is blamed for failing: what they are asked for does not answer this machine itself either; "
                "its network is down, or what is asked for is"
            )
        elif before is Reliability.NONE and now is not Reliability.NONE:
            _log.warning("what proxies are asked for answers again")
