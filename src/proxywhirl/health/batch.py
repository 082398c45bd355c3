"""Probe a list of any length, many at once, in memory that does not grow with it; check such a list of a store.

`probe_many` probes what it is given. A `Round` stands at both its ends: it claims and reads proxies in chunks, and
records results in batches while the round goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from proxywhirl.errors import Blame, SettingsError
from proxywhirl.health.checks import Checks
from proxywhirl.health.levels import Level, ProbeResult, Tally
from proxywhirl.health.probe import Prober
from proxywhirl.models import Attributes
from proxywhirl.net.capacity import make_room
from proxywhirl.urls import ProxyURL

_log = logging.getLogger(__name__)

LARGEST_CHUNK = 200
RECORD_EVERY = 0.5  # seconds

_BEGUN_AT_ONCE = 10  # probes in one turn of the loop, so that those under way get their turns in time
_SOCKETS_EACH = 1  # a probe never has two open

Listed = tuple[str, ProxyURL]

OnResult = Callable[[ProbeResult, ProxyURL, Attributes], object]
"""Is told each result, in the loop's thread: it must be quick."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of all: how many were probed, reached their level, or failed, by who is to blame.

    `concurrency` is how many were probed at once at most, `note` what to tell the user about the limit of open files.
    """

    probed: int
    ok: int
    failed: Mapping[Blame, int] = field(default_factory=dict)
    concurrency: int = 0
    note: str | None = None


async def probe_many(
    prober: Prober,
    proxies: Iterable[Listed] | AsyncIterable[Listed],
    level: Level,
    *,
    concurrency: int,
    on_result: Callable[[ProbeResult], object],
) -> Summary:
    """Probe each proxy of a list; the next one is taken from it only when there is room.

    Args:
        prober: Probes each.
        proxies: Pairs of a key and its endpoint; an iterable that blocks holds up everything, an async one nothing.
        level: How deep.
        concurrency: How many at once; fewer where the limit of open files does not allow it, which is logged.
        on_result: Gets each result as it comes, in the loop's thread: it must be quick. What it raises ends it all.

    Raises:
        SettingsError: The level lacks something, the concurrency is below 1, or no file may be opened any more.
    """
    if concurrency < 1:
        raise SettingsError(f"the concurrency must be 1 or more, not {concurrency}")
    prober.require(level)
    room = make_room(concurrency * _SOCKETS_EACH)
    if room.note is not None:
        _log.warning("%s", room.note)
    failed: Counter[Blame] = Counter()
    slots = asyncio.Semaphore(room.sockets)
    ok = begun = 0

    async def one(key: str, endpoint: ProxyURL) -> None:
        nonlocal ok
        try:
            result = await prober.probe(endpoint, level, key=key)
        finally:
            slots.release()
        if result.blame is None:
            ok += 1
        else:
            failed[result.blame] += 1
        on_result(result)

    async with asyncio.TaskGroup() as group:
        async for key, endpoint in _as_async(proxies):
            await slots.acquire()
            group.create_task(one(key, endpoint))
            begun += 1
            if begun % _BEGUN_AT_ONCE == 0:
                await asyncio.sleep(0)
    return Summary(begun, ok, dict(failed), room.sockets, room.note)


async def _as_async(proxies: Iterable[Listed] | AsyncIterable[Listed]) -> AsyncIterator[Listed]:
    if isinstance(proxies, AsyncIterable):
        async for listed in proxies:
            yield listed
    else:
        for listed in proxies:
            yield listed


class Round:
    """What `probe_many` takes its proxies from and gives its results to. Belongs to one event loop."""

    def __init__(self, checks: Checks, *, concurrency: int, on_result: OnResult) -> None:
        self.tally = Tally()
        self._checks = checks
        self._chunk = min(LARGEST_CHUNK, concurrency)
        self._on_result = on_result
        self._over = asyncio.Event()

    async def proxies(self, keys: Iterable[str]) -> AsyncIterator[Listed]:
        """Yield what is to be probed: what is there, is claimed by nobody else, and may be paid for."""
        rest = iter(keys)
        while chunk := await asyncio.to_thread(lambda: list(islice(rest, self._chunk))):
            claimed, found = await self._checks.claim(chunk)
            self.tally.claimed += len(chunk) - len(claimed)
            for key, known in found.items():
                if self._checks.begin(key, known):
                    yield key, known[0]
                else:
                    self.tally.refused += 1

    def take(self, result: ProbeResult) -> None:
        """Take a result: it is told at once and recorded soon."""
        endpoint, attributes = self._checks.end(result.key, result)
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
                await asyncio.to_thread(self._checks.claims.give_back)
                self.tally.money = self._checks.budget.money

    async def _record_now_and_then(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECORD_EVERY):
                    await self._over.wait()
            await self._record()
        await self._record()  # what came while the last batch was being recorded

    async def _record(self) -> None:
        results = self._checks.take_ended()
        if results:
            recorded = await self._checks.record(results)
            self.tally.untaught += len(recorded.untaught)
