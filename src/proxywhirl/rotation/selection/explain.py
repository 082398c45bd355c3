"""Why a request gets the proxy that it gets, or none: who could serve it, and what kept out the others. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from proxywhirl.clock import Clock
from proxywhirl.errors import PoolEmpty, SiteResting
from proxywhirl.models import Proxy
from proxywhirl.rotation.lease import Why
from proxywhirl.rotation.selection.chooser import Choosing
from proxywhirl.rotation.selection.request_options import Question
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
    choosing: Choosing, question: Question, clock: Clock, *, session_key: str | None = None, refusal: str = ""
) -> Explanation:
    """Explain whom a request would get. Called under the pool's lock; O(n). Moves a turn on, and changes nothing else.

    `session_key` is the proxy that the request's session has, or falls to; `refusal` why it gets none.
    """
    now = clock.monotonic()
    choosing.bring_back(now, for_request=False)
    site = choosing.learning.peek(question.site) if question.site is not None else None
    barred = choosing.barred(site, question, now)
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    eligible = 0
    for key in choosing.held:
        reason = _reason(choosing, key, question, site, now, clock.now())
        if reason:
            reasons[reason] += 1
            examples.setdefault(reason, key)
        else:
            eligible += 1
    value = choosing.value
    excluded = tuple(
        Excluded(reason, count, value(examples[reason]), _rule_in(reason, choosing, examples[reason], site))
        for reason, count in reasons.most_common()
    )
    told = _of_site(choosing, site, now) if site is not None else ""
    chosen, why = session_key, "session"
    try:
        if site is not None and site.rests:
            choosing.require_awake(site, now)
        if chosen is None and not refusal:
            chosen, because = choosing.choose(question, site, barred)
            why = str(Why(*because))
    except (PoolEmpty, SiteResting) as exc:
        chosen, refusal = None, str(exc)
    if chosen is None:
        return Explanation(len(choosing.held), eligible, excluded, told, None, refusal, None)
    slot = choosing.stock.slot(chosen)
    record = None if slot is None else Record(slot.served, slot.failed, slot.in_flight, slot.chance, slot.latency)
    return Explanation(len(choosing.held), eligible, excluded, told, value(chosen), why, record)


def _reason(choosing: Choosing, key: str, question: Question, site: Site | None, now: float, wall: float) -> str:
    """Return what keeps a proxy from serving a request, nothing where it can."""
    wish = choosing.unfulfilled(key, question)
    if wish or key in question.exclude:
        return f"not {wish}" if wish else "excluded by the request"
    declined = choosing.declined(key)
    if declined:
        return declined
    if site is not None and key in site.barred.at:
        ban = choosing.learning.book.get((key, site.name))
        return f"banned by {site.name} ({ban.rule})" if ban and ban.until > wall else f"banned by {site.name}"
    if site is not None and key in site.cooling.at:
        return f"cooling down from {site.name}"
    return _standing(choosing, key, question, now)


def _rule_in(reason: str, choosing: Choosing, key: str, site: Site | None) -> str:
    """Return the rule that a reason names, nothing where it names none."""
    ban = None if site is None else choosing.learning.book.get((key, site.name))
    return ban.rule if ban is not None and reason.endswith(f"({ban.rule})") else ""


def _standing(choosing: Choosing, key: str, question: Question, now: float) -> str:
    if question.tunnels and key in choosing.learning.connect.barred.at:
        return "opens no tunnels"
    if choosing.holds.at.get(key, now) > now:
        return "held exclusively"
    if key in choosing.standing.aside.at:
        return "set aside after failures"
    return "at its limit of requests" if choosing.standing.at_limit(key) else ""


def _of_site(choosing: Choosing, site: Site, now: float) -> str:
    words = []
    if site.at_fault:
        words.append(f"several proxies failed alike there ({site.at_fault}), so that it is at fault and not they")
    if site.rest_until > now:
        words.append(f"left alone for {site.rest_until - now:.1f} s")
    if site.barred.at:
        words.append(f"{len(site.barred.at)} of {len(choosing.held)} are barred from it")
    if site.pace.gap:
        words.append(f"proxies do best to rest {site.pace.gap:.1f} s between two requests to it")
    return "; ".join(words)
