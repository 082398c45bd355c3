"""Who is checked when, by whom, and whom a failure is laid at: a real cache, and probes whose results are given."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from proxywhirl.cache import CacheConfig, CacheManager, HealthStatus
from proxywhirl.errors import Blame, TierError
from proxywhirl.health.budget import EXPECTED_BYTES, Budget
from proxywhirl.health.checks import Checks, Claims
from proxywhirl.health.judges import VERDICT_LASTS, Outage, Reliability, reaches
from proxywhirl.health.levels import Level, ProbeResult, Report, Stage
from proxywhirl.health.monitor import Monitor
from proxywhirl.health.outcome_history import History
from proxywhirl.health.policy import Schedule
from proxywhirl.health.recorder import Recorder
from proxywhirl.models import Attributes, HealthCheck, Outcome, Target
from proxywhirl.state.store import Change, MemoryStore, Written
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL

SCHEDULE = Schedule()
OFF = {"enabled": False}


def result(key: str, blame: Blame | None = None, *, at: float = 0.0, **found: Any) -> ProbeResult:
    """Make the result of a probe: a success, or a failure that is laid at someone."""
    reached = Level.HTTP if blame is None else None
    stages = (Stage(Level.TCP, 0.25, 40, 60),)
    error = None if blame is None else f"failed: {blame.value}"
    return ProbeResult(key, Level.HTTP, reached, stages, at, error, blame, **found)


class World:
    """A cache in memory with proxies, what each answers when it is probed, and how often that was."""

    made: ClassVar[list[World]] = []

    def __init__(self, names: str, *, online: bool = True, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.cache = CacheManager(
            CacheConfig(l1_config={"max_entries": None}, l2_config=OFF, l3_config=OFF),
            clock=self.clock,
        )
        self.store = MemoryStore()
        self.history = History(self.store)
        self.reliability = Reliability.GOOD if online else Reliability.NONE
        self.asked_directly = 0
        self.blames: dict[str, Blame] = {}
        self.probed: list[str] = []
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.keys: dict[str, str] = {}
        self.reports: deque[Report] = deque()
        self.made.append(self)
        for name in names:
            self.add(name)

    def add(self, name: str, **attributes: object) -> None:
        """Add a proxy under a short name."""
        known = Attributes(**attributes)  # type: ignore[arg-type]  # the fields' own types
        entry = self.cache.add(f"http://{name}.example:80", source="s", ttl=1e9, attributes=known)
        assert entry is not None
        self.keys[name] = entry.key

    async def examine(self) -> Reliability:
        """Stand for the direct check."""
        self.asked_directly += 1
        return self.reliability

    async def probe(self, key: str, endpoint: ProxyURL) -> ProbeResult:
        """Answer as it was told to."""
        name = endpoint.host.partition(".")[0]
        self.probed.append(name)
        self.begun.set()
        if self.hold is not None:
            await self.hold.wait()
        return result(key, self.blames.get(name), at=self.clock.now())

    def recorder(self, *, at_judge: bool = True) -> Recorder:
        """Make what records into the cache."""
        outage = Outage(self.examine)
        return Recorder(
            self.cache, outage, history=self.history, schedule=SCHEDULE, rng=random.Random(1), at_judge=at_judge
        )

    def monitor(
        self, owner: str = "me", *, concurrency: int = 100, per_second: float = 1000.0, budget: Budget | None = None
    ) -> Monitor:
        """Make a monitor of the cache."""
        return Monitor(
            self.cache,
            self.probe,
            Checks(
                self.cache,
                self.recorder(),
                Claims(self.store, owner),
                budget or Budget(),
                level=Level.HTTP,
                claimed_for=35.0,
                clock=self.clock,
            ),
            timeout=10.0,
            retry=60.0,
            concurrency=concurrency,
            per_second=per_second,
            reports=self.reports,
            rng=random.Random(2),
            clock=self.clock,
        )

    def status(self, name: str) -> HealthStatus:
        """Return what the cache says of a proxy."""
        entry = self.cache.look(self.keys[name])
        assert entry is not None
        return entry.health_status

    def due(self, name: str) -> float:
        """Return in how many seconds a proxy is to be checked."""
        entry = self.cache.look(self.keys[name])
        assert entry is not None
        assert entry.next_check_time is not None
        return entry.next_check_time.timestamp() - self.clock.now()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the cache of each world that a test made."""
    yield
    while World.made:
        World.made.pop().cache.close()


