"""How often one proxy may come to a site, learnt from when the site refused it. Pure.

A site that bans by rate lets each proxy come n times in so many seconds. Both numbers are hidden. For some n this file
keeps how many seconds have to lie between a use and the n-th use before it: a ban shows that they were too few, a use
that was served that they were enough. For the site's own n both agree; for any other they contradict each other again
and again.

A site may refuse for another reason, such as a page that is closed to all. So a limit is obeyed (`kept`) only if early
proxies are nearly always refused; now and then one comes early, to find out whether that is still so.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

_USES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
"""The n that are looked at. For a site's n between two of them the lower one serves, at an even pace."""

_MARGIN = 1.1  # a ban shows only that the wait is longer than this one was
_STEP = 0.3  # part of the way to a shorter wait that was enough: one answer may be a mistake
_FADING = 0.99  # a site may count in another way from some day on
_LONGEST = 3600.0  # seconds; a site that counts by the day is met by bans alone
_LIKELY = 0.3  # contradictions: a number with so many more than the best one is as likely

_DARING, _DARING_AT_REST = 0.005, 0.002
"""How many early uses are allowed for each use that is served, and for each request while all have to rest. An early
use tells whether a wait is too long, and may cost a proxy for as long as hundreds of requests take."""

_MUCH_TOO_EARLY = 0.8  # part of the rest: a use served so early shows that the wait is much too long
_MEMORY = 0.9  # decay of the outcomes of early uses: about the last ten count
_ENOUGH, _ENOUGH_AT_MOST, _MOSTLY = 3.0, 9.0, 4.0
"""A limit is obeyed after so many refusals, so many times the early uses that were served; more after a wrong limit."""

_FIRST_TEST, _RAREST_TEST = 16.0, 4096.0
"""After so many requests while all have to rest, one comes much too early as a test; twice as many after each refusal.
A wrong limit is found out by that, and a right one costs hardly any proxy."""


class SiteUses:
    """When a proxy was used on a site, as the site counts: since its last ban, and only what came to it.

    `served` are the last uses that are known to have come there, in order, `open` the uses without an outcome yet.
    `whole` says that none since the last ban is missing, except for their number.
    """

    __slots__ = ("open", "served", "whole")

    def __init__(self) -> None:
        self.served = array("d")
        self.open: list[float] = []
        self.whole = False

    def all(self) -> Sequence[float]:
        """Return all, in order."""
        return sorted([*self.served, *self.open]) if self.open else self.served

    def before(self, use: float) -> list[float]:
        """Return those before one, in order."""
        return [other for other in self.all() if other < use]

    def end(self, use: float | None) -> bool:
        """Note that one is told of; False where it is not known."""
        if use in self.open:
            self.open.remove(use)
            return True
        return False

    def count(self, use: float) -> Sequence[float]:
        """Count one that came to the site; return those before it."""
        served = self.served
        if not served or served[-1] <= use:
            before: Sequence[float] = served[:]
            served.append(use)
        else:
            place = bisect_right(served, use)
            before = served[:place]
            served.insert(place, use)
        if len(served) > _USES[-1]:
            del served[0]
        return before

    def begin_anew(self) -> None:
        """Forget all, since one was refused. What is under way now tells nothing new."""
        del self.served[:]
        self.open.clear()
        self.whole = True


