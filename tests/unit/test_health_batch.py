"""A check of a list: nothing that was found out is lost at its end, and nothing stays claimed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

import pytest

from proxywhirl.errors import TierError
from proxywhirl.health.batch import OnResult, check_many
from proxywhirl.health.budget import Budget
from proxywhirl.health.checks import Checks, Claims
from proxywhirl.health.judges import Outage, Reliability
from proxywhirl.health.levels import CheckTally, Level, ProbeResult
from proxywhirl.health.policy import Schedule
from proxywhirl.health.recorder import Recorder
from proxywhirl.models import Assess, Attributes, HealthCheck
from proxywhirl.state.store import MemoryStore
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL, parse


class Store:
    """Proxies to check, and what was recorded of them; recording can be made to wait."""

    def __init__(self) -> None:
        self.recorded: list[str] = []
        self.sick = False
        self.loop = asyncio.get_running_loop()
        self.recording = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def check_times_since(self, revision: int, limit: int) -> object:
        """Stand for the log, which a list has no need of."""
        raise NotImplementedError

    def to_check(self, keys: Iterable[str]) -> Mapping[str, tuple[ProxyURL, Attributes]]:
        """Return an endpoint for each key."""
        return {key: (parse(f"http://{key}.example:80"), Attributes()) for key in keys}

    def record_checks(self, checks: Sequence[tuple[str, HealthCheck | Assess]]) -> int:
        """Record, as slowly as it is told to."""
        self.loop.call_soon_threadsafe(self.recording.set)
        asyncio.run_coroutine_threadsafe(self.go_on.wait(), self.loop).result(10)
        if self.sick:
            raise TierError("no room")
        self.recorded += [key for key, _ in checks]
        return len(checks)

    def describe(self, known: Mapping[str, Attributes]) -> int:
        """Learn nothing."""
        return 0 * len(known)


class Prober:
    """Finds every proxy to work; those that are held take until they are let go."""

    def __init__(self) -> None:
        self.held: dict[str, asyncio.Event] = {}

    def require(self, level: Level) -> None:
        """Have everything."""

    async def probe(self, endpoint: ProxyURL, level: Level, *, key: str) -> ProbeResult:  # noqa: ARG002  # a prober's
        """Find it to work."""
        if key in self.held:
            await self.held[key].wait()
        return ProbeResult(key, level, level, (), 1.0)


async def check(
    keys: str, store: Store, state: MemoryStore, prober: Prober | None = None, on_result: OnResult | None = None
) -> CheckTally:
    """Check proxies of a store."""

    async def examine() -> Reliability:
        return Reliability.GOOD

    recorder = Recorder(store, Outage(examine), history=None, schedule=Schedule(), rng=random.Random(1))
    checks = Checks(
        store,  # type: ignore[arg-type]  # it has no log
        recorder,
        Claims(state, "me"),
        Budget(),
        level=Level.TCP,
        claimed_for=30.0,
        clock=ManualClock(),
    )
    return await check_many(
        prober or Prober(),  # type: ignore[arg-type]  # it reaches no network
        checks,
        keys,
        Level.TCP,
        concurrency=10,
        on_result=on_result or (lambda *_: None),
    )


async def test_what_ends_while_the_last_batch_is_recorded_is_recorded_too() -> None:
    """The end waits for the batch under way and then writes what came meanwhile."""
    store, state, prober = Store(), MemoryStore(), Prober()
    store.go_on.clear()
    prober.held = dict.fromkeys("bc", asyncio.Event())
    checking = asyncio.create_task(check("abc", store, state, prober))
    await store.recording.wait()
    prober.held["b"].set()
    asyncio.get_running_loop().call_later(0.05, store.go_on.set)
    tally = await checking
    assert sorted(store.recorded) == ["a", "b", "c"]
    assert store.recorded[0] == "a"
    assert tally.ok == 3
    assert state.items("claim") == {}


async def test_a_store_that_cannot_be_written_to_is_told_at_the_end() -> None:
    """The check ends with the error, and its claims are given back."""
    store, state = Store(), MemoryStore()
    store.sick = True
    with pytest.raises(TierError, match="no room"):
        await check("a", store, state)
    assert state.items("claim") == {}


async def test_a_check_that_is_cancelled_keeps_what_had_ended() -> None:
    """Ctrl-C loses only what was under way."""
    store, state, prober = Store(), MemoryStore(), Prober()
    prober.held["b"] = asyncio.Event()
    taken = asyncio.Event()
    task = asyncio.create_task(check("ab", store, state, prober, lambda *_: taken.set()))
    await taken.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.recorded == ["a"]
    assert state.items("claim") == {}