async def turn(monitor: Monitor) -> None:
    """Let a monitor start what is due and record what comes of it."""
    await monitor.step()
    await monitor.finish()


async def test_everything_is_checked_once_and_again_when_it_is_due() -> None:
    """New proxies are checked at once, a second step probes nobody, and each comes again at its own time."""
    world = World("ab")
    world.blames["b"] = Blame.PROXY
    monitor = world.monitor()
    await turn(monitor)
    assert sorted(world.probed) == ["a", "b"]
    assert (world.status("a"), world.status("b")) == (HealthStatus.HEALTHY, HealthStatus.UNHEALTHY)
    await turn(monitor)
    assert len(world.probed) == 2
    first, wait = min((world.due(name), name) for name in "ab")[::-1]
    world.clock.advance(wait + 0.001)
    await turn(monitor)
    assert world.probed[2:] == [first]
    assert len(world.history.of(world.keys[first])) == 2


async def test_a_restart_forgets_nothing() -> None:
    """Another monitor on the same store probes nobody before the time that the first one's checks have set."""
    world = World("a")
    await turn(world.monitor())
    successor = world.monitor("successor")
    await turn(successor)
    assert world.probed == ["a"]
    assert successor.next_at() == pytest.approx(world.clock.now() + world.due("a"))


async def test_real_traffic_counts_as_a_check() -> None:
    """A proxy that is checked by its use is not probed meanwhile."""
    world = World("a")
    monitor = world.monitor()
    await turn(monitor)
    world.clock.advance(world.due("a") - 1.0)
    await world.recorder().record([result(world.keys["a"], at=world.clock.now())])
    world.clock.advance(2.0)
    await turn(monitor)
    assert world.probed == ["a"]


async def test_two_processes_never_check_the_same_proxy_at_once() -> None:
    """While one probes, the other leaves its proxies alone, and takes them later if they are due still."""
    world = World("abc")
    world.hold = asyncio.Event()
    mine, other = world.monitor("mine"), world.monitor("other")
    await mine.step()
    await asyncio.sleep(0)
    await other.step()
    assert sorted(world.probed) == ["a", "b", "c"]
    world.hold.set()
    await mine.finish()
    await other.finish()
    world.clock.advance(16.0)
    await turn(other)
    assert len(world.probed) == 3, "the log told the other one that they were checked"


async def test_one_that_was_killed_blocks_nobody_for_long() -> None:
    """Claims end by themselves: what a killed process was about to check is checked by another."""
    world = World("a")
    world.hold = asyncio.Event()
    killed = world.monitor("killed")
    await killed.step()
    other = world.monitor("other")
    await other.step()
    world.hold.set()
    world.clock.advance(40.0)
    await turn(other)
    assert world.probed == ["a", "a"]


async def test_a_monitor_that_is_stopped_frees_what_it_was_checking() -> None:
    """Cancelling drops the probes under way and gives the claims back."""
    world = World("a")
    world.hold = asyncio.Event()
    task = asyncio.create_task(world.monitor("stopped").run())
    await world.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.store.items("claim") == {}
    world.hold = None
    await turn(world.monitor("next"))
    assert world.probed == ["a", "a"]


async def test_the_pace_bounds_how_many_are_probed() -> None:
    """No more at once than `concurrency`, and in the long run no more than `per_second`."""
    world = World("abcdefgh")
    world.hold = asyncio.Event()
    narrow = world.monitor(concurrency=3)
    await narrow.step()
    await asyncio.sleep(0)
    assert len(world.probed) == 3
    world.hold.set()
    await narrow.finish()
    world.hold = None
    slow_world = World("abcdefgh")
    slow = slow_world.monitor(per_second=2.0)
    for pause, probed in ((0.0, 2), (0.0, 2), (0.5, 3), (1.0, 5), (100.0, 7)):  # a long pause earns no long burst
        slow_world.clock.advance(pause)
        await turn(slow)
        assert len(slow_world.probed) == probed


