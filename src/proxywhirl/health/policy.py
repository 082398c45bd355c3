"""From one outcome to a proxy's next health status. Pure.

Hysteresis: it takes several failures in a row to lose a status and several successes in a row to win it
back, so that a single lost request does not move a proxy from one end of the table to the other.

============================  =========================================================
what happened                 next status
============================  =========================================================
failure, 1st in a row         degraded
failure, 3rd in a row         unhealthy
failure, 10th in a row        dead
success while unhealthy/dead  degraded; healthy once there are 2 in a row
success otherwise             healthy
============================  =========================================================

A failure never betters a status and a success never worsens one, whatever the streaks say.
"""

from __future__ import annotations

from proxywhirl.models import HealthCheck, HealthStatus

__all__ = ["DEAD_AFTER", "HEALTHY_AFTER", "UNHEALTHY_AFTER", "after"]

UNHEALTHY_AFTER = 3
"""Failures in a row: two may be one lost connection and its retry."""

DEAD_AFTER = 10
"""Failures in a row: the pool's back-off spreads them over some seven minutes, where it has others to try."""

HEALTHY_AFTER = 2
"""Successes in a row that lead an unhealthy or dead proxy back."""

_RANK = {
    HealthStatus.UNKNOWN: 0,
    HealthStatus.HEALTHY: 0,
    HealthStatus.DEGRADED: 1,
    HealthStatus.UNHEALTHY: 2,
    HealthStatus.DEAD: 3,
}


def after(
    status: HealthStatus, streak_ok: int, streak_failed: int, ok: bool, now: float, error: str | None
) -> HealthCheck:
    """Judge one outcome that was seen at `now` (Unix seconds).

    `streak_ok` and `streak_failed` count the outcomes in a row before this one. `error` is kept for a
    failure only and must hold no credential. `next_check` stays None: what is judged here are outcomes of
    real requests, after which no check is due. `recovery_attempt` counts the trials of an unhealthy proxy
    that have failed; it stays while a success is not yet enough, and is 0 once the proxy is healthy.
    """
    failures = streak_failed if ok else streak_failed + 1
    following = _after_success(status, streak_ok + 1) if ok else _after_failure(status, failures)
    attempts = 0 if following is HealthStatus.HEALTHY else max(0, failures - UNHEALTHY_AFTER)
    return HealthCheck(ok, following, now, recovery_attempt=attempts, error=None if ok else error)


def _after_success(status: HealthStatus, successes: int) -> HealthStatus:
    if _RANK[status] >= _RANK[HealthStatus.UNHEALTHY] and successes < HEALTHY_AFTER:
        return HealthStatus.DEGRADED
    return HealthStatus.HEALTHY


def _after_failure(status: HealthStatus, failures: int) -> HealthStatus:
    if failures >= DEAD_AFTER:
        earned = HealthStatus.DEAD
    elif failures >= UNHEALTHY_AFTER:
        earned = HealthStatus.UNHEALTHY
    else:
        earned = HealthStatus.DEGRADED
    return max(earned, status, key=_RANK.__getitem__)
