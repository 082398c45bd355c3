"""Bans: one proxy is left alone on one site for a while. Pure.

A ban lasts for what the site asked for (`Retry-After`), else for a minute, or for as long as bans of that site turned
out to last; each further one in a row lasts twice as long, or eight times where the proxy never served that site, with
a jitter that only ever lengthens it. A success takes one strike back. Bans are kept by wall-clock time, since they
outlive the process. A request that is refused while a ban holds was under way when it began: that is no further ban.
Bans expire by themselves; when there are too many, the soonest forgotten go first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
_REMEMBERED = 3600.0  # seconds for which strikes outlive a ban, at least
_WALL_GROWTH = 8.0

Pair = tuple[str, str]
"""A proxy's key and a site."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban of a proxy by a site. Times are Unix seconds.

    `strikes` counts bans in a row: each makes the next one longer. They are remembered until `forget_at`, which
    is after `until`. One that was lifted has an `until` in the past.
    """

    until: float
    strikes: int
    rule: str
    forget_at: float


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
        unwanted: bool = False,
        first: float = FIRST_BAN,
    ) -> Ban:
        """Ban a proxy from a site, longer than the last time; a ban that holds is only prolonged as the site asks.

        `retry_after` is in seconds; `unwanted` says that it never served there, so that a rate is not what is wrong;
        `first` is how long a first ban lasts.
        """
        known = self._bans.get(pair)
        if known is not None and known.until > now:
            return self._lengthen(pair, known, now, retry_after)
        strikes = known.strikes + 1 if known is not None and known.forget_at > now else 1
        base = first if retry_after is None else min(max(1.0, retry_after), LONGEST_WAIT)
        backoff = Backoff(base, max(LONGEST_BAN, base), _WALL_GROWTH if unwanted else GROWTH)
        seconds = backoff.seconds(strikes) * (1.0 + _JITTER * self._rng.random())
        ban = Ban(now + seconds, strikes, rule, now + seconds + max(_REMEMBERED, seconds))
        self.note(pair, ban, now)
        return ban

    def _lengthen(self, pair: Pair, known: Ban, now: float, retry_after: float | None) -> Ban:
        """Count a refusal of a request that was under way when the ban began: the same ban, perhaps a longer one."""
        until = now if retry_after is None else now + min(max(1.0, retry_after), LONGEST_WAIT)
        if until <= known.until:
            return known
        ban = Ban(until, known.strikes, known.rule, known.forget_at + until - known.until)
        self.note(pair, ban, now)
        return ban

    def forgive(self, pair: Pair, *, now: float) -> None:
        """Take one strike back, since the proxy has served the site."""
        known = self._bans.get(pair)
        if known is not None and (known.strikes > 0 or known.until > now):
            strikes = max(known.strikes - 1, 0)
            self.note(pair, Ban(min(known.until, now), strikes, known.rule, known.forget_at), now)

    def restore(self, pair: Pair, before: Ban | None, *, now: float) -> None:
        """Undo a ban that was not deserved."""
        if before is None or before.forget_at <= now:
            known = self._bans.get(pair)
            if known is None:
                return  # the ban was dropped before anybody was told
            before = Ban(min(known.until, now), 0, known.rule, known.forget_at)
        self.note(pair, before, now)

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

    def note(self, pair: Pair, ban: Ban, now: float) -> None:
        """Write down what holds for a pair from now on; where there are too many, others go for it."""
        self._bans[pair] = ban
        self._keys.setdefault(pair[1], set()).add(pair[0])
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
