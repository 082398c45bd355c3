"""The log of changes as the pool reads it: proxies that came or changed, keys that went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxywhirl.cache.policy import Found, state_of
from proxywhirl.cache.tier import Changes
from proxywhirl.models import Proxy

__all__ = ["CacheChanges"]


@dataclass(frozen=True, slots=True)
class CacheChanges:
    """A page of what changed. With `reset`, forget all that was known before; with `more`, another page follows.

    `revision` is what to ask with next, and says nothing else.
    """

    revision: int
    proxies: list[Proxy]
    removed: list[str]
    reset: bool
    more: bool

    @classmethod
    def of(cls, changes: Changes, now: float) -> Self:
        """Return a page of a tier's log as it is to a reader at a time: what is not alive is removed."""
        alive = [record for record in changes.records if state_of(record, now) is Found.LIVE]
        others = [record.key for record in changes.records if state_of(record, now) is not Found.LIVE]
        proxies = [record.proxy() for record in alive]
        return cls(changes.revision, proxies, [*changes.removed, *others], changes.reset, changes.more)
