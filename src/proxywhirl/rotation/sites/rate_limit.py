"""How often one proxy may come to a site, learnt from when the site refused it. Pure.

A site that bans by rate lets each proxy come n times in so many seconds. Both numbers are hidden. For some n this file
keeps how many seconds have to lie between a use and the n-th use before it: a ban shows that they were too few, a use
that was served that they were enough. For the site's own n both agree; for any other they contradict each other again
and again.

A site may refuse for another reason, such as a page that is closed to all. So the odds are kept that there is a limit:
each early use that is refused speaks for it, and the more so the seldomer proxies are refused that had their rest; each
one that is served speaks against it. An early use is the less likely to be chosen the more likely it is refused. From
some odds on the limit is obeyed (`kept`): nobody comes early any more, except to find out whether that is still so.

Such a test is paid for by time, and not by how often somebody asks: if it is refused the site loses one proxy for the
length of a ban. So tests are spaced to cost at most a small share of all proxies (`tests_every`); one that is served
allows the next.

Who meets a limit first is seldom alone: the others were used as much. So a refusal makes all pause that had no more
rest (`suspect`), for the moment that it takes to find out whose failure it was. Until the limit is shown or not, early
uses come one at a time (`unsure`).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

_USES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
"""The n that are looked at. For a site's n between two of them the lower one serves, at an even pace."""

_MARGIN = 1.1  # a ban shows only that the wait is longer than this one was
_STEP, _LONG_STEP = 0.3, 0.8
"""Part of the way to a shorter wait that was enough: less if a longer one was not, for one answer may be a mistake."""

_FADING = 0.99  # a site may count in another way from some day on
_LONGEST = 3600.0  # seconds; a site that counts by the day is met by bans alone
_LIKELY = 0.3  # contradictions: a number with so many more than the best one is as likely

TOO_EARLY = 0.97  # a use served so early shows that the wait is longer than it has to be
MUCH_TOO_EARLY = 0.8
"""Part of the rest: a use served so early shows that the wait is much too long."""

_FIRST_ODDS = math.log(0.1)  # of a limit, when the first ban has shown a rest that it would ask for
_KEPT, _LOST = math.log(9.0), math.log(1.0)
_SURE = math.log(1000.0)  # at most, so that a limit that has gone is found out by a few tests
_MISTAKEN = 0.12  # share of early uses that a true limit serves: the rest is known but roughly

_COST, _LEAST_HELD, _HELD_WEIGHT = 0.05, 0.1, 0.02
"""Share of the proxies that tests may keep banned where no request finds one that has rested. Where few do, as many
times fewer; the share is a moving mean."""

_OFTEN, _SELDOM = 4, 64
"""One test in so many is by a proxy that comes much too early: ever less often while these are refused."""

_MEMORY = 200.0  # rested uses that count
_WIDE = 1.5  # times: if no rest between refused and served ones is known, it is taken for their geometric mean
_SURPRISE, _STRICTER = 0.2, 0.3
"""Weight of the newest use that had much more than its rest; share of these refused where a limit is stricter."""

_PAUSE, _PAUSE_OF_RETRIES = 2.0, 0.5
"""Seconds in which nobody comes as early as one did that was refused, or whose use is not told of yet. A request that
was refused is tried again sooner, since that shows whose failure it was."""

_OWN_NUMBERS = 7  # before those for each n

_FADES = 1.002  # of the shortest rest that was served, at each use: a site may become stricter


def tests_every(ban: float, proxies: int, held: float) -> float:
    """Return how many seconds lie between two tests.

    >>> tests_every(1800.0, 20, 1.0), tests_every(5.0, 20, 0.5)
    (1800.0, 10.0)

    Args:
        ban: How long a ban lasts.
        proxies: How many may come.
        held: The share of the requests for which nobody has rested: what a test may gain.
    """
    return ban / (_COST * max(proxies, 1) * max(held, _LEAST_HELD))


