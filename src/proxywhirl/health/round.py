"""One round of checks: proxies are claimed and read in chunks, results are recorded in batches while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice

from proxywhirl.clock import Clock
from proxywhirl.health.budget import Budget
from proxywhirl.health.claims import Claims
from proxywhirl.health.levels import Level, ProbeResult, Tally
from proxywhirl.health.monitor import Checkable
from proxywhirl.health.recorder import Recorder
from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL

LARGEST_CHUNK = 200
RECORD_EVERY = 0.5  # seconds
TURNS = 4  # timeouts that a claim lasts: one for its turn to come, three for a probe that this machine spoils twice
MARGIN = 30.0  # seconds on top of that

OnResult = Callable[[ProbeResult, ProxyURL, Attributes], object]
"""Is told each result, in the loop's thread: it must be quick."""


class Round:
    """What `probe_many` takes its proxies from and gives its results to. Belongs to one event loop."""

    def __init__(
        self,
        store: Checkable,
        recorder: Recorder,
        claims: Claims,
        budget: Budget,
        *,
        level: Level,
        timeout: float,
        concurrency: int,
        on_result: OnResult,
        clock: Clock,
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._recorder = recorder
        self._claims = claims
        self._budget = budget
        self._level = level
        self._lasts = TURNS * timeout + MARGIN
        self._chunk = min(LARGEST_CHUNK, concurrency)
        self._on_result = on_result
        self._clock = clock
        self._under_way: dict[str, tuple[ProxyURL, Attributes]] = {}
        self._ended: list[ProbeResult] = []
        self._over = asyncio.Event()

    async def proxies(self, keys: Iterable[str]) -> AsyncIterator[tuple[str, ProxyURL]]:
        """Yield what is to be probed: what is there, is claimed by nobody else, and may be paid for."""
        rest = iter(keys)
        while chunk := await asyncio.to_thread(lambda: list(islice(rest, self._chunk))):
            now = self._clock.now()
            until = now + self._lasts
            claimed = await asyncio.to_thread(self._claims.take, chunk, now=now, until=until)
            self.tally.claimed += len(chunk) - len(claimed)
            found = await asyncio.to_thread(self._store.to_check, [key for key in chunk if key in claimed])
            for key, (endpoint, attributes) in found.items():
                if self._budget.start(attributes.provider, self._level, now):
                    self._under_way[key] = endpoint, attributes
                    yield key, endpoint
                else:
                    self.tally.refused += 1

    def take(self, result: ProbeResult) -> None:
        """Take a result: it is told at once and recorded soon."""
        endpoint, attributes = self._under_way.pop(result.key)
        cost = result.bytes_up + result.bytes_down
        self._budget.end(attributes.provider, self._level, cost, attributes.price_per_gb)
        self._ended.append(result)
        self.tally.add(result, endpoint.scheme, attributes.country)
        self._on_result(result, endpoint, attributes)

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Record now and then while the block runs, and the rest when it ends, however it does.

        Raises:
            TierError: what was found out cannot be recorded.
        """
        now_and_then = asyncio.create_task(self._record_now_and_then())
        try:
            yield
        finally:
            self._over.set()
            try:
                await now_and_then
            finally:
                await asyncio.to_thread(self._claims.give_back_all)
                self.tally.money = self._budget.money

    async def _record_now_and_then(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECORD_EVERY):
                    await self._over.wait()
            await self._record()
        await self._record()  # what came while the last batch was being recorded

    async def _record(self) -> None:
        results, self._ended = self._ended, []
        if results:
            recorded = await self._recorder.record(results)
            self.tally.untaught += len(recorded.untaught)
            await self._budget.save(self._clock.now())
