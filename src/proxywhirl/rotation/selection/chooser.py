"""Which proxies are in a pool, which one serves a request, and what the outcome teaches. Pure.

This is a pool without its lock. The cases of a choice are told at `selection` and named in `Chooser.choose`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame, SiteResting
from proxywhirl.models import HealthStatus, Outcome, Proxy, Sketch
from proxywhirl.rotation.lease import Because, Grantor, Lease
from proxywhirl.rotation.proxy_state import DECAY_STEP, Limits, ProxyState, ProxyStates
from proxywhirl.rotation.selection.availability import Availability, Holds
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter, Index
from proxywhirl.rotation.selection.pool_options import PoolOptions
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.selection.views import Views
from proxywhirl.rotation.sites.groups import BarredGroups, Members
from proxywhirl.rotation.sites.learning import Learning
from proxywhirl.rotation.sites.pages import Failure
from proxywhirl.rotation.sites.sharing import SiteRecord
from proxywhirl.rotation.sites.site import Site, keeps_any
from proxywhirl.rotation.strategies.base import Barred, CountsUses, Declines, Learns, MeetsDeadlines, admitted
from proxywhirl.rotation.verdicts.response import CUT, NO_CONNECT, SILENT

OfHealth = Sequence[tuple[str, Outcome | None]]
"""What an outcome tells of the health of proxies, by key; None takes back the last failure of one: it was not its own.

