"""Who serves a request, and what is learnt from how it went: the state of a pool, without its lock. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame, SiteResting
from proxywhirl.models import Outcome, Proxy, Sketch
from proxywhirl.rotation.affinity.holds import Holds
from proxywhirl.rotation.lease import Because, Grantor, Lease
from proxywhirl.rotation.proxy_state import DECAY_STEP, ProxyState, ProxyStates
from proxywhirl.rotation.selection.availability import Availability
from proxywhirl.rotation.selection.emptiness import why_empty
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter, Index
from proxywhirl.rotation.selection.limits import Limits
from proxywhirl.rotation.selection.membership import Membership
from proxywhirl.rotation.selection.pool_options import PoolOptions
from proxywhirl.rotation.selection.request_options import ANYTHING, Criteria
from proxywhirl.rotation.selection.views import Views
from proxywhirl.rotation.sites.learning import Learning
from proxywhirl.rotation.sites.sites import Site
from proxywhirl.rotation.strategies.base import Barred, CountsUses, Declines, Learns
from proxywhirl.rotation.strategies.sampling import admitted
from proxywhirl.rotation.verdicts.without_rules import NO_CONNECT, SILENT

SET_ASIDE, COOLING = "it is set aside", "it was used on the site a moment ago"

OfHealth = tuple[bool, Sequence[str]]
"""Whether an outcome tells of the health of the proxy that was used, and whose last failure was none of its own.

