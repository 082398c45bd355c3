"""What learns how well proxies work, put together: the cache, what is kept in state, and the rules of `health`."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from functools import partial

from proxywhirl.cache import CacheManager
from proxywhirl.errors import TierError
from proxywhirl.health import policy
from proxywhirl.health.history import History, Sample
from proxywhirl.models import HealthCheck, HealthStatus, Outcome
from proxywhirl.settings import HealthSettings
from proxywhirl.state.store import Store

__all__ = ["Checkups", "Report"]

_log = logging.getLogger(__name__)

Report = tuple[str, Outcome, float]
"""What a request made of a proxy: its key, the outcome, and when (Unix seconds)."""


class Checkups:
    """Learns from real traffic. Thread-safe."""

    def __init__(self, cache: CacheManager, state: Store, settings: HealthSettings) -> None:
        self.history = History(state)
        self._cache = cache
        self._schedule = settings.schedule()
        self._rng = random.Random()  # noqa: S311  # it spreads checks over time

    def take(self, reports: Sequence[Report]) -> None:
        """Judge outcomes of requests as checks, so that a busy proxy is hardly probed, and remember them."""
        if not reports:
            return
        self._cache.record_checks([(key, partial(self._judge, outcome, at)) for key, outcome, at in reports])
        try:
            self.history.add((key, Sample(at, outcome.ok, outcome.latency)) for key, outcome, at in reports)
        except TierError as exc:
            _log.warning("the last outcomes are not in the history: %s", exc)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the history of proxies that are gone."""
        self.history.forget(keys)

    def _judge(
        self, outcome: Outcome, at: float, status: HealthStatus, streak_ok: int, streak_failed: int
    ) -> HealthCheck:
        return policy.after(
            status,
            streak_ok,
            streak_failed,
            outcome.ok,
            at,
            outcome.error,
            schedule=self._schedule,
            rng=self._rng,
        )
