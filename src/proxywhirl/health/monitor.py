"""Keep on checking: each proxy when it is due, at a bounded pace, by one process at a time.

When a proxy is due stands in the store of entries (its `next_check_time`), so that a restart forgets nothing; the
monitor follows the log of changes and keeps a heap of it. A result changes the store, and the log brings the next
time back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import ProxyWhirlError
from proxywhirl.health.budget import Budget
from proxywhirl.health.claims import Claims
from proxywhirl.health.judges import VERDICT_LASTS
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.recorder import Recorder, Report
from proxywhirl.models import Attributes
from proxywhirl.timetable import Timetable
from proxywhirl.urls import ProxyURL

_log = logging.getLogger(__name__)

TICK = 0.2
TRIES = 3  # of a probe that this machine spoils
RECORDING_TAKES = 5.0  # seconds that a claim outlasts its probe
PAGE = 5_000
REPORTS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How many probes at once and, in the long run, in a second; a burst is no longer than a second's."""

    concurrency: int
    per_second: float


class _Times(Protocol):
    """A page of the log: when each key is due (0: never checked), which are gone; see `Checkable`."""

    @property
    def revision(self) -> int: ...
    @property
    def due(self) -> Mapping[str, float]: ...
    @property
    def removed(self) -> Iterable[str]: ...
    @property
    def reset(self) -> bool: ...
    @property
    def more(self) -> bool: ...


class Checkable(Protocol):
    """What is to be checked: a cache."""

    def check_times_since(self, revision: int, limit: int, /) -> _Times:
        """Return a page of what changed after a revision."""
        ...

    def to_check(self, keys: Iterable[str], /) -> Mapping[str, tuple[ProxyURL, Attributes]]:
        """Return the endpoints of those keys that are there."""
        ...


Probe = Callable[[str, ProxyURL], Awaitable[ProbeResult]]


