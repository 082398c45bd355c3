"""The change feed: the log as the pool and the health monitor read it.

A pool needs a third of a record's columns, and of a million proxies it uses a few at a time. So it is given sketches,
which a tier may read faster than records; a `Proxy` is made of one when it is chosen (`portray`).
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Self

from proxywhirl.cache.policy import Found, state_of
from proxywhirl.cache.record import UNREADABLE, Record, decode_attributes, split_url
from proxywhirl.cache.tiers.change_log import NOWHERE
from proxywhirl.cache.tiers.protocol import ASIDE, GONE, SERVING, Changes, Sketches, Sketching, SketchRow, Tier
from proxywhirl.models import Attributes, HealthStatus, Proxy, Sketch

_STATUSES = {status.value: status for status in HealthStatus}


@dataclass(frozen=True, slots=True)
class CacheChanges:
    """A page of what changed. With `reset`, forget all that was known before; with `more`, another page follows.

    `revision` is what to ask with next, and says nothing else. `aside` are those that are retired or dead, and to be
    tried now and then only; `sketches` the others. A key is in one of them or in `removed`, once.
    """

    revision: int
    sketches: dict[str, Sketch]
    aside: dict[str, Sketch]
    removed: list[str]
    reset: bool
    more: bool

    @classmethod
    def of(cls, changes: Changes, now: float) -> Self:
        """Return a page of records as it is to a pool at a time: what has expired is removed."""
        rows = [_row(record, now) for record in changes.records]
        return cls.of_sketches(Sketches(rows, changes.revision, changes.removed, changes.reset, changes.more))

    @classmethod
    def of_sketches(cls, sketches: Sketches) -> Self:
        """Do as `of` with what a tier has read."""
        rows, revision, removed, reset, more = sketches
        page = cls(revision, {}, {}, [*removed], reset, more)
        shared: dict[str, str] = {}  # the same text is in memory once for each page
        share = shared.setdefault
        for key, url, traits, standing, _ in rows:
            if standing == SERVING:
                page.sketches[key] = (url, share(traits, traits))
            elif standing == ASIDE:
                page.aside[key] = (url, share(traits, traits))
            else:
                page.removed.append(key)
        return page

    @classmethod
    def nothing(cls, revision: int) -> Self:
        """Return the page of a log that cannot be read now."""
        return cls(revision, {}, {}, [], reset=False, more=False)

    @classmethod
    def standing_in(cls, records: list[Record], now: float) -> Self:
        """Return the known records while the log cannot be read; a reader with its revision later starts anew."""
        return cls.of(Changes(NOWHERE, records, []), now)

    @property
    def proxies(self) -> list[Proxy]:
        """The proxies that came or changed, made at each call. O(n)."""
        return [portray(*item) for sketches in (self.sketches, self.aside) for item in sketches.items()]


def read_changes(tier: Tier, *, revision: int, limit: int, now: float) -> CacheChanges:
    """Read a page of a tier's log after a revision, the fastest way that the tier offers."""
    if isinstance(tier, Sketching):
        return CacheChanges.of_sketches(tier.sketches_since(revision, limit, now))
    return CacheChanges.of(tier.changes_since(revision, limit), now)


def portray(key: str, sketch: Sketch) -> Proxy:
    """Make the value that a sketch stands for."""
    url, traits = sketch
    facts, _, source = traits.partition("\n")
    status, credential, attributes = facts.split(" ", 2)
    scheme, host, port = split_url(url)
    try:
        known, health = decode_attributes(attributes), _STATUSES[status]
    except UNREADABLE:  # a damaged row: the cache contains it when it reads the whole of it
        known, health = Attributes(), HealthStatus.UNKNOWN
    label = known.label or (f"user-{key[:6]}" if credential == "1" else None)
    return Proxy(key, intern(scheme), host, port, label, intern(source), health, known)


def _row(record: Record, now: float) -> SketchRow:
    state = state_of(record, now)
    standing = GONE if state is Found.EXPIRED else SERVING
    if state is Found.RETIRED or (state is Found.LIVE and record.status == "dead"):
        standing = ASIDE
    traits = f"{record.status} {record.has_credentials:d} {record.attributes}\n{record.source}"
    return record.key, record.url, traits, standing, record.revision