async def test_what_is_removed_is_checked_no_more() -> None:
    """The log tells of it, also where it begins anew."""
    world = World("ab")
    monitor = world.monitor()
    await turn(monitor)
    world.cache.delete(world.keys["a"])
    world.clock.advance(10_000.0)
    await turn(monitor)
    assert world.probed[2:] == ["b"]
    world.cache.clear()
    await turn(monitor)
    assert monitor.next_at() is None


async def test_a_retired_proxy_is_checked_and_comes_back() -> None:
    """What was taken out of service is probed all the same, and two successes bring it back."""
    world = World("a")
    monitor = world.monitor()
    for _ in range(3):
        world.cache.invalidate_by_health(world.keys["a"])
    assert world.cache.get(world.keys["a"]) is None
    await turn(monitor)
    world.clock.advance(10_000.0)
    await turn(monitor)
    assert world.status("a") is HealthStatus.HEALTHY


async def test_nobody_is_punished_while_our_own_network_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """When all fail and a direct check fails too, nothing is recorded, it is said once, and they are tried soon."""
    world = World("abc", online=False)
    world.blames = dict.fromkeys("abc", Blame.PROXY)
    monitor = world.monitor()
    with caplog.at_level(logging.WARNING, "proxywhirl.health.judges"):
        await turn(monitor)
        world.clock.advance(100.0)
        await turn(monitor)
    assert [world.status(name) for name in "abc"] == [HealthStatus.UNKNOWN] * 3
    assert [world.history.of(world.keys[name]) for name in "abc"] == [[], [], []]
    assert len(world.probed) == 6
    said = [record.message for record in caplog.records if "no proxy is blamed" in record.message]
    assert len(said) == 1
    assert "its network is down, or what is asked for is" in said[0]
    world.reliability, world.blames = Reliability.GOOD, {}
    world.clock.advance(100.0)
    await turn(monitor)
    assert [world.status(name) for name in "abc"] == [HealthStatus.HEALTHY] * 3


async def test_a_pool_that_dies_while_the_network_is_up_is_judged() -> None:
    """All fail, and who was asked is reliable: the proxies are to blame. Where nothing fails nobody is looked at."""
    world = World("abc")
    recorder = world.recorder()
    failures = [result(world.keys[name], Blame.PROXY, at=world.clock.now()) for name in "abc"]
    for _ in range(3):
        counted, _ = await recorder.record(failures)
    await recorder.record([result(world.keys["a"])])
    assert (counted, world.asked_directly) == (failures, 3)
    assert world.status("b") is HealthStatus.DEAD


async def test_no_failure_counts_when_one_of_several_judges_turned_bad() -> None:
    """Nobody can tell through which of them it came; successes count, and the next failures again."""
    world = World("abc")
    world.reliability = Reliability.WORSE
    recorder = world.recorder()
    batch = [result(world.keys["a"], Blame.PROXY), result(world.keys["b"]), result(world.keys["c"], Blame.PROXY)]
    assert (await recorder.record(batch))[0] == [batch[1]]
    world.reliability = Reliability.GOOD
    assert (await recorder.record(batch))[0] == batch


async def test_what_came_before_the_network_went_down_counts() -> None:
    """Of a batch the results up to the last success are recorded, the failures after it are not."""
    world = World("abc", online=False)
    batch = [
        result(world.keys["a"], Blame.PROXY, at=1.0),
        result(world.keys["b"], at=2.0),
        result(world.keys["c"], Blame.PROXY, at=3.0),
    ]
    counted, untaught = await world.recorder().record(batch)
    assert [found.key for found in counted] == [world.keys["a"], world.keys["b"]]
    assert [found.key for found in untaught] == [world.keys["c"]]


