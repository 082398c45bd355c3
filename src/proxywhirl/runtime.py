"""The composition root: settings become objects, and objects are wired to each other. Alone in knowing all packages.

The pool follows the log of the cache's changes and asks the cache for a credential when a connection is made.
What is reported to the pool goes back to the cache as health checks, in batches. A `Feeder` thread does both
while requests are being served.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

from proxywhirl.cache import CacheManager, Merge
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import CacheError, TierError
from proxywhirl.events import EventBus
from proxywhirl.gateway import Gateway
from proxywhirl.health import policy as health_policy
from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.settings import Settings
from proxywhirl.state.blocklist import Blocklist
from proxywhirl.state.store import StateStore
from proxywhirl.urls import ProxyURL

__all__ = ["Runtime"]

_log = logging.getLogger(__name__)

FEED_INTERVAL_SECONDS = 0.1
REPORTS_KEPT = 100_000


class Runtime:
    """A cache, a pool that follows it, and what else the settings ask for. A context manager.

    Raises:
        CacheError: the store of the home cannot be opened; the message says what to do.
        UnknownNameError: no strategy has the configured name.
    """

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.events = EventBus()
        self._clock = clock
        self._reports: deque[tuple[str, Outcome, float]] = deque(maxlen=REPORTS_KEPT)
        self._revision = 0
        self._next_record = 0.0
        self._feeder: Feeder | None = None
        self.cache = CacheManager(settings.cache, clock=clock)
        with contextlib.ExitStack() as undo:
            undo.callback(self.cache.close)
            self.pool = Pool(settings.pool.strategy, resolve=self.cache.endpoint, clock=clock, on_report=self._take)
            self._state = StateStore(settings.home / "db" / "state.db") if settings.home is not None else None
            undo.pop_all()
        self.blocklist = Blocklist(self._state) if self._state is not None else None

    def take_in(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float, lift: bool = False
    ) -> Merge:
        """Merge proxies into the cache; what the user removed before is skipped, or with `lift` let in again.

        Raises:
            CacheError: the store could not take them.
        """
        offered = list(proxies)
        if self.blocklist is not None and lift:
            self.blocklist.lift({url.key for url, _ in offered})
        blocked = self.blocklist.reasons() if self.blocklist is not None else {}
        wanted = [(url, known) for url, known in offered if url.key not in blocked] if blocked else offered
        merge = self.cache.add_many(wanted, source=source, ttl=ttl)
        if merge is None:
            raise CacheError("the store cannot be written to; nothing of this batch was taken in (see the log)")
        return Merge(merge.loaded, merge.skipped + len(offered) - len(wanted))

    def remove(self, keys: Iterable[str], reason: str) -> list[str]:
        """Remove proxies and keep them out; return the keys that were there."""
        chosen = list(keys)
        if self.blocklist is not None:
            self.blocklist.block(chosen, reason)
        return [key for key in chosen if self.cache.delete(key)]

    def feed(self) -> None:
        """Bring the pool in line with the cache, and the cache with what was reported to the pool."""
        self.cache.refresh()
        more = True
        while more:
            changes = self.cache.changes_since(self._revision)
            if changes.reset:
                self.pool.discard([use.proxy.key for use in self.pool.snapshot()])
            self.pool.discard(changes.removed)
            self.pool.update(changes.proxies)
            self._revision, more = changes.revision, changes.more
        if self._clock.monotonic() >= self._next_record:
            self._record_reports()

    def start(self) -> None:
        """Feed the pool now, and from then on in a thread."""
        self.feed()
        if self._feeder is None:
            self._feeder = Feeder(self)

    def gateway(self) -> Gateway:
        """Make the gateway of the settings; `start` the runtime too, or its pool stays empty.

        Raises:
            GatewayError: it would be open to a network without credentials.
            SettingsError: its settings contradict each other.
        """
        return Gateway(self.pool, self.settings.gateway.options(), events=self.events, clock=self._clock)

    def close(self) -> None:
        """Stop the thread, write what is still in memory, close every file. Idempotent."""
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
        self._record_reports()
        self.cache.close()
        if self._state is not None:
            self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, proxy: Proxy, outcome: Outcome) -> None:
        if outcome.ok or outcome.counts_against_proxy:
            self._reports.append((proxy.key, outcome, self._clock.now()))

    def _record_reports(self) -> None:
        self._next_record = self._clock.monotonic() + self.settings.cache.flush_interval_seconds
        judged = []
        while self._reports:
            key, outcome, at = self._reports.popleft()
            judged.append((key, partial(_judge, outcome, at)))
        if judged:
            self.cache.record_checks(judged)


def _judge(outcome: Outcome, at: float, status: HealthStatus, streak_ok: int, streak_failed: int) -> HealthCheck:
    return health_policy.after(status, streak_ok, streak_failed, outcome.ok, at, outcome.error)


class Feeder:
    """A thread that feeds a runtime's pool until it is stopped."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxywhirl-feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(FEED_INTERVAL_SECONDS):
            try:
                self._runtime.feed()
            except TierError:
                _log.exception("the pool could not be brought in line with the store; trying again")