class SiteUses:
    """When a proxy was used on a site, as the site counts: since its last ban, and only what came to it.

    `served` are the last uses that are known to have come there, in order. `open` are the uses without an outcome yet,
    but for those that began before the site refused anybody. `began` is when its last ban was learnt of. `refused` are
    the uses since the last success that were refused, whoever is at fault, by sign: it may be banned since then.
    `whole` says that none since the last ban is missing, except for their number.
    """

    __slots__ = ("began", "open", "refused", "served", "whole")

    def __init__(self) -> None:
        self.served = array("d")
        self.open: list[float] = []
        self.began = -math.inf
        self.refused: dict[str, float] = {}
        self.whole = False

    def all(self) -> Sequence[float]:
        """Return all, in order."""
        return sorted([*self.served, *self.open]) if self.open else self.served

    def before(self, use: float) -> list[float]:
        """Return those before one, in order."""
        return [other for other in self.all() if other < use]

    def end(self, use: float) -> bool:
        """Note that one is told of; False where it began before the last ban."""
        if use in self.open:
            self.open.remove(use)
        return use >= self.began

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

    def merge(self, served: Iterable[float], under_way: Iterable[float]) -> None:
        """Take in the uses of another one that the site counts with these."""
        for use in served:
            if use not in self.served:
                self.count(use)
        self.open.extend(under_way)

    def begin_anew(self, now: float) -> None:
        """Forget all, since one was refused. What is under way now tells nothing new."""
        self.began = now
        del self.served[:]
        self.open.clear()
        self.whole = True


def _refused_early(rested: float) -> float:
    """Return how probably a limit refuses a use that had this part of its rest: the rest is known but roughly."""
    return 1.0 - _MISTAKEN if rested < MUCH_TOO_EARLY else 0.5


