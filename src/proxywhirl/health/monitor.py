"""Keep on checking: each proxy when it is due, at a bounded pace, by one process at a time.

The store of entries knows when a proxy is due (`next_check_time`), so that a restart forgets nothing. The monitor
follows the log of changes and keeps a heap of these times. A result changes the store; the log brings the next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import ProxyWhirlError
from proxywhirl.health.checks import Checkable, Checks
from proxywhirl.health.judges import VERDICT_LASTS
from proxywhirl.health.levels import ProbeResult, Report
from proxywhirl.timetable import Timetable
from proxywhirl.urls import ProxyURL

_log = logging.getLogger(__name__)

TICK = 0.2
PAGE = 5_000


Probe = Callable[[str, ProxyURL], Awaitable[ProbeResult]]


@dataclass(slots=True, eq=False)
class Monitor:
    """Checks proxies that are due until it is cancelled. Belongs to one event loop; disks are waited for in threads.

    Args:
        store: Says when proxies are due.
        probe: Probes one.
        checks: Claims, pays and records.
        timeout: Seconds of a probe: proxies that another process has claimed are tried after that.
        retry: Seconds after which a proxy is tried again when a check said nothing of it.
        concurrency: How many probes at once.
        per_second: How many begin in a second, in the long run; a burst is no longer than a second's.
        reports: Outcomes of requests. While it is `running` it records these with the probes, since it can tell an
            outage of our own from proxies that fail. Others record the reports that it leaves there.
        rng: Spreads checks that are put off.
        clock: Tells the time.
    """

    store: Checkable
    probe: Probe
    checks: Checks
    _: KW_ONLY
    timeout: float
    retry: float
    concurrency: int
    per_second: float
    reports: deque[Report]
    rng: random.Random
    clock: Clock = SYSTEM_CLOCK
    running: bool = field(default=False, init=False)
    _agenda: Timetable[str] = field(default_factory=Timetable, init=False)
    _revision: int = field(default=0, init=False)
    _stale: set[str] = field(default_factory=set, init=False)
    _probes: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _allowance: float = field(default=0.0, init=False)
    _allowed_at: float | None = field(default=None, init=False)
    _failing: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Check until cancelled; probes under way are dropped then, and their proxies free for others."""
        self.running = True
        try:
            await self.checks.recorder.outage.prepare()
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

    async def step(self) -> None:
        """Follow the log, record what has ended, start what is due.

        Raises:
            ProxyWhirlError: the store cannot be read or written; unrecorded checks are made again.
        """
        await self._record()
        await asyncio.to_thread(self._follow)
        due = self._take_due(self.clock.now())
        if not due:
            return
        try:
            claimed, found = await self.checks.claim(due)
        except ProxyWhirlError:
            self._put_off(due, 0.0)
            raise
        self._put_off([key for key in due if key not in claimed], self.timeout)
        for key, known in found.items():
            if self.checks.begin(key, known):
                self._probes[key] = asyncio.create_task(self._check(key, known[0]))
            else:
                self._put_off([key], self.retry)
        unused = [key for key in claimed if key not in self._probes]
        await asyncio.to_thread(self.checks.claims.give_back, unused)

    async def finish(self) -> None:
        """Wait for the probes under way, and record what they found."""
        await asyncio.gather(*self._probes.values())
        await self._record()

    def next_at(self) -> float | None:
        """Return when the next check is due (Unix seconds), None where nothing is to be checked."""
        return self._agenda.next_at()

    async def _check(self, key: str, endpoint: ProxyURL) -> None:
        result: ProbeResult | None = None
        try:
            result = await self.probe(key, endpoint)
        except Exception:  # noqa: BLE001  # the task's last guard: nobody waits for it
            _log.exception("a check ended in a defect")
            self._put_off([key], self.retry)
        finally:
            self.checks.end(key, result)
            del self._probes[key]

    async def _record(self, *, last: bool = False) -> None:
        if self.reports:
            await self._record_reports(last=last)
        results = self.checks.take_ended()
        if not results:
            return
        keys = [result.key for result in results]
        try:
            untaught = await self.checks.record(results)
        except ProxyWhirlError:
            self._put_off(keys, self.retry)
            raise
        finally:
            await asyncio.to_thread(self.checks.claims.give_back, keys)
        self._put_off([result.key for result in untaught], self.retry)

    async def _record_reports(self, *, last: bool = False) -> None:
        """Record reports in their order: a failure waits until the judges were looked at after it."""
        late = math.inf if last else self.clock.now() - VERDICT_LASTS
        reports: list[Report] = []
        while self.reports and (self.reports[0].ok or self.reports[0].at <= late):
            reports.append(self.reports.popleft())
        try:
            counted, _ = await self.checks.recorder.outage.sift(reports)
        except BaseException:
            self.reports.extendleft(reversed(reports))
            raise
        if counted:
            await asyncio.to_thread(self.checks.recorder.write, counted)

    def _follow(self) -> None:
        more = True
        while more:
            page = self.store.check_times_since(self._revision, PAGE)
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
        """Take as many due proxies as the rate allows."""
        elapsed = 1.0 if self._allowed_at is None else max(0.0, now - self._allowed_at)
        self._allowed_at = now
        burst = max(1.0, self.per_second)
        self._allowance = min(burst, self._allowance + elapsed * self.per_second)
        room = min(self.concurrency - len(self._probes), int(self._allowance))
        due: list[str] = []
        while len(due) < room and (key := self._agenda.pop_due(now)) is not None:
            if key not in self._probes:  # else the log brings it back when it is recorded
                due.append(key)
        self._allowance -= len(due)
        return due

    def _put_off(self, keys: Iterable[str], seconds: float) -> None:
        now = self.clock.now()
        for key in keys:
            self._agenda.put(key, now + seconds * self.rng.uniform(1.0, 1.5))

    async def _stop(self) -> None:
        keys = list(self._probes)
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        try:
            await self._record(last=True)
            await asyncio.to_thread(self.checks.claims.give_back, keys)
        except ProxyWhirlError as exc:
            _log.warning("the last checks are not recorded: %s", exc)
        finally:
            self.running = False


class MonitorThread(threading.Thread):
    """A monitor that runs in a thread of its own, for programs without an event loop, until it is stopped."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(name="proxywhirl-monitor", daemon=True)
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._task = self._loop.create_task(monitor.run())
        self.start()

    def run(self) -> None:
        """Run until the monitor has ended."""
        with self._runner, contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    def stop(self) -> None:
        """End it as `Monitor.run` ends when it is cancelled, and wait for that."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()