Of leases that were out together when a proxy failed only the first failure tells.
"""
NOTHING: OfHealth = (False, ())
ITS_OWN: OfHealth = (True, ())

_RETURNS_AT_ONCE = 64  # from a cool-down; no single request pays for the return of thousands

_KNOWN_TO_WORK = 0.5  # successes, decayed
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
    ) -> None:
        self.options = options
        self.states = ProxyStates(rng, clock, portray)
        self.held = self.states.held
        self.availability = Availability(self.states, limits, rng)
        self.index = Index(self.states.known)
        self.views = self.availability.views = Views(options.factory, self.states, self.states.known, self._ready)
        self.learning = Learning(rng, clock, arms=getattr(self.views.all, "uses_arms", False))
        self.members = Membership(self.states, self.availability, self.index, self.views, clock)
        self.holds = Holds()
        self._connect = self.learning.connect
        self._aside = self.availability.aside.at
        self._limited = self.availability.limited.at
        self._plain = not options.yielding and options.base is NO_FILTER
        self._clock = clock
        self._cooldown = limits.cooldown
        self.in_flight_limit = limits.in_flight
        self._tick = clock.monotonic()
        self._unlimited = limits.requests_per_second is None and limits.in_flight is None
        self._counting = isinstance(self.views.all, CountsUses)
        self._taught = isinstance(self.views.all, Learns)
        self._declines = self.views.all.declines if isinstance(self.views.all, Declines) else None
        self._how = f"{options.name}, one of {{}} ready"

    def _ready(self, wanted: Filter) -> list[str]:
        known, ready = self.states.known, self.availability.ready
        return [key for key in self.index.candidates(wanted, self.held) if wanted.admits(known(key)) and ready(key)]

    # Who serves.

    def serve(self, grantor: Grantor, criteria: Criteria, now: float) -> Lease:
        """Choose, and grant a lease.

        Raises:
            PoolEmpty: nobody can serve; the message says what stands in the way.
            SiteResting: the site is left alone for now.
        """
        if self._aside or self._limited:
            self.availability.bring_back(now, for_request=True)
        site = None
        if criteria.site is not None:
            site = self.learning.sites.get(criteria.site)
            if site.rests:
                self.require_awake(site, now)
        barred = self.barred(site, criteria, now) if criteria is not ANYTHING or self.holds.at else ()
        key, why = self.choose(criteria, site, barred)
        lease = self.begin(grantor, key, site, why, now)
        if criteria.exclude:
            lease.again = True
        return lease

    def bring_back(self, now: float, *, for_request: bool = True) -> None:
        """Let those serve again who are due; each request makes room for some more trials."""
        if self._aside or self._limited:
            self.availability.bring_back(now, for_request=for_request)

    def site(self, criteria: Criteria, now: float) -> Site | None:
        """Return where a request goes.

        Raises:
            SiteResting: the site is left alone for now.
        """
        if criteria.site is None:
            return None
        site = self.learning.sites.get(criteria.site)
        if site.rests:
            self.require_awake(site, now)
        return site

    def require_awake(self, site: Site, now: float) -> None:
        """Raise SiteResting where a site is left alone for now."""
        wait = site.resting(now)
        if wait:
            raise SiteResting(
                f"{site.name} failed alike through several proxies ({site.at_fault}): left alone for {wait:.1f} s",
                retry_after=wait,
            )

    def barred(self, site: Site | None, criteria: Criteria, now: float) -> Barred:
        """Return those who may not serve a request for a reason that it did not give itself."""
        barred: Barred = ()
        if site is not None and site.barred.at and self.learning.barred(site, now):
            barred = (site.barred.at,)
        if site is not None and site.cooling.at and self._cooling(site, now):
            barred = (*barred, site.cooling.at)
        if self._connect.barred.at and criteria.tunnels and self.learning.barred(self._connect, now):
            barred = (*barred, self._connect.barred.at)
        if self.holds.at:
            while (key := self.holds.pop_due(now)) is not None:
                self._lapse(key, now)
            if self.holds.at:
                barred = (*barred, self.holds.at)
        return barred

    def choose(self, criteria: Criteria, site: Site | None, barred: Barred) -> tuple[str, Because]:
        """Return the key of who serves, and why (see `Why`).

        Raises:
            PoolEmpty: nobody can; the message says what stands in the way.
        """
        exclude, wanted = criteria.exclude, criteria.wanted
        if self._plain:
            key = self.views.get(wanted).choose(exclude, barred, site)
            if key is not None:
                ready = len(self.held) - len(self._aside) - len(self._limited)
                return key, (self._how, ready, site.barred if site is not None and barred else (), wanted, "")
        instead, first = "", NO_FILTER
        for step, wanted in enumerate(() if self._plain else self.options.filters_for(criteria.wanted)):
            key = self.views.get(wanted).choose(exclude, barred, site)
            if step == 0:
                first = wanted
            else:
                instead = f"nobody ready fulfils {first}"
            if key is not None:
                ready = len(self.held) - len(self._aside) - len(self._limited)
                return key, (self._how, ready, site.barred if site is not None and barred else (), wanted, instead)
        known, now = self.states.known, self._clock.monotonic()
        resting = site is not None and site.rate_limit.kept and len(self._aside) < len(self.held)
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
            raise why_empty(self, criteria, wanted, site, barred, now)
        return key, ("none ready, due first of {} set aside", len(self._aside), (), wanted, instead)

    def _kept_out(self, wanted: Filter, barred: Barred) -> bool:
        """Whether somebody would serve who is barred: is what is wanted, and not set aside."""
        held, aside, known = self.held, self._aside, self.states.known
        return any(
            key in held and key not in aside and (wanted is NO_FILTER or wanted.admits(known(key)))
            for table in barred
            for key in table
        )

    def _hopeless(self, key: str) -> bool:
        """Whether it is better to have none than this one, since others would serve but for the site."""
        state = self.states.slot(key)
        return state is None or state.failures > _HOPELESS

    def declined(self, key: str) -> str:
        """Return why the strategy never lets a proxy serve, as in "it is …"; nothing where it may."""
        return "" if self._declines is None else self._declines(key)

    def usable(self, key: str, criteria: Criteria, barred: Barred) -> str:
        """Return why a proxy cannot serve a request; nothing where it can. One at a limit of uses can, in time."""
        if key not in self.held:
            return "it is gone"
        if key in criteria.exclude:
            return "it was tried for this request"
        wish, declined = self.unfulfilled(key, criteria), self.declined(key)
        if wish or declined:
            return f"it is not {wish}" if wish else f"it is {declined}"
        if key in self._aside:
            return SET_ASIDE
        return "" if admitted(key, (), barred) else self._barrier(key, criteria)

    def _barrier(self, key: str, criteria: Criteria) -> str:
        if criteria.tunnels and key in self._connect.barred.at:
            return "it opens no tunnels"
        if key in self.holds.at:
            return "it is held exclusively"
        site = self.learning.peek(criteria.site) if criteria.site is not None else None
        if site is not None and key not in site.barred.at:
            return COOLING
        return "it is banned by the site"

    def free(self, criteria: Criteria, barred: Barred, wanted: Filter, key: str) -> bool:
        """Whether a proxy can serve a request now, and passes one of the filters to try."""
        if wanted is not NO_FILTER and not wanted.admits(self.states.known(key)):
            return False
        return not self.usable(key, criteria, barred) and not self.availability.at_limit(key)

    def unfulfilled(self, key: str, criteria: Criteria) -> str:
        """Return a wish that a proxy does not fulfil and cannot do without, as `name=value`; nothing where all are."""
        if self._plain and criteria.wanted is NO_FILTER:
            return ""
        wanted = self.options.filters_for(criteria.wanted)[-1]
        return "" if wanted is NO_FILTER else wanted.unfulfilled(self.states.known(key))

    def value(self, key: str) -> Proxy:
        """Return a proxy."""
        held = self.held[key]
        return held.proxy if isinstance(held, ProxyState) else self.states.make(key, held)

    def begin(self, grantor: Grantor, key: str, site: Site | None, why: Because, now: float) -> Lease:
        """Grant a lease."""
        state = self.held[key]
        if type(state) is not ProxyState:
            state = self.states.open(key, aside=key in self._aside)
        lease = Lease(grantor, state, site, why)
        if self._unlimited and not state.failures:
            state.in_flight += 1
            if self._counting:
                self.views.moved(state)
        else:
            lease.trial = self.availability.begin(state, now)
        if site is not None:
            if site.rests:
                site.try_out(key, now)
            if site.arms:
                self.learning.used(state, site, now)
                lease.use = now
            if self._cooldown is not None:
                self._cool_down(state, site, now)
        return lease

    def _cool_down(self, state: ProxyState, site: Site, now: float) -> None:
        site.cooling.put(state.key, now + (self._cooldown or 0.0))

    def _cooling(self, site: Site, now: float) -> bool:
        for _ in range(_RETURNS_AT_ONCE):
            if site.cooling.pop_due(now) is None:
                break
        return bool(site.cooling.at)

    # What came of it.

    def _lapse(self, key: str, now: float) -> None:
        lease = self.holds.end(key)
        if lease is not None and not lease.ended:
            self.end(lease, None, now)
            lease.lapsed = True

    def end(self, lease: Lease, outcome: Outcome | None, now: float) -> OfHealth:  # noqa: C901  # one step after the other
        """Take back a lease, and learn from what became of it; one that lapsed was taken back then.

        Returns what that says of the health of proxies.
        """
        if lease.lapsed:
            return NOTHING
        state, site = lease.state, lease.site
        here = self.held.get(state.key) is state
        if site is not None:
            if site.closed:
                site = lease.site = self.learning.sites.get(site.name)
            if site.trying == state.key and not (here and outcome is not None and _tells_of_site(outcome)):
                site.untried(now)
        if not here:
            state.in_flight -= 1
            return NOTHING  # discarded while it was out
        if self._unlimited and lease.trial is None:
            state.in_flight -= 1
            if self._counting:
                self.views.moved(state)
        else:
            self.availability.end(state, lease.trial)
        if site is not None and self._cooldown is not None:
            self._cool_down(state, site, now)
        if outcome is not None:
            return self._learn(lease, outcome, now)
        if lease.use is not None and site is not None:
            self.learning.untold(state, site, lease.use)
        return NOTHING

    def _learn(self, lease: Lease, outcome: Outcome, now: float) -> OfHealth:
        state, site, told = lease.state, lease.site, NOTHING
        if now - self._tick > DECAY_STEP:
            self._tick = now  # one number for all who learn in this second: it is at hand already
        if outcome.ok:
            told = ITS_OWN
            state.served += 1
            state.learn(self._tick, outcome.latency, ok=True)
            if state.failures:
                self.availability.succeeded(state, lease.trial)
            if site is not None:
                self.learning.served(state, site, now, lease.use)
        elif outcome.rule == NO_CONNECT:
            self.learning.opens_no_tunnels(state, outcome, now)
        elif outcome.counts_against_proxy:
            told = self._learn_failure(lease, outcome, now)
        elif site is not None and outcome.blame is not Blame.US:
            self.learning.failed(state, site, outcome, now, proxies=len(self.held), use=lease.use, again=lease.again)
        if not outcome.ok and site is not None and site.arms:
            self.learning.unused(state, site, lease.use)
        if self._taught:
            self.views.learnt(state, outcome)
        return told

    def _learn_failure(self, lease: Lease, outcome: Outcome, now: float) -> OfHealth:
        """Set a proxy aside; where several that are known to work stay silent on a site, it is the site that hangs."""
        state, site, told = lease.state, lease.site, NOTHING
        silent = site is not None and outcome.rule == SILENT and state.good > _KNOWN_TO_WORK and not state.failures
        if not (silent and site is not None and site.at_fault == SILENT):
            state.failed += 1
            state.learn(self._tick, None, ok=False)
            if lease.incident == state.incident:
                told = ITS_OWN
                self.availability.set_aside(state, lease.trial, now)
        if silent and site is not None:
            run = self.learning.failed(state, site, outcome, now, proxies=len(self.held), use=lease.use)
            for failure in run:
                pardoned = self.states.slot(failure.key)
                if pardoned is not None:
                    self.availability.pardon(pardoned)
            if run:
                return False, [failure.key for failure in run if failure.key != state.key]
        return told


def _tells_of_site(outcome: Outcome) -> bool:
    return outcome.ok or (outcome.rule != NO_CONNECT and outcome.blame in (Blame.TARGET, Blame.TARGET_THROUGH_PROXY))
