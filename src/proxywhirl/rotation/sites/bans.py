"""Bans: one proxy is left alone on one site for a while. Pure.

A ban lasts for what the site asked for (`Retry-After`), else for as long as bans of that site turned out to last
(`BanLengths`). Where nothing is known of that, it lasts for a minute, and twice as long after each return that was
refused, or eight times where the proxy never served that site. A jitter only ever lengthens it. A success takes one
strike back. Bans are kept by wall-clock time, since they outlive the process. A request that is refused while a ban
holds was under way when it began: that is no further ban. Bans expire by themselves; when there are too many, the
soonest forgotten go first.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from proxywhirl.backoff import Backoff
from proxywhirl.timetable import Timetable
from proxywhirl.wire.retry_after import LONGEST_WAIT

FIRST_BAN = 60.0
"""Seconds, where the site did not say: most limits by rate look at a minute."""

LONGEST_BAN = 6 * 3600.0
"""Seconds, unless the site asked for more: four trials in a day tell whether a proxy is welcome again."""

GROWTH = 2.0
"""How many times longer each further ban in a row lasts."""

MOST_BANS = 200_000
"""Records: some 60 MB."""

_JITTER = 0.2
_NEWEST = 0.2

_STEP = math.sqrt(2.0)
_LENGTHS: list[float] = [_STEP**step for step in range(30)]
"""Seconds, up to more than six hours. The probability of each is that of all between the one before and it."""

_MISTAKE = 0.03  # probability that a proxy is served before its ban is over
_CHANGES = 0.0005  # probability that a site bans in another way from now on
EVEN, SURELY = 0.5, 0.85
"""With these probabilities the ban of a proxy is over that finds out how long they last, and that of any other."""

_REMEMBERED = 3600.0  # seconds for which strikes outlive a ban, at least
_WALL_GROWTH = 8.0

_PRIOR = [min(1.0, FIRST_BAN / length) * (0.2 if length < FIRST_BAN else 1.0) for length in _LENGTHS]
_BEFORE = [share / sum(_PRIOR) for share in _PRIOR]

Pair = tuple[str, str]
"""A proxy's key and a site."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban of a proxy by a site. Times are Unix seconds.

    `strikes` counts bans in a row: each makes the next one longer. They are remembered until `forget_at`, which
    is after `until`. One that was lifted has an `until` in the past. `since` is when the proxy was refused first, 0
    where it was served since then or that is not known.
    """

    until: float
    strikes: int
    rule: str
    forget_at: float
    since: float = 0.0


class BanLengths:
    """How long a site bans, learnt from the proxies that came back: a probability for each length of a grid.

    A proxy that comes back before its ban is over is refused nearly always; one that comes later is refused as often as
    it usually is there. Bayes' rule makes of that how probable each length is. Before anything is known a length has
    the probability of its inverse, from a minute on: so half of the bans that last so long last twice as long.

    Attributes:
        asked: What the site asks for by `Retry-After`, a moving mean; None where it does not.
        learnt: How many outcomes have told something.
    """

    __slots__ = ("_reached", "_shares", "asked", "learnt")

    def __init__(self) -> None:
        self.asked: float | None = None
        self.learnt = 0
        self._shares = list(_BEFORE)
        self._reached = list(accumulate(_BEFORE))

    @property
    def expected(self) -> float:
        """The seconds that a ban probably lasts."""
        return self.asked if self.asked is not None else self.wait(0.0, EVEN)

    def was_asked(self, seconds: float) -> None:
        """Take note of a `Retry-After`."""
        self.learnt += 1
        self.asked = seconds if self.asked is None else self.asked + _NEWEST * (seconds - self.asked)

    def returned(self, elapsed: float, *, served: bool, refused: float) -> None:
        """Take note that a proxy came back so many seconds after its first refusal.

        `refused` is how often it is refused there anyway, 0..1.
        """
        self.learnt += 1
        over = min(max(1.0 - refused if served else refused, _MISTAKE), 1.0 - _MISTAKE)
        held = _MISTAKE if served else 1.0 - _MISTAKE
        steps = _steps(elapsed)
        shares = [
            share * (held + (over - held) * min(max(steps - place, 0.0), 1.0))
            for place, share in enumerate(self._shares)
        ]
        total = sum(shares)
        self._shares = [
            (1.0 - _CHANGES) * share / total + _CHANGES * before for share, before in zip(shares, _BEFORE, strict=True)
        ]
        self._reached = list(accumulate(self._shares))

    def numbers(self) -> tuple[float, ...]:
        """Return all that was learnt, for `adopt`; the first number is `learnt`."""
        return (self.learnt, 0.0 if self.asked is None else self.asked, *self._shares)

    def adopt(self, numbers: Sequence[float]) -> bool:
        """Go on from what another one has learnt; False where these are no numbers of lengths."""
        if len(numbers) != 2 + len(_LENGTHS):
            return False
        learnt, asked, *shares = numbers
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-3) or min(shares) <= 0.0:
            return False
        self.learnt, self.asked, self._shares = int(learnt), asked or None, shares
        self._reached = list(accumulate(shares))
        return True

    def over(self, elapsed: float) -> float:
        """Return the probability in 0..1 that a ban is over that began so many seconds ago."""
        place, part = divmod(min(max(_steps(elapsed), 0.0), len(_LENGTHS)), 1.0)
        reached = self._reached[int(place) - 1] if place else 0.0
        return reached + part * self._shares[int(place)] if part else reached

    def wait(self, elapsed: float, surely: float) -> float:
        """Return after how many seconds a ban is over with a probability of `surely`, if it is not after `elapsed`."""
        reached = self.over(elapsed)
        wanted = reached + surely * (1.0 - reached)
        place = min(bisect_left(self._reached, wanted), len(_LENGTHS) - 1)
        missing = min(max(self._reached[place] - wanted, 0.0) / self._shares[place], 1.0)
        return max(_LENGTHS[place] * math.pow(_STEP, -missing), elapsed)


def _steps(seconds: float) -> float:
    """Return how many lengths of the grid are not longer, with the part of the next one that is not."""
    return math.log(seconds / _LENGTHS[0], _STEP) + 1.0 if seconds > 0.0 else 0.0


class BanBook:
    """All bans, and which of them changed since they were last collected. Each call costs O(log n).

    `dropped` is told of each pair that is forgotten; if there are too many, its ban may still hold.
    """

    def __init__(
        self, rng: random.Random, *, most: int = MOST_BANS, dropped: Callable[[Pair], None] | None = None
    ) -> None:
        self._rng = rng
        self._most = most
        self._dropped = dropped
        self._bans: dict[Pair, Ban] = {}
        self._keys: dict[str, set[str]] = {}
        self._endings: Timetable[Pair] = Timetable()
        self._changed: set[Pair] = set()

    def __len__(self) -> int:
        return len(self._bans)

    def get(self, pair: Pair) -> Ban | None:
        """Return what is known of a pair, also where it holds no more."""
        return self._bans.get(pair)

    def strike(
        self,
        pair: Pair,
        rule: str,
        *,
        now: float,
        retry_after: float | None,
        refused_at: float | None = None,
        unwanted: bool = False,
        lengths: BanLengths | None = None,
        tests: bool = False,
        quiet: bool = False,
    ) -> Ban:
        """Ban a proxy that a site refused at `refused_at`; a ban that holds is only prolonged as the site asks.

        `retry_after` is in seconds; `unwanted` says that it never served there, so that a rate is not what is wrong;
        `lengths` is how long bans of the site last, and `tests` that this proxy finds out whether they are shorter.
        A `quiet` ban is not known to be deserved: others are not told before `tell`.
        """
        known = self._bans.get(pair)
        if known is not None and known.until > now:
            return self._lengthen(pair, known, now, retry_after, quiet=quiet)
        remembered = known is not None and known.forget_at > now
        strikes = known.strikes + 1 if known is not None and remembered else 1
        since = known.since if known is not None and remembered and known.since else refused_at or now
        growth = _WALL_GROWTH if unwanted else GROWTH
        if retry_after is not None:
            asked = min(max(1.0, retry_after), LONGEST_WAIT)
            seconds = Backoff(asked, max(LONGEST_BAN, asked), growth).seconds(strikes)
        elif lengths is None or unwanted:
            seconds = Backoff(FIRST_BAN, LONGEST_BAN, growth).seconds(strikes)
        else:
            if lengths.over(now - since) >= EVEN:
                since = now  # that ban is over: this is another one
            seconds = since + lengths.wait(now - since, EVEN if tests else SURELY) - now
            seconds = min(max(seconds, 1.0), LONGEST_BAN)
        seconds *= 1.0 + _JITTER * self._rng.random()
        ban = Ban(now + seconds, strikes, rule, now + seconds + max(_REMEMBERED, seconds), since)
        self.note(pair, ban, now, quiet=quiet)
        return ban

    def _lengthen(self, pair: Pair, known: Ban, now: float, retry_after: float | None, *, quiet: bool) -> Ban:
        """Count a refusal of a request that was under way when the ban began: the same ban, perhaps a longer one."""
        until = now if retry_after is None else now + min(max(1.0, retry_after), LONGEST_WAIT)
        if until <= known.until:
            return known
        ban = replace(known, until=until, forget_at=known.forget_at + until - known.until)
        self.note(pair, ban, now, quiet=quiet)
        return ban

    def forgive(self, pair: Pair, *, now: float) -> None:
        """Take one strike back, since the proxy has served the site."""
        known = self._bans.get(pair)
        if known is not None and (known.strikes > 0 or known.until > now):
            strikes = max(known.strikes - 1, 0)
            self.note(pair, Ban(min(known.until, now), strikes, known.rule, known.forget_at), now)

    def restore(self, pair: Pair, before: Ban | None, *, now: float, quiet: bool = False) -> None:
        """Undo a ban that was not deserved; one that was noted quietly goes without a trace."""
        if before is None or before.forget_at <= now:
            known = self._bans.get(pair)
            if known is None:
                return  # the ban was dropped before anybody was told
            if quiet and pair not in self._changed:
                del self._bans[pair]
                self._endings.discard(pair)
                self._drop(pair)
                return
            before = Ban(min(known.until, now), 0, known.rule, known.forget_at)
        self.note(pair, before, now, quiet=quiet and pair not in self._changed)

    def learn(self, bans: Mapping[Pair, Ban], *, now: float) -> dict[Pair, Ban]:
        """Take in what others found out, and return what is new."""
        news = {pair: ban for pair, ban in bans.items() if self._bans.get(pair) != ban}
        for pair, ban in news.items():
            if ban.forget_at > now:
                self.note(pair, ban, now)
                self._changed.discard(pair)
            elif self._bans.pop(pair, None) is not None:
                self._endings.discard(pair)
                self._drop(pair)
        return {pair: ban for pair, ban in news.items() if self._bans.get(pair) is ban}

    def of(self, site: str) -> dict[str, Ban]:
        """Return what is known of a site's bans, by key, also of those that hold no more."""
        return {key: self._bans[key, site] for key in self._keys.get(site, ())}

    def collect(self) -> dict[Pair, Ban]:
        """Return the bans that changed since the last call."""
        changed = {pair: self._bans[pair] for pair in self._changed if pair in self._bans}
        self._changed.clear()
        return changed

    def held(self, now: float) -> dict[Pair, Ban]:
        """Return the bans that hold. O(n)."""
        return {pair: ban for pair, ban in self._bans.items() if ban.until > now}

    def tell(self, pair: Pair) -> None:
        """Let others know of a ban that was noted quietly."""
        if pair in self._bans:
            self._changed.add(pair)

    def note(self, pair: Pair, ban: Ban, now: float, *, quiet: bool = False) -> None:
        """Write down what holds for a pair from now on; where there are too many, others go for it."""
        self._bans[pair] = ban
        self._keys.setdefault(pair[1], set()).add(pair[0])
        if not quiet:
            self._changed.add(pair)
        self._endings.discard(pair)
        for _ in range(2):  # each call adds one at most, so that two keep up with any number
            ended = self._endings.pop_due(math.inf if len(self._bans) > self._most else now)
            if ended is None:
                break
            del self._bans[ended]
            self._drop(ended)
        self._endings.put(pair, ban.forget_at)

    def _drop(self, pair: Pair) -> None:
        key, site = pair
        self._changed.discard(pair)
        keys = self._keys[site]
        keys.discard(key)
        if not keys:
            del self._keys[site]
        if self._dropped is not None:
            self._dropped(pair)
