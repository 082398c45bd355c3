"""What an outcome teaches about a proxy, a site, and one on the other. Pure.

=================================  ==============================================================================
what came                          what follows
=================================  ==============================================================================
the site served                    the ban ends and loses a strike; a site that was left alone is back
a refusal of this proxy            a ban (`bans`), from which is learnt how often a proxy may come (`rate_limit`)
several failures alike in a row    the site is at fault (`site`): the bans are taken back
the same of a site at fault        no ban of the proxy
a site out of order, at fault      it is left alone for a while, by all
a refusal to open tunnels          the proxy is barred from what needs one, everywhere
=================================  ==============================================================================

Where a site limits each proxy by itself (`site.limits_each`) the bans stand, whatever it does to the others. A proxy
that comes back from a ban, or too early, is refused for what it did itself (`_expected`): that tells nothing of the
site.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import FIRST_BAN, GROWTH, MOST_BANS, Ban, BanBook, Pair
from proxywhirl.rotation.sites.site import Arm, Failure, Site, alike, limits_each, out_of_order, weight_of

MOST_SITES = 4096
"""Sites that are known at once; the one asked for longest ago is forgotten first. Its bans stay in the book."""

CONNECT = "*:connect"
"""Stands for a site from which those are barred that open no tunnels."""

EVERYBODY = "*"
"""Stands for a proxy where it is the site that is left alone."""

_REST_REMEMBERED = 3600.0  # seconds

MOST_ARMS = 300_000
"""Records of one proxy on one site that are kept, at most some 190 MB. When there are more, the oldest go."""

_ARMS_AT_ONCE = 1024  # how many are dropped together

_LONGER, _SHORTER = 1.5, 0.97  # then one in 14 comes back from a ban too early
_LONGEST_FIRST = 3600.0  # seconds; the ban of one that came too early doubles beside it


class Learning:
    """The knowledge of a pool about sites. Called under the pool's lock."""

    def __init__(
        self,
        rng: random.Random,
        clock: Clock,
        *,
        arms: bool,
        most_bans: int = MOST_BANS,
        most_sites: int = MOST_SITES,
        most_arms: int = MOST_ARMS,
    ) -> None:
        self.sites: OrderedDict[str, Site] = OrderedDict()
        self.connect = Site(CONNECT)
        self.book = BanBook(rng, most=most_bans, dropped=self._let_in)
        self._rng = rng
        self._clock = clock
        self._with_arms = arms
        self._arms = 0
        self._most_arms = most_arms
        self._most_sites = most_sites
        self.half_of_sites = most_sites // 2  # so many may be known before the order of their uses matters

    def site(self, name: str) -> Site:
        """Return what is known of a site, from now on."""
        site = self.sites.get(name)
        if site is None:
            site = self.sites[name] = self.peek(name)
            if len(self.sites) > self._most_sites:
                _, oldest = self.sites.popitem(last=False)
                oldest.closed = True
                self._arms -= len(oldest.arms)
        elif len(self.sites) > self.half_of_sites:
            self.sites.move_to_end(name)
        return site

    def peek(self, name: str) -> Site:
        """Return what is known of a site, without remembering that somebody asked."""
        site = self.sites.get(name)
        if site is None:
            site = Site(name)
            for key, ban in self.book.of(name).items():
                self._apply(site, key, ban)
        return site

    def used(self, state: ProxyState, site: Site, now: float) -> None:
        """Take note that a proxy is used on a site that bans: elsewhere its record on all sites says it all."""
        arm = site.arms.get(state.key) or self._new_arm(state, site)
        arm.uses.open.append(now)

    def ended(self, state: ProxyState, site: Site, use: float | None, *, came: bool) -> None:
        """Take note of the end of a use; it counts for the site where the proxy may have come there."""
        arm = site.arms.get(state.key)
        if use is not None and arm is not None and arm.uses.end(use) and came:
            arm.uses.count(use)

    def served(self, state: ProxyState, site: Site, now: float, use: float | None = None) -> None:
        """Take note that a proxy has served a site."""
        rested = site.rests
        if site.run or site.at_fault or rested or site.rate > 0.001:  # noqa: PLR2004  # below, there is nothing to learn
            site.succeed()
        if rested:
            self._note_awake(site)
        pair = (state.key, site.name)
        if self.book and self.book.get(pair) is not None:
            self.book.forgive(pair, now=self._clock.now())
            site.first_ban = max(site.first_ban * _SHORTER, FIRST_BAN)
            site.barred.discard(state.key)
        if site.arms:
            arm = self._count(state, site, now, ok=True)
            if use is not None and arm.uses.end(use):
                before = arm.uses.count(use)
                if site.rate_limit.known:
                    site.rate_limit.served(before, use)

    def failed(
        self,
        state: ProxyState,
        site: Site,
        outcome: Outcome,
        now: float,
        *,
        proxies: int,
        use: float | None = None,
        again: bool = False,
    ) -> list[Failure]:
        """Take note that a proxy was refused by a site, or that the site itself failed.

        `use` is when the use began, where that counts; `again` says that the request was tried before. Returns the
        failures, this one among them, that turn out to be the site's; their bans are taken back already, but for those
        that the site asked each of them for.
        """
        sign = alike(outcome)
        tried = site.trying == state.key
        if tried and not out_of_order(outcome):
            site.recover()  # a site that refuses is up
            self._note_awake(site)
        if site.at_fault == sign or tried:
            if out_of_order(outcome):
                self._rest(site, sign, outcome, now)
            if site.at_fault == sign or site.rests:
                self._refused_alike(state, site, outcome, now, use, again=again)
                return []
        before = self.book.get((state.key, site.name))
        expected = self._expected(state, site, use, before)
        banned = outcome.blame is Blame.TARGET_THROUGH_PROXY
        if banned:
            self._ban(state, site, outcome, now, use, again=again)
            if expected:
                return []
        reversible = banned and not limits_each(outcome)
        failure = Failure(state.key, before, reversible, weight_of(outcome, proven=state.good > 0.5))  # noqa: PLR2004  # a success
        run = site.fail(failure, sign, now, proxies=proxies)
        if run:
            self._take_back(run, site)
            if out_of_order(outcome):
                self._rest(site, sign, outcome, now)
        return run

    def _refused_alike(
        self, state: ProxyState, site: Site, outcome: Outcome, now: float, use: float | None, *, again: bool
    ) -> None:
        """Take note that a site refused a proxy as it refuses all; the proxy may have been banned all the same."""
        if limits_each(outcome):
            self._ban(state, site, outcome, now, use, again=again)
        elif not out_of_order(outcome) and (arm := site.arms.get(state.key)) is not None:
            arm.uses.begin_anew()

    def _expected(self, state: ProxyState, site: Site, use: float | None, ban: Ban | None) -> bool:
        """Whether a proxy is refused for its own past, which says nothing of the others.

        It comes back from a ban, or too early for what is known of the site's limit.
        """
        arm = site.arms.get(state.key)
        if ban is not None and ban.strikes > 0 and not (arm is not None and arm.served):
            return True
        if use is None or arm is None or not site.rate_limit.known:
            return False
        return site.rate_limit.explains(arm.uses.before(use), use)

    def _ban(
        self, state: ProxyState, site: Site, outcome: Outcome, now: float, use: float | None, *, again: bool
    ) -> None:
        wall = self._clock.now()
        arm = site.arms.get(state.key)
        unwanted = self._with_arms and (arm is None or not arm.good)
        pair, asked = (state.key, site.name), outcome.retry_after
        known = self.book.get(pair)
        returned = known is not None and known.strikes > 0 and known.until <= wall and asked is None
        if known is not None and returned and arm is not None and arm.good and not arm.served:
            too_short = arm.banned_for / GROWTH ** (known.strikes - 1)  # the others of its wave tell the same
            site.first_ban = min(max(site.first_ban, too_short * _LONGER), _LONGEST_FIRST)
        first = site.first_ban
        ban = self.book.strike(pair, alike(outcome), now=wall, retry_after=asked, unwanted=unwanted, first=first)
        self._apply(site, state.key, ban)
        if self._with_arms:
            arm = self._count(state, site, now, ok=False)
            arm.banned_for = ban.until - wall
            self._learn_limit(arm, site, outcome, use, again=again)

    def opens_no_tunnels(self, state: ProxyState, outcome: Outcome) -> None:
        """Take note that a proxy refuses to open tunnels: however many do, that is no site's fault."""
        ban = self.book.strike((state.key, CONNECT), alike(outcome), now=self._clock.now(), retry_after=None)
        self._apply(self.connect, state.key, ban)

    def learn_bans(self, bans: Mapping[Pair, Ban]) -> None:
        """Take in bans that others found out."""
        for (key, name), ban in self.book.learn(bans, now=self._clock.now()).items():
            site = self._known(name)
            if site is not None:  # an unknown site gets it when it becomes known
                self._apply(site, key, ban)

    def _known(self, name: str) -> Site | None:
        return self.connect if name == CONNECT else self.sites.get(name)

    def _apply(self, site: Site, key: str, ban: Ban | None) -> None:
        """Bar a proxy from a site for as long as its ban holds, or let it in; a ban of the site rests the site."""
        now, wall = self._clock.monotonic(), self._clock.now()
        if key == EVERYBODY and ban is not None:
            self._learn_rest(site, ban, now, wall)
        elif ban is not None and ban.until > wall:
            site.barred.put(key, now + ban.until - wall)
        else:
            site.barred.discard(key)

    # That a site is left alone is written down as a ban of everybody, so that it outlives the process too.

    def _rest(self, site: Site, sign: str, outcome: Outcome, now: float) -> None:
        site.rest(now, self._rng, None if limits_each(outcome) else outcome.retry_after)
        wall = self._clock.now()
        until = wall + site.rest_until - now
        self.book.note((EVERYBODY, site.name), Ban(until, site.rests, sign, until + _REST_REMEMBERED), wall)

    def _note_awake(self, site: Site) -> None:
        pair, wall = (EVERYBODY, site.name), self._clock.now()
        known = self.book.get(pair)
        if known is not None and known.strikes:
            self.book.note(pair, Ban(min(known.until, wall), 0, known.rule, known.forget_at), wall)

    def _learn_rest(self, site: Site, ban: Ban, now: float, wall: float) -> None:
        if ban.strikes:
            site.at_fault, site.rests = ban.rule, max(site.rests, ban.strikes)
            site.rest_until = max(site.rest_until, now + ban.until - wall)
        elif site.rests:
            site.at_fault = ""
            site.recover()

    def _let_in(self, pair: Pair) -> None:
        site = self._known(pair[1])
        if site is not None:
            site.barred.discard(pair[0])

    def _take_back(self, run: list[Failure], site: Site) -> None:
        wall = self._clock.now()
        for failure in run:
            if failure.banned:
                pair = (failure.key, site.name)
                self.book.restore(pair, failure.before, now=wall)
                self._apply(site, failure.key, self.book.get(pair))

    def _count(self, state: ProxyState, site: Site, now: float, *, ok: bool) -> Arm:
        arm = site.arms.get(state.key) or self._new_arm(state, site)
        arm.age(now)
        arm.served = ok
        if ok:
            arm.good += 1.0
        else:
            arm.bad += 1.0
        arm.update_estimate(state.good, state.bad)
        return arm

    def _learn_limit(self, arm: Arm, site: Site, outcome: Outcome, use: float | None, *, again: bool) -> None:
        """Learn from a ban how often a proxy may come; what it was used for before counts no more."""
        if use is None or use not in arm.uses.open:
            return  # it was under way when another one was refused
        whole, before = arm.uses.whole, arm.uses.before(use)
        arm.uses.begin_anew()
        if outcome.status == HTTPStatus.TOO_MANY_REQUESTS or not out_of_order(outcome):
            site.rate_limit.refused(before, use, whole=whole, again=again)

    def _new_arm(self, state: ProxyState, site: Site) -> Arm:
        arm = site.arms[state.key] = Arm(stamp=self._clock.monotonic())
        arm.update_estimate(state.good, state.bad)
        self._arms += 1
        if self._arms > self._most_arms:
            self._drop_arms(site)
        return arm

    def _drop_arms(self, kept: Site) -> None:
        """Forget what was learnt of the oldest site, or where there is no other, the oldest of this one."""
        self._arms = sum(len(site.arms) for site in self.sites.values())  # some have gone with their sites
        if self._arms <= self._most_arms:
            return
        for site in self.sites.values():
            if site.arms and site is not kept:
                self._arms -= len(site.arms)
                site.arms.clear()
                return
        dropped = list(islice(kept.arms, min(_ARMS_AT_ONCE, len(kept.arms) // 2)))
        for key in dropped:
            del kept.arms[key]
        self._arms -= len(dropped)
