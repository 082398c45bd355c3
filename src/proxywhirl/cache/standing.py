"""Which entry leaves a full durable tier first: what a store keeps of each entry's use, and a row for each policy.

Who leaves follows from what is stored and from nothing else, so that it is the same after a flush, after opening
again, and after another process wrote. A use is a tick: the time, and later than each tick that is known. A tier is
told of hits by `touch_many`, with their ticks, before it has to choose (see `Bounded`); reading from it is none.

- lru: the earliest last use goes first. A write is a use.
- lfu: the fewest uses, as the entry counts them; among equals the one that was accessed longest ago.
- fifo: the earliest arrival. A write of a known entry changes nothing.
- sieve: the hand goes from the earliest arrival to the latest and begins anew. It spares who was used since it last
  passed, and takes the first one that was not. Who is spared has its next turn a lap later, so that the hand is
  always at the lowest (lap, arrival), and nothing has to be stored of it.

What was stored before ticks were has none, and goes before all that has: by the time of the last access, or by its
generation.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Protocol, runtime_checkable

from proxywhirl.cache.record import Record
from proxywhirl.clock import Clock, SystemClock

__all__ = ["POLICIES", "Admission", "Admitted", "Bounded", "Rank", "Standing", "Ticks", "in_order", "rank_for"]

POLICIES: dict[str, tuple[str, ...]] = {
    "lru": ("used", "accessed_at"),
    "lfu": ("access_count", "accessed_at", "used"),
    "fifo": ("arrived", "generation"),
    "sieve": ("lap", "arrived", "generation"),
}
"""What the keys of a tier are ordered by, the lowest one leaving first."""


class Standing(NamedTuple):
    """What a store keeps of an entry's use. `arrived`, `used` and `passed` are ticks, 0 where there was none."""

    arrived: float
    generation: int
    used: float
    accessed_at: float
    access_count: int
    passed: float = 0.0
    lap: int = 0

    def spared(self, tick: float) -> Standing:
        """Return it as the hand leaves it."""
        return self._replace(passed=tick, lap=self.lap + 1)


Rank = Callable[[Standing], tuple[float, ...]]


def rank_for(policy: str) -> Rank:
    """Return what gives an entry its place in the order of a policy."""
    return attrgetter(*POLICIES[policy])


def in_order(policy: str, standings: Mapping[str, Standing]) -> Iterator[tuple[str, Standing]]:
    """Give keys with their standings in the order in which a policy has them leave."""
    rank = rank_for(policy)
    return iter(sorted(standings.items(), key=lambda each: rank(each[1])))


class Ticks:
    """The times of uses: the clock's, but each is later than the one before, however coarse the clock is."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._now = (clock or SystemClock()).now
        self._last = 0.0

    def next(self, beyond: float = 0.0) -> float:
        """Return the time of a use that comes after `beyond`."""
        self._last = tick = max(self._now(), math.nextafter(max(self._last, beyond), math.inf))
        return tick


@runtime_checkable
class Bounded(Protocol):
    """What a tier may offer beside `Tier` that evicts: it is told of the latest hits before it has to choose."""

    def has_room(self, number: int) -> bool:
        """Whether so many newcomers can come and nobody leaves for them."""
        ...


@dataclass(slots=True)
class Admitted:
    """Which records are to be stored, the standing of each, who left, and whom the hand spared on its way."""

    kept: dict[str, Record] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    left: dict[str, None] = field(default_factory=dict)
    spared: dict[str, Standing] = field(default_factory=dict)


class _Candidates:
    """Who goes first, of what is stored and of what was changed since; `stored` is read as far as need be."""

    def __init__(self, policy: str, stored: Iterator[tuple[str, Standing]]) -> None:
        self._rank = rank_for(policy)
        self._stored = stored
        self._head: tuple[str, Standing] | None = None
        self._begun = False
        self._changed: dict[str, Standing | None] = {}  # None: it has left
        self._queue: list[tuple[tuple[float, ...], str]] = []

    def change(self, key: str, standing: Standing | None) -> None:
        """Note what a key's standing is now, None where it has left."""
        self._changed[key] = standing
        if standing is not None:
            heapq.heappush(self._queue, (self._rank(standing), key))

    def first(self) -> tuple[str, Standing] | None:
        """Return who goes first, None where there is nobody."""
        while not self._begun or (self._head is not None and self._head[0] in self._changed):
            self._head, self._begun = next(self._stored, None), True
        while self._queue:
            rank, key = self._queue[0]
            standing = self._changed[key]
            if standing is None or self._rank(standing) != rank:  # it was changed again
                heapq.heappop(self._queue)
            elif self._head is not None and self._rank(self._head[1]) < rank:
                break
            else:
                return key, standing
        return self._head


class Admission:
    """Lets records into a full tier one by one; nothing is written here.

    `number` is how many entries are stored, `known` has the standings of those that are to be written again, `stored`
    gives all in the order of the policy. Keys of `gone` are about to leave, and are not among the `number`.
    """

    def __init__(
        self,
        policy: str,
        bound: int | None,
        *,
        number: int,
        known: Mapping[str, Standing],
        stored: Iterator[tuple[str, Standing]],
        tick: Callable[[], float],
        gone: Collection[str] = (),
    ) -> None:
        self._bound = sys.maxsize if bound is None else bound
        self._number = number
        self._known = {key: standing for key, standing in known.items() if key not in gone}
        self._tick = tick
        self._sieve = policy == "sieve"
        self._candidates = _Candidates(policy, stored)
        for key in gone:
            self._candidates.change(key, None)
        self._admitted = Admitted()

    def admit(self, records: Sequence[Record]) -> Admitted:
        """Let records in, each new one in the place of who goes first; one may leave for a later one.

        Those leave first that are too many already.
        """
        admitted = self._admitted
        self._leave(self._bound)
        for record in records:
            key, tick = record.key, self._tick()
            standing = self._known.get(key)
            if standing is None:
                self._leave(self._bound - 1)
                self._number += 1
                standing = Standing(tick, 0, tick, 0.0, 0, tick, self._lap())
                admitted.left.pop(key, None)
            self._change(
                key, standing._replace(used=tick, accessed_at=record.accessed_at, access_count=record.access_count)
            )
            admitted.kept.pop(key, None)
            admitted.kept[key] = record
        admitted.standings = {key: self._known[key] for key in admitted.kept}
        return admitted

    def _change(self, key: str, standing: Standing) -> None:
        self._known[key] = standing
        self._candidates.change(key, standing)

    def _leave(self, most: int) -> None:
        """Let those go first that go first, until there are no more than `most`."""
        admitted = self._admitted
        while self._number > most and (first := self._candidates.first()) is not None:
            key, standing = first
            if self._sieve and standing.used > standing.passed:
                admitted.spared[key] = spared = standing.spared(self._tick())
                self._change(key, spared)
                continue
            self._candidates.change(key, None)
            self._number -= 1
            admitted.left[key] = None
            for places in (self._known, admitted.kept, admitted.spared):
                places.pop(key, None)

    def _lap(self) -> int:
        """Return the lap of the hand, in which a newcomer is the last one."""
        first = self._candidates.first() if self._sieve else None
        return 0 if first is None else first[1].lap
