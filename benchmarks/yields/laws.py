"""The laws of sites: for what reason a site refuses a use of it, each kind of reason by itself.

A law is asked in two ways. `answer` counts a use that reached the site, and returns how it is refused, None where it is
not. `chance` returns with which probability a use at this moment would not be refused, and counts nothing: it is for
the oracle alone. The laws of a site are asked one after another, and the first that refuses decides.

A law keeps what it counts, so it belongs to one run.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "BREAKS_OFF",
    "Answer",
    "FailingPages",
    "Law",
    "Outage",
    "RateLimit",
    "Refusals",
    "SoftBlocks",
    "Standing",
    "Taste",
    "Use",
    "as_network",
    "as_proxy",
]

DOUBLINGS = 30
"""More would make no ban longer: the longest one has been reached."""

BREAKS_OFF = 0
"""Stands for a status where the page breaks off instead of being answered."""


@dataclass(slots=True)
class Use:
    """A use of a site: by which proxy, exit and network, of which page (-1: not seen), and when."""

    proxy: int
    exit: int
    network: int
    page: int
    now: float


@dataclass(frozen=True, slots=True)
class Answer:
    """How a use is refused: a status, or `BREAKS_OFF`; a `soft` one says 200 and has a captcha in its body.

    Attributes:
        retry_after: Seconds that the site asks to be left alone for.
        through: The one who asks is to blame, whatever the status says.
        gone: The site cannot be reached, which its proxy says.
        page: It is this page that fails, whoever asks.
    """

    status: int
    retry_after: float | None = None
    soft: bool = False
    through: bool = False
    gone: bool = False
    page: bool = False


class Law(Protocol):
    """A reason to refuse."""

    def answer(self, use: Use) -> Answer | None:
        """Count a use that reached the site; return how it is refused, None where it is not."""
        ...

    def chance(self, use: Use) -> float:
        """Return with which probability a use would not be refused. Only the oracle may ask."""
        ...


def as_proxy(use: Use) -> int:
    """Return for whom a site counts, where it counts each proxy for itself."""
    return use.proxy


def as_network(use: Use) -> int:
    """Return for whom a site counts, where it counts those of a network together."""
    return use.network


@dataclass(slots=True)
class Standing:
    """How a proxy stands with a site that limits the rate: its last uses, and until when it is banned."""

    used: deque[float] = field(default_factory=deque)
    until: float = 0.0
    bans: int = 0

    def would_ban(self, uses: int, window: float, now: float) -> bool:
        """Whether a use at this moment would be one too many."""
        while self.used and self.used[0] <= now - window:
            self.used.popleft()
        return len(self.used) >= uses


@dataclass(slots=True)
class RateLimit:
    """Who comes more than `uses` times in `window` seconds is refused for `ban` seconds, and longer each further time.

    Attributes:
        growth: How many times longer.
        longest: The most that a ban lasts.
        tells: The refusal says how long it lasts.
        whom: For whom the site counts.
        status: Of a refusal that does not tell.
        night: Number of seconds that day and night last together, the part of it that is night, and by which factor the
            window is longer then.
        bans: How many began.
    """

    uses: int
    window: float
    ban: float
    growth: float = 2.0
    longest: float = 3_600.0
    tells: bool = False
    whom: Callable[[Use], int] = as_proxy
    status: int = 403
    night: tuple[float, float, float] | None = None
    bans: int = 0
    standings: dict[int, Standing] = field(default_factory=dict)

    def answer(self, use: Use) -> Answer | None:
        """Refuse who is banned, or comes once too often."""
        who = self.whom(use)
        standing = self.standings.get(who)
        if standing is None:
            standing = self.standings[who] = Standing()
        if use.now >= standing.until:
            if not standing.would_ban(self.uses, self.window_at(use.now), use.now):
                standing.used.append(use.now)
                return None
            standing.until = use.now + min(self.ban * self.growth ** min(standing.bans, DOUBLINGS), self.longest)
            standing.bans += 1
            standing.used.clear()
            self.bans += 1
        return Answer(429, standing.until - use.now) if self.tells else Answer(self.status)

    def chance(self, use: Use) -> float:
        """Return 0 where the use would be refused."""
        standing = self.standings.get(self.whom(use))
        if standing is None:
            return 1.0
        if use.now < standing.until or standing.would_ban(self.uses, self.window_at(use.now), use.now):
            return 0.0
        return 1.0

    def window_at(self, now: float) -> float:
        """Return the window of a moment."""
        if self.night is None:
            return self.window
        cycle, part, factor = self.night
        return self.window * factor if (now / cycle) % 1.0 >= 1.0 - part else self.window


@dataclass(frozen=True, slots=True)
class Refusals:
    """Some are refused whenever they come: proxies for ever, or a network from a moment to another one."""

    proxies: frozenset[int] = frozenset()
    networks: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    status: int = 403

    def answer(self, use: Use) -> Answer | None:
        """Refuse who is among them."""
        return None if self.chance(use) else Answer(self.status)

    def chance(self, use: Use) -> float:
        """Return 0 for who is among them."""
        if use.proxy in self.proxies:
            return 0.0
        span = self.networks.get(use.network)
        return 0.0 if span is not None and span[0] <= use.now < span[1] else 1.0


@dataclass(slots=True)
class Taste:
    """A share of the exits is refused for reasons of the site's own: each exit always, or never."""

    share: float
    seed: str
    status: int = 403
    soft: bool = False
    known: dict[tuple[int, int], bool] = field(default_factory=dict)

    def answer(self, use: Use) -> Answer | None:
        """Refuse an exit that the site does not like."""
        return Answer(self.status, soft=self.soft) if self._dislikes(use) else None

    def chance(self, use: Use) -> float:
        """Return 0 for such an exit."""
        return 0.0 if self._dislikes(use) else 1.0

    def _dislikes(self, use: Use) -> bool:
        key = (use.proxy, use.exit)
        said = self.known.get(key)
        if said is None:
            drawn = random.Random(f"{self.seed} {use.proxy} {use.exit}").random()
            said = self.known[key] = drawn < self.share
        return said


