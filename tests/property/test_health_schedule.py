"""When proxies are checked: no state is a trap, none is hammered, and hopeless ones cost next to nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.health.policy import DEAD_AFTER, HEALTHY_AFTER, Schedule, after
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock
from proxywhirl.timetable import Timetable

STATUSES = st.sampled_from(HealthStatus)
STREAKS = st.integers(0, 40)
SCHEDULES = st.builds(Schedule, interval=st.floats(1.0, 1e5), retry=st.floats(1.0, 1e4), dead=st.floats(1.0, 1e6))
WEEK = 7 * 86_400.0


@dataclass
class Health:
    """What the cache keeps of a proxy's health."""

    status: HealthStatus = HealthStatus.UNKNOWN
    good: int = 0
    bad: int = 0
    worked: bool = False

    def see(self, ok: bool, now: float, schedule: Schedule, rng: random.Random) -> HealthCheck:
        """Judge an outcome and keep the streaks as the cache does."""
        check = after(self.status, self.good, self.bad, ok, now, None, worked=self.worked, schedule=schedule, rng=rng)
        self.status, self.worked = check.status, self.worked or ok
        self.good, self.bad = (self.good + 1, 0) if ok else (0, self.bad + 1)
        return check


@given(STATUSES, STREAKS, STREAKS, SCHEDULES, st.integers())
def test_from_every_state_enough_successes_lead_to_healthy(
    status: HealthStatus, good: int, bad: int, schedule: Schedule, seed: int
) -> None:
    """Whatever a proxy was, so many successes in a row make it healthy, with no recovery counted any more."""
    health, rng = Health(status, good, bad), random.Random(seed)
    health.see(False, 0.0, schedule, rng)
    for _ in range(HEALTHY_AFTER):
        check = health.see(True, 0.0, schedule, rng)
    assert (check.status, check.recovery_attempt) == (HealthStatus.HEALTHY, 0)


@given(STATUSES, STREAKS, STREAKS, SCHEDULES, st.booleans(), st.integers())
def test_no_state_is_a_trap_and_none_is_hammered(
    status: HealthStatus, good: int, bad: int, schedule: Schedule, ok: bool, seed: int
) -> None:
    """The next check is due after the shortest time or later, and never more than eight times `dead` away."""
    check = Health(status, good, bad).see(ok, 100.0, schedule, random.Random(seed))
    assert check.next_check is not None
    delay = check.next_check - 100.0
    longest = max(12 * schedule.interval, schedule.retry, 8 * schedule.dead) + schedule.shortest
    assert schedule.shortest * 0.999 <= delay <= longest * 1.001


@given(st.integers(0, 9), st.integers())
def test_a_back_off_is_drawn_from_its_whole_length_and_doubles(failures: int, seed: int) -> None:
    """Full jitter: the delays of many proxies with the same failures spread evenly from the shortest on."""
    schedule, rng = Schedule(), random.Random(seed)
    longest = min(schedule.retry * 2**failures, 12 * schedule.interval)
    worked = HealthStatus.DEGRADED if failures <= 2 else HealthStatus.UNHEALTHY
    if failures == DEAD_AFTER - 1:
        longest = schedule.dead
    judge = partial(after, worked, 0, failures, False, 0.0, None, worked=True, schedule=schedule, rng=rng)
    checks = [judge() for _ in range(400)]
    delays = sorted((check.next_check or 0.0) - schedule.shortest for check in checks)
    assert delays[0] < longest * 0.1
    assert longest * 0.9 < delays[-1] <= longest
    assert abs(delays[200] - longest / 2) < longest * 0.15


def simulate(alive: Callable[[int, float], bool], proxies: int, seconds: float, seed: int = 7) -> list[Counter[bool]]:
    """Check proxies whenever they are due, from all unknown; return each one's good and bad probes."""
    clock, agenda, rng, schedule = ManualClock(), Timetable(), random.Random(seed), Schedule()
    began = clock.now()
    healths = [Health() for _ in range(proxies)]
    probes: list[Counter[bool]] = [Counter() for _ in range(proxies)]
    for n in range(proxies):
        agenda.put(str(n), began)
    while (at := agenda.next_at()) is not None and at - began < seconds:
        clock.advance(max(0.0, at - clock.now()))
        key = agenda.pop_due(clock.now())
        assert key is not None
        ok = alive(int(key), clock.now() - began)
        probes[int(key)][ok] += 1
        check = healths[int(key)].see(ok, clock.now(), schedule, rng)
        agenda.put(key, check.next_check or 0.0)
    return probes


@pytest.mark.parametrize("hopeless", [0.3, 0.6, 0.8])
def test_a_week_spends_less_than_a_twentieth_of_its_probes_on_hopeless_proxies(hopeless: float) -> None:
    """Of a pool of which so many never worked, those get less than 5 % of the probes of a week."""
    dead = int(100 * hopeless)
    probes = simulate(lambda n, _at: n >= dead, 100, WEEK)
    spent = sum(count.total() for count in probes[:dead])
    assert spent / sum(count.total() for count in probes) < 0.05
    assert all(count.total() >= 4 for count in probes[:dead]), "each of them is tried again"


def test_what_dies_is_given_up_slowly_and_what_comes_back_is_found() -> None:
    """A proxy that is away for a day is found again within two days, and costs a dozen probes meanwhile."""
    probes = simulate(lambda _n, at: not 86_400 < at < 2 * 86_400, 40, 4.5 * 86_400)
    assert all(count[False] <= 20 for count in probes)
    after_return = simulate(lambda _n, at: at > 86_400, 40, 10 * 86_400)
    assert all(count[True] > 0 for count in after_return)


def test_a_flapping_proxy_is_not_hammered() -> None:
    """One that works at every second probe is probed less often than one that works, times three."""
    flips = iter(range(10**9))
    flapping = simulate(lambda _n, _at: next(flips) % 2 == 0, 1, WEEK)[0].total()
    steady = simulate(lambda _n, _at: True, 1, WEEK)[0].total()
    assert flapping < 3 * steady
