"""Keep a sick tier from failing a request: mark it degraded, leave it out, try it again with back-off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from proxywhirl.cache.tier import Tier, TierName
from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError, FormatVersionError, TierError

__all__ = ["GuardedTier"]

_log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0

T = TypeVar("T")


class GuardedTier:
    """A tier with its name and its health. `missed` is true when it was left out of a change."""

    def __init__(self, name: TierName, tier: Tier, clock: Clock) -> None:
        self.name = name
        self.tier = tier
        self.degraded = False
        self.missed = False
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0

    @property
    def available(self) -> bool:
        """Whether to ask the tier now: it is well, or its back-off has ended."""
        return not self.degraded or self._clock.monotonic() >= self._retry_at

    def call(self, ask: Callable[[Tier], T], default: T) -> T:
        """Ask the tier; `default` where it is left out or fails."""
        if not self.available:
            return default
        try:
            answer = ask(self.tier)
        except (TierError, FormatVersionError) as exc:  # the latter: a newer program came along meanwhile
            self._degrade(exc)
            return default
        if self.degraded:
            self.degraded, self._failures = False, 0
            _log.warning("tier %s works again", self.name)
        return answer

    def _degrade(self, exc: CacheError) -> None:
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0**self._failures)
        self._failures += 1
        self._retry_at = self._clock.monotonic() + pause
        self.degraded = True
        _log.warning("tier %s is degraded, next try in %g s: %s", self.name, pause, exc)
