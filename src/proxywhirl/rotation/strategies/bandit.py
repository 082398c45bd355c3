"""Learns which proxies work for which site, and how often each may be used there."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxywhirl.models import Outcome
from proxywhirl.rotation.belief import UNKNOWN, belief
from proxywhirl.rotation.sites import Site
from proxywhirl.rotation.slot import Slot
from proxywhirl.rotation.strategies.urn import ScoredUrn, admitted
from proxywhirl.rotation.strategy import Barred, Roster

__all__ = ["Bandit"]

_DRAWN = 6
"""Candidates for each request: with half of a pool unfit, one request in sixty meets only such."""

_RENEWED = 0.25  # of requests let one proxy's belief be made anew
_DEVIATIONS = 4096
_ON_TRIAL = (2.0, 0.0)


class Bandit:
    """Thompson sampling over a few: each is given a chance, drawn from what is known of it, and the best serves.

    What is known of a proxy on a site is its record there, on top of its record on all sites. Little knowledge means
    a wide spread, so that who is unknown is tried; much means that the better serve. Drawing a few at first keeps the
    cost the same whatever the size of the pool, and spreads the load over all who are good. Where bans taught that a
    proxy should rest between two uses on a site (`Site.gap`), one that has rested goes before one that has not.

    The distribution of a chance is taken for normal with the mean and the variance of the beta distribution that it
    is. Source: W. R. Thompson, Biometrika 25, 1933; O. Chapelle, L. Li, "An Empirical Evaluation of Thompson
    Sampling", 2011.
    """

    uses_arms = True

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._urn = ScoredUrn(roster.rng, UNKNOWN)
        self._random = roster.rng.random
        self._deviations = [roster.rng.gauss(0.0, 1.0) for _ in range(_DEVIATIONS)]

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, with what is known of them."""
        self._urn.add(keys)
        for key in keys:
            slot = self._roster.slot(key)
            if slot is not None:
                self._believe(slot)

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._urn.remove(key)

    def learnt(self, slot: Slot, outcome: Outcome) -> None:  # noqa: ARG002  # the slot has learnt from it
        """See `Learns`."""
        self._believe(slot)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:
        """Draw a few, and take the one whose drawn chance is best."""
        urn, draw, deviations = self._urn, self._random, self._deviations
        keys, numbers = urn.keys, urn.numbers
        count = len(keys)
        arms = site.arms if site is not None else None
        refusing = bool(exclude or barred)
        best: str | None = None
        best_chance = -math.inf
        for _ in range(min(count, _DRAWN)):
            point = draw() * count
            place = int(point)
            deviation = deviations[int((point - place) * _DEVIATIONS)]
            if arms or refusing:
                key = keys[place]
                if refusing and not admitted(key, exclude, barred):
                    continue
                chance = self._on_site(key, place, deviation, site)
            else:
                chance = numbers[2 * place] + numbers[2 * place + 1] * deviation
            if chance > best_chance:
                best, best_chance = keys[place], chance
        if count and draw() < _RENEWED:
            self._renew(keys[int(draw() * count)])
        return best if best is not None else urn.draw(exclude, barred)

    def _renew(self, key: str) -> None:
        """Believe less of what was long ago, so that nobody stays given up who became better meanwhile."""
        slot = self._roster.slot(key)
        if slot is not None:
            slot.age(self._roster.monotonic())
            self._believe(slot)

    def _believe(self, slot: Slot) -> None:
        """Note what to believe of a proxy; one on trial is taken as soon as it is drawn, or it would stay given up."""
        self._urn.score(slot.key, *(_ON_TRIAL if slot.failures else belief(slot.good, slot.bad)))

    def _on_site(self, key: str, place: int, deviation: float, site: Site | None) -> float:
        arm = site.arms.get(key) if site is not None else None
        if site is None or arm is None:
            return self._urn.numbers[2 * place] + self._urn.numbers[2 * place + 1] * deviation
        chance = arm.mean + arm.spread * deviation
        if site.gap:
            rested = self._roster.monotonic() - arm.used
            if rested < site.gap:
                return chance + rested / site.gap - 1.0
        return chance
