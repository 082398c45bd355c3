"""The proxy that brings an answer soonest, counting those that bring none."""

from __future__ import annotations

from collections.abc import Collection

from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import Slot
from proxywhirl.rotation.sites.sites import Site
from proxywhirl.rotation.strategies.base import Barred, Roster
from proxywhirl.rotation.strategies.sampling import ScoredUrn, admitted

FAILURE_SECONDS = 2.0
"""What a failure is taken to cost: time, a retry, and a bad name with the target. A proxy that fails once in three
times has to save a second against one that never does."""

_EXPLORED = 0.05  # of requests go to whoever is drawn: else who became better would be found out by nobody
_FIRST_GUESS = 0.5  # seconds: the mean until something was measured
_UNKNOWN = -1.0


def seconds_to_answer(slot: Slot, mean: float) -> float:
    """Return the expected seconds to an answer: `mean` is the latency of one that is not known."""
    if slot.failures:  # on trial: it is taken when it is drawn, or it would stay given up
        return 0.0
    chance = slot.chance
    return (mean if slot.latency is None else slot.latency) + FAILURE_SECONDS * (1.0 - chance) / chance


class Fastest:
    """Of two that are drawn, the better: nearly as good as the best of all, without the crowd on that one.

    What counts is the expected time to an answer: latency, and `FAILURE_SECONDS` for each failure before it. Both are
    decayed means (see `Slot`). Who was never used counts as the mean of all. One request in twenty goes to whoever is
    drawn first, so that a proxy that was repaired, or became faster, shows it. Source: M. Mitzenmacher, "The Power of
    Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._random = roster.rng.random
        self._urn = ScoredUrn(roster.rng, (_UNKNOWN, 0.0))
        self._mean = _FIRST_GUESS

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, with what is known of their speed."""
        self._urn.add(keys)
        for key in keys:
            slot = self._roster.slot(key)
            if slot is not None:
                self._urn.score(key, seconds_to_answer(slot, self._mean), 0.0)

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._urn.remove(key)

    def learnt(self, slot: Slot, outcome: Outcome) -> None:
        """See `Learns`."""
        place = self._urn.place(slot.key)
        if place is not None:
            seconds = seconds_to_answer(slot, self._mean)
            self._urn.numbers[2 * place] = seconds
            if outcome.ok:
                self._mean += (seconds - self._mean) * 0.02

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw two and take the better."""
        urn = self._urn
        if exclude or barred:
            one = urn.draw(exclude, barred)
            if one is None:
                return None
            place = urn.places[one]
        elif urn.keys:
            place = int(self._random() * len(urn.keys))
        else:
            return None
        point = self._random() * len(urn.keys)
        other = int(point)
        if point - other < _EXPLORED:
            return urn.take(place)
        first, second = urn.numbers[2 * place], urn.numbers[2 * other]
        mean = self._mean
        better = (second if second >= 0.0 else mean) < (first if first >= 0.0 else mean)
        if better and (not (exclude or barred) or admitted(urn.keys[other], exclude, barred)):
            place = other
        return urn.take(place)
