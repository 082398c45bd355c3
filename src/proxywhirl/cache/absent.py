"""A durable tier that cannot be opened, beside another one that can: it is left out like one that is sick.

A window holds nothing that the authority does not hold, so that nothing is lost without it. Without the authority the
window above it serves, and keeps what is to be written to the authority.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from proxywhirl.cache.tier import Tier
from proxywhirl.errors import TierError

__all__ = ["AbsentTier"]


class AbsentTier:
    """Stands for a tier until `reopen` returns that. Whatever it is asked is a `TierError` that says why."""

    corrupted = 0

    def __init__(self, reason: TierError, reopen: Callable[[], Tier]) -> None:
        self.reason = str(reason)
        self.reopen = reopen

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def abandon(self) -> None:
        """Do nothing, as above."""

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(Tier, name):
            raise TierError(self.reason)
        raise AttributeError(name)

    def __len__(self) -> NoReturn:
        raise TierError(self.reason)

    def __contains__(self, key: object) -> NoReturn:
        raise TierError(self.reason)