class LearnedRateLimit:
    """What is known of a site's limit by rate: something (`known`) from the first ban on that tells of it.

    `kept` says that nobody should come too early, since the limit has shown that it is one. `learnt` counts outcomes
    that told something of it.

    Times are in seconds, in order, the latest last. Each call costs a few µs at most.
    """

    __slots__ = (
        "_doubts",
        "_enough",
        "_likely",
        "_odds",
        "_paused_rests",
        "_paused_until",
        "_rested",
        "_rested_refused",
        "_short",
        "_spacing",
        "_surprise",
        "_test_at",
        "_tests",
        "_waits",
        "held",
        "kept",
        "known",
        "learnt",
    )

    def __init__(self) -> None:
        self.known = self.kept = False
        self.learnt = 0
        self._waits = [0.0] * len(_USES)
        self._enough = [math.inf] * len(_USES)  # the shortest rests that were served
        self._short = [0.0] * len(_USES)  # the longest that were refused, since shorter ones were served
        self._doubts = [0.0] * len(_USES)
        self._likely: tuple[tuple[int, float], ...] = ()
        self._paused_rests: tuple[tuple[int, float], ...] = ()
        self._paused_until = -math.inf
        self._odds = _FIRST_ODDS
        self._rested, self._rested_refused, self._surprise = 0.0, 0.0, 1.0
        self._test_at: float | None = None
        self._tests, self._spacing = 0, _OFTEN
        self.held = 0.0

    @property
    def refuses_early(self) -> float:
        """The chance in 0..1 that an early use is refused for coming early."""
        return (1.0 - _MISTAKEN) / (1.0 + math.exp(-self._odds))

    @property
    def gap(self) -> float:
        """Seconds between two uses of a proxy that keeps an even pace; 0 where no limit is known."""
        return max((wait / uses for uses, wait in self._likely), default=0.0)

    def rested(self, times: Sequence[float], now: float) -> float:
        """Return which part of its rest a proxy has had that was used at these times: 1 or more is all of it."""
        part, count = 1.0, len(times)
        for uses, wait in self._likely:
            if uses <= count:
                had = (now - times[-uses]) / wait
                part = min(part, had)
        if now < self._paused_until:
            for uses, wait in self._paused_rests:
                if uses <= count:
                    part = min(part, (now - times[-uses]) / wait)
        return part

    # While nobody knows whether there is a limit.

    @property
    def unsure(self) -> bool:
        """Whether refusals speak for a limit, which is not shown yet: an early use shows it, so one at a time comes."""
        return self.known and not self.kept and self._odds > _FIRST_ODDS

    def pause(self, now: float) -> None:
        """Let nobody come too early for a moment, until it is known what becomes of one that did."""
        self._paused_until = max(self._paused_until, now + _PAUSE)

    def suspect(self, times: Sequence[float], use: float, now: float, *, failing: float, again: bool) -> None:
        """Let nobody come as early as one that was refused, until it is known whose failure that is.

        If it came too early for what is known, that speaks for a limit already: where all come too early, no page that
        is served would ever show whose failures these are. `failing` is how often attempts fail there anyway, 0..1. A
        request that fails `again` says no more than it did before: its page may fail for all.
        """
        if times and not self.kept and self._odds >= _FIRST_ODDS:
            rested = self._rested_most(times, use)
            if rested < 1.0 and not again:
                self._speak(_refused_early(rested) / max(self._refused_anyway, failing))
            rests = [(uses, use - times[-uses]) for uses in _USES if uses <= len(times)]
            self._paused_rests = tuple(
                (uses, _MARGIN * rest)
                for (uses, rest), enough in zip(rests, self._enough, strict=False)
                if 0.0 < rest <= enough  # a limit of this number would have refused the shorter rests too
            )
            if self._paused_rests or self.known:
                self.pause(now)

    def holds(self, now: float) -> bool:
        """Whether nobody should come too early now."""
        return self.kept or now < self._paused_until

    def concerns(self, now: float) -> bool:
        """Whether it matters now how long a proxy has rested."""
        return self.known or now < self._paused_until

    def lets_retry(self, now: float) -> bool:
        """Whether a request that was refused may be tried again in a pause."""
        return now >= self._paused_until - _PAUSE + _PAUSE_OF_RETRIES

    def _rested_most(self, times: Sequence[float], now: float) -> float:
        """Return the same by the number that asks for the least: who came too early by this, did so by all."""
        parts = [(now - times[-uses]) / wait for uses, wait in self._likely if uses <= len(times)]
        return max(parts) if len(parts) == len(self._likely) and parts else 1.0

    def rested_at(self, times: Sequence[float]) -> float:
        """Return when a proxy has had all of its rest that was used at these times; the past where it has."""
        count = len(times)
        return max((times[-uses] + wait for uses, wait in self._likely if uses <= count), default=0.0)

    def may_test(self, now: float, every: float) -> bool:
        """Whether to let a proxy come too early, as a test of the limit; at most once in so many seconds."""
        due = self._test_at is not None and now >= self._test_at
        if due or self._test_at is None:
            self._test_at = now + every
        self._tests += due
        return due

    def note_held(self, *, held: bool) -> None:
        """Take note whether nobody has rested for a request."""
        self.held += _HELD_WEIGHT * (held - self.held)

    @property
    def halfway(self) -> float:
        """Which part of its rest a proxy has that comes between what was too short and what is enough."""
        return max((math.sqrt(self._short[_USES.index(uses)] / wait) for uses, wait in self._likely), default=1.0)

    @property
    def tests_all(self) -> bool:
        """Whether the test that was just allowed is to come much too early, to find out whether there is a limit."""
        return self._tests % self._spacing == 0

    def explains(self, times: Sequence[float], use: float) -> bool:
        """Whether a refusal is probably for coming too early."""
        return self._odds > _LOST and self.rested(times, use) < 1.0

    def refused(self, times: Sequence[float], use: float, *, whole: bool, failing: float = 0.0) -> None:
        """Learn from a ban of a use that had others before it; `whole` says that none of these is missing.

        `failing` is how often attempts fail there, 0..1, where the page may have failed for all; else 0.
        Of those before it that are not told of yet, some may not have come to the site: what is taken for a wait that
        is too short is rather shorter than it was.
        """
        before = len(times)
        if not before:
            return  # no success since the last ban: it has not ended, or the site wants it never
        self.learnt += 1
        if self.known and not self._is_limit(times, use, failing):
            return
        doubts, waits = self._doubts, self._waits
        for place, uses in enumerate(_USES):
            doubts[place] *= _FADING
            if uses > before:
                doubts[place] += whole
                continue
            rest, wait = min(use - times[-uses], _LONGEST), waits[place]
            if rest > self._enough[place]:
                doubts[place] += 1.0 - self._enough[place] / rest
                self._enough[place] = math.inf
            self._short[place] = max(self._short[place], rest)
            if rest >= wait and rest:
                longer = self._longer(place, rest)
                if wait:
                    doubts[place] += 1.0 - wait / longer
                waits[place] = longer
        self._choose()

    def _is_limit(self, times: Sequence[float], use: float, failing: float) -> bool:
        """Learn from a refusal whether there is a limit; False where it tells nothing of how long a rest has to be.

        That is where it came much later than the limit asks for that has shown to be one: one of many is refused for
        another reason.
        """
        parts = [(use - times[-uses]) / wait for uses, wait in self._likely if uses <= len(times)]
        rested = min(parts, default=1.0)
        if rested < 1.0:
            self._speak(_refused_early(rested) / max(self._refused_anyway, failing))
            if rested < MUCH_TOO_EARLY:
                self._spacing = min(2 * self._spacing, _SELDOM)
        elif rested > _WIDE:
            self._rested_refused += 1.0
            self._surprise += _SURPRISE * (1.0 - self._surprise)
            return not self.kept or self._surprise >= _STRICTER
        return True

    def _longer(self, place: int, rest: float) -> float:
        """Return a wait that is probably enough where a rest was not."""
        enough = self._enough[place]
        if enough == math.inf:
            return rest * _MARGIN
        return min(enough, max(rest * _MARGIN, math.sqrt(rest * enough))) if enough > _WIDE * rest else enough

    def served(self, times: Sequence[float], use: float) -> None:
        """Learn that a use was served that had others before it that were served."""
        rested = self._rested_most(times, use)
        if rested < 1.0:
            self.learnt += 1
            self._speak((1.0 - _refused_early(rested)) / (1.0 - self._refused_anyway))
            if rested < TOO_EARLY:
                self._test_at = 0.0
            if rested < MUCH_TOO_EARLY:
                self._spacing = _OFTEN
        else:
            self._rested += 1.0
            self._surprise -= _SURPRISE * self._surprise
            if self._rested > _MEMORY:
                self._rested, self._rested_refused = 0.5 * self._rested, 0.5 * self._rested_refused
        self.welcomed(times, use)
        wrong = False
        for place, uses in enumerate(_USES):
            if uses > len(times):
                break
            rest, wait = use - times[-uses], self._waits[place]
            if rest < wait:
                wrong = True
                self._doubts[place] = self._doubts[place] * _FADING + 1.0 - rest / wait
                bounded = rest > self._short[place]
                self._waits[place] = wait + (_LONG_STEP if bounded else _STEP) * (rest - wait)
                if not bounded:
                    self._short[place] = rest
        if wrong:
            self._choose()

    def welcomed(self, times: Sequence[float], use: float) -> None:
        """Note the rests of a use that was served, before there is a limit to learn about."""
        enough, count = self._enough, len(times)
        for place, uses in enumerate(_USES):
            if uses > count:
                break
            rest = use - times[-uses]
            enough[place] = rest if rest < enough[place] else enough[place] * _FADES

    @property
    def _refused_anyway(self) -> float:
        """How often a proxy is refused that has had its rest."""
        return min((self._rested_refused + 1.0) / (self._rested + self._rested_refused + 20.0), 0.8)

    def _speak(self, likelihood: float) -> None:
        """Take in how many times likelier an early use's outcome is with a limit than without."""
        self._odds = min(max(self._odds + math.log(likelihood), -_SURE), _SURE)
        kept = self._odds > (_LOST if self.kept else _KEPT)
        if kept and not self.kept:
            self._test_at = None
        self.kept = kept

    def numbers(self) -> tuple[float, ...]:
        """Return all that was learnt, for `adopt`; the first number is `learnt`."""
        own = (self.learnt, self.kept, self._spacing, self._odds, self._rested, self._rested_refused, self._surprise)
        enough = [0.0 if rest == math.inf else rest for rest in self._enough]
        return (*own, *self._waits, *enough, *self._short, *self._doubts)

    def adopt(self, numbers: Sequence[float]) -> bool:
        """Go on from what another one has learnt; False where these are no numbers of a limit."""
        places = len(_USES)
        if len(numbers) != _OWN_NUMBERS + 4 * places:
            return False
        learnt, kept, spacing, odds, self._rested, self._rested_refused, self._surprise = numbers[:_OWN_NUMBERS]
        self._odds = min(max(odds, -_SURE), _SURE)
        self.learnt, self.kept, self._spacing = int(learnt), bool(kept), max(int(spacing), 1)
        self._waits, self._enough, self._short, self._doubts = (
            list(numbers[begin : begin + places]) for begin in range(_OWN_NUMBERS, len(numbers), places)
        )
        self._enough = [rest or math.inf for rest in self._enough]
        self._likely, self.known = (), False
        self._choose()
        return True

    def evenly(self, until: float) -> SiteUses:
        """Return the uses of a proxy that has kept an even pace until a moment."""
        uses = SiteUses()
        uses.served.extend(until - self.gap * before for before in reversed(range(_USES[-1])))
        return uses

    def _choose(self) -> None:
        """Keep to all numbers with the fewest contradictions, since each that is wrong is found out by bans."""
        waits, doubts = self._waits, self._doubts
        told = [place for place, wait in enumerate(waits) if wait]
        if told:
            most = min(doubts[place] for place in told) + _LIKELY
            self._likely = tuple((_USES[place], waits[place]) for place in told if doubts[place] <= most)
            self.known = True
