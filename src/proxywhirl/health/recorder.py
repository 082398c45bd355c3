"""From probes and requests to what is known of the proxies: judged in batches, written in batches.

What the store of entries can do is injected: `health` knows no cache.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from proxywhirl.errors import Blame
from proxywhirl.health import policy
from proxywhirl.health.history import History, Sample
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.outage import Outage
from proxywhirl.health.policy import Schedule
from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Outcome

Judge = Callable[[HealthStatus, int, int, bool], HealthCheck]


class Verdicts(Protocol):
    """Where verdicts go, by key: a cache."""

    def record_checks(self, checks: Sequence[tuple[str, HealthCheck | Judge]], /) -> int:
        """Record checks in one transaction; return how many entries were there."""
        ...

    def describe(self, known: Mapping[str, Attributes], /) -> int:
        """Add to the entries' attributes what was found out."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a request made of a proxy, by its key, and when (Unix seconds)."""

    key: str
    outcome: Outcome
    at: float

    @property
    def ok(self) -> bool:
        """Whether the proxy served."""
        return self.outcome.ok

    @property
    def error(self) -> str | None:
        """What went wrong, without a credential."""
        return self.outcome.error

    @property
    def latency(self) -> float | None:
        """Seconds, None where they were not measured."""
        return self.outcome.latency


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of some results: those that count, and those that do not, each of a proxy that is not judged."""

    counted: list[ProbeResult] = field(default_factory=list)
    untaught: list[ProbeResult] = field(default_factory=list)


class Recorder:
    """Judges results and hands them on.

    That a proxy takes connections makes none healthy: who asks no more learns no more.

    A failure counts where the proxy or its account is at fault, or where it does not reach a judge that others reach;
    one of `target` or of this machine teaches nothing of the proxy. `at_judge` says that what is asked for is a
    judge: a target that the user named may refuse one proxy alone, which is no fault of that.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        outage: Outage,
        *,
        history: History | None,
        schedule: Schedule,
        rng: random.Random,
        at_judge: bool = True,
    ) -> None:
        self._verdicts = verdicts
        self._outage = outage
        self._history = history
        self._schedule = schedule
        self._rng = rng
        self._blamed = {None, Blame.PROXY, Blame.ACCOUNT} | ({Blame.TARGET_THROUGH_PROXY} if at_judge else set())

    async def prepare(self) -> None:
        """See whom to rely on before the first probe."""
        await self._outage.prepare()

    async def record(self, results: Sequence[ProbeResult]) -> Recorded:
        """Judge results, in the order in which they came, and write what follows of them in a thread.

        Raises:
            TierError: the history cannot be written.
        """
        telling = [result for result in results if result.ok or result.blame in self._blamed]
        counted, dropped = await self._outage.sift(telling)
        others = [result for result in results if not (result.ok or result.blame in self._blamed)]
        if counted:
            await asyncio.to_thread(self.write, counted)
        return Recorded(counted, [*dropped, *others])

    async def sift(self, reports: Sequence[Report]) -> list[Report]:
        """Return what counts of what requests made of proxies: no failure that would not count of a probe."""
        return (await self._outage.sift(reports))[0]

    def write(self, seen: Sequence[ProbeResult | Report]) -> None:
        """Judge what was seen, in its order, and write what follows of it, whoever may be to blame.

        Raises:
            TierError: the history cannot be written.
        """
        self._verdicts.record_checks([(each.key, partial(self._judge, each)) for each in seen])
        found = {each.key: learnt for each in seen if (learnt := _learnt(each)) is not None}
        if found:
            self._verdicts.describe(found)
        if self._history is not None:
            self._history.add((each.key, Sample(each.at, each.ok, each.latency)) for each in seen)

    def _judge(
        self, seen: ProbeResult | Report, status: HealthStatus, streak_ok: int, streak_failed: int, worked: bool
    ) -> HealthCheck:
        check = policy.after(
            status,
            streak_ok,
            streak_failed,
            seen.ok,
            seen.at,
            seen.error,
            worked=worked,
            schedule=self._schedule,
            rng=self._rng,
        )
        shallow = seen.ok and isinstance(seen, ProbeResult) and seen.asked is Level.TCP
        return replace(check, status=HealthStatus.DEGRADED) if shallow and status is not HealthStatus.HEALTHY else check


def _learnt(result: ProbeResult | Report) -> Attributes | None:
    if isinstance(result, Report):
        return None
    if result.anonymity is None and result.country is None and result.asn is None:
        return None
    return Attributes(anonymity=result.anonymity, country=result.country, asn=result.asn)
