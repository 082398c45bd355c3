"""The health of a home's proxies: joins the cache, the state, the settings and the rooms of `health`.

Three ways lead to what is known of a proxy. Each ends in a `Recorder`, which writes to the cache and to the history:

===========  ======================================  ============================================================
way          begins with                             is recorded
===========  ======================================  ============================================================
a request    `note`, with each outcome of a lease    by `record`, or by the monitor while one runs
a command    `check`, for the keys that are named    in batches, while others are still probed
a due check  `monitor`, until that is cancelled      five times a second, with what requests noted meanwhile
===========  ======================================  ============================================================

- A `CheckPlan` says what a command wants other than the settings: level, target, judges, time, bytes.
- Without a level, a check goes as deep as its judges and its target allow, short of `full`.
- What a check lacks is a `SettingsError` before anything is probed.
- Of what requests noted, the newest `REPORTS_KEPT` wait to be recorded.
- A claim keeps other processes from a proxy during all tries of its probe, and for some seconds of recording.
- `health` knows no vendors: this module tells it who is to blame where a vendor refuses in its own words.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from secrets import token_hex

from proxywhirl.cache import CacheManager
from proxywhirl.clock import Clock
from proxywhirl.errors import Blame, SettingsError, TierError, UpstreamError
from proxywhirl.health.batch import OnResult, check_many
from proxywhirl.health.budget import Budget
from proxywhirl.health.checks import Checks, Claims
from proxywhirl.health.geo import GeoDatabase
from proxywhirl.health.judges import Judges, Outage
from proxywhirl.health.levels import CheckTally, Level, Report
from proxywhirl.health.monitor import Monitor
from proxywhirl.health.outcome_history import History
from proxywhirl.health.probe import TRIES, Prober
from proxywhirl.health.recorder import Recorder
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.verdicts.response import CUT, SILENT
from proxywhirl.settings import Settings
from proxywhirl.state.store import Store
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.decoding import decode_failure
from proxywhirl.vendors.provider import guess
from proxywhirl.wire.judge import Judge

_log = logging.getLogger(__name__)

PAGE = 5_000
REPORTS_KEPT = 100_000
RECORDING, RECORDING_LIST = 5.0, 30.0  # seconds that a claim outlasts its probe


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """How deep to check, where to go, and what it may cost in bytes; None means as in the settings."""

    level: Level | None = None
    target: Target | None = None
    judges: tuple[str, ...] = ()
    timeout: float | None = None
    concurrency: int | None = None
    budget_bytes: int | None = None


class Checkups:
    """Learns from real traffic and from checks. Thread-safe, except for its coroutines."""

    def __init__(self, cache: CacheManager, state: Store, settings: Settings, *, clock: Clock) -> None:
        self.history = History(state)
        self._cache = cache
        self._state = state
        self._settings = settings.health
        self._proxy_tls = settings.gateway.upstream_tls
        self._clock = clock
        self._schedule = settings.health.schedule()
        self._rng = random.Random()  # noqa: S311  # it spreads checks over time
        self._recorder = self._recorder_with(Judges([], tls=None, clock=clock, rng=self._rng), at_judge=True)
        self._monitor: Monitor | None = None
        self._noted: deque[Report] = deque(maxlen=REPORTS_KEPT)
        self._ready: deque[Report] = deque(maxlen=REPORTS_KEPT)  # to be recorded, by the monitor where it runs

    def note(self, key: str, outcome: Outcome | None) -> None:
        """Keep the outcome of a request until `record`; None takes back the last failure that may be a page's."""
        if outcome is not None:
            self._noted.append(Report(key, outcome, self._clock.now()))
            return
        for report in reversed(self._noted.copy()):
            if report.key == key and report.outcome.rule in (SILENT, CUT):
                with contextlib.suppress(ValueError):  # it is being recorded meanwhile
                    self._noted.remove(report)
                return

    def record(self) -> None:
        """Judge the noted outcomes as checks, so that a busy proxy is hardly probed, and remember them.

        Where a monitor runs it does so, since it can tell an outage of our own from proxies that fail.
        """
        while self._noted:
            self._ready.append(self._noted.popleft())
        if not self._ready or (self._monitor is not None and self._monitor.running):
            return
        reports = []
        while self._ready:
            reports.append(self._ready.popleft())
        try:
            self._recorder.write(reports)
        except TierError as exc:
            _log.warning("the last outcomes are not in the history: %s", exc)

    def keys(self, *, due: bool) -> Iterator[str]:
        """Yield the keys of all proxies, retired ones too, or of those that are to be checked now."""
        now = self._clock.now()
        revision, more = 0, True
        while more:
            page = self._cache.check_times_since(revision, PAGE)
            yield from (key for key, at in page.due.items() if not due or at <= now)
            revision, more = page.revision, page.more

    def require(self, plan: CheckPlan) -> None:
        """See that everything is there that a check needs.

        Raises:
            SettingsError: the level needs a judge or a target that is not there.
        """
        with contextlib.ExitStack() as files:
            self._equipped(plan, files)

    async def check(self, keys: Iterable[str], plan: CheckPlan, on_result: OnResult) -> CheckTally:
        """Check proxies now; each result is told as it comes, and recorded in batches, also where this is cancelled.

        Raises:
            SettingsError: the level needs a judge or a target that is not there.
            TierError: what was found out cannot be recorded.
        """
        timeout = plan.timeout or self._settings.timeout
        with contextlib.ExitStack() as files:
            prober, level, recorder = self._equipped(plan, files)
            await recorder.outage.prepare()
            return await check_many(
                prober,
                self._checks(recorder, plan, level, (TRIES + 1) * timeout + RECORDING_LIST),  # its turn has to come too
                keys,
                level,
                concurrency=plan.concurrency or self._settings.concurrency,
                on_result=on_result,
            )

    def monitor(self, files: contextlib.ExitStack) -> Monitor | None:
        """Make what checks proxies when they are due; None where no judge is set, or it is switched off.

        What it holds open is closed with `files`.

        Raises:
            SettingsError: a setting of it is wrong.
        """
        if not self._settings.monitor or not self._settings.judge_urls:
            return None
        plan = CheckPlan()
        prober, level, recorder = self._equipped(plan, files)
        self._monitor = Monitor(
            self._cache,
            lambda key, endpoint: prober.probe(endpoint, level, key=key),
            self._checks(recorder, plan, level, TRIES * self._settings.timeout + RECORDING),
            timeout=self._settings.timeout,
            retry=self._settings.retry,
            concurrency=self._settings.concurrency,
            per_second=self._settings.checks_per_second,
            reports=self._ready,
            rng=self._rng,
            clock=self._clock,
        )
        return self._monitor

    def _equipped(self, plan: CheckPlan, files: contextlib.ExitStack) -> tuple[Prober, Level, Recorder]:
        named = [Judge.parse(url) for url in plan.judges or self._settings.judge_urls]
        level = plan.level or self._settings.level or _deepest(named, plan.target)
        databases = [path for path in (self._settings.country_database, self._settings.asn_database) if path]
        tls = self._settings.judge_tls()
        judges = Judges(
            _asked_for(level, named),
            target=None if level is Level.TCP else plan.target,
            tls=tls,
            clock=self._clock,
            rng=self._rng,
        )
        prober = Prober(
            judges=judges,
            target=plan.target,
            timeout=plan.timeout or self._settings.timeout,
            tls=tls,
            proxy_tls=self._proxy_tls(),
            geo=files.enter_context(GeoDatabase(databases)) if databases and level is Level.FULL else None,
            clock=self._clock,
            rng=self._rng,
            told=_told_by_vendor,
        )
        prober.require(level)
        return prober, level, self._recorder_with(judges, at_judge=plan.target is None)

    def _recorder_with(self, judges: Judges, *, at_judge: bool) -> Recorder:
        return Recorder(
            self._cache,
            Outage(judges.examine),
            history=self.history,
            schedule=self._schedule,
            rng=self._rng,
            at_judge=at_judge,
        )

    def _checks(self, recorder: Recorder, plan: CheckPlan, level: Level, claimed_for: float) -> Checks:
        claims = Claims(self._state, f"{os.getpid()}-{token_hex(4)}")
        claims.sweep(self._clock.now())
        return Checks(
            self._cache,
            recorder,
            claims,
            Budget(plan.budget_bytes, self._settings.provider_bytes_per_day, self._state),
            level=level,
            claimed_for=claimed_for,
            clock=self._clock,
        )


