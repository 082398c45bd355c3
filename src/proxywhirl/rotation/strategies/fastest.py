"""The proxy with the shortest expected time to an answer, failures included."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred, Roster, admitted
from proxywhirl.rotation.strategies.sampling import ScoredSampler

FAILURE_SECONDS = 2.0
"""The cost of a failure in seconds: time, a retry, and a bad name with the target. A proxy that fails once in three
times has to save a second against one that never does."""

_EXPLORED = 0.05  # share of requests for the first drawn one: else no proxy would show that it became better
_FIRST_GUESS = 0.5  # seconds: the mean until something was measured
_UNKNOWN = -1.0


def seconds_to_answer(state: ProxyState, mean: float) -> float:
    """Return the expected seconds to an answer: `mean` is the latency of one that is not known."""
    if state.failures:  # on trial: it is taken when it is drawn, or it would stay given up
        return 0.0
    chance = state.chance
    return (mean if state.latency is None else state.latency) + FAILURE_SECONDS * (1.0 - chance) / chance


class Fastest:
    """The better of two that are drawn: nearly as good as the best of all, without the crowd on that one.

    What counts is the expected time to an answer: latency, and `FAILURE_SECONDS` for each failure before it. Both are
    decayed means (see `ProxyState`). A proxy that was never used counts as the mean of all. One request in twenty goes
    to the first that is drawn, so that a proxy that was repaired, or became faster, shows it. Source: M. Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._random = roster.rng.random
        self._sampler = ScoredSampler(roster.rng, (_UNKNOWN, 0.0))
        self._mean = _FIRST_GUESS

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, with what is known of their speed."""
        self._sampler.add(keys)
        for key in keys:
            state = self._roster.slot(key)
            if state is not None:
                self._sampler.score(key, seconds_to_answer(state, self._mean), 0.0)

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._sampler.remove(key)

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """See `Learns`."""
        place = self._sampler.place(state.key)
        if place is not None:
            seconds = seconds_to_answer(state, self._mean)
            self._sampler.numbers[2 * place] = seconds
            if outcome.ok:
                self._mean += (seconds - self._mean) * 0.02

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw two and take the better."""
        sampler = self._sampler
        if exclude or barred:
            one = sampler.draw(exclude, barred)
            if one is None:
                return None
            place = sampler.places[one]
        elif sampler.keys:
            place = math.floor(self._random() * len(sampler.keys))
        else:
            return None
        point = self._random() * len(sampler.keys)
        other = int(point)
        if point - other < _EXPLORED:
            return sampler.take(place)
        first, second = sampler.numbers[2 * place], sampler.numbers[2 * other]
        mean = self._mean
        better = (second if second >= 0.0 else mean) < (first if first >= 0.0 else mean)
        if better and (not (exclude or barred) or admitted(sampler.keys[other], exclude, barred)):
            place = other
        return sampler.take(place)