@pytest.mark.parametrize(
    ("blame", "at_judge", "counts"),
    [
        (Blame.PROXY, True, True),
        (Blame.ACCOUNT, True, True),
        (Blame.TARGET_THROUGH_PROXY, True, True),
        (Blame.TARGET_THROUGH_PROXY, False, False),
        (Blame.TARGET, True, False),
        (Blame.US, True, False),
    ],
)
async def test_who_is_to_blame(blame: Blame, at_judge: bool, counts: bool) -> None:
    """A failure counts where the proxy or its account is at fault, or where it does not reach what others reach."""
    world = World("ab")
    found = [result(world.keys["a"], blame), result(world.keys["b"])]
    counted, _ = await world.recorder(at_judge=at_judge).record(found)
    assert (found[0] in counted) is counts
    assert (world.status("a") is HealthStatus.UNKNOWN) is not counts


async def test_that_it_takes_connections_makes_no_proxy_healthy() -> None:
    """A success of level tcp leads to degraded at best, and takes nothing from one that is healthy."""
    world = World("ab")
    await world.recorder().record([result(world.keys["b"])])
    for _ in range(3):
        shallow = [replace(result(world.keys[name]), asked=Level.TCP, reached=Level.TCP) for name in "ab"]
        await world.recorder().record(shallow)
    assert (world.status("a"), world.status("b")) == (HealthStatus.DEGRADED, HealthStatus.HEALTHY)


async def test_what_a_full_probe_found_out_is_kept() -> None:
    """Anonymity, country and ASN become attributes; what the probe does not say stays."""
    world = World("")
    world.add("a", country="FR", city="Paris")
    await world.recorder().record([result(world.keys["a"], country="DE", asn=64500, anonymity="elite")])
    entry = world.cache.get(world.keys["a"])
    assert entry is not None
    assert entry.attributes == Attributes(country="DE", city="Paris", asn=64500, anonymity="elite")


async def test_a_budget_puts_probes_off() -> None:
    """Where a provider's bytes of the day are spent its proxies are not probed, and others are."""
    world = World("b")
    world.add("a", provider="acme")
    budget = Budget(providers={"acme": EXPECTED_BYTES[Level.HTTP] - 1})
    await turn(world.monitor(budget=budget))
    assert world.probed == ["b"]
    assert world.store.items("claim") == {}


class SickStore(MemoryStore):
    """A store that cannot be written to while it is sick."""

    sick = False

    def update(self, kind: str, keys: Iterable[str], change: Change) -> Written:
        """Fail, or do as it should."""
        if self.sick:
            raise TierError("no room")
        return super().update(kind, keys, change)


async def test_a_sick_store_is_said_once_and_checking_goes_on_when_it_is_well(caplog: pytest.LogCaptureFixture) -> None:
    """No proxy is lost: what could not be claimed or recorded is due again."""
    world = World("a")
    world.store = store = SickStore()
    world.history = History(store)
    monitor = world.monitor()
    store.sick = True
    with pytest.raises(TierError):
        await monitor.step()
    assert world.probed == []
    store.sick = False
    await monitor.step()
    store.sick = True
    with pytest.raises(TierError):
        await monitor.finish()
    store.sick = False
    world.clock.advance(1000.0)
    await turn(monitor)
    assert world.probed == ["a", "a"]


