"""The table of health statuses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.health import policy
from proxywhirl.health.policy import DEAD_AFTER, HEALTHY_AFTER, UNHEALTHY_AFTER, Schedule
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.validation import LAST_MOMENT

SCHEDULE = Schedule()

RANK = [
    HealthStatus.UNKNOWN,
    HealthStatus.HEALTHY,
    HealthStatus.DEGRADED,
    HealthStatus.UNHEALTHY,
    HealthStatus.DEAD,
]


def after(
    status: HealthStatus, good: int, bad: int, ok: bool, now: float, error: str | None, *, worked: bool = False
) -> HealthCheck:
    """Judge with the usual schedule and the same chance each time."""
    return policy.after(status, good, bad, ok, now, error, worked=worked, schedule=SCHEDULE, rng=random.Random(1))


def play(outcomes: str, status: HealthStatus = HealthStatus.UNKNOWN) -> list[HealthCheck]:
    """Feed a proxy successes (`+`) and failures (`-`), keeping its streaks as the cache does."""
    checks: list[HealthCheck] = []
    good = bad = 0
    worked = False
    for at, outcome in enumerate(outcomes):
        ok = outcome == "+"
        checks.append(after(status, good, bad, ok, float(at), None if ok else "refused", worked=worked))
        status, worked = checks[-1].status, worked or ok
        good, bad = (good + 1, 0) if ok else (0, bad + 1)
    return checks


def statuses(outcomes: str, status: HealthStatus = HealthStatus.UNKNOWN) -> str:
    """Give the initial of each status: h, d(egraded), u(nhealthy), X for dead."""
    letters = {HealthStatus.HEALTHY: "h", HealthStatus.DEGRADED: "d", HealthStatus.UNHEALTHY: "u"}
    return "".join(letters.get(check.status, "X") for check in play(outcomes, status))


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("+", "h"),
        ("---", "uuX"),
        ("--+-", "uudd"),
        ("+----------", "hdduuuuuuuX"),
        ("+-+", "hdh"),
        ("+---++", "hddudh"),
        ("+-----------+-", "hdduuuuuuuXXdd"),
        ("+----------++", "hdduuuuuuuXdh"),
    ],
)
def test_the_table(outcomes: str, expected: str) -> None:
    """Failures degrade, make unhealthy and dead, sooner where it never worked; two successes lead back."""
    assert statuses(outcomes) == expected


@pytest.mark.parametrize("failures", range(1, DEAD_AFTER))
def test_what_has_worked_is_not_dead_before_its_time(failures: int) -> None:
    """One that was made unhealthy by an early retirement has its ten failures, one that never worked has three."""
    following = after(HealthStatus.UNHEALTHY, 0, failures - 1, False, 5.0, None, worked=True)
    assert following.status is HealthStatus.UNHEALTHY
    hopeless = after(HealthStatus.UNHEALTHY, 0, failures - 1, False, 5.0, None, worked=False)
    assert (hopeless.status is HealthStatus.DEAD) is (failures == UNHEALTHY_AFTER)


def test_the_thresholds_are_those_of_the_constants() -> None:
    """The documented constants are the numbers that the table follows."""
    falling = statuses("-" * DEAD_AFTER, HealthStatus.HEALTHY)
    assert (falling.index("u") + 1, falling.index("X") + 1) == (UNHEALTHY_AFTER, DEAD_AFTER)
    assert statuses("+" * HEALTHY_AFTER, HealthStatus.DEAD).index("h") + 1 == HEALTHY_AFTER


def test_recovery_attempts_count_failed_trials_and_end_with_recovery() -> None:
    """They rise with each failure of an unhealthy proxy, stay for a first success, and reset when healthy."""
    assert [check.recovery_attempt for check in play("+-----++-")] == [0, 0, 0, 0, 1, 2, 2, 0, 0]


def test_an_error_is_kept_for_a_failure_alone() -> None:
    """A success carries no error, whatever it is handed."""
    assert after(HealthStatus.HEALTHY, 0, 0, False, 5.0, "refused").error == "refused"
    assert after(HealthStatus.HEALTHY, 0, 0, True, 5.0, "stale").error is None


@given(st.sampled_from(RANK), st.integers(0, 30), st.integers(0, 30), st.booleans(), st.booleans())
def test_a_failure_never_betters_and_a_success_never_worsens(
    status: HealthStatus, good: int, bad: int, ok: bool, worked: bool
) -> None:
    """Whatever the streaks say, a status moves only in the direction of the outcome."""
    following = after(status, good, bad, ok, 0.0, None, worked=worked).status
    known = HealthStatus.HEALTHY if status is HealthStatus.UNKNOWN else status
    if ok:
        assert RANK.index(following) <= RANK.index(known)
    else:
        assert RANK.index(following) >= RANK.index(known)
        assert following is not HealthStatus.HEALTHY


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 1e12])
@pytest.mark.parametrize("status", HealthStatus)
@pytest.mark.parametrize("ok", [True, False])
def test_a_schedule_may_never_check_again(seconds: float, status: HealthStatus, *, ok: bool) -> None:
    """The next check is at the end of all time then, which can be stored, and not beyond it."""
    endless = Schedule(seconds, seconds, seconds)
    for seed in range(9):
        chance = random.Random(seed)
        check = policy.after(status, 0, DEAD_AFTER, ok, 5.0, None, worked=True, schedule=endless, rng=chance)
        assert check.next_check is not None
        assert 5.0 < check.next_check <= LAST_MOMENT