def _told_by_vendor(endpoint: ProxyURL, error: UpstreamError) -> Blame | None:
    vendor = None if error.refusal is None else guess(endpoint.host, endpoint.port)
    verdict = None if vendor is None else decode_failure(vendor.name, error)
    return None if verdict is None else verdict.blame


def _deepest(judges: Sequence[Judge], target: Target | None) -> Level:
    """Return the deepest level that these judges and this target allow, short of `full`, which asks from here too."""
    schemes = {judge.target.scheme for judge in judges}
    if "http" in schemes:
        sealed = "https" in schemes or (target is not None and target.scheme == "https")
        return Level.TLS if sealed else Level.HTTP
    if judges or target is not None:
        return Level.HANDSHAKE
    raise SettingsError(
        "a check needs somebody to ask for through the proxy: a judge (`proxywhirl judge` serves one; name it with "
        "--judge or PROXYWHIRL_HEALTH_JUDGES), or a --target; or say --level tcp"
    )


def _asked_for(level: Level, judges: Sequence[Judge]) -> list[Judge]:
    """Return the judges that a check of a level may ask; others need not be looked at."""
    if level is Level.TCP:
        return []
    schemes = {judge.target.scheme for judge in judges}
    if level is Level.HTTP or (level is Level.HANDSHAKE and "https" not in schemes):
        schemes = {"http"}
    elif level is Level.HANDSHAKE:
        schemes = {"https"}
    return [judge for judge in judges if judge.target.scheme in schemes]