class LearnedRateLimit:
    """What is known of a site's limit by rate: something (`known`) from the first ban on that tells of it.

    `kept` says that nobody should come too early, since the limit has shown that it is one.

    Times are in seconds, in order, the latest last. Each call costs a few µs at most.
    """

    __slots__ = (
        "_chosen",
        "_credit",
        "_doubts",
        "_early_refused",
        "_early_served",
        "_held_back",
        "_needed",
        "_test_after",
        "_waits",
        "kept",
        "known",
    )

    def __init__(self) -> None:
        self.known = self.kept = False
        self._early_refused = self._early_served = 0.0
        self._needed = _ENOUGH
        self._held_back, self._test_after = 0.0, _FIRST_TEST
        self._waits = [0.0] * len(_USES)
        self._doubts = [0.0] * len(_USES)
        self._chosen = 0
        self._credit = 0.0

    @property
    def gap(self) -> float:
        """Seconds between two uses of a proxy that keeps an even pace; 0 where no limit is known."""
        return self._waits[self._chosen] / _USES[self._chosen]

    def rested(self, times: Sequence[float], now: float) -> float:
        """Return which part of its rest a proxy has had that was used at these times: 1 or more is all of it."""
        count = _USES[self._chosen]
        wait = self._waits[self._chosen]
        if len(times) < count or not wait:
            return 1.0
        return (now - times[-count]) / wait

    def dares(self) -> bool:
        """Whether to let a proxy come too early, as a test: seldom, since it may be banned for long."""
        self._credit += _DARING_AT_REST
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def tests(self) -> bool:
        """Whether to let any proxy come, however early, while all have to rest: as a test of the limit itself."""
        self._held_back += 1.0
        if self._held_back < self._test_after:
            return False
        self._held_back = 0.0
        return True

    def explains(self, times: Sequence[float], use: float) -> bool:
        """Whether a refusal is probably for coming too early."""
        return self._early_refused >= self._early_served and self.rested(times, use) < 1.0

    def refused(self, times: Sequence[float], use: float, *, whole: bool, again: bool = False) -> None:
        """Learn from a ban of a use that had others before it; `whole` says that none of these is missing.

        Of those before it that are not told of yet, some may not have come to the site: what is taken for a wait that
        is too short is rather shorter than it was. `again` says that the request was refused to another proxy before:
        it may be the request that the site refuses.
        """
        before = len(times)
        if not before:
            return  # no success since the last ban: it has not ended, or the site wants it never
        if self.known and not again and self.rested(times, use) < 1.0:
            self._note_early(served=False)
        doubts = self._doubts
        for place, uses in enumerate(_USES):
            doubts[place] *= _FADING
            if uses > before:
                doubts[place] += whole
                continue
            rest, wait = min(use - times[-uses], _LONGEST), self._waits[place]
            if rest >= wait and rest:
                if wait:
                    doubts[place] += 1.0 - wait / (rest * _MARGIN)
                self._waits[place] = rest * _MARGIN
        self._choose()

    def served(self, times: Sequence[float], use: float) -> None:
        """Learn that a use was served that had others before it that were served."""
        self._credit = min(self._credit + _DARING, 1.0)
        if self.rested(times, use) < _MUCH_TOO_EARLY:
            self._note_early(served=True)
        before, wrong = len(times), False
        for place, uses in enumerate(_USES):
            if uses > before:
                break
            rest, wait = use - times[-uses], self._waits[place]
            if rest < wait:
                wrong = True
                self._doubts[place] = self._doubts[place] * _FADING + 1.0 - rest / wait
                self._waits[place] = wait + _STEP * (rest - wait)
        if wrong:
            self._choose()

    def _note_early(self, *, served: bool) -> None:
        self._early_refused = self._early_refused * _MEMORY + (not served)
        self._early_served = self._early_served * _MEMORY + served
        before = self.kept
        self.kept = self._early_refused > self._needed and self._early_refused > _MOSTLY * self._early_served
        if not before:
            self._test_after = _FIRST_TEST
        elif served:
            self._test_after = 1.0
            if not self.kept:
                self._needed = min(2.0 * self._needed, _ENOUGH_AT_MOST)
        else:
            self._test_after = min(max(self._test_after, _FIRST_TEST) * 2.0, _RAREST_TEST)
            self._needed = _ENOUGH

    def _choose(self) -> None:
        """Choose among the numbers with the fewest contradictions the one that lets a proxy come most often.

        If it is wrong, bans tell so; a number with too much rest would not be found out for long.
        """
        waits, doubts = self._waits, self._doubts
        told = [place for place, wait in enumerate(waits) if wait]
        if told:
            most = min(doubts[place] for place in told) + _LIKELY
            likely = (place for place in told if doubts[place] <= most)
            self._chosen = min(likely, key=lambda place: waits[place] / _USES[place])
            self.known = True