Of leases that were out together when a proxy failed only the first failure tells.
"""
NOTHING: OfHealth = ()

UNCLEAR = (SILENT, CUT)
"""The rules of failures that may be the proxy's or the page's: it was reached, and no whole answer came."""

_KNOWN_TO_WORK = 0.5  # successes, decayed
_SOON = 3.0  # seconds until a proxy has rested, for which it is worth to wait
_HOPELESS = 2  # failures in a row


class Chooser:
    """All that a pool knows. Every call is made under the pool's lock."""

    def __init__(
        self,
        options: PoolOptions,
        rng: random.Random,
        clock: Clock,
        limits: Limits,
        portray: Callable[[str, Sketch], Proxy] | None,
        success_worth: float | None = None,
    ) -> None:
        self.options = options
        self.states = ProxyStates(rng, clock, portray, success_worth)
        self.held = self.states.held
        self.index = Index(self.states.known)
        self.views = Views(options.factory, self.states, self._ready)
        self.availability = Availability(self.states, self.views, limits, rng)
        self.learning = Learning(
            rng,
            clock,
            arms=getattr(self.views.all, "uses_arms", False),
            members=Members(self.held, self.states.known),
        )
        self.holds = Holds()
        self.dropped: deque[Lease] = deque()  # by the garbage collector, which takes no lock
        self._sites = self.learning.sites
        self._connect = self.learning.connect
        self._everywhere = self.learning.everywhere.groups
        self._aside = self.availability.aside.at
        self._limited = self.availability.limited.at
        self._plain = not options.yielding and options.base is NO_FILTER
        self.clock = clock
        self._cooldown = limits.cooldown
        self._tick = clock.monotonic()
        self.unlimited = limits.requests_per_second is None and limits.in_flight is None
        self._counting = isinstance(self.views.all, CountsUses)
        self._taught = isinstance(self.views.all, Learns)
        self._meets_deadlines = isinstance(self.views.all, MeetsDeadlines)
        self._declines = self.views.all.declines if isinstance(self.views.all, Declines) else None
        self._how = f"{options.name}, one of {{}} ready"

    def _ready(self, wanted: Filter) -> list[str]:
        known, ready = self.states.known, self.availability.ready
        return [key for key in self.index.candidates(wanted, self.held) if wanted.admits(known(key)) and ready(key)]

    # Which proxies are in.

    def put(self, proxy: Proxy) -> None:
        """Take in a proxy, or new facts about a known one; a dead one is withheld."""
        key, aside = proxy.key, proxy.status is HealthStatus.DEAD
        if key in self.held:
            self._exchange(key, proxy, aside=aside)
            return
        self.held[key] = ProxyState(key, proxy)
        self.index.add((key,))
        if aside:
            self.availability.withhold(key, self.clock.monotonic())
        else:
            self.availability.enter(key)

    def take_in(self, sketches: Mapping[str, Sketch], *, aside: bool) -> None:
        """Do the same with sketches, all of which are withheld, or none is."""
        if not self.held.keys().isdisjoint(sketches):
            for key in [key for key in sketches if key in self.held]:  # in order, which those of a set are not
                self._exchange(key, sketches[key], aside=aside)
            sketches = {key: sketch for key, sketch in sketches.items() if key not in self.held}
        self.held.update(sketches)
        self.index.add(sketches)
        if aside:
            now = self.clock.monotonic()
            for key in sketches:
                self.availability.withhold(key, now)
        else:
            self.views.add_many(sketches)

    def forget(self, key: str) -> bool:
        """Drop a proxy; False where it was not in."""
        if key not in self.held:
            return False
        if self.index.asked:
            self.index.remove(key, self.states.known(key))
        self.availability.forget(key)
        del self.held[key]
        return True

    def _exchange(self, key: str, known: Proxy | Sketch, *, aside: bool) -> None:
        """Exchange the facts about a proxy and keep what was learnt; `aside` says that the store withholds it."""
        before = self.states.known(key) if self.index.asked or self.views.read else None
        self.states.exchange(key, known, aside=key in self._aside)
        if before is not None and _facts(self.states.known(key)) != _facts(before):
            self.index.remove(key, before)
            self.index.add((key,))
            self.views.redrawn(key, serves=self.availability.ready(key))
        if aside:
            self.availability.withhold(key, self.clock.monotonic())
        else:
            self.availability.restore(key)

    def learn_sites(self, records: Mapping[str, SiteRecord], name: str) -> None:
        """Take in what all processes know of sites; `name` is this one."""
        self.learning.exchange.learn(records, name)
        self.states.others = self.learning.exchange.others

    # Which one serves.

    def prepare(self, criteria: Criteria, now: float) -> tuple[Site | None, Barred]:
        """Bring back proxies that are due or free; return the site of a request, and the proxies barred from it.

        Raises:
            SiteResting: the site is left alone for now.
        """
        if self.dropped:
            self.tidy(now)
        if self._aside or self._limited:
            self.availability.bring_back(now, for_request=True)
        site = None
        if criteria.site is not None:
            site = self._sites.get(criteria.site)
            if site is None or len(self._sites) > self.learning.half_of_sites:
                site = self.learning.site(criteria.site)
            if not site.all_well and site.rests:
                self.require_awake(site, now)
        return site, self.barred(site, criteria, now)

    def site(self, criteria: Criteria) -> Site | None:
        """Return the site of a request, without remembering that somebody asked."""
        return self.learning.peek(criteria.site) if criteria.site is not None else None

    def require_awake(self, site: Site, now: float) -> None:
        """Raise SiteResting where a site is left alone for now."""
        wait = site.resting(now)
        if wait:
            raise SiteResting(
                f"{site.name} failed alike through several proxies ({site.at_fault}): left alone for {wait:.1f} s",
                retry_after=wait,
            )

    def barred(self, site: Site | None, criteria: Criteria, now: float) -> Barred:
        """Return the tables of proxies that may not serve a request, for reasons other than its own."""
        barred: Barred = ()
        here = None
        if site is not None and not site.all_well:
            here = site.groups
            if site.barred.at and site.bars_any(now):
                barred = (site.barred.at,)
            if site.cooling.at and keeps_any(site.cooling, now):
                barred = (*barred, site.cooling.at)
        if self._connect.barred.at and criteria.tunnels and keeps_any(self._connect.barred, now):
            barred = (*barred, self._connect.barred.at)
        if self.holds.at:
            while (key := self.holds.pop_due(now)) is not None:
                self._lapse(key, now)
            if self.holds.at:
                barred = (*barred, self.holds.at)
        if self._everywhere.bars or (here is not None and here.bars):
            groups = self.learning.groups.keeps_off(here, now)
            if groups is not None:
                barred = (*barred, groups)
        return barred

    def filters_for(self, criteria: Criteria) -> tuple[Filter, ...]:
        """Return the filters to try for a request, one after another."""
        return (criteria.wanted,) if self._plain else self.options.filters_for(criteria.wanted)

    def choose(self, criteria: Criteria, site: Site | None, barred: Barred) -> tuple[str, Because] | None:
        """Return the key of the proxy that serves, and why (see `Because`); None where none can.

        The cases, in this order:

        - the request has failed before, and one is ready outside of the groups that failures put in doubt: the strategy
          picks among these;
        - one is ready that fulfils all wishes: the strategy picks;
        - a pool that yields (`geo`): the same with ever fewer wishes;
        - groups are barred, and nobody outside of them is ready, or will be after its rest: the same with the groups of
          which one may try;
        - one is set aside, with no other obstacle: the one due first is tried. One that failed again and again is not,
          if only the site or its limit by rate keeps others from serving;
        - else none. More are let back for a trial, so that the next request finds one.
        """
        if criteria.exclude and not (self._everywhere.idle and (site is None or site.groups.idle)):
            doubted = self.learning.groups.doubted(None if site is None else site.groups, self.clock.monotonic())
            chosen = None if doubted is None else self._choose_ready(criteria, site, (*barred, doubted))
            if chosen is not None:
                return chosen
        chosen = self._choose_ready(criteria, site, barred)
        if chosen is not None:
            return chosen
        if not (barred and isinstance(barred[-1], BarredGroups)):
            return self._choose_aside(criteria, site, barred)
        if self._any_resting(criteria, site, barred):
            return None
        now = self.clock.monotonic()
        needed = self.learning.groups.keeps_off(None if site is None else site.groups, now, needed=True)
        others = barred[:-1] if needed is None else (*barred[:-1], needed)
        chosen = self._choose_ready(criteria, site, others) or self._choose_aside(criteria, site, others)
        words = "" if chosen is None else self.group_of(chosen[0], site)[0]
        if chosen is None or not words:
            return chosen
        key, (how, ready, keys, wanted, before) = chosen
        before = f"nobody outside of its group is ready, though its {words}{'; ' if before else ''}{before}"
        return key, (how, ready, keys, wanted, before)

    def _choose_ready(self, criteria: Criteria, site: Site | None, barred: Barred) -> tuple[str, Because] | None:
        exclude, wanted, instead = criteria.exclude, criteria.wanted, ""
        filters = (wanted,) if self._plain else self.options.filters_for(wanted)
        tables: tuple[Barred, ...] = (barred,)
        if site is not None and not site.all_well and site.suspects_any:
            tables = self._without_suspects(site, barred)
        for wanted in filters:
            view = self.views.all if wanted is NO_FILTER else self.views.get(wanted)
            if wanted is not filters[0]:
                instead = f"nobody ready fulfils {filters[0]}"
            for table in tables:
                if self._meets_deadlines:
                    key = view.choose_within(exclude, table, site, criteria.within)  # type: ignore[attr-defined]  # it meets them
                else:
                    key = view.choose(exclude, table, site)
                if key is not None:
                    ready = len(self.held)
                    if self._aside or self._limited:
                        ready -= len(self._aside) + len(self._limited)
                    return key, (self._how, ready, site.barred if barred and site is not None else (), wanted, instead)
        return None

    def _without_suspects(self, site: Site, barred: Barred) -> tuple[Barred, ...]:
        """Return what to keep to first, so that others are chosen before those whose failures are not resolved."""
        avoided = site.avoided(self.clock.monotonic())
        if not avoided:
            return (barred,)
        as_good_as_banned = site.evidence.is_ban(site.evidence.run_sign)
        return ((*barred, *avoided),) if as_good_as_banned else ((*barred, *avoided), barred)

    def _choose_aside(self, criteria: Criteria, site: Site | None, barred: Barred) -> tuple[str, Because] | None:
        exclude, filters = criteria.exclude, self.filters_for(criteria)
        wanted = filters[-1]
        instead = f"nobody ready fulfils {filters[0]}" if len(filters) > 1 else ""
        known, now = self.states.known, self.clock.monotonic()
        resting = site is not None and site.rate_limit.holds(now) and len(self._aside) < len(self.held)
        hopeless = self._hopeless if resting or self._kept_out(wanted, barred) else None
        key = self.availability.due_first(
            lambda key: (
                admitted(key, exclude, barred)
                and (wanted is NO_FILTER or wanted.admits(known(key)))
                and not (hopeless and hopeless(key))
                and not (site is not None and site.tired(key, now))
                and not self.declined(key)
            ),
            self.held if wanted is NO_FILTER else self.index.candidates(wanted, self.held),
        )
        if key is None:
            self.availability.grant()
            return None
        return key, ("none ready, due first of {} set aside", len(self._aside), (), wanted, instead)

    def _any_resting(self, criteria: Criteria, site: Site | None, barred: Barred) -> bool:
        """Whether only the rest between two requests to the site keeps a proxy from serving, for a moment."""
        if site is None or not site.rate_limit.holds(self.clock.monotonic()):
            return False
        now, wanted = self.clock.monotonic(), self.filters_for(criteria)[-1]
        soon = now + _SOON
        return any(
            site.tired(key, now) and not site.tired(key, soon) and self.may_serve(key, criteria, wanted, barred)
            for key in site.arms
        )

    def _kept_out(self, wanted: Filter, barred: Barred) -> bool:
        """Whether a barred proxy would serve: it fits, and is not set aside."""
        held, aside, known = self.held, self._aside, self.states.known
        return any(
            key in held and key not in aside and (wanted is NO_FILTER or wanted.admits(known(key)))
            for table in barred
            for key in table
        )

    def _hopeless(self, key: str) -> bool:
        """Whether no proxy is better than this one, since only the site keeps others from serving."""
        state = self.states.slot(key)
        return state is None or state.failures > _HOPELESS

    def group_of(self, key: str, site: Site | None) -> tuple[str, str]:
        """Return which group keeps a proxy from serving now, as in "its …", and by which rule; nothing where none."""
        if not self._everywhere.bars and (site is None or not site.groups.bars):
            return "", ""
        name, here = ("", None) if site is None else (site.name, site.groups)
        return self.learning.groups.held_back(key, name, here, self.clock.monotonic())

    def declined(self, key: str) -> str:
        """Return why the strategy never lets a proxy serve, as in "it is …"; nothing where it may."""
        return "" if self._declines is None else self._declines(key)

    def may_serve(self, key: str, criteria: Criteria, wanted: Filter, barred: Barred) -> bool:
        """Whether a proxy can serve a request now, limits of uses aside; `explain.why_not` says why not."""
        if key not in self.held or key in criteria.exclude or key in self._aside:
            return False
        for table in barred:
            if key in table:
                return False
        if self._declines is not None and self._declines(key):
            return False
        return wanted is NO_FILTER or wanted.admits(self.states.known(key))

    def begin(  # noqa: C901  # one step after the other
        self, grantor: Grantor, key: str, site: Site | None, why: Because, criteria: Criteria, now: float
    ) -> Lease:
        """Grant a lease."""
        state = self.held[key]
        if type(state) is not ProxyState:
            state = self.states.open(key, aside=key in self._aside)
        lease = Lease(grantor, state, site, why, criteria.page, now)
        if criteria.exclude:
            lease.again = True
        if self.unlimited and not state.failures:
            state.in_flight += 1
            if self._counting:
                self.views.moved(state)
        else:
            lease.trial = self.availability.begin(state, now)
        here = None
        if site is not None and not site.all_well:
            here = site.groups
            if site.rests:
                site.try_out(key, now)
            if key in site.returning:
                site.begin_return(key, now)
            if site.tells_apart:
                self.learning.used(state, site, now)
        if self._everywhere.bars or (here is not None and here.bars):
            lease.tries = self.learning.groups.tries(key, here, now)
        if self._cooldown is not None and site is not None:
            site.cool_down(key, now + self._cooldown)
        return lease

    # What came of it.

    def tidy(self, now: float) -> None:
        """Take back leases that nobody holds."""
        while self.dropped:
            lease = self.dropped.popleft()
            if not lease.ended:
                lease.ended = True
                self.end(lease, None, now)

    def _lapse(self, key: str, now: float) -> None:
        lease = self.holds.end(key)
        if lease is not None and not lease.ended:
            self.end(lease, None, now)
            lease.lapsed = True

    def end(self, lease: Lease, outcome: Outcome | None, now: float) -> OfHealth:  # noqa: C901, PLR0912  # one step after the other
        """Take back a lease, and learn from its outcome; a lapsed one was taken back before.

        Returns what the outcome says of the health of proxies.
        """
        if lease.lapsed:
            return NOTHING
        state, site = lease.state, lease.site
        here = self.held.get(state.key) is state
        if site is not None:
            if site.closed:
                site = lease.site = self.learning.site(site.name)
            if site.trying == state.key and not (here and outcome is not None and _tells_of_site(outcome)):
                site.untried(now)
            if site.returning:
                site.end_return(state.key, lease.began)
        if not here:
            state.in_flight -= 1
            return NOTHING  # discarded while it was out
        if self.unlimited and lease.trial is None:
            state.in_flight -= 1
            if self._counting:
                self.views.moved(state)
        else:
            self.availability.end(state, lease.trial)
        if self._cooldown is not None and site is not None:
            site.cool_down(state.key, now + self._cooldown)
        told = NOTHING
        if outcome is not None:
            if self._meets_deadlines:
                self.states.times.learn(state, site, outcome)
                if site is not None and self.states.success_worth is not None:
                    site.note_bytes(outcome.bytes_up + outcome.bytes_down)
            if outcome.ok and not self._everywhere.idle:
                self.learning.of_groups.reachable(state, now, lease.began)
            if now - self._tick > DECAY_STEP:
                self._tick = now  # one number for all that learn in this second
            if outcome.ok:
                told = self._learn_success(lease, outcome, now)
            else:
                told = self._learn_no_success(lease, outcome, now)
            if self._taught:
                self.views.learnt(state, outcome)
        elif site is not None:
            self.learning.ended(state, site, lease.began, came=True)
        if lease.tries:
            self.learning.groups.untried(state.key, None if site is None else site.groups)
        return told

    def _learn_success(self, lease: Lease, outcome: Outcome, now: float) -> OfHealth:
        state, site = lease.state, lease.site
        state.served += 1
        state.learn(self._tick, outcome.latency, ok=True)
        if state.failures:
            self.availability.succeeded(state, lease.trial)
        told = ((state.key, outcome),)
        if site is None:
            return told
        found = self.learning.served(state, site, now, lease.page, lease.began)
        return (*told, *self._convict(found, now)) if found else told

    def _learn_no_success(self, lease: Lease, outcome: Outcome, now: float) -> OfHealth:
        state, site, told = lease.state, lease.site, NOTHING
        if outcome.rule == NO_CONNECT:
            self.learning.opens_no_tunnels(state, outcome)
        elif outcome.counts_against_proxy:
            told = self._learn_failure(lease, outcome, now)
        elif site is not None and outcome.blame is not Blame.US:
            told = self._learn_refusal(lease, site, outcome, now)
        if site is not None and site.tells_apart:
            self.learning.ended(state, site, lease.began, came=not outcome.counts_against_proxy)
        return told

    def _learn_failure(self, lease: Lease, outcome: Outcome, now: float) -> OfHealth:
        """Set a proxy aside, unless it is known to work and brought no answer: that may be the page's or the site's."""
        state, site = lease.state, lease.site
        works = outcome.reached or (state.good > _KNOWN_TO_WORK and not state.failures)
        unclear = outcome.rule in UNCLEAR and works
        if unclear and site is not None:
            return self._learn_refusal(lease, site, outcome, now)
        if outcome.rule not in UNCLEAR:
            self.learning.of_groups.unreachable(state, outcome, now, lease.began)
        return self._set_aside(state, lease.incident, outcome, now, lease.trial)

    def _learn_refusal(self, lease: Lease, site: Site, outcome: Outcome, now: float) -> OfHealth:
        """Learn from what may be the proxy's, the page's or the site's failure."""
        own, found = self.learning.failed(
            lease.state,
            site,
            outcome,
            now,
            proxies=len(self.held),
            page=lease.page,
            use=lease.began,
            again=lease.again,
        )
        lease.targets_own, lease.page_served = own, site.evidence.was_served(lease.page)
        if not own:
            return self._convict(found, now)
        pardoned = [one for one in found if one.convicted and one.outcome.counts_against_proxy]
        for failure in pardoned:
            self.availability.pardon(failure.state)
        return [(failure.state.key, None) for failure in pardoned]

    def _convict(self, found: Sequence[Failure], now: float) -> OfHealth:
        """Let failures count against their proxies that were unclear, and are their own."""
        told: list[tuple[str, Outcome | None]] = []
        for failure in found:
            if failure.outcome.counts_against_proxy and self.held.get(failure.state.key) is failure.state:
                told.extend(self._set_aside(failure.state, failure.incident, failure.outcome, now, None))
        return told

    def _set_aside(
        self, state: ProxyState, incident: int, outcome: Outcome, now: float, trial: float | None
    ) -> OfHealth:
        state.failed += 1
        state.learn(self._tick, None, ok=False)
        if incident != state.incident:
            return NOTHING
        self.availability.set_aside(state, trial, now)
        return ((state.key, outcome),)


def _facts(proxy: Proxy) -> tuple[object, ...]:
    """Return what filters and strategies ask of a proxy."""
    return proxy.scheme, proxy.source, proxy.attributes


def _tells_of_site(outcome: Outcome) -> bool:
    if outcome.ok or outcome.rule in UNCLEAR:
        return True
    return outcome.rule != NO_CONNECT and outcome.blame in (Blame.TARGET, Blame.TARGET_THROUGH_PROXY)
