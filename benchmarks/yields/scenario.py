"""What one run happens in: the proxies, the sites, and which requests come when. It is drawn from a seed elsewhere.

A scenario belongs to one run, since the laws of its sites count. The same seed draws the same one again.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.yields.laws import FailingPages, Law
from proxywhirl.models import Proxy, Target, page_of

__all__ = ["TUNNEL", "Arrival", "Event", "Kind", "Scenario", "Site", "TrueProxy"]

TUNNEL = -1
"""Stands for the page of a request in a tunnel, which nobody sees."""


class Kind(StrEnum):
    """What a proxy is."""

    GOOD = "good"
    DEAD = "dead"
    FLAKY = "flaky"
    FAST_FAILING = "fast failing"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class TrueProxy:
    """A proxy as it is, which no contestant but the oracle knows.

    Attributes:
        success: Share of the uses that reach the site while it is alive.
        latency: Mean seconds of these; with a `tail` their median.
        silent: It fails by not answering.
        turns: The moments at which it dies and comes back.
        exits: The moments at which another exit takes the place of the one before.
        network: Which network its exit is in.
        tail: Sigma of the logarithm of its latency; 0 where the latency has no heavy tail.
    """

    value: Proxy
    url: str
    kind: Kind
    success: float
    latency: float
    silent: bool
    turns: tuple[float, ...] = ()
    exits: tuple[float, ...] = ()
    network: int = 0
    tail: float = 0.0

    def alive(self, now: float) -> bool:
        """Whether it can serve at a moment."""
        if self.kind is Kind.DEAD:
            return False
        return not self.turns or bisect_right(self.turns, now) % 2 == 0

    def alive_throughout(self, since: float, until: float) -> bool:
        """Whether it can serve at every moment of a span."""
        return self.alive(since) and bisect_right(self.turns, since) == bisect_right(self.turns, until)

    def exit(self, now: float) -> int:
        """Return which of its exits it has at a moment."""
        return bisect_right(self.exits, now) if self.exits else 0


@dataclass(frozen=True, slots=True)
class Site:
    """A site as it is: the share of the requests that are for it, and the laws by which it refuses."""

    target: Target
    share: float
    laws: tuple[Law, ...] = ()

    def target_of(self, page: int) -> Target:
        """Return what a request for a page is given to the pool as."""
        if page == TUNNEL:
            return self.target
        target = self.target
        return Target(target.scheme, target.host, target.port, page=page_of("GET", f"/{page}"))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: when it comes, in seconds from the start, to which site and which page."""

    at: float
    site: int
    page: int = TUNNEL


@dataclass(frozen=True, slots=True)
class Event:
    """Many proxies go at one moment: everywhere, or (`site`) at one site."""

    at: float
    site: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that one run is about; a proxy and a site are meant by their places here.

    Attributes:
        arrivals: The requests, in the order of their coming.
        attempts: How many proxies a request may try.
        patience: Seconds for which a request waits in all where no proxy can be had.
        timeout: After how many seconds an attempt is given up.
        longest: Seconds from its coming after which a request is worth nothing, None where it may take its time.
        away: Spans in which our own network is away, so that nothing can be connected to.
        size: Bytes of a page.
        worth: What a served request is worth, in the currency of the prices; None where these do not count.
        events: The moments after which recovery is measured.
        floor: Share of the oracle's first attempts that `bandit` must reach in the second half.
    """

    name: str
    seed: int
    proxies: tuple[TrueProxy, ...]
    sites: tuple[Site, ...]
    arrivals: tuple[Arrival, ...]
    attempts: int = 5
    patience: float = 5.0
    timeout: float = 10.0
    longest: float | None = None
    away: tuple[tuple[float, float], ...] = ()
    size: int = 0
    worth: float | None = None
    events: tuple[Event, ...] = field(default=())
    floor: float = 0.85

    def fails_always(self, request: Arrival) -> bool:
        """Whether a request is for a page that fails whoever asks."""
        laws = self.sites[request.site].laws
        return any(isinstance(law, FailingPages) and law.way(request.page) is not None for law in laws)