@dataclass(frozen=True, slots=True)
class SoftBlocks:
    """A page with a captcha comes at random: how often, differs from proxy to proxy."""

    shares: tuple[float, ...]
    rng: random.Random
    status: int = 200

    def answer(self, use: Use) -> Answer | None:
        """Send the captcha, or the page."""
        return Answer(self.status, soft=True) if self.rng.random() < self.shares[use.proxy] else None

    def chance(self, use: Use) -> float:
        """Return how often the page comes."""
        return 1.0 - self.shares[use.proxy]


@dataclass(slots=True)
class FailingPages:
    """A share of the pages always fails in one of some ways, whoever asks."""

    share: float
    ways: tuple[int, ...]
    seed: str
    known: dict[int, int | None] = field(default_factory=dict)

    def answer(self, use: Use) -> Answer | None:
        """Send the page's failure."""
        way = self.way(use.page)
        return None if way is None else Answer(way, page=True)

    def chance(self, use: Use) -> float:
        """Return 0 for a page that fails."""
        return 1.0 if self.way(use.page) is None else 0.0

    def way(self, page: int) -> int | None:
        """Return the status with which a page fails, None where it does not."""
        if page not in self.known:
            rng = random.Random(f"{self.seed} {page}")
            self.known[page] = rng.choice(self.ways) if rng.random() < self.share else None
        return self.known[page]


@dataclass(frozen=True, slots=True)
class Outage:
    """The site is down now and then: it answers with an error itself, or (`gone`) no proxy can reach it.

    `moments` are those at which it goes down and comes back.
    """

    moments: tuple[float, ...]
    gone: bool = False

    def answer(self, use: Use) -> Answer | None:
        """Refuse everybody meanwhile."""
        return None if self.chance(use) else Answer(502 if self.gone else 503, through=True, gone=self.gone)

    def chance(self, use: Use) -> float:
        """Return 0 meanwhile."""
        return float(bisect_right(self.moments, use.now) % 2 == 0)
