"""When to come back to a proxy that failed, and whether a request may be sent again. Pure.

The back-off is exponential with full jitter: a delay drawn evenly from zero to a ceiling that triples with
each failure. Full jitter spreads proxies that failed together (the network was away) over the whole
interval, so that they do not come back as one crowd.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random

__all__ = [
    "BACKOFF_BASE",
    "BACKOFF_CAP",
    "FAILURES_TO_CAP",
    "HOPELESS_CAP",
    "IDEMPOTENT_METHODS",
    "backoff",
    "ceiling",
    "may_retry",
]

BACKOFF_BASE = 2.0
"""Ceiling in seconds after the first failure. The mean, one second, outlives the request that failed and
its failover, and is short enough that a pool of three does not run dry by one lost connection."""

BACKOFF_CAP = 300.0
"""Ceiling in seconds however often a proxy failed that has served before: repaired, it is found within five minutes."""

HOPELESS_CAP = 3600.0
"""The same for one that never served: most of what public lists offer never will, and each trial is a request."""

FAILURES_TO_CAP = 6
"""The first number of failures in a row at which every ceiling is the cap."""

_GROWTH, _HOPELESS_GROWTH = 3.0, 8.0

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2. Methods are case-sensitive (section 9.1): `get` is an unknown method."""


def backoff(failures: int, rng: random.Random, *, proven: bool = True) -> float:
    """Return for how many seconds to set aside a proxy that failed `failures` times in a row, 1 or more.

    `proven` says that it has served before.
    """
    return rng.uniform(0.0, ceiling(failures, proven=proven))


def ceiling(failures: int, *, proven: bool) -> float:
    """Return the most that `backoff` may return.

    >>> [ceiling(n, proven=True) for n in range(1, 7)], [ceiling(n, proven=False) for n in range(1, 6)]
    ([2.0, 6.0, 18.0, 54.0, 162.0, 300.0], [2.0, 16.0, 128.0, 1024.0, 3600.0])
    """
    steps = min(failures, FAILURES_TO_CAP) - 1  # bounded before the power: failures may be thousands
    cap, growth = (BACKOFF_CAP, _GROWTH) if proven else (HOPELESS_CAP, _HOPELESS_GROWTH)
    return min(cap, BACKOFF_BASE * growth**steps)


def may_retry(method: str, *, sent: bool) -> bool:
    """Tell whether a request may go out again through another proxy.

    Ask only while no byte of a response has been handed on. `sent` says whether any byte of the request may
    have left: before that, every method may be sent again, after it only an idempotent one.

    >>> may_retry("POST", sent=False), may_retry("POST", sent=True), may_retry("PUT", sent=True)
    (True, False, True)
    """
    return not sent or method in IDEMPOTENT_METHODS
