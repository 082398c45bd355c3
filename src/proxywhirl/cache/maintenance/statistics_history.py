"""The history of the statistics: points in time, a bounded ring of them, and what each process publishes of itself.

A process keeps its row in the store up to date. Its row stays when it has ended, until there are too many rows. Then
those of ended processes go first, and among these the one that was written longest ago.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from proxywhirl.cache.models import CacheStatistics, TierStatistics
from proxywhirl.cache.tiers.protocol import Tier

PREFIX = "statistics."
PROCESSES_KEPT = 32
POINTS_KEPT = 720
POINTS_PUBLISHED = 60

_serials = itertools.count()
_SUMMED = ("hits", "misses", "evictions_lru", "evictions_ttl", "evictions_health", "evictions_corruption")


class StatisticsPoint(BaseModel):
    """The statistics at a time, and the rates since the point before.

    `requests_per_second` counts what was asked, `hit_rate` which part of that was served (0.0 to 1.0; 0.0 where
    nothing was asked); the sizes are in entries.
    """

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    requests: int
    requests_served: int
    requests_per_second: float
    hit_rate: float
    l1_hit_rate: float
    l2_hit_rate: float
    l3_hit_rate: float
    l1_size: int
    l2_size: int
    l3_size: int

    @classmethod
    def of(cls, figures: CacheStatistics, now: datetime, before: Self | None, began: datetime) -> Self:
        """Return the point for what was counted so far; `began` is when the counting did."""
        seconds = (now - (before.time if before else began)).total_seconds()
        asked = figures.requests - (before.requests if before else 0)
        served = figures.requests_served - (before.requests_served if before else 0)
        return cls(
            time=now,
            requests=figures.requests,
            requests_served=figures.requests_served,
            requests_per_second=asked / seconds if seconds > 0 else 0.0,
            hit_rate=served / asked if asked else 0.0,
            l1_hit_rate=figures.l1_stats.hit_rate,
            l2_hit_rate=figures.l2_stats.hit_rate,
            l3_hit_rate=figures.l3_stats.hit_rate,
            l1_size=figures.l1_stats.current_size,
            l2_size=figures.l2_stats.current_size,
            l3_size=figures.l3_stats.current_size,
        )


class ProcessStatistics(BaseModel):
    """What one process published: which one, since when, until when, its statistics and its latest points.

    An idle process writes nothing, so that `updated` may be long ago.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    began: AwareDatetime
    updated: AwareDatetime
    ended: bool
    statistics: CacheStatistics
    history: list[StatisticsPoint]

    @property
    def state(self) -> Literal["running", "ended", "gone"]:
        """Whether it runs, has closed its cache, or is gone without that (or runs on another machine)."""
        if self.ended:
            return "ended"
        return "running" if _is_running(self.pid) else "gone"


class Publisher:
    """The history of this process, and its row."""

    def __init__(self, began: datetime) -> None:
        self.points: deque[StatisticsPoint] = deque(maxlen=POINTS_KEPT)
        self._began = began
        self._name = f"{PREFIX}{int(began.timestamp() * 1000)}.{os.getpid()}.{next(_serials)}"
        self._written: tuple[int, ...] | None = None

    def remember(self, figures: CacheStatistics, now: datetime) -> None:
        """Add a point."""
        before = self.points[-1] if self.points else None
        self.points.append(StatisticsPoint.of(figures, now, before, self._began))

    def has_news(self, figures: CacheStatistics, *, ended: bool) -> bool:
        """Whether the row is worth writing: not where a process asked nothing and met nothing before it ended."""
        if ended:
            return self._written is not None or figures.requests > 0 or any(_losses(figures))
        return _told(figures) != self._written

    def publish(self, tier: Tier, figures: CacheStatistics, now: datetime, *, ended: bool) -> None:
        """Write the row, and forget the oldest ones where there are too many."""
        latest = list(self.points)[-POINTS_PUBLISHED:]
        row = ProcessStatistics(
            pid=os.getpid(), began=self._began, updated=now, ended=ended, statistics=figures, history=latest
        )
        tier.set_meta(self._name, row.model_dump_json(exclude_computed_fields=True))
        self._written = _told(figures)
        rows = tier.metas(PREFIX)
        if len(rows) > PROCESSES_KEPT:
            rows.pop(self._name, None)
            for old in sorted(rows, key=lambda name: _worth(rows[name]))[: len(rows) + 1 - PROCESSES_KEPT]:
                tier.set_meta(old, None)


def published(rows: Iterable[str]) -> list[ProcessStatistics]:
    """Return what processes have published, the latest first; a row of another version is left out."""
    found = [process for row in rows if (process := _read(row)) is not None]
    return sorted(found, key=lambda process: process.updated, reverse=True)


def totals(processes: Collection[ProcessStatistics], here: CacheStatistics) -> CacheStatistics:
    """Add up what processes have counted.

    Sizes come from `here`; each running process adds its own L1. A tier is degraded where it is degraded here or in a
    running process.
    """
    everyone = [process.statistics for process in processes]
    running = [process.statistics for process in processes if process.state == "running"]
    fields: dict[str, object] = {
        name: sum(getattr(figures, name) for figures in everyone)
        for name in ("promotions", "demotions", "requests", "requests_served")
    }
    for tier in ("l1", "l2", "l3"):
        each: list[TierStatistics] = [getattr(figures, f"{tier}_stats") for figures in everyone]
        stats: dict[str, int] = {name: sum(getattr(one, name) for one in each) for name in _SUMMED}
        size = getattr(here, f"{tier}_stats").current_size
        if tier == "l1":
            size += sum(figures.l1_stats.current_size for figures in running)
        fields[f"{tier}_stats"] = TierStatistics(**stats, current_size=size)
        fields[f"{tier}_degraded"] = any(getattr(figures, f"{tier}_degraded") for figures in (here, *running))
    return CacheStatistics.model_validate(fields)


def _told(figures: CacheStatistics) -> tuple[int, ...]:
    """Return what makes a row worth writing again when it changes."""
    tiers = (figures.l1_stats, figures.l2_stats, figures.l3_stats)
    sick = (figures.l1_degraded, figures.l2_degraded, figures.l3_degraded)
    return (figures.requests, *(tier.current_size for tier in tiers), *map(int, sick), *_losses(figures))


def _losses(figures: CacheStatistics) -> tuple[int, ...]:
    """Return what each tier lost to damage and to failing proxies; it may lose entries that no request asked for."""
    tiers = (figures.l1_stats, figures.l2_stats, figures.l3_stats)
    return tuple(lost for tier in tiers for lost in (tier.evictions_corruption, tier.evictions_health))


def _read(row: str) -> ProcessStatistics | None:
    try:
        return ProcessStatistics.model_validate_json(row)
    except ValidationError:
        return None


def _worth(row: str) -> tuple[bool, float]:
    """Rank a row: the lowest is forgotten first."""
    process = _read(row)
    return (False, 0.0) if process is None else (process.state == "running", process.updated.timestamp())


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
