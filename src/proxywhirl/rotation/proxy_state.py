"""What a pool knows of its proxies: a sketch until the first use, a state from then on. Pure.

A sketch stays a sketch until its proxy is used: a pool of a million is filled in a second or two, and the values are
made one by one. Attributes that many sketches have in common are read once.

A proxy that failed is set aside for a back-off with full jitter (see `backoff.Backoff`), so that proxies that failed
together, as when the network was away, do not come back as one crowd. How long depends on whether it ever served:

===============  ==================================================  ======================
                 the most seconds, by failures in a row              why
===============  ==================================================  ======================
it has served    2, 6, 18, 54, 162, then 300                         repaired, it is found within five minutes
it never did     2, 16, 128, 1024, then 3600                         most proxies of public lists never will
===============  ==================================================  ======================

The mean of the first one, one second, outlives the request that failed and its fail-over, and is short enough that a
pool of three does not run dry by one lost connection. `retries.pursuit` waits by the first row between its rounds, too.
Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from proxywhirl.backoff import Backoff
from proxywhirl.clock import Clock
from proxywhirl.models import Attributes, Proxy, Sketch
from proxywhirl.rotation.answer_times import AnswerTimes
from proxywhirl.validation import require_number

BACKOFF = Backoff(2.0, 300.0, growth=3.0)
HOPELESS_BACKOFF = Backoff(2.0, 3600.0, growth=8.0)

FAILURES_TO_CAP = 6
"""The first number of failures in a row at which both back-offs are the longest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for each proxy; None is no limit.

    Attributes:
        requests_per_second: Uses that may begin in a second, evenly spaced.
        in_flight: Uses at the same time, 1 or more.
        cooldown: Seconds from the end of a use to the next one on the same site; none runs beside it.

    Raises:
        TypeError: A limit is no number.
        ValueError: A limit is not more than 0.
    """

    requests_per_second: float | None = None
    in_flight: int | None = None
    cooldown: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that no proxy could keep."""
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None:
                require_number(name, value, whole=name == "in_flight", more="; leave it out for no limit")


NO_LIMITS = Limits()


HALF_LIFE = 6 * 3600.0
"""Seconds after which an outcome weighs half: a proxy that was repaired is no longer what it was."""

MEMORY = 40.0
_KEPT = 1.0 - 1.0 / MEMORY
DECAY_STEP = 1.0  # seconds that are not worth a decay

_NEWEST = 0.3  # weight of the newest latency in their mean
_PRIOR_GOOD, _PRIOR = 0.9, 1.0  # a success rate begins as if nine in ten had served, with the weight of one outcome


@dataclass(slots=True, eq=False)
class ProxyState:
    """Counts and decayed means. Times are on the pool's monotonic clock; changed only under the pool's lock.

    Attributes:
        failures: Those in a row.
        incident: Raised each time the proxy is set aside: leases that were out together carry the same number, and only
            the first of them to fail counts.
        good: Successes, decayed by `HALF_LIFE` since `stamp`, as are the failures in `bad` that tell of the proxy.
        latency: A moving mean of its successes in seconds.
        timed, log_latency, log_deviation: How many of its latencies count, decayed, and the mean and the deviation of
            their logarithms (see `answer_times`).
        next_use: When the limit of requests per second allows the next one.
        withheld: The store has it retired or dead, and no request was served since then. It has failures then.
    """

    # What each use reads and writes comes first, side by side in memory.
    key: str
    proxy: Proxy
    failures: int = 0
    in_flight: int = 0
    incident: int = 0
    served: int = 0
    good: float = 0.0
    bad: float = 0.0
    stamp: float = 0.0
    latency: float | None = None
    timed: float = 0.0
    log_latency: float = 0.0
    log_deviation: float = 0.0
    failed: int = 0
    next_use: float = 0.0
    withheld: bool = False

    @property
    def chance(self) -> float:
        """The chance in 0..1 that it serves the next request, as far as was seen; never quite 0 or 1."""
        return (self.good + _PRIOR_GOOD) / (self.good + self.bad + _PRIOR)

    def age(self, now: float) -> None:
        """Let what was counted weigh less."""
        if now is not self.stamp and now - self.stamp > DECAY_STEP:
            kept = 0.5 ** ((now - self.stamp) / HALF_LIFE)
            self.good *= kept
            self.bad *= kept
            self.timed *= kept
            self.stamp = now

    def learn(self, now: float, latency: float | None, *, ok: bool) -> None:
        """Take in an outcome that tells of the proxy."""
        self.age(now)
        if self.good + self.bad > MEMORY:
            self.good *= _KEPT
            self.bad *= _KEPT
        if ok:
            self.good += 1.0
            if latency is not None:
                self.latency = latency if self.latency is None else self.latency + _NEWEST * (latency - self.latency)
        else:
            self.bad += 1.0


_TEXTS = 65_536  # texts of sketches that are remembered


class ProxyStates:
    """Slots and sketches by key, in the order in which they came. Also the `Roster` of the strategies."""

    def __init__(
        self,
        rng: random.Random,
        clock: Clock,
        portray: Callable[[str, Sketch], Proxy] | None,
        success_worth: float | None = None,
    ) -> None:
        self.rng = rng
        self.success_worth = success_worth
        self.times = AnswerTimes()
        self.others: Collection[str] = frozenset()
        self.monotonic = clock.monotonic
        self.held: dict[str, ProxyState | Sketch] = {}
        self._portray = portray
        self._alike = lru_cache(maxsize=_TEXTS)(self._read)

    def slot(self, key: str) -> ProxyState | None:
        """See `Roster`."""
        held = self.held.get(key)
        return held if type(held) is ProxyState else None

    def attributes(self, key: str) -> Attributes:
        """See `Roster`."""
        return self.known(key).attributes

    def known(self, key: str) -> Proxy:
        """Return the proxy of a key, or another one that differs from it in address and label alone."""
        held = self.held[key]
        if isinstance(held, ProxyState):
            return held.proxy
        return self._alike(held[0].partition("://")[0], held[1])

    def value(self, key: str) -> Proxy:
        """Return a proxy; of a sketch it is made."""
        held = self.held[key]
        return held.proxy if isinstance(held, ProxyState) else self.make(key, held)

    def make(self, key: str, sketch: Sketch) -> Proxy:
        """Make the value of a sketch.

        Raises:
            TypeError: the pool was made without what makes them.
        """
        if self._portray is None:
            raise TypeError("a pool that is filled with sketches needs to be made with `portray`")
        return self._portray(key, sketch)

    def exchange(self, key: str, known: Proxy | Sketch, *, aside: bool) -> None:
        """Replace the facts about a proxy; see `open`."""
        held = self.held[key]
        if isinstance(known, Proxy):
            self.open(key, aside=aside).proxy = known
        elif isinstance(held, ProxyState):
            held.proxy = self.make(key, known)
        else:
            self.held[key] = known

    def open(self, key: str, *, aside: bool = False) -> ProxyState:
        """Return the state of a key, made now if it was a sketch; `aside` says that it is withheld."""
        held = self.held[key]
        if isinstance(held, ProxyState):
            return held
        state = ProxyState(key, self.make(key, held), failures=FAILURES_TO_CAP if aside else 0, withheld=aside)
        self.held[key] = state
        return state

    def _read(self, scheme: str, text: str) -> Proxy:
        return self.make("", (f"{scheme}://host.invalid:1", text))
