"""Why nobody can serve a request, in words, and when that may change. Pure.

Only those count who fulfil what the request wishes: to wait for others would be in vain.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from proxywhirl.errors import PoolEmpty
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.sites.sites import Site
from proxywhirl.rotation.strategies.base import Barred
from proxywhirl.timetable import Timetable

if TYPE_CHECKING:
    from proxywhirl.rotation.selection.chooser import Chooser


A_WHILE = 0.05
"""Seconds after which to ask again where it is not known when a use ends."""


def why_empty(
    chooser: Chooser, criteria: Criteria, wanted: Filter, site: Site | None, barred: Barred, now: float
) -> PoolEmpty:
    """Return the error that says why nobody can serve."""
    if not chooser.held:
        return PoolEmpty("the pool has no proxies: `proxywhirl import FILE` or `proxywhirl add URL` brings some in")
    size, tried = len(chooser.held), len(criteria.exclude)
    if wanted == NO_FILTER and not barred and not chooser.availability.limited and tried >= size:
        return PoolEmpty(f"every proxy of the pool ({size}) was tried for this request: add more or try later")
    wish = _Wish(chooser, criteria, wanted)
    if not wish.is_fulfilled():
        return PoolEmpty(f"none of the {size} proxies of the pool fulfils {wanted}")
    counts = [(wish.count(table), what) for table, what in _tables(chooser, criteria, site)]
    parts = [f"{count} are {what}" for count, what in (*counts, (tried, "tried for this request")) if count]
    if wish.is_in_use():
        parts.append("those in use can take no more")
    if site is not None and wish.rests(site, now):
        parts.append(f"others have to rest {site.rate_limit.gap:.1f} s between two requests to {site.name}")
    whom = f" that fulfils {wanted}" if wanted != NO_FILTER else ""
    reasons = f": of {size}, {', '.join(parts)}" if parts else f" among {size}"
    return PoolEmpty(
        f"no proxy of the pool{whom} can serve this request{reasons}",
        retry_after=free_in(chooser, criteria, wanted, site, now),
    )


def free_in(chooser: Chooser, criteria: Criteria, wanted: Filter, site: Site | None, now: float) -> float | None:
    """Return after how many seconds somebody may be able to serve who is not now; None where nobody will be."""
    wish = _Wish(chooser, criteria, wanted)
    times = [at for at in (wish.next_at(table) for table, _ in _tables(chooser, criteria, site)) if at is not None]
    if wish.is_in_use():
        times.append(now + A_WHILE)
    if site is not None and wish.rests(site, now):
        times.append(now + site.rate_limit.gap)
    return max(min(times) - now, 0.0) if times else None


def _tables(chooser: Chooser, criteria: Criteria, site: Site | None) -> list[tuple[Timetable[str], str]]:
    """Return who cannot serve until when, and what they are."""
    availability = chooser.availability
    return [
        *([(site.barred, f"barred from {site.name}")] if site is not None else []),
        (availability.aside, "set aside after failures"),
        *([(site.cooling, "cooling down from the site")] if site is not None else []),
        (availability.limited, "at their limit of requests"),
        (chooser.holds, "held exclusively"),
        *([(chooser.learning.connect.barred, "found to open no tunnels")] if criteria.tunnels else []),
    ]


class _Wish:
    """Those who may serve a request at all. Where they are fewer than a table has, nobody else is looked at."""

    def __init__(self, chooser: Chooser, criteria: Criteria, wanted: Filter) -> None:
        self._chooser = chooser
        self._exclude = criteria.exclude
        self._wanted = wanted
        self._candidates: Collection[str] = chooser.held
        if wanted is not NO_FILTER:
            self._candidates = chooser.index.candidates(wanted, chooser.held)

    def is_fulfilled(self) -> bool:
        """Whether anybody in the pool is what is wanted."""
        return self._wanted == NO_FILTER or any(map(self._fits, self._candidates))

    def count(self, table: Timetable[str]) -> int:
        """Return how many of a table fulfil the wish."""
        return len(table) if self._wanted == NO_FILTER else sum(map(self._fits, self._within(table)))

    def next_at(self, table: Timetable[str]) -> float | None:
        """Return when the first one of a table is due who may serve then."""
        if len(self._candidates) >= len(table):
            key = table.first(self._may_serve)
            return None if key is None else table.due_at(key)
        return min((table.at[key] for key in self._within(table) if self._may_serve(key)), default=None)

    def is_in_use(self) -> bool:
        """Whether somebody could serve but for what is under way through it."""
        if self._chooser.in_flight_limit is None:
            return False
        full = self._full
        return any(full(key) and self._may_serve(key) for key in self._candidates)

    def rests(self, site: Site, now: float) -> bool:
        """Whether somebody could serve but for the rest between two requests to the site."""
        if not site.rate_limit.kept:
            return False
        kept_out = (site.barred, self._chooser.availability.aside)
        return any(
            site.tired(key, now) and self._may_serve(key) and not any(key in table for table in kept_out)
            for key in self._candidates
        )

    def _full(self, key: str) -> bool:
        return key not in self._chooser.availability.limited.at and self._chooser.availability.at_limit(key)

    def _within(self, table: Timetable[str]) -> Collection[str]:
        return [key for key in self._candidates if key in table] if len(self._candidates) < len(table) else table.at

    def _fits(self, key: str) -> bool:
        if key not in self._chooser.held:  # a ban outlives the membership of who is banned
            return False
        return self._wanted == NO_FILTER or self._wanted.admits(self._chooser.states.known(key))

    def _may_serve(self, key: str) -> bool:
        return key not in self._exclude and self._fits(key) and not self._chooser.declined(key)
