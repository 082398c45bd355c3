"""Learns which proxies work for which site, and how often each may be used there."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Arm, Site, estimate
from proxywhirl.rotation.strategies.base import Barred, Roster, admitted
from proxywhirl.rotation.strategies.sampling import ScoredSampler

_LOOKED_AT = 16
"""The most candidates for one request; mostly the first is taken, but all are looked at if most of a pool is unfit."""

_LOOKED_AT_RESTING = 64
"""The same at a site where a proxy has to rest between two uses: of 20 good ones 19 may be resting."""

_TIRED = -1.0

_IN_TURN = 8  # of these; the rest are drawn, since those that came into the pool together are often unfit together

_MARGIN = 0.05  # below what is usually chosen: one that comes up to that is taken, others are spared for their turn
_PAR_WEIGHT = 0.05  # weight of the newest choice in the usual chance

_NEW = (-1.0, 0.0)
_ON_TRIAL = (2.0, 0.0)
_ELSEWHERE = (1.2, 0.0)
"""A proxy that a site refused shows next on another one whether it was the site."""

_NEWEST = 0.02  # weight of the newest first use in what is expected of one
_FIRST_GUESS = 0.95

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

    The distribution of a chance is taken for normal with the mean and the variance of the beta distribution that it
    is, and narrowed (see `estimate`); a chance that is drawn below the mean counts as the mean, so that a good proxy is
    not passed over by mere chance. Source: W. R. Thompson, Biometrika 25, 1933; B. C. May, N. Korda, A. Lee,
    D. S. Leslie, "Optimistic Bayesian Sampling in Contextual-Bandit Problems", JMLR 13, 2012.
    """

    uses_arms = True

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._sampler = ScoredSampler(roster.rng, _NEW)
        self._random = roster.rng.random
        self._deviations = [max(roster.rng.gauss(0.0, 1.0), 0.0) for _ in range(_DEVIATIONS)]
        self._turn = -1
        self._renewed = -1
        self._drawn = 0
        self._par = _FIRST_GUESS
        self._guess = _FIRST_GUESS
        self._newcomer = estimate(0.0, 0.0, guess=_FIRST_GUESS)

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, with what is known of them."""
        self._sampler.add(keys)
        for key in keys:
            state = self._roster.slot(key)
            if state is not None:
                self._update_estimate(state)

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._sampler.remove(key)

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """See `Learns`; the state has learnt from it already."""
        if state.served + state.failed == 1 and (state.key in self._sampler.places or not outcome.ok):
            self._guess += _NEWEST * (outcome.ok - self._guess)
            self._newcomer = estimate(0.0, 0.0, guess=self._guess)
        if outcome.ok or outcome.counts_against_proxy:
            self._update_estimate(state)
        else:
            self._sampler.score(state.key, *_ELSEWHERE)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:
        """Take the first in turn that comes up to what is usual, else the best of a few."""
        best, chance, base = self._best(exclude, barred, site)
        if best is None:
            best, base = self._sampler.draw(exclude, barred), self._par
            if best is None:
                return None
            chance = _TIRED if site is not None and site.tired(best, self._roster.monotonic()) else 0.0
        if chance < 0.0 and site is not None and site.rate_limit.kept and not site.rate_limit.dares():
            if not site.rate_limit.tests():
                return None
            best = self._sampler.draw(exclude, barred) or best
        self._par += _PAR_WEIGHT * (min(base, 1.0) - self._par)
        if not self._drawn % _RENEWED_EVERY:
            keys = self._sampler.keys
            self._renewed = self._renewed + 1 if self._renewed + 1 < len(keys) else 0
            self._renew(keys[self._renewed], site.arms if site is not None else None)
        return best

    def _best(self, exclude: Collection[str], barred: Barred, site: Site | None) -> tuple[str | None, float, float]:
        """Return who it is, with the chance on the site, and what the chance is for one that has rested."""
        keys, numbers, deviations = self._sampler.keys, self._sampler.numbers, self._deviations
        count, place = len(keys), self._turn
        arms = site.arms if site is not None else None
        looks = _LOOKED_AT if site is None or not site.rate_limit.known else _LOOKED_AT_RESTING
        refusing = bool(exclude or barred)
        best, best_chance, best_base = None, -math.inf, 0.0
        enough = self._par - _MARGIN
        newcomer, spread = self._newcomer
        for step in range(min(count, looks)):
            if step < _IN_TURN:
                place = self._turn = place + 1 if place + 1 < count else 0
            else:
                place = int(self._random() * count)
            key = keys[place]
            if refusing and not admitted(key, exclude, barred):
                continue
            self._drawn = drawn = (self._drawn + 1) % _DEVIATIONS
            mean = numbers[2 * place]
            if mean == _NEW[0]:
                base = newcomer + spread * deviations[drawn]
            else:
                base = mean + numbers[2 * place + 1] * deviations[drawn]
            chance = base
            if arms and site is not None and key in arms:
                base, chance = self._on_site(key, base, deviations[drawn], site)
            if chance > best_chance:
                best, best_chance, best_base = key, chance, base
                if chance >= enough:
                    break
        return best, best_chance, best_base

    def _renew(self, key: str, arms: dict[str, Arm] | None) -> None:
        """Let old outcomes weigh less, so that a proxy that became better is not given up for ever."""
        state = self._roster.slot(key)
        if state is not None and not state.failures:
            now = self._roster.monotonic()
            state.age(now)
            self._update_estimate(state)
            arm = arms.get(key) if arms else None
            if arm is not None:
                arm.age(now)
                arm.update_estimate(state.good, state.bad)

    def _update_estimate(self, state: ProxyState) -> None:
        """Note what to believe of a proxy; one on trial is taken as soon as it is drawn, or it would stay given up."""
        if state.failures:
            numbers = _ON_TRIAL
        elif state.served or state.failed:
            numbers = estimate(state.good, state.bad, guess=self._guess)
        else:  # all that is known of it is that some sites refused it
            numbers = _ELSEWHERE
        self._sampler.score(state.key, *numbers)

    def _on_site(self, key: str, base: float, deviation: float, site: Site) -> tuple[float, float]:
        """Return a drawn chance on a site for one that has rested, and the chance now: below 0 for one that has not."""
        arm = site.arms[key]
        if base <= 1.5:  # noqa: PLR2004  # one on trial stays what it is
            base = arm.mean + arm.spread * deviation
        if site.rate_limit.known:
            rested = site.rate_limit.rested(arm.uses.all(), self._roster.monotonic())
            if rested < 1.0:
                return base, rested - 1.0
        return base, base
