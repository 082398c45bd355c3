"""From one outcome to a proxy's next health status and to the moment of its next check. Pure.

Hysteresis: it takes several failures in a row to lose a status and several successes in a row to win it
back, so that a single lost request does not move a proxy from one end of the table to the other. A proxy that has
never worked has nothing to lose: most proxies of public lists are of this kind, and their checks cost as much as those
of a proxy that works.

=================================  ====================================================
what happened                      next status
=================================  ====================================================
failure of an unknown one          unhealthy; dead with the 3rd in a row
failure, 1st in a row              degraded
failure, 3rd in a row              unhealthy
failure, 10th in a row             dead
success while unhealthy or dead    degraded; healthy once there are 2 in a row
success otherwise                  healthy
=================================  ====================================================

A failure never betters a status and a success never worsens one, whatever the streaks say.

When it is checked next: one that works after `interval`, give or take a fifth; one on its way back soon; one that
fails after a back-off that doubles with each failure, drawn from its whole length (full jitter) on top of a shortest
one; a dead one after days. An outcome of real traffic counts as a check, so that a busy proxy is hardly probed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from proxywhirl.backoff import Backoff
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.validation import LAST_MOMENT

UNHEALTHY_AFTER = 3
"""Failures in a row: two may be one lost connection and its retry. One that never worked is dead by then."""

DEAD_AFTER = 10
"""Failures in a row: the back-off spreads them over some hours, where there are others to try."""

HEALTHY_AFTER = 2
"""Successes in a row that lead an unhealthy or dead proxy back."""

_SPREAD = 0.2
_LONGEST = 12  # intervals that the back-off of a failing one doubles up to
_DEAD_LONGEST = 8  # times the first back-off of a dead one
_NEVER_WORKED = 3  # the step of that back-off at which one begins that never worked


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds to the next check of a proxy that works, of one that fails, and of a dead one.

    `retry` and `dead` are the first back-offs; they double up to twelve intervals, and up to eight times.
    """

    interval: float = 600.0
    retry: float = 60.0
    dead: float = 86_400.0

    @property
    def shortest(self) -> float:
        """The least time between two checks of one proxy."""
        return min(self.interval, self.retry) / 4


def after(
    status: HealthStatus,
    streak_ok: int,
    streak_failed: int,
    ok: bool,
    now: float,
    error: str | None,
    *,
    worked: bool,
    schedule: Schedule,
    rng: random.Random,
) -> HealthCheck:
    """Judge one outcome that was seen at `now` (Unix seconds).

    `streak_ok` and `streak_failed` count the outcomes in a row before this one; `worked` says whether any before it
    was a success, where the status does not tell. `error` is kept for a failure only and must hold no credential.
    `recovery_attempt` counts the trials of an unhealthy proxy that have failed; it stays while a success is not yet
    enough, and is 0 once the proxy is healthy.
    """
    failures = streak_failed if ok else streak_failed + 1
    following = _after_success(status, streak_ok + 1) if ok else _after_failure(status, failures, worked=worked)
    attempts = 0 if following is HealthStatus.HEALTHY else max(0, failures - UNHEALTHY_AFTER)
    due = now + _delay(following, 0 if ok else failures, schedule, rng)
    if not due < LAST_MOMENT:  # of a schedule that never checks again; none (NaN) is of it too
        due = LAST_MOMENT
    return HealthCheck(ok, following, now, due, recovery_attempt=attempts, error=None if ok else error)


def reason(status: HealthStatus, streak_ok: int, streak_failed: int) -> str:
    """Say why the next check is when it is.

    >>> reason(HealthStatus.UNHEALTHY, 0, 4)
    'it failed 4 times in a row, and the back-off doubles with each'
    """
    if not streak_ok and not streak_failed:
        return "it was never checked"
    if not streak_failed:
        if status is HealthStatus.HEALTHY:
            return "it works, and is checked at the usual interval"
        return f"it is on its way back: {streak_ok} of {HEALTHY_AFTER} successes in a row"
    if status is HealthStatus.DEAD:
        return f"it failed {_times(streak_failed)} and counts as dead: it is tried rarely"
    return f"it failed {_times(streak_failed)}, and the back-off doubles with each"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times in a row"


def _after_success(status: HealthStatus, successes: int) -> HealthStatus:
    if status in (HealthStatus.UNHEALTHY, HealthStatus.DEAD) and successes < HEALTHY_AFTER:
        return HealthStatus.DEGRADED
    return HealthStatus.HEALTHY


def _after_failure(status: HealthStatus, failures: int, *, worked: bool) -> HealthStatus:
    never_worked = not worked and (
        status is HealthStatus.UNKNOWN
        or (status is HealthStatus.UNHEALTHY and failures <= UNHEALTHY_AFTER)  # one that has worked needs more failures
    )
    if failures >= DEAD_AFTER or (never_worked and failures >= UNHEALTHY_AFTER):
        earned = HealthStatus.DEAD
    elif failures >= UNHEALTHY_AFTER or never_worked:
        earned = HealthStatus.UNHEALTHY
    else:
        earned = HealthStatus.DEGRADED
    return earned.or_worse(status)


def _delay(status: HealthStatus, failures: int, schedule: Schedule, rng: random.Random) -> float:
    if status is HealthStatus.HEALTHY:
        return schedule.interval * rng.uniform(1 - _SPREAD, 1 + _SPREAD)
    if status is HealthStatus.DEAD and failures:
        backoff = Backoff(schedule.dead, schedule.dead * _DEAD_LONGEST)
        step = failures - DEAD_AFTER + 1 if failures >= DEAD_AFTER else _NEVER_WORKED
    else:  # without failures it is on its way back
        backoff = Backoff(schedule.retry, max(schedule.interval * _LONGEST, schedule.retry))
        step = max(failures, 1)
    return schedule.shortest + backoff.jittered(step, rng)
