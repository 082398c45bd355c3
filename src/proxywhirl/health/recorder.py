"""From the outcomes of probes and requests to the health of proxies: judged in batches, written in batches.

The store of entries is injected: `health` knows no cache.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Protocol

from proxywhirl.errors import Blame
from proxywhirl.health import policy
from proxywhirl.health.judges import Outage
from proxywhirl.health.levels import Level, ProbeResult, Report
from proxywhirl.health.outcome_history import History, Sample
from proxywhirl.health.policy import Schedule
from proxywhirl.models import Assess, Attributes, HealthCheck, HealthStatus


class CheckStore(Protocol):
    """A store of checks and their findings, by key: a cache."""

    def record_checks(self, checks: Sequence[tuple[str, HealthCheck | Assess]], /) -> int:
        """Record checks in one transaction; return how many entries were there."""

    def describe(self, known: Mapping[str, Attributes], /) -> int:
        """Add to the entries' attributes what was found out."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorder:
    """Judges results and hands them on.

    - A success of level `tcp` makes no proxy healthy: that it takes connections is not much.
    - A failure counts where the proxy or its account is at fault, or where it does not reach a judge that others reach.
    - A failure of the target or of this machine teaches nothing of the proxy. Nor does a target that the user named
      (`at_judge` is False then) and that refuses one proxy alone.

    Raises:
        TierError: the history cannot be written (from `record` and `write`).
    """

    store: CheckStore
    outage: Outage
    _: KW_ONLY
    history: History | None
    schedule: Schedule
    rng: random.Random
    at_judge: bool = True

    async def record(self, results: Sequence[ProbeResult]) -> tuple[list[ProbeResult], list[ProbeResult]]:
        """Judge results, in the order in which they came, and write the verdicts in a thread.

        Returns the results that count, and those that do not.
        """
        telling: list[ProbeResult] = []
        others: list[ProbeResult] = []
        for result in results:
            (telling if result.ok or self._blames_proxy(result.blame) else others).append(result)
        counted, dropped = await self.outage.sift(telling)
        if counted:
            await asyncio.to_thread(self.write, counted)
        return counted, [*dropped, *others]

    def write(self, seen: Sequence[ProbeResult | Report]) -> None:
        """Judge outcomes, in their order, and write the verdicts; every failure counts."""
        checks: list[tuple[str, HealthCheck | Assess]] = []
        samples: list[tuple[str, Sample]] = []
        found: dict[str, Attributes] = {}
        for each in seen:
            if isinstance(each, Report):
                ok, error, latency = each.outcome.ok, each.outcome.error, each.outcome.latency
                shallow = False
            else:
                ok, error, latency = each.ok, each.error, each.latency
                shallow = ok and each.asked is Level.TCP
                if not (each.anonymity is None and each.country is None and each.asn is None):
                    found[each.key] = Attributes(anonymity=each.anonymity, country=each.country, asn=each.asn)
            checks.append((each.key, partial(self._assess, ok, each.at, error, shallow)))
            samples.append((each.key, Sample(each.at, ok, latency)))
        self.store.record_checks(checks)
        if found:
            self.store.describe(found)
        if self.history is not None:
            self.history.add(samples)

    def _blames_proxy(self, blame: Blame | None) -> bool:
        return blame in (None, Blame.PROXY, Blame.ACCOUNT) or (self.at_judge and blame is Blame.TARGET_THROUGH_PROXY)

    def _assess(
        self,
        ok: bool,
        at: float,
        error: str | None,
        shallow: bool,
        status: HealthStatus,
        streak_ok: int,
        streak_failed: int,
        worked: bool,
    ) -> HealthCheck:
        check = policy.after(
            status, streak_ok, streak_failed, ok, at, error, worked=worked, schedule=self.schedule, rng=self.rng
        )
        return replace(check, status=HealthStatus.DEGRADED) if shallow and status is not HealthStatus.HEALTHY else check
