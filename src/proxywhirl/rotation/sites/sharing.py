"""What processes that have the same proxies tell each other of sites. Pure.

Bans are told one by one (`bans`). What is learnt from them, how often a proxy may come and how long bans last, is told
as a whole: of two processes the one that has learnt from more stands, and the other goes on from there.

A site that limits the rate counts the uses by all processes. So they tell each other of each use at a site that
refuses, and count those of others as their own. Since that takes a moment, each process has a part of the proxies that
it takes first: two do not take the same one at the same moment. That it is there a process says every few seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxywhirl.rotation.sites.rate_limit import SiteUses
from proxywhirl.timetable import Timetable

Numbers = tuple[float, ...]
"""What was learnt: first from how many outcomes; none where nothing was."""

Use = tuple[str, float, bool]
"""A use, or a refusal: the key of a proxy, when (Unix seconds), and whether it was refused."""

ANY_SITE = "*"
"""Stands for a site in the record that says which processes there are."""

PRESENT_SECONDS = 60.0
"""A process that was silent for longer has no part of the proxies."""

NOTED_EVERY, TOLD_EVERY = 5.0, 1.0
"""Seconds between two notes that a process is there; least seconds between two that it has learnt something."""

TELLING_SECONDS = 0.3
"""Until others know of a use."""

_TOLD_FOR = 2.0  # seconds, for which others may read of a use
_MOST_TOLD = 300

_RATE_SECONDS = 30.0
_LEAST_PART = 0.1  # of an even share
_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class SiteUser:
    """A process that uses a site.

    Attributes:
        seen: When it last said so (Unix seconds).
        uses: Its last ones.
        rate: Its requests per second.
        part: Which part of the proxies it takes first.
    """

    seen: float
    uses: tuple[Use, ...] = ()
    rate: float = 0.0
    part: float = 0.0


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What all processes know of a site.

    Attributes:
        limit: How often a proxy may come (`LearnedRateLimit.numbers`), and whether it is counted by network.
        lengths: How long bans last (`BanLengths.numbers`).
        used: When a process last said that it uses the site (Unix seconds).
        users: These by their names.
    """

    limit: Numbers = ()
    lengths: Numbers = ()
    used: float = 0.0
    users: Mapping[str, SiteUser] = field(default_factory=dict)


def merged(known: SiteRecord | None, new: SiteRecord, now: float) -> SiteRecord:
    """Merge what a process has to tell with what is known; `now` is in Unix seconds.

    >>> merged(SiteRecord(limit=(3.0, 0.5)), SiteRecord(limit=(2.0, 0.7), lengths=(1.0,)), now=9.0)
    SiteRecord(limit=(3.0, 0.5), lengths=(1.0,), used=0.0, users={})
    """
    before = SiteRecord() if known is None else known
    users = {**before.users, **new.users}
    present = {name: user for name, user in users.items() if abs(now - user.seen) < PRESENT_SECONDS}
    return SiteRecord(
        max(before.limit, new.limit, key=_learnt),
        max(before.lengths, new.lengths, key=_learnt),
        max(before.used, new.used),
        _shared_out(present, before.users),
    )


def _shared_out(users: Mapping[str, SiteUser], before: Mapping[str, SiteUser]) -> Mapping[str, SiteUser]:
    """Give each user a part like its part of the requests; the former ones stay where they are about right."""
    total = sum(user.rate for user in users.values()) or 1.0
    wanted = {name: max(user.rate / total, _LEAST_PART / len(users)) for name, user in users.items()}
    parts = {name: share / sum(wanted.values()) for name, share in wanted.items()}
    former = {name: user.part for name, user in before.items()}
    if former.keys() == parts.keys() and all(abs(former[name] - part) < _TOLERANCE for name, part in parts.items()):
        parts = former
    return {name: replace(user, part=round(parts[name], 4)) for name, user in users.items()}


def _learnt(numbers: Numbers) -> float:
    return numbers[0] if numbers else 0.0


def of_others(keys: Iterable[str], parts: Mapping[str, float], name: str) -> frozenset[str]:
    """Return the keys of the proxies that others than the process of this name take first. O(n log n).

    >>> sorted(of_others(["a", "b", "c", "d"], {"one": 0.5, "two": 0.5}, "two"))
    ['a', 'b']
    """
    if name not in parts or len(parts) < 2:  # noqa: PLR2004  # there are no others
        return frozenset()
    ordered = sorted(keys)
    before, count = sum(part for other, part in parts.items() if other < name), len(ordered)
    own = set(ordered[round(before * count) : round((before + parts[name]) * count)])
    return frozenset(key for key in ordered if key not in own) if own else frozenset()


@dataclass(slots=True, eq=False)
class SiteSharing:
    """One site, as this process shares it with others.

    Attributes:
        others: The keys of the proxies that others take, as long as one of the rest is not banned.
        served, unserved: The requests that got a proxy, and that found none, since others were last told.
        rate: Requests per second, a moving mean; who was not served has asked again and again.
        refused: The keys of proxies that were refused elsewhere just now: others are chosen before these.
        uses: How proxies were used that this process has not used.
        before: How all were used before this process, as far as that is known.
        recent: The last uses here that others are to hear of.
        told_at: When others were last told, on the pool's monotonic clock.
        told: From how many outcomes the site had been learnt then.
        heard: Until when the uses of each other process are known (Unix seconds).
    """

    others: frozenset[str] = frozenset()
    served: int = 0
    unserved: int = 0
    rate: float = 0.0
    refused: Timetable[str] = field(default_factory=Timetable)
    uses: dict[str, SiteUses] = field(default_factory=dict)
    before: SiteUses | None = None
    recent: deque[Use] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))
    told_at: float = -math.inf
    told: int = 0
    heard: dict[str, float] = field(default_factory=dict)
    _all_until: float = math.inf

    def measure(self, now: float) -> None:
        """Bring the rate up to date."""
        elapsed = now - self.told_at
        if elapsed > 0.0:
            newest = 1.0 - math.exp(-elapsed / _RATE_SECONDS)
            asked = self.served + min(self.unserved, self.served + elapsed)
            self.rate += newest * (asked / min(elapsed, _RATE_SECONDS) - self.rate)
        self.served = self.unserved = 0

    def last_uses(self, now: float) -> tuple[Use, ...]:
        """Return the uses that others may not have heard of yet: for a while all that are known."""
        self._all_until = min(self._all_until, now + _TOLD_FOR)
        while now > self._all_until and self.recent and self.recent[0][1] < now - _TOLD_FOR:
            self.recent.popleft()
        return tuple(self.recent)

    def hear(self, users: Mapping[str, SiteUser], name: str) -> list[Use]:
        """Return the uses by others that are news."""
        news: list[Use] = []
        for other, user in users.items():
            if other != name and user.uses:
                until = self.heard.get(other, 0.0)
                news += [use for use in user.uses if use[1] > until]
                self.heard[other] = max(until, user.uses[-1][1])
        if len(self.heard) > len(users):
            self.heard = {other: until for other, until in self.heard.items() if other in users}
        return news