class Monitor:
    """Checks what is due until it is cancelled. Belongs to one event loop; what may wait for a disk runs in threads."""

    def __init__(
        self,
        store: Checkable,
        probe: Probe,
        recorder: Recorder,
        claims: Claims,
        *,
        level: Level,
        timeout: float,
        retry: float,
        pace: Pace,
        budget: Budget,
        rng: random.Random,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._store = store
        self._probe = probe
        self._recorder = recorder
        self._claims = claims
        self._level = level
        self._timeout = timeout
        self._retry = retry
        self._pace = pace
        self._budget = budget
        self._rng = rng
        self._clock = clock
        self._agenda = Timetable()
        self._revision = 0
        self._stale: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ended: list[ProbeResult] = []
        self._reports: deque[Report] = deque(maxlen=REPORTS_KEPT)
        self._takes = False
        self._taking = threading.Lock()
        self._allowance = 0.0
        self._allowed_at: float | None = None
        self._failing = False

    async def run(self) -> None:
        """Check until cancelled; probes under way are dropped then, and their proxies free for others."""
        self._takes = True
        try:
            await self._recorder.prepare()
            while True:
                try:
                    await self.step()
                    self._failing = False
                except ProxyWhirlError as exc:
                    if not self._failing:  # once, not five times a second
                        _log.warning("nothing is checked until the store can be used again: %s", exc)
                    self._failing = True
                await asyncio.sleep(TICK)
        finally:
            await self._stop()

    def take(self, reports: Sequence[Report]) -> bool:
        """Take over what requests made of proxies, to be recorded with the probes; False where this does not run.

        Called in any thread.
        """
        with self._taking:
            if self._takes:
                self._reports.extend(reports)
            return self._takes

    async def step(self) -> None:
        """Follow the log, record what has ended, start what is due.

        Raises:
            ProxyWhirlError: the store cannot be read or written; what was not recorded is checked again.
        """
        await self._record()
        await asyncio.to_thread(self._follow)
        now = self._clock.now()
        due = self._take_due(now)
        if not due:
            return
        until = now + TRIES * self._timeout + RECORDING_TAKES
        try:
            claimed = await asyncio.to_thread(self._claims.take, due, now=now, until=until)
            endpoints = await asyncio.to_thread(self._store.to_check, claimed)
        except ProxyWhirlError:
            self._put_off(due, 0.0)
            raise
        self._put_off([key for key in due if key not in claimed], self._timeout)
        for key, (endpoint, attributes) in endpoints.items():
            if self._budget.start(attributes.provider, self._level, now):
                self._running[key] = asyncio.create_task(self._check(key, endpoint, attributes))
            else:
                self._put_off([key], self._retry)
        unused = [key for key in claimed if key not in self._running]
        await asyncio.to_thread(self._claims.give_back, unused)

    async def settle(self) -> None:
        """Wait for the probes under way, and record what they found."""
        await asyncio.gather(*self._running.values())
        await self._record()

    def next_at(self) -> float | None:
        """Return when the next check is due (Unix seconds), None where nothing is to be checked."""
        return self._agenda.next_at()

    async def _check(self, key: str, endpoint: ProxyURL, attributes: Attributes) -> None:
        cost = 0
        try:
            result = await self._probe(key, endpoint)
            cost = result.bytes_up + result.bytes_down
            self._ended.append(result)
        except Exception:  # noqa: BLE001  # the task's last guard: nobody waits for it
            _log.exception("a check ended in a defect")
            self._put_off([key], self._retry)
        finally:
            self._budget.end(attributes.provider, self._level, cost, attributes.price_per_gb)
            del self._running[key]

    async def _record(self) -> None:
        if self._reports:
            await self._record_reports()
        if not self._ended:
            return
        results, self._ended = self._ended, []
        try:
            recorded = await self._recorder.record(results)
            await self._budget.save(self._clock.now())
        except ProxyWhirlError:
            self._put_off([result.key for result in results], self._retry)
            raise
        finally:
            await asyncio.to_thread(self._claims.give_back, [result.key for result in results])
        self._put_off([result.key for result in recorded.untaught], self._retry)

    async def _record_reports(self) -> None:
        """Record what may be: a failure when those who are asked are looked at after it, in the order of all."""
        with self._taking:
            waiting = list(self._reports)
        late = self._clock.now() - VERDICT_LASTS if self._takes else math.inf
        reports = list(takewhile(lambda report: report.ok or report.at <= late, waiting))
        counted = await self._recorder.sift(reports)  # who is cancelled here has taken nothing out
        with self._taking:
            for _ in reports:
                self._reports.popleft()
        if counted:
            await asyncio.to_thread(self._recorder.write, counted)

    def _follow(self) -> None:
        more = True
        while more:
            page = self._store.check_times_since(self._revision, PAGE)
            if page.reset:
                self._stale = set(self._agenda)
            for key, at in page.due.items():
                self._agenda.put(key, at)
            for key in page.removed:
                self._agenda.discard(key)
            self._stale.difference_update(page.due)
            self._revision, more = page.revision, page.more
        for key in self._stale:
            self._agenda.discard(key)
        self._stale = set()

    def _take_due(self, now: float) -> list[str]:
        """Take as many of what is due as the pace allows."""
        elapsed = 1.0 if self._allowed_at is None else max(0.0, now - self._allowed_at)
        self._allowed_at = now
        burst = max(1.0, self._pace.per_second)
        self._allowance = min(burst, self._allowance + elapsed * self._pace.per_second)
        room = min(self._pace.concurrency - len(self._running), int(self._allowance))
        due: list[str] = []
        while len(due) < room and (key := self._agenda.pop_due(now)) is not None:
            if key not in self._running:  # else the log brings it back when it is recorded
                due.append(key)
        self._allowance -= len(due)
        return due

    def _put_off(self, keys: Iterable[str], seconds: float) -> None:
        now = self._clock.now()
        for key in keys:
            self._agenda.put(key, now + seconds * self._rng.uniform(1.0, 1.5))

    async def _stop(self) -> None:
        keys = list(self._running)
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        with self._taking:
            self._takes = False  # what comes from now on is recorded by others
        try:
            await self._record()
            await asyncio.to_thread(self._claims.give_back, keys)
        except ProxyWhirlError as exc:
            _log.warning("the last checks are not recorded: %s", exc)


class MonitorThread:
    """A monitor that runs in a thread of its own, for programs without an event loop, until it is stopped."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxywhirl-monitor", daemon=True)
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """End it as `Monitor.run` ends when it is cancelled, and wait for that."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._monitor.run())
        self._running.set()
        await self._task