async def test_the_direct_check_connects_and_sends_nothing() -> None:
    """It tells an open port from a closed one."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await seen.put(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target, tls = Target("http", "127.0.0.1", port), ssl.create_default_context()
    assert await reaches(target, tls)
    assert await seen.get() == b""
    server.close()
    await server.wait_closed()
    assert not await reaches(target, tls)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[CacheManager]:
    """A cache with all its tiers."""
    config = CacheConfig(l2_cache_dir=str(tmp_path / "cache"), l3_database_path=str(tmp_path / "db" / "p.db"))
    with CacheManager(config) as manager:
        yield manager


def test_looking_at_what_is_to_be_checked_is_no_use_of_it(durable: CacheManager) -> None:
    """The endpoint has the credential, and neither hits nor access counts move."""
    entry = durable.add("http://alice:s3cret@192.0.2.1:80", source="s", attributes=Attributes(provider="acme"))
    assert entry is not None
    before = durable.get_statistics()
    endpoint, known = durable.to_check([entry.key, "nothing"])[entry.key]
    assert (endpoint.username, endpoint.password, known.provider) == ("alice", "s3cret", "acme")
    assert durable.get_statistics().requests == before.requests
    again = durable.get(entry.key)
    assert again is not None
    assert again.access_count == 1


@contextlib.asynccontextmanager
async def running(monitor: Monitor) -> AsyncIterator[None]:
    """Run a monitor beside the block."""
    task = asyncio.create_task(monitor.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("online", [True, False])
async def test_failures_of_requests_count_as_those_of_probes_do(online: bool) -> None:
    """While it runs it records what requests met: nothing fails but this machine where the judges do not answer it."""
    world = World("ab")
    world.cache.record_checks([(key, HealthCheck(True, HealthStatus.HEALTHY, 1.0, 9e9)) for key in world.keys.values()])
    monitor, now = world.monitor(), world.clock.now()
    world.reliability = Reliability.GOOD if online else Reliability.NONE
    reports = [Report(world.keys["a"], Outcome(False, error="refused"), now)] * 3
    reports.append(Report(world.keys["b"], Outcome(True, latency=0.5), now))
    states = [monitor.running]
    async with running(monitor):
        states.append(monitor.running)
        world.reports.extend(reports[::-1])
    assert [*states, monitor.running] == [False, True, False], "else others record"
    assert not world.reports, "the last of them are recorded at the end"
    entry = world.cache.look(world.keys["a"])
    assert entry is not None
    assert (entry.failure_count, world.keys["a"] in world.cache) == ((3, False) if online else (0, True))
    assert [sample.ok for sample in world.history.of(world.keys["a"])] == ([False] * 3 if online else [])
    assert [sample.latency for sample in world.history.of(world.keys["b"])] == [0.5]


async def test_a_failure_of_a_request_waits_until_the_judges_were_looked_at_after_it() -> None:
    """What came before it is recorded at once, what came after it with it: a verdict of before says nothing of it."""
    world = World("ab")
    world.cache.record_checks([(key, HealthCheck(True, HealthStatus.HEALTHY, 1.0, 9e9)) for key in world.keys.values()])
    monitor, now = world.monitor(), world.clock.now()
    a, b = world.keys["a"], world.keys["b"]

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110  # a thread writes it
                await asyncio.sleep(0.01)

    async with running(monitor):
        served = Report(b, Outcome(True), now)
        world.reports.extend([served, Report(a, Outcome(False, error="refused"), now), served])
        await until(lambda: len(world.history.of(b)) == 1)
        assert world.history.of(a) == []
        world.clock.advance(VERDICT_LASTS)
        await until(lambda: (len(world.history.of(a)), len(world.history.of(b))) == (1, 2))


async def test_failures_of_the_end_of_an_outage_count_nothing() -> None:
    """Where the judges answer again, what failed before the first success may have failed with them."""
    world = World("")
    outage = Outage(world.examine)
    good, bad = result("a"), result("a", Blame.PROXY)
    world.reliability = Reliability.NONE
    assert await outage.sift([bad, good, bad]) == ([bad, good], [bad])
    world.reliability = Reliability.GOOD
    assert await outage.sift([bad, good, bad]) == ([good, bad], [bad])
    assert await outage.sift([bad]) == ([bad], [])
    world.reliability = Reliability.NONE
    assert await outage.sift([bad]) == ([], [bad])
    world.reliability = Reliability.GOOD
    assert await outage.sift([bad]) == ([], [bad])
    assert await outage.sift([bad]) == ([bad], [])
    world.reliability = Reliability.WORSE
    assert await outage.sift([bad, good]) == ([good], [bad])
