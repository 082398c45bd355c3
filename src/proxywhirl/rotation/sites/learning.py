"""What an outcome teaches about a proxy, a site, and one on the other. Pure.

=================================  ==============================================================================
what came                          what follows
=================================  ==============================================================================
the site served                    the ban ends and loses a strike; who failed at this page is convicted; a site that
                                   rested is back
a refusal, the proxy's own         a ban (`bans`), from which is learnt how often a proxy may come (`rate_limit`), and
                                   how long bans last
a refusal, the page's own          nobody is banned; the answer is the target's own, and is passed on
a refusal, not known whose         others are chosen before this proxy until that is known (`pages`)
a site out of order                it rests: one request at a time tries it
a refusal to open tunnels          the proxy is barred from what needs one, everywhere
=================================  ==============================================================================

Where a site limits each proxy by itself (`site.limits_each`) the bans stand, whatever it does to the others. A proxy
that comes back from a ban, or too early, is refused for what it did itself (`_weight`): that tells nothing of the
site.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from itertools import islice

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import MOST_BANS, Ban, BanBook, Pair
from proxywhirl.rotation.sites.exchange import SiteExchange
from proxywhirl.rotation.sites.group_learning import GroupLearning
from proxywhirl.rotation.sites.groups import EVERYWHERE, NOBODY, Groups, Members, is_group
from proxywhirl.rotation.sites.pages import Failure, Place
from proxywhirl.rotation.sites.site import TRIAL_SECONDS, Arm, Site, alike, limits_each, out_of_order, weight_of

MOST_SITES = 4096
"""Sites that are known at once; the one asked for longest ago is forgotten first. Its bans stay in the book."""

CONNECT = "*:connect"
"""Stands for a site from which those are barred that open no tunnels."""

EVERYBODY = "*"
"""Stands for a proxy where it is the site that is left alone."""

_REST_REMEMBERED = 3600.0  # seconds

MOST_ARMS = 300_000
"""Records of one proxy on one site that are kept, at most some 190 MB. When there are more, the oldest go."""

_FIRST_USE_WEIGHT = 0.05  # of the newest first use of a site, in the share of those that it served

_ARMS_AT_ONCE = 1024  # how many are dropped together

_MOST_RECENT = 16_384
"""Uses that were served by sites which refused nobody yet, for when they do: some 8 MB."""

_MOST_REPLAYED = 4096
_LONG_IDLE = 600.0  # seconds since its last use there, after which a limit by rate explains no refusal
_EXPLAINED = 0.5  # weight of a failure at a page that nobody was served, if the proxy's own past explains it
_WORKS = 0.5  # successes, decayed: it is known to work


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
        members: Members = NOBODY,
    ) -> None:
        self.sites: OrderedDict[str, Site] = OrderedDict()
        self.connect = Site(CONNECT)
        self.everywhere = Site(EVERYWHERE)
        self.book = BanBook(rng, most=most_bans, dropped=self._let_in)
        self.groups = Groups(self.book, members, rng, clock, self.everywhere.groups)
        self.of_groups = GroupLearning(self.groups, self.book, clock, self._apply)
        self.exchange = SiteExchange(self.sites, clock, self.of_groups, self._open_arms, most_sites if arms else 0)
        self._rng = rng
        self._clock = clock
        self._with_arms = arms
        self._first_uses = 1.0
        self._recent: deque[tuple[ProxyState, Site, float]] = deque(maxlen=_MOST_RECENT)
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
            site = Site(name, members=self.groups.members)
            for key, ban in self.book.of(name).items():
                self._apply(site, key, ban)
            self.exchange.adopt(site)
        return site

    def used(self, state: ProxyState, site: Site, now: float) -> None:
        """Take note that a proxy is used on a site that bans: elsewhere its record on all sites says it all."""
        arm = site.arms.get(state.key) or self._new_arm(state, site)
        arm.uses.open.append(now)
        self.exchange.used(site, state.key)

    def ended(self, state: ProxyState, site: Site, use: float, *, came: bool) -> None:
        """Take note of the end of a use; it counts for the site where the proxy may have come there."""
        arm = site.arms.get(state.key)
        if arm is not None and arm.uses.end(use) and came:
            arm.uses.count(use)

    def served(
        self,
        state: ProxyState,
        site: Site,
        now: float,
        page: Place = None,
        use: float | None = None,
    ) -> Sequence[Failure]:
        """Take note that a proxy has served a page of a site; `use` is when the use began, None if that does not count.

        Returns the failures of others at this page that turn out to be their own, and count against them everywhere.
        """
        began = now if use is None else use
        site.evidence.count(page)
        found: Sequence[Failure] = () if site.all_well else self._resolve(state, site, now, page, began)
        if site.tells_apart:
            self._count_use(state, site, now, use)
        elif self._with_arms:
            self._recent.append((state, site, began))
        return found

    def _resolve(self, state: ProxyState, site: Site, now: float, page: Place, began: float) -> Sequence[Failure]:
        """Draw what follows from a success about those who failed."""
        found, cleared = site.evidence.serve(page, state.key)
        if site.at_fault:
            site.at_fault = ""
        if site.rests:
            site.recover()
            self._note_awake(site)
        for failure in cleared:
            self._take_back(failure, site)
        for failure in found:
            self._convict(failure, site, now)
        if self.book:
            self._end_ban(state, site, now - began)
        if not site.groups.idle or site.networks.refusing:
            elapsed = self.of_groups.returned(site, state.key, began) if site.groups.bars else None
            if elapsed is not None:
                self._returned(state, site, elapsed, served=True)
                self.of_groups.shorten(site)
            self.of_groups.served(state, site, now, page, began)
        return [failure for failure in found if failure.outcome.counts_against_proxy] if found else found

    def _end_ban(self, state: ProxyState, site: Site, took: float) -> None:
        pair = (state.key, site.name)
        ban, wall = self.book.get(pair), self._clock.now()
        if ban is not None and wall - took >= ban.since:  # else it was under way when the ban began
            if ban.since and ban.until <= wall:
                self._returned(state, site, wall - ban.since, served=True)
            self.book.forgive(pair, now=wall)
            site.let_in(state.key)

    def _count_use(self, state: ProxyState, site: Site, now: float, use: float | None) -> None:
        arm = self._count(state, site, now, ok=True)
        if use is not None and arm.uses.end(use):
            if arm.uses.refused and use > max(arm.uses.refused.values()):
                arm.uses.refused.clear()
            before = arm.uses.count(use)
            if site.rate_limit.known:
                site.rate_limit.served(before, use)
            else:
                site.rate_limit.welcomed(before, use)

    def failed(  # noqa: C901  # one step after the other
        self,
        state: ProxyState,
        site: Site,
        outcome: Outcome,
        now: float,
        *,
        proxies: int,
        page: Place = None,
        use: float | None = None,
        again: bool = False,
    ) -> tuple[bool, list[Failure]]:
        """Take note that a proxy was refused by a site, or that the site or a page of it failed.

        `page` is what was asked for, None where that is not known; `use` is when the use began, where that counts;
        `again` says that the request was tried before. Returns whether that is the page's or the site's own answer, and
        the failures that are resolved by it. The bans for them are given, or taken back, but for those that the site
        asked each of them for.
        """
        site.all_well = False
        sign = alike(outcome)
        tried = site.trying == state.key
        if tried and not out_of_order(outcome):
            site.recover()  # a site that refuses is up
            self._note_awake(site)
        if site.rests and out_of_order(outcome):
            self._rest(site, state.key, outcome, now)
            return True, []
        if self._with_arms and not site.tells_apart:
            self._open_arms(site)
            if use is not None:
                self.used(state, site, use)
        failure = self._failure(state, site, outcome, now, page=page, use=use, again=again)
        own, found = site.evidence.fail(failure, proxies=proxies)
        all_alike = site.evidence.note_run(failure, proxies=proxies) or (own and page is None)
        limited = bool(failure.uses_before) and site.rate_limit.kept
        if all_alike and not limits_each(outcome) and (out_of_order(outcome) or not limited):
            site.at_fault = sign
            if out_of_order(outcome):
                self._rest(site, state.key, outcome, now)
                return True, self._acquit_run(site, sign, just_convicted=found if failure in found else ())
        elif (site.evidence.runs_beyond_doubt or (all_alike and limited)) and not out_of_order(outcome):
            found = [*found, *site.evidence.convict_run(sign)]
        for one in found:
            if own and one.convicted and one is not failure and one.page == page and not limits_each(one.outcome):
                self._take_back(one, site)
            else:
                self._convict(one, site, now)
        self._suspect(failure, site, now)
        if not own:
            self.of_groups.failed(failure, site, now, now if use is None else use)
        return own or site.at_fault == sign, found

    def _acquit_run(self, site: Site, sign: str, *, just_convicted: Collection[Failure]) -> list[Failure]:
        """Take back what failures cost that are the site's; return them, but for those that nothing came of yet."""
        found = [one for one in site.evidence.acquit_run(sign) if one not in just_convicted]
        for one in found:
            self._take_back(one, site)
        return found

    def _suspect(self, failure: Failure, site: Site, now: float) -> None:
        """Note what follows from a failure for the time until it is known whose it is."""
        key, outcome = failure.state.key, failure.outcome
        if outcome.blame is Blame.TARGET_THROUGH_PROXY:
            self.exchange.used(site, key, refused=True)
        if key in site.evidence.suspects:
            if outcome.blame is Blame.TARGET_THROUGH_PROXY:
                self._strike(failure, site, now)
            else:
                site.evidence.avoided.put(key, now + TRIAL_SECONDS)
        if not failure.convicted and self._with_arms and not out_of_order(outcome) and site.at_fault == failure.sign:
            self._count(failure.state, site, now, ok=False)

    def _failure(
        self,
        state: ProxyState,
        site: Site,
        outcome: Outcome,
        now: float,
        *,
        page: Place,
        use: float | None,
        again: bool,
    ) -> Failure:
        arm, whom = site.arms.get(state.key), self.of_groups.whom(state.key, site, outcome)
        before = self.book.get((whom, site.name))
        failure = Failure(
            state, page, alike(outcome), outcome, now, whom=whom, before=before, use=use, incident=state.incident
        )
        if arm is not None and use is not None and use >= arm.uses.began and failure.sign not in arm.uses.refused:
            failure.whole, failure.uses_before = arm.uses.whole, arm.uses.before(use)
        else:
            failure.use = None  # it was under way when another one was refused, or an earlier one may have banned it
        if whom in site.groups.bars:
            failure.use = None
        if arm is not None and use is not None and not out_of_order(outcome):
            arm.uses.refused[failure.sign] = use
            refused = outcome.blame is Blame.TARGET_THROUGH_PROXY
            if refused and failure.use is not None and site.evidence.may_be_ban(failure.sign):
                site.rate_limit.suspect(failure.uses_before, use, now, failing=site.evidence.failing, again=again)
        failure.of_site = self._weight(failure, site)
        if out_of_order(outcome):
            failure.weight = failure.of_site
        elif site.evidence.was_served(page):
            failure.weight = failure.of_site if again else 0.0
        else:
            failure.weight = 1.0 if failure.of_site else _EXPLAINED
        failure.suspicious = site.at_fault != failure.sign
        return failure

    def _weight(self, failure: Failure, site: Site) -> float:
        """Return how much a failure says of the site; little where the proxy's own past may explain it.

        It comes back from a ban, or it came too early for what is known of the site's limit, or it was used there a
        while ago, and nobody knows yet how often it may come.
        """
        outcome, use = failure.outcome, failure.use
        if failure.whom in site.refused_at or failure.whom in site.groups.bars:
            return 0.0
        weight = weight_of(outcome, proven=failure.state.good > _WORKS)
        if out_of_order(outcome):
            return weight
        if use is not None and site.rate_limit.known and site.rate_limit.explains(failure.uses_before, use):
            return 0.0
        idle = failure.at - failure.uses_before[-1] if failure.uses_before else math.inf
        return weight * min(idle / _LONG_IDLE, 1.0)

    def _convict(self, failure: Failure, site: Site, now: float) -> None:
        """Ban a proxy for a refusal of its own, and learn from that how often it may come and how long bans last."""
        if failure.outcome.blame is not Blame.TARGET_THROUGH_PROXY:
            return
        if not failure.banned:
            self._strike(failure, site, now)
        pair = (failure.whom, site.name)
        self.book.tell(pair)
        site.evidence.avoided.discard(failure.state.key)
        self._apply(site, failure.whom, self.book.get(pair))
        if self._with_arms:
            arm = self._count(failure.state, site, now, ok=False)
            self._learn_limit(failure, arm, site)

    def _strike(self, failure: Failure, site: Site, now: float) -> None:
        """Note a ban of a proxy, which others are told of once it is known to be deserved."""
        outcome, wall = failure.outcome, self._clock.now()
        key, failure.banned = failure.whom, True
        before, at = failure.before, wall - (now - failure.at)
        over = before is not None and (before.until <= at or key != failure.state.key)
        if before is not None and before.since and over and outcome.retry_after is None:
            self._returned(failure.state, site, at - before.since, served=False)
        arm = site.arms.get(failure.state.key)
        unwanted = self._with_arms and (arm is None or not arm.good)
        if outcome.retry_after is not None:
            site.lengths.was_asked(outcome.retry_after)
        prober, until = site.prober
        tests = not unwanted and (not prober or prober == key or now >= until)
        ban = self.book.strike(
            (key, site.name),
            alike(outcome),
            now=wall,
            retry_after=outcome.retry_after,
            refused_at=wall - (now - failure.at),
            unwanted=unwanted,
            lengths=site.lengths if self._with_arms else None,
            tests=tests,
            quiet=True,
        )
        if tests:
            site.prober = key, now + ban.until - wall + TRIAL_SECONDS
        if key == failure.state.key:
            site.evidence.avoided.put(key, now + ban.until - wall)
        else:
            self._apply(site, key, ban)

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
                if ban.until <= self._clock.now():
                    site.sharing.refused.discard(key)
                elif (uses := site.uses_of(key)) is not None and uses is not site.sharing.before:
                    uses.begin_anew(self._clock.monotonic())

    def _known(self, name: str) -> Site | None:
        return self.connect if name == CONNECT else self.everywhere if name == EVERYWHERE else self.sites.get(name)

    def _apply(self, site: Site, key: str, ban: Ban | None) -> None:
        """Bar a proxy from a site for as long as its ban holds, or let it in; a ban of the site rests the site."""
        now, wall = self._clock.monotonic(), self._clock.now()
        site.all_well = False
        if key == EVERYBODY and ban is not None:
            self._learn_rest(site, ban, now, wall)
        elif is_group(key):
            self.groups.apply(site.groups, key, ban, now)
        elif ban is not None and ban.until > wall:
            site.bar(key, now + ban.until - wall, now + (ban.since or wall) - wall)
        else:
            site.let_in(key)

    # That a site is left alone is written down as a ban of everybody, so that it outlives the process too.

    def _rest(self, site: Site, key: str, outcome: Outcome, now: float) -> None:
        sign = alike(outcome)
        site.rest(key, now, self._rng, None if limits_each(outcome) else outcome.retry_after)
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
            site.let_in(pair[0])
            site.groups.lift(pair[0])

    def _returned(self, state: ProxyState, site: Site, elapsed: float, *, served: bool) -> None:
        """Learn from a proxy that came back how long bans last; one that never served there tells nothing of that."""
        arm = site.arms.get(state.key)
        if arm is not None and arm.good:
            self.exchange.note(site)
            refused = (arm.bad + 1.0) / (arm.good + arm.bad + 10.0)
            site.lengths.returned(elapsed, served=served, refused=refused)

    def _take_back(self, failure: Failure, site: Site) -> None:
        """Take back the ban for a failure that is the page's own."""
        if not failure.banned:
            return
        pair, wall = (failure.whom, site.name), self._clock.now()
        self.book.restore(pair, failure.undo, now=wall, quiet=not failure.convicted)
        self._apply(site, failure.whom, self.book.get(pair))

    def _open_arms(self, site: Site) -> None:
        """Begin to tell the proxies of a site apart, with what it served of late."""
        site.tells_apart, site.first_uses = True, self._first_uses
        whole = len(self._recent) < _MOST_RECENT
        uses = [(state, use) for state, where, use in self._recent if where is site]
        for state, use in uses[-_MOST_REPLAYED:]:
            arm = site.arms.get(state.key) or self._new_arm(state, site)
            arm.good, arm.served, arm.uses.whole = arm.good + 1.0, True, whole
            site.rate_limit.welcomed(arm.uses.count(use), use)
        site.welcome = len(site.arms)
        self.exchange.began(site, ((state.key, use) for state, use in uses[-_MOST_REPLAYED:]))

    def _count(self, state: ProxyState, site: Site, now: float, *, ok: bool) -> Arm:
        arm = site.arms.get(state.key) or self._new_arm(state, site)
        arm.age(now)
        arm.served = ok
        if not arm.good and not arm.bad:
            site.welcome += ok
            site.first_uses += _FIRST_USE_WEIGHT * (ok - site.first_uses)
            self._first_uses += _FIRST_USE_WEIGHT * (ok - self._first_uses)
        if ok:
            arm.good += 1.0
        else:
            arm.bad += 1.0
        arm.update_estimate(state.good, state.bad)
        return arm

    def _learn_limit(self, failure: Failure, arm: Arm, site: Site) -> None:
        """Learn from a ban how often a proxy may come; what it was used for before counts no more."""
        if failure.use is None:
            if failure.whom != failure.state.key:
                arm.uses.begin_anew(self._clock.monotonic())
            return
        arm.uses.begin_anew(self._clock.monotonic())
        outcome = failure.outcome
        if outcome.status == HTTPStatus.TOO_MANY_REQUESTS or not out_of_order(outcome):
            failing = 0.0 if site.evidence.was_served(failure.page) else site.evidence.failing
            site.rate_limit.refused(failure.uses_before, failure.use, whole=failure.whole, failing=failing)
            self.exchange.note(site)

    def _new_arm(self, state: ProxyState, site: Site) -> Arm:
        arm = site.arms[state.key] = Arm(stamp=self._clock.monotonic(), uses=self.of_groups.uses(site, state.key))
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
                site.tells_apart = False
                return
        dropped = list(islice(kept.arms, min(_ARMS_AT_ONCE, len(kept.arms) // 2)))
        for key in dropped:
            del kept.arms[key]
        self._arms -= len(dropped)
