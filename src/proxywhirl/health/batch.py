"""Probe a list of any length, many at once, in memory that does not grow with it; check such a list of a store.

`probe_many` probes the proxies that it is given. `check_many` feeds it: it claims and reads proxies in chunks, and
records results in batches meanwhile.
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
from proxywhirl.health.levels import CheckTally, Level, ProbeResult
from proxywhirl.health.probe import Prober
from proxywhirl.models import Attributes
from proxywhirl.net.capacity import make_room
from proxywhirl.urls import ProxyURL

_log = logging.getLogger(__name__)

LARGEST_CHUNK = 200
RECORD_EVERY = 0.5  # seconds

_BEGUN_AT_ONCE = 10  # probes in one turn of the loop, so that those under way get their turns in time

Listed = tuple[str, ProxyURL]

OnResult = Callable[[ProbeResult, ProxyURL, Attributes], object]
"""Gets each result, in the loop's thread: it must be quick."""


@dataclass(frozen=True, slots=True)
class ProbeSummary:
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
) -> ProbeSummary:
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
    room = make_room(concurrency)  # a probe never has two open
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
    return ProbeSummary(begun, ok, dict(failed), room.sockets, room.note)


async def _as_async(proxies: Iterable[Listed] | AsyncIterable[Listed]) -> AsyncIterator[Listed]:
    if isinstance(proxies, AsyncIterable):
        async for listed in proxies:
            yield listed
    else:
        for listed in proxies:
            yield listed


async def check_many(
    prober: Prober, checks: Checks, keys: Iterable[str], level: Level, *, concurrency: int, on_result: OnResult
) -> CheckTally:
    """Check proxies of a store: those that are there, are claimed by nobody else, and may be paid for.

    Each result is told as it comes. Results are recorded now and then, and the rest at the end, also where this is
    cancelled; then every claim is given back.

    Raises:
        TierError: the results cannot be recorded.
    """
    tally = CheckTally()
    over = asyncio.Event()

    async def proxies() -> AsyncIterator[Listed]:
        rest = iter(keys)
        while chunk := await asyncio.to_thread(lambda: list(islice(rest, min(LARGEST_CHUNK, concurrency)))):
            claimed, found = await checks.claim(chunk)
            tally.claimed += len(chunk) - len(claimed)
            for key, known in found.items():
                if checks.begin(key, known):
                    yield key, known[0]
                else:
                    tally.refused += 1

    def take(result: ProbeResult) -> None:
        endpoint, attributes = checks.end(result.key, result)
        tally.add(result, endpoint.scheme, attributes.country)
        on_result(result, endpoint, attributes)

    recording = asyncio.create_task(_record_now_and_then(checks, tally, over))
    try:
        await probe_many(prober, proxies(), level, concurrency=concurrency, on_result=take)
    except BaseExceptionGroup as failures:  # of the workers, which all end with the first one
        raise failures.exceptions[0] from failures
    finally:
        over.set()
        try:
            await recording
        finally:
            await asyncio.to_thread(checks.claims.give_back)
            tally.money = checks.budget.money
    return tally


async def _record_now_and_then(checks: Checks, tally: CheckTally, over: asyncio.Event) -> None:
    last = False
    while not last:
        last = over.is_set()  # once more then: something may have come while a batch was being recorded
        if not last:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECORD_EVERY):
                    await over.wait()
        if results := checks.take_ended():
            tally.untaught += len(await checks.record(results))
