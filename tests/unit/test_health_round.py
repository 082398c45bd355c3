"""A round of checks: nothing that was found out is lost at its end, and nothing stays claimed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

import pytest

from proxywhirl.errors import TierError
from proxywhirl.health.batch import Round
from proxywhirl.health.budget import Budget
from proxywhirl.health.checks import Checks, Claims
from proxywhirl.health.judges import Outage, Reliability
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.policy import Schedule
from proxywhirl.health.recorder import Assess, Recorder
from proxywhirl.models import Attributes, HealthCheck
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
        """Stand for the log, which a round does not read."""
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


def made(store: Store, state: MemoryStore) -> Round:
    """Make a round over a store."""

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
    return Round(checks, concurrency=10, on_result=lambda *_: None)


def good(key: str) -> ProbeResult:
    """Make the result of a probe that went well."""
    return ProbeResult(key, Level.TCP, Level.TCP, (), 1.0)


async def test_what_ends_while_the_last_batch_is_recorded_is_recorded_too() -> None:
    """The end of the block waits for the batch under way and then writes what came meanwhile."""
    store, state = Store(), MemoryStore()
    checks = made(store, state)
    store.go_on.clear()
    async with checks.recording():
        keys = [key async for key, _ in checks.proxies("abc")]
        checks.take(good("a"))
        await store.recording.wait()
        checks.take(good("b"))
        checks.take(good("c"))
        store.loop.call_later(0.05, store.go_on.set)
    assert keys == ["a", "b", "c"]
    assert store.recorded == ["a", "b", "c"]
    assert checks.tally.ok == 3
    assert state.items("claim") == {}


async def test_a_store_that_cannot_be_written_to_is_told_at_the_end() -> None:
    """The block ends with the error, and its claims are given back."""
    store, state = Store(), MemoryStore()
    store.sick = True
    checks = made(store, state)

    async def block() -> None:
        async with checks.recording():
            _ = [key async for key, _ in checks.proxies("a")]
            checks.take(good("a"))

    with pytest.raises(TierError, match="no room"):
        await block()
    assert state.items("claim") == {}


async def test_a_block_that_is_cancelled_keeps_what_had_ended() -> None:
    """Ctrl-C loses only what was under way."""
    store, state = Store(), MemoryStore()
    checks = made(store, state)
    taken = asyncio.Event()

    async def block() -> None:
        async with checks.recording():
            _ = [key async for key, _ in checks.proxies("ab")]
            checks.take(good("a"))
            taken.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await taken.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.recorded == ["a"]
    assert state.items("claim") == {}
