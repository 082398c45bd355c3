"""Why nobody can serve a request, in words, and when that may change. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxywhirl.errors import PoolEmpty
from proxywhirl.rotation.filters import NO_FILTER, Filter
from proxywhirl.rotation.question import Question
from proxywhirl.rotation.sites import Site
from proxywhirl.rotation.strategy import Barred

if TYPE_CHECKING:
    from proxywhirl.rotation.choosing import Choosing

__all__ = ["why_empty"]


def why_empty(
    choosing: Choosing, question: Question, wanted: Filter, site: Site | None, barred: Barred, now: float
) -> PoolEmpty:
    """Return the error that says why nobody can serve."""
    if not choosing.held:
        return PoolEmpty("the pool has no proxies: `proxywhirl import FILE` or `proxywhirl add URL` brings some in")
    size, limited, tried = len(choosing.held), len(choosing.standing.limited), len(question.exclude)
    if wanted == NO_FILTER and not barred and not limited and tried >= size:
        return PoolEmpty(f"every proxy of the pool ({size}) was tried for this request: add more or try later")
    parts = [f"{len(site.barred)} are barred from {site.name}"] if site is not None and site.barred else []
    for count, what in (
        (len(choosing.standing.aside), "set aside after failures"),
        (0 if site is None else len(site.cooling), "cooling down from the site"),
        (limited, "at their limit of requests"),
        (len(choosing.holds), "held exclusively"),
        (tried, "tried for this request"),
    ):
        parts += [f"{count} are {what}"] if count else []
    if site is not None and site.pace.kept and size > len(choosing.standing.aside) + len(site.barred):
        parts.append(f"others have to rest {site.pace.gap:.1f} s between two requests to {site.name}")
    wait = _wait(choosing, site, now)
    if wanted != NO_FILTER and not parts:
        return PoolEmpty(f"none of the {size} proxies of the pool fulfils {wanted}", retry_after=wait)
    whom = f" that fulfils {wanted}" if wanted != NO_FILTER else ""
    reasons = f": of {size}, {', '.join(parts)}" if parts else f" among {size}"
    return PoolEmpty(f"no proxy of the pool{whom} can serve this request{reasons}", retry_after=wait)


def _wait(choosing: Choosing, site: Site | None, now: float) -> float | None:
    """Return after how many seconds somebody may be able to serve who is not now."""
    tables = [
        choosing.standing.limited,
        choosing.holds,
        choosing.standing.aside,
        *([site.barred, site.cooling] if site is not None else []),
    ]
    times = [at for at in (table.next_at() for table in tables) if at is not None]
    if site is not None and site.pace.kept:
        times.append(now + site.pace.gap)
    return max(min(times) - now, 0.0) if times else None
