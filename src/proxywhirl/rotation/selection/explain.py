"""Why a request gets the proxy that it gets, or none: who could serve it, and what kept out the others. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from proxywhirl.clock import Clock
from proxywhirl.errors import PoolEmpty, SiteResting
from proxywhirl.models import Proxy
from proxywhirl.rotation.lease import Why
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.sites.sites import Site


@dataclass(frozen=True, slots=True)
class Excluded:
    """Proxies that could not serve, for one reason: how many, and one of them; `rule` of a ban by one."""

    reason: str
    count: int
    example: Proxy
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Record:
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
        proxy: Who serves; None where nobody can.
        why: Why this one, or why none.
        record: What was learnt of it; None of one that was never used.
    """

    pool: int
    eligible: int
    excluded: tuple[Excluded, ...]
    site: str
    proxy: Proxy | None
    why: str
    record: Record | None


def explain(
    chooser: Chooser, criteria: Criteria, clock: Clock, *, session_key: str | None = None, refusal: str = ""
) -> Explanation:
    """Explain whom a request would get. Called under the pool's lock; O(n). Moves a turn on, and changes nothing else.

    `session_key` is the proxy that the request's session has, or falls to; `refusal` why it gets none.
    """
    now = clock.monotonic()
    chooser.bring_back(now, for_request=False)
    site = chooser.learning.peek(criteria.site) if criteria.site is not None else None
    barred = chooser.barred(site, criteria, now)
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    eligible = 0
    for key in chooser.held:
        reason = _reason(chooser, key, criteria, site, now, clock.now())
        if reason:
            reasons[reason] += 1
            examples.setdefault(reason, key)
        else:
            eligible += 1
    value = chooser.value
    excluded = tuple(
        Excluded(reason, count, value(examples[reason]), _rule_in(reason, chooser, examples[reason], site))
        for reason, count in reasons.most_common()
    )
    told = _of_site(chooser, site, now) if site is not None else ""
    chosen, why = session_key, "session"
    try:
        if site is not None and site.rests:
            chooser.require_awake(site, now)
        if chosen is None and not refusal:
            chosen, because = chooser.choose(criteria, site, barred)
            why = str(Why(*because))
    except (PoolEmpty, SiteResting) as exc:
        chosen, refusal = None, str(exc)
    if chosen is None:
        return Explanation(len(chooser.held), eligible, excluded, told, None, refusal, None)
    state = chooser.states.slot(chosen)
    record = None if state is None else Record(state.served, state.failed, state.in_flight, state.chance, state.latency)
    return Explanation(len(chooser.held), eligible, excluded, told, value(chosen), why, record)


def _reason(chooser: Chooser, key: str, criteria: Criteria, site: Site | None, now: float, wall: float) -> str:
    """Return what keeps a proxy from serving a request, nothing where it can."""
    wish = chooser.unfulfilled(key, criteria)
    if wish or key in criteria.exclude:
        return f"not {wish}" if wish else "excluded by the request"
    declined = chooser.declined(key)
    if declined:
        return declined
    if site is not None and key in site.barred.at:
        ban = chooser.learning.book.get((key, site.name))
        return f"banned by {site.name} ({ban.rule})" if ban and ban.until > wall else f"banned by {site.name}"
    if site is not None and key in site.cooling.at:
        return f"cooling down from {site.name}"
    return _availability(chooser, key, criteria, now)


def _rule_in(reason: str, chooser: Chooser, key: str, site: Site | None) -> str:
    """Return the rule that a reason names, nothing where it names none."""
    ban = None if site is None else chooser.learning.book.get((key, site.name))
    return ban.rule if ban is not None and reason.endswith(f"({ban.rule})") else ""


def _availability(chooser: Chooser, key: str, criteria: Criteria, now: float) -> str:
    if criteria.tunnels and key in chooser.learning.connect.barred.at:
        return "opens no tunnels"
    if chooser.holds.at.get(key, now) > now:
        return "held exclusively"
    if key in chooser.availability.aside.at:
        return "set aside after failures"
    return "at its limit of requests" if chooser.availability.at_limit(key) else ""


def _of_site(chooser: Chooser, site: Site, now: float) -> str:
    words = []
    if site.at_fault:
        words.append(f"several proxies failed alike there ({site.at_fault}), so that it is at fault and not they")
    if site.rest_until > now:
        words.append(f"left alone for {site.rest_until - now:.1f} s")
    if site.barred.at:
        words.append(f"{len(site.barred.at)} of {len(chooser.held)} are barred from it")
    if site.rate_limit.gap:
        words.append(f"proxies do best to rest {site.rate_limit.gap:.1f} s between two requests to it")
    return "; ".join(words)
