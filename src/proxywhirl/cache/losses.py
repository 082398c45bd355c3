"""Say in the log what leaves the lowest tier for want of room: no tier is below it, so that it is gone."""

from __future__ import annotations

import logging

from proxywhirl.cache.tier import TierName
from proxywhirl.clock import Clock

__all__ = ["Losses"]

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0


class Losses:
    """Tells of the first ones at once, of those that follow once a minute, and of the rest at the end."""

    def __init__(self, tier: TierName, clock: Clock) -> None:
        self._tier = tier
        self._monotonic = clock.monotonic
        self._untold = 0
        self._quiet_until = float("-inf")

    def note(self, number: int) -> None:
        """Count entries that left."""
        self._untold += number
        if self._monotonic() >= self._quiet_until:
            self._quiet_until = self._monotonic() + PAUSE_SECONDS
            self.tell()

    def tell(self) -> None:
        """Tell of what was not told yet."""
        number, self._untold = self._untold, 0
        if number:
            _log.warning(
                "tier %s is the lowest and full, so that %d %s gone for want of room: raise max_entries of "
                "cache.%s_config%s",
                self._tier,
                number,
                "entry is" if number == 1 else "entries are",
                self._tier,
                ", or enable the third tier" if self._tier == "l2" else "",
            )
