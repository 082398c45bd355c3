"""Why a proxy cannot serve a request, why none can, and which one would. Pure.

One table of obstacles serves three: the error that no proxy can serve, a session whose proxy cannot, and
`Pool.explain`, which counts each proxy for its first obstacle.

===========================================  ======================================================
obstacle                                     ends
===========================================  ======================================================
a wish that it does not fulfil               never for this request
excluded by the request                      never for this request
declined by the strategy                     when something else is known of it
banned by the site, cooling down from it     when its time is over
its group is banned by the site, or is down  when a request has tried it, or nobody else can serve
opens no tunnels, held exclusively           when its time is over
set aside after failures                     when it is due
at a limit of requests, or of uses           when its time is over, or a use ends
===========================================  ======================================================

An error counts only proxies that fulfil the request's wishes: to wait for others would be in vain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from proxywhirl.errors import PoolEmpty, SiteResting
from proxywhirl.models import Proxy
from proxywhirl.rotation.lease import in_words
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.filters import NO_FILTER
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.sites.groups import SiteGroups
from proxywhirl.rotation.sites.site import Site
from proxywhirl.timetable import Timetable

_LOOKED_AT = 256

A_WHILE = 0.05
"""Seconds after which to ask again where it is not known when a use ends."""

SET_ASIDE, COOLING = "it is set aside", "it was used on the site a moment ago"
GROUP = "its "
"""How the words begin where a group of the proxy is barred."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """Proxies that could not serve, for one reason: how many, and one of them; `rule` of a ban by one."""

    reason: str
    count: int
    example: Proxy
    rule: str = ""


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What was learnt of a proxy: `chance` of success in 0..1, `latency` in seconds (None: not measured)."""

    served: int
    failed: int
    in_flight: int
    chance: float
    latency: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer to "why this one?".

    Attributes:
        pool: How many proxies there are.
        eligible: How many of them could serve the request.
        excluded: What kept out the others, the commonest reason first; each proxy counts once, for the first reason.
        site: What is known of where the request goes; empty where nothing is.
        proxy: The one that serves; None where none can.
        why: Why this one, or why none.
        record: What was learnt of it; None of one that was never used.
    """

    pool: int
    eligible: int
    excluded: tuple[Excluded, ...]
    site: str
    proxy: Proxy | None
    why: str
    record: TrackRecord | None


class Obstacle(NamedTuple):
    """What keeps a proxy from serving: its words for one, a session and several, and the keys with their ends."""

    of_one: str
    to_session: str
    of_several: str = ""
    keys: Timetable[str] = Timetable()
    rule: str = ""


def _passing(chooser: Chooser, criteria: Criteria, site: Site | None) -> list[Obstacle]:
    """Return the obstacles that pass with time, in the order in which they are named."""
    availability, connect = chooser.availability, chooser.learning.connect
    passing = []
    if site is not None:
        name = site.name
        passing = [
            Obstacle(f"banned by {name}", "it is banned by the site", f"barred from {name}", site.barred),
            Obstacle(f"refused by {name} just now", "", f"refused by {name} just now", _suspects(site)),
            Obstacle(f"cooling down from {name}", COOLING, "cooling down from the site", site.cooling),
        ]
    if criteria.tunnels:
        passing.append(Obstacle("opens no tunnels", "it opens no tunnels", "found to open no tunnels", connect.barred))
    return [
        *passing,
        Obstacle("held exclusively", "it is held exclusively", "held exclusively", chooser.holds),
        Obstacle("set aside after failures", SET_ASIDE, "set aside after failures", availability.aside),
        Obstacle("at its limit of requests", "", "at their limit of requests", availability.limited),
    ]


def _suspects(site: Site) -> Timetable[str]:
    return site.evidence.avoided if site.evidence.is_ban(site.evidence.run_sign) else Timetable()


def _obstacles(
    chooser: Chooser, key: str, criteria: Criteria, site: Site | None, passing: Sequence[Obstacle]
) -> Iterator[Obstacle]:
    """Yield what keeps a proxy of the pool from serving a request."""
    wanted = chooser.filters_for(criteria)[-1]
    wish = "" if wanted is NO_FILTER else wanted.unfulfilled(chooser.states.known(key))
    if wish:
        yield Obstacle(f"not {wish}", f"it is not {wish}")
    if key in criteria.exclude:
        yield Obstacle("excluded by the request", "it was tried for this request")
    declined = chooser.declined(key)
    if declined:
        yield Obstacle(declined, f"it is {declined}")
    yield from (obstacle for obstacle in passing if key in obstacle.keys)
    words, rule = chooser.group_of(key, site)
    if words:
        yield Obstacle(GROUP + words, GROUP + words, rule=rule)
    if chooser.availability.in_use(key):
        yield Obstacle("at its limit of requests", "")


def why_not(chooser: Chooser, key: str, criteria: Criteria, site: Site | None) -> str:
    """Return why a session's proxy cannot serve a request, nothing where it can, limits of uses aside.

    `COOLING`, which ends soon, and words that begin with `GROUP`, which gives way where nobody else can serve, are
    returned only where nothing else is in the way.
    """
    if key not in chooser.held:
        return "it is gone"
    obstacles = _obstacles(chooser, key, criteria, site, _passing(chooser, criteria, site))
    told = (obstacle.to_session for obstacle in obstacles if obstacle.to_session)
    return min(told, key=lambda words: words == COOLING or words.startswith(GROUP), default="")


def pool_empty(chooser: Chooser, criteria: Criteria, site: Site | None, now: float) -> PoolEmpty:
    """Return the error that says why no proxy can serve a request, and when that may change."""
    held, wanted = chooser.held, chooser.filters_for(criteria)[-1]
    if not held:
        return PoolEmpty("the pool has no proxies: `proxywhirl import FILE` or `proxywhirl add URL` brings some in")
    passing, aside = _passing(chooser, criteria, site), chooser.availability.aside
    size, tried, any_fits = len(held), len(criteria.exclude), wanted == NO_FILTER
    if any_fits and tried >= size and not any(other.keys for other in passing if other.keys is not aside):
        return PoolEmpty(f"every proxy of the pool ({size}) was tried for this request: add more or try later")
    candidates = _Candidates(chooser, criteria)
    if not candidates.any_fits():
        return PoolEmpty(f"none of the {size} proxies of the pool fulfils {wanted}")
    counts = [(candidates.count(obstacle.keys), obstacle.of_several) for obstacle in passing]
    parts = [f"{count} are {what}" for count, what in (*counts, (tried, "tried for this request")) if count]
    if candidates.any_in_use():
        parts.append("those in use can take no more")
    if site is not None and candidates.any_resting(site, now):
        parts.append(f"others have to rest {site.rate_limit.gap:.1f} s between two requests to {site.name}")
    parts += chooser.learning.groups.in_words(*_place(site), now)
    whom = "" if any_fits else f" that fulfils {wanted}"
    reasons = f": of {size}, {', '.join(parts)}" if parts else f" among {size}"
    return PoolEmpty(
        f"no proxy of the pool{whom} can serve this request{reasons}", retry_after=free_in(chooser, criteria, site, now)
    )


def free_in(chooser: Chooser, criteria: Criteria, site: Site | None, now: float) -> float | None:
    """Return after how many seconds a further proxy may be able to serve; None where none will."""
    candidates = _Candidates(chooser, criteria)
    times = [candidates.next_at(obstacle.keys) for obstacle in _passing(chooser, criteria, site)]
    if candidates.any_in_use():
        times.append(now + A_WHILE)
    if site is not None:
        times.append(candidates.next_rested(site, now))
    times.append(chooser.learning.groups.next_at(_place(site)[1], now))
    return max(min(known) - now, 0.0) if (known := [at for at in times if at is not None]) else None


class _Candidates:
    """The proxies that may serve a request at all. If they are fewer than a table has, no other is looked at."""

    def __init__(self, chooser: Chooser, criteria: Criteria) -> None:
        self._chooser = chooser
        self._exclude = criteria.exclude
        self._wanted = chooser.filters_for(criteria)[-1]
        self._keys: Collection[str] = chooser.held
        if self._wanted != NO_FILTER:
            self._keys = chooser.index.candidates(self._wanted, chooser.held)

    def any_fits(self) -> bool:
        """Whether any proxy of the pool fits."""
        return self._wanted == NO_FILTER or any(map(self._fits, self._keys))

    def count(self, table: Timetable[str]) -> int:
        """Return how many of a table fulfil the wish."""
        return len(table) if self._wanted == NO_FILTER else sum(map(self._fits, self._within(table)))

    def next_at(self, table: Timetable[str]) -> float | None:
        """Return when the first proxy of a table that may serve is due."""
        if len(self._keys) >= len(table):
            key = table.first(self._may_serve)
            return None if key is None else table.at.get(key)
        return min((table.at[key] for key in self._within(table) if self._may_serve(key)), default=None)

    def any_in_use(self) -> bool:
        """Whether only requests under way keep a proxy from serving."""
        availability = self._chooser.availability
        if availability.limits.in_flight is None:
            return False
        return any(
            key not in availability.limited.at and availability.in_use(key) and self._may_serve(key)
            for key in self._keys
        )

    def any_resting(self, site: Site, now: float) -> bool:
        """Whether only the rest between two requests to the site keeps a proxy from serving."""
        return site.rate_limit.holds(now) and any(site.tired(key, now) for key in self._at_hand(site))

    def next_rested(self, site: Site, now: float) -> float | None:
        """Return when one has rested that only its rest keeps from serving; of many a few are looked at."""
        return site.next_rested(islice(self._at_hand(site), _LOOKED_AT), now)

    def _at_hand(self, site: Site) -> Iterator[str]:
        aside = self._chooser.availability.aside
        return (key for key in self._keys if key not in site.barred and key not in aside and self._may_serve(key))

    def _within(self, table: Timetable[str]) -> Collection[str]:
        return [key for key in self._keys if key in table] if len(self._keys) < len(table) else table.at

    def _fits(self, key: str) -> bool:
        if key not in self._chooser.held:  # a ban outlives the membership of the proxy
            return False
        return self._wanted == NO_FILTER or self._wanted.admits(self._chooser.states.known(key))

    def _may_serve(self, key: str) -> bool:
        return key not in self._exclude and self._fits(key) and not self._chooser.declined(key)


def explain(chooser: Chooser, criteria: Criteria, *, session_key: str | None = None, refusal: str = "") -> Explanation:
    """Explain which proxy a request would get. Called under the pool's lock; O(n).

    It moves a turn on, and changes nothing else.

    `session_key` is the proxy that the request's session has, or falls to; `refusal` why it gets none.
    """
    now = chooser.clock.monotonic()
    chooser.availability.bring_back(now, for_request=False)
    site = chooser.site(criteria)
    barred = chooser.barred(site, criteria, now)
    passing = _passing(chooser, criteria, site)
    reasons: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    wall = chooser.clock.now()
    for key in chooser.held:
        obstacle = next(_obstacles(chooser, key, criteria, site, passing), None)
        if obstacle is not None:
            rule = obstacle.rule
            if site is not None and obstacle.keys is site.barred:
                rule = _rule(chooser, key, site, wall)
            reason = f"{obstacle.of_one} ({rule})" if rule else obstacle.of_one, rule
            reasons[reason] += 1
            examples.setdefault(reason, key)
    excluded = tuple(
        Excluded(words, count, chooser.states.value(examples[words, rule]), rule)
        for (words, rule), count in reasons.most_common()
    )
    told = _of_site(chooser, site, now) if site is not None else ""
    chosen, why = session_key, "session"
    try:
        if site is not None and site.rests:
            chooser.require_awake(site, now)
    except SiteResting as exc:
        chosen, refusal = None, str(exc)
    if chosen is None and not refusal:
        found = chooser.choose(criteria, site, barred)
        if found is None:
            refusal = str(pool_empty(chooser, criteria, site, now))
        else:
            chosen, why = found[0], in_words(found[1])
    size, eligible = len(chooser.held), len(chooser.held) - reasons.total()
    if chosen is None:
        return Explanation(size, eligible, excluded, told, None, refusal, None)
    state = chooser.states.slot(chosen)
    record = None
    if state is not None:
        record = TrackRecord(state.served, state.failed, state.in_flight, state.chance, state.latency)
    return Explanation(size, eligible, excluded, told, chooser.states.value(chosen), why, record)


def _rule(chooser: Chooser, key: str, site: Site, wall: float) -> str:
    """Return the rule of a ban that holds, nothing where none is known."""
    ban = chooser.learning.book.get((key, site.name))
    return ban.rule if ban is not None and ban.until > wall else ""


def _place(site: Site | None) -> tuple[str, SiteGroups | None]:
    return ("", None) if site is None else (site.name, site.groups)


def _of_site(chooser: Chooser, site: Site, now: float) -> str:
    words = []
    if site.at_fault:
        words.append(f"several proxies failed alike there ({site.at_fault}), so that it is at fault and not they")
    if site.rest_until > now:
        words.append(f"left alone for {site.rest_until - now:.1f} s")
    if site.barred.at:
        words.append(f"{len(site.barred.at)} of {len(chooser.held)} are barred from it")
    words += chooser.learning.groups.in_words(*_place(site), now)
    if site.rate_limit.gap:
        words.append(f"proxies do best to rest {site.rate_limit.gap:.1f} s between two requests to it")
    return "; ".join(words)
