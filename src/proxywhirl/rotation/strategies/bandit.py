"""Learns which proxies work for which site, and how often each may be used there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

from proxywhirl.models import Outcome
from proxywhirl.rotation.answer_times import believed, in_time, log_deadline
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.rate_limit import TOO_EARLY, tests_every
from proxywhirl.rotation.sites.sharing import TELLING_SECONDS
from proxywhirl.rotation.sites.site import Arm, Site, estimate
from proxywhirl.rotation.strategies.base import Barred, Roster, admitted
from proxywhirl.rotation.strategies.sampling import ScoredSampler

_LOOKED_AT = 16
"""The most candidates for one request; mostly the first is taken, but all are looked at if most of a pool is unfit."""

_LOOKED_AT_RARE = 64
"""The same where few may fit: of 20 good ones 19 may have to rest between two uses of a site, or be too slow."""

_OF_OTHERS = -2.0

_IN_TURN = 8  # of these; the rest are drawn, since those that came into the pool together are often unfit together

_SERVED_LAST = 64
"""If none of these comes up to what is usual, so many are looked at again that have served last: most may be unfit."""

_MARGIN = 0.05  # below what is usually chosen: one that comes up to that is taken, others are spared for their turn
_NARROW = 0.015  # the same where the load need not be spread, but for those that are looked at again
_PAR_WEIGHT = 0.05  # weight of the newest choice in the usual chance

_NEW = (-1.0, 0.0)
_UNTIMED = (0.0, 0.0)
_WIDTH = 4
"""Numbers of a proxy: mean and spread of its chance; mean and deviation of its answer time (see `believed`)."""

_ON_TRIAL = (2.0, 0.0)
_ELSEWHERE = (1.2, 0.0)
"""A proxy that a site refused shows next on another one whether it was the site."""

_NEWEST = 0.02  # weight of the newest first use in what is expected of one
_FIRST_GUESS = 0.95
_NOTABLE = 0.002  # a change of what is expected

_QUICK_SHARE = 0.125
"""Part of those that are as good that serves, since it is the quickest: nobody gets more than eight times its turn."""

_QUICK_STEP = 0.05  # by which the bound of the quickest moves, in logarithms of seconds, as are those below
_AS_QUICK = 0.05  # above the bound
_WHOEVER = 0.05  # share of requests for which time does not count: else none would show that it became quicker
_GB = 1e9
_FIRST_BYTES = 50_000.0  # of a use, until any was measured

_RENEWED_EVERY = 8  # requests: one in so many makes a proxy's estimate anew
_DEVIATIONS = 4096


class Bandit:
    """Thompson sampling in turn: for each proxy whose turn it is, a chance of success is drawn from its record.

    The first one with a chance as good as usual in this pool serves; if none of a few has, the best of these. So the
    load goes round among all good proxies, bad ones are passed over, and the cost does not depend on the size of the
    pool. The record of a proxy on a site adds to its record on all sites; a new one has the mean record of first uses.
    Little knowledge means a wide spread, so that an unknown proxy is tried.

    If bans taught how often a proxy may come to a site (`Site.rate_limit`), only rested proxies serve. If all have to
    rest none serves, except for a few that test whether the rest is too long.

    Of those that are as good as usual one of the quickest serves. The bound of these follows the quantile of their
    times (H. Robbins, S. Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics 22, 1951). The
    chance is that of an answer in time, where a request has a deadline, less what the use costs, where it is known what
    a success is worth.

    The distribution of a chance is taken for normal with the mean and the variance of the beta distribution that it
    is, and narrowed (see `estimate`); a chance that is drawn below the mean counts as the mean, so that a good proxy is
    not passed over by mere chance. Source: W. R. Thompson, Biometrika 25, 1933; B. C. May, N. Korda, A. Lee,
    D. S. Leslie, "Optimistic Bayesian Sampling in Contextual-Bandit Problems", JMLR 13, 2012.
    """

    uses_arms = True

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._sampler = ScoredSampler(roster.rng, _NEW + _UNTIMED)
        self._random = roster.rng.random
        self._deviations = [max(roster.rng.gauss(0.0, 1.0), 0.0) for _ in range(_DEVIATIONS)]
        self._turn = -1
        self._renewed = -1
        self._drawn = 0
        self._par = _FIRST_GUESS
        self._guess = _FIRST_GUESS
        self._guessed = _FIRST_GUESS
        self._newcomer = estimate(0.0, 0.0, guess=_FIRST_GUESS)
        self._served_once = estimate(1.0, 0.0, guess=_FIRST_GUESS)
        self._times = roster.times
        self._quick = self._times.usual[0]
        self._served_last: deque[str] = deque(maxlen=_SERVED_LAST)
        self._worth = roster.success_worth
        self._bytes = _FIRST_BYTES

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, with what is known of them."""
        self._sampler.add(keys)
        for key in keys:
            state = self._roster.slot(key)
            if state is not None:
                self._update_estimate(state, self._sampler.places[key])

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._sampler.remove(key)

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """See `Learns`; the state has learnt from it already."""
        ok, place = outcome.ok, self._sampler.places.get(state.key)
        if ok and place is None:
            return  # it is none of these proxies
        if state.served + state.failed == 1:
            self._guess = guess = self._guess + _NEWEST * (ok - self._guess)
            if abs(guess - self._guessed) > _NOTABLE:
                self._guessed = guess
                self._newcomer, self._served_once = estimate(0.0, 0.0, guess=guess), estimate(1.0, 0.0, guess=guess)
        if self._worth is not None:
            self._bytes += _NEWEST * (outcome.bytes_up + outcome.bytes_down - self._bytes)
        if place is None:
            return
        if ok:
            self._served_last.append(state.key)
        if ok or outcome.counts_against_proxy:
            self._update_estimate(state, place)
        else:
            self._sampler.score(state.key, *_ELSEWHERE)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:
        """Take the first in turn that comes up to what is usual, and is quick; else the best of a few."""
        return self.choose_within(exclude, barred, site, None)

    def choose_within(
        self, exclude: Collection[str], barred: Barred, site: Site | None, within: float | None
    ) -> str | None:
        """See `MeetsDeadlines`: the chance of success is that of one in time."""
        best, base = self._best(exclude, barred, site, within)
        if best is None:
            best, base = self._sampler.draw(exclude, barred), self._par
            if best is None:
                return None
        if site is not None and site.tells_apart:
            allowed = self._allowed(best, exclude, barred, site)
            if allowed is None:
                return None
            best = allowed
        self._par += _PAR_WEIGHT * ((base if base < 1.0 else 1.0) - self._par)  # noqa: FURB136  # a call costs more
        if not self._drawn % _RENEWED_EVERY:
            keys = self._sampler.keys
            self._renewed = self._renewed + 1 if self._renewed + 1 < len(keys) else 0
            self._renew(keys[self._renewed], site.arms if site is not None else None)
        return best

    def _allowed(self, best: str, exclude: Collection[str], barred: Barred, site: Site) -> str | None:
        """Return who may come by the limit of a site: the best, or one that tests it; None where all have to rest."""
        limit, now = site.rate_limit, self._now(best)
        early = limit.concerns(now) and site.early(best, now)
        if limit.kept:
            limit.note_held(held=early)
            if not early:
                return best
            return (self._tester(exclude, barred, site) or best) if self._tests_limit(site) else None
        if early and limit.holds(now) and not (exclude and limit.lets_retry(now)):
            return None
        if early and limit.unsure:
            limit.pause(now)
        return best

    def _tests_limit(self, site: Site) -> bool:
        """Whether to let a proxy come too early to a site that refuses such ones."""
        proxies = len(self._sampler) - len(site.barred) - len(self._others(site))
        every = tests_every(site.lengths.expected, proxies, site.rate_limit.held)
        return site.rate_limit.may_test(self._roster.monotonic(), every)

    def _tester(self, exclude: Collection[str], barred: Barred, site: Site) -> str | None:
        """Return one that has had so little of its rest that its use tells something; None where none is found."""
        limit, now, best, least = site.rate_limit, self._roster.monotonic(), None, TOO_EARLY
        halfway = 0.0 if limit.tests_all else limit.halfway
        for _ in range(_LOOKED_AT):
            key = self._sampler.draw(exclude, barred)
            uses = site.uses_of(key) if key is not None and key not in self._others(site) else None
            if key is not None and uses is not None and halfway <= (rested := limit.rested(uses.all(), now)) < least:
                best, least = key, rested
        return best

    def _best(  # noqa: C901, PLR0912, PLR0915  # one look after the other: a call for each would cost more than the look
        self, exclude: Collection[str], barred: Barred, site: Site | None, within: float | None
    ) -> tuple[str | None, float]:
        """Return who it is, and what the chance is for one that has rested."""
        keys, numbers, deviations = self._sampler.keys, self._sampler.numbers, self._deviations
        count = len(keys)
        turn = place = self._turn if site is None or site.turn < 0 else site.turn
        apart, limit, spread_out = site is not None and site.tells_apart, None, False
        others: Collection[str] = ()
        if site is not None and apart:
            limit = site.rate_limit if site.rate_limit.concerns(self._roster.monotonic()) else None
            others, spread_out = self._others(site), site.limits
        looks = _LOOKED_AT if limit is None and within is None else _LOOKED_AT_RARE
        in_turn, again = (_IN_TURN, _LOOKED_AT) if count > looks else (count, 0)
        enough = self._par - (_MARGIN if spread_out else _NARROW)
        refusing, weighed, deadline = bool(exclude or barred), self._worth is not None, None
        if within is not None:
            deadline, weighed = log_deadline(within, site), True
            enough *= in_time(deadline, self._quick, self._times.usual[1])
        lenient = enough if spread_out else enough - (_MARGIN - _NARROW)
        any_will_do = spread_out or self._random() < _WHOEVER
        untold = site is None  # of some that nobody knows none is better, if nobody knows where they go
        best, best_chance, best_base, shortest = None, -math.inf, 0.0, math.inf
        newcomer, spread = self._newcomer
        served_last, drawn, quick = self._served_last, self._drawn, self._quick
        for step in range(looks + again if again else count):
            if step < in_turn:
                place = turn = place + 1 if place + 1 < count else 0
            elif step < looks:
                place = math.floor(self._random() * count)
            elif served_last and shortest == math.inf:
                enough = lenient
                place = self._sampler.places.get(served_last[math.floor(self._random() * len(served_last))], place)
            else:
                break
            key = keys[place]
            if refusing and not admitted(key, exclude, barred):
                continue
            drawn = (drawn + 1) % _DEVIATIONS
            at = _WIDTH * place
            base = numbers[at]
            if base < 0.0:  # nothing is known of it
                base = newcomer + spread * deviations[drawn]
            else:
                base += numbers[at + 1] * deviations[drawn]
            chance = base
            if apart and site is not None:
                base, chance = self._on_site(key, base, deviations[drawn], site)
            if weighed:
                base, chance = self._weighed(at, base, chance, site, deadline)
            if chance >= (lenient if untold and not numbers[at + 3] else enough) and not (others and key in others):
                seconds = numbers[at + 2] if numbers[at + 3] else self._times.usual[0]
                state = self._roster.slot(key)
                if state is not None and state.in_flight:
                    seconds += math.log1p(state.in_flight)
                if seconds < shortest:
                    best, best_chance, best_base, shortest = key, chance, base, seconds
                if any_will_do or (untold and not numbers[at + 3]):
                    break
                if seconds < quick:
                    quick -= _QUICK_STEP * (1.0 - _QUICK_SHARE)
                    break
                if seconds <= quick + _AS_QUICK:
                    break
                quick += _QUICK_STEP * _QUICK_SHARE
            elif chance > best_chance and shortest == math.inf:
                best, best_chance, best_base = key, chance, base
        self._drawn, self._quick = drawn, quick
        if site is None or site.turn < 0:  # sites that are new begin with different proxies
            self._turn = turn
        if site is not None:
            site.turn = turn
        return best, best_base

    def _now(self, key: str) -> float:
        """Return up to when the uses of a proxy are known."""
        now = self._roster.monotonic()
        return now - TELLING_SECONDS if key in self._roster.others else now

    def _others(self, site: Site) -> Collection[str]:
        """Return the keys of the proxies that other processes take first at a site that refuses."""
        return site.sharing.others or self._roster.others

    def _weighed(
        self, at: int, base: float, chance: float, site: Site | None, deadline: float | None
    ) -> tuple[float, float]:
        """Return both, less what a use costs; the chance is that of an answer in time."""
        cost = 0.0
        if self._worth is not None and (
            price := self._roster.attributes(self._sampler.keys[at // _WIDTH]).price_per_gb
        ):
            here = site.bytes_of_use if site is not None else None
            cost = price * (self._bytes if here is None else here) / (_GB * self._worth)
        if deadline is not None and chance > 0.0:
            numbers = self._sampler.numbers
            mean, deviation = (numbers[at + 2], numbers[at + 3]) if numbers[at + 3] else self._times.usual
            chance *= in_time(deadline, mean, deviation)
        return base - cost, chance - cost

    def _renew(self, key: str, arms: dict[str, Arm] | None) -> None:
        """Let old outcomes weigh less, so that a proxy that became better is not given up for ever."""
        state = self._roster.slot(key)
        if state is not None and not state.failures:
            now = self._roster.monotonic()
            state.age(now)
            self._update_estimate(state, self._sampler.places[key])
            arm = arms.get(key) if arms else None
            if arm is not None:
                arm.age(now)
                arm.update_estimate(state.good, state.bad)

    def _update_estimate(self, state: ProxyState, place: int) -> None:
        """Note what to believe of a proxy; one on trial is taken as soon as it is drawn, or it would stay given up."""
        if state.failures:
            numbers = _ON_TRIAL
        elif state.good == 1.0 and not state.bad:
            numbers = self._served_once
        elif state.served or state.failed:
            numbers = estimate(state.good, state.bad, guess=self._guess)
        else:
            return  # it is new, or all that is known of it is that some sites refused it
        at, held = _WIDTH * place, self._sampler.numbers
        held[at], held[at + 1] = numbers
        if state.timed:
            held[at + 2], held[at + 3] = believed(state)

    def _on_site(self, key: str, base: float, deviation: float, site: Site) -> tuple[float, float]:
        """Return a drawn chance on a site for one that has rested, and the chance now: below 0 for one that has not."""
        arm = site.arms.get(key)
        if arm is None:
            if site.welcome >= _QUICK_SHARE * len(self._sampler.keys):  # enough to carry the load without new ones
                base *= site.first_uses
        elif base <= 1.5:  # noqa: PLR2004  # one on trial stays what it is
            base = arm.mean + arm.spread * deviation
        limit, now = site.rate_limit, self._now(key)
        if limit.kept and key in site.sharing.others:
            return base, _OF_OTHERS
        uses = site.uses_of(key) if limit.concerns(now) else None
        if uses is not None:
            rested = limit.rested(uses.all(), now)
            if rested < 1.0:
                return base, rested - 1.0 if limit.holds(now) else base * (1.0 - limit.refuses_early)
        return base, base
