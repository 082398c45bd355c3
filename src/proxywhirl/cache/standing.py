"""Which entry leaves a full durable tier first: what a store keeps of each entry's use, and a row for each policy.

Who leaves follows from what is stored and from the hits that this process has not stored yet, so that it is the same
after a flush, after opening again, and after another process wrote. A use has a tick: the time, and later than each
tick that is known. Hits reach a tier by `touch_many`, with their ticks; of who is about to leave it is looked at
whether there are some that did not (`Uses.unsaved`), which is enough, since a use never brings anybody to the front.

- lru: the earliest last use goes first. A write is a use.
- lfu: the fewest uses, as the entry counts them; among equals the one that was accessed longest ago.
- fifo: the earliest arrival. A write of a known entry changes nothing.
- sieve: the hand goes from the earliest arrival to the latest and begins anew. It spares who was used since it last
  passed, and takes the first one that was not. Who is spared has its next turn a lap later, so that the hand is
  always at the lowest (lap, arrival), and nothing has to be stored of it.

What was stored before there were ticks goes before all that has some: by the time of the last access, or by its
generation, which is a smaller number than any tick.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from proxywhirl.cache.record import Record
from proxywhirl.cache.storable import counted
from proxywhirl.clock import SYSTEM_CLOCK, Clock

__all__ = [
    "POLICIES",
    "Admission",
    "Admitted",
    "Hits",
    "Rank",
    "Standing",
    "Uses",
    "in_order",
    "is_flooded",
    "rank_for",
]

POLICIES: dict[str, tuple[str, ...]] = {
    "lru": ("used", "accessed_at"),
    "lfu": ("access_count", "accessed_at", "used"),
    "fifo": ("arrived",),
    "sieve": ("lap", "arrived"),
}
"""What the keys of a tier are ordered by, the lowest one leaving first."""
IN_TURN = frozenset({"lru", "fifo"})
"""By these a newcomer leaves after all that is stored."""


class Standing(NamedTuple):
    """What a store keeps of an entry's use. `arrived`, `used` and `passed` (by the hand) are ticks."""

    arrived: float
    generation: int
    used: float
    accessed_at: float
    access_count: int
    passed: float = 0.0
    lap: int = 0

    def used_again(self, count: int, tick: float) -> Standing:
        """Return it after more uses."""
        last, uses = max(self.accessed_at, tick), counted(self.access_count, count)
        return self._replace(used=max(self.used, tick), accessed_at=last, access_count=uses)

    def spared(self, tick: float) -> Standing:
        """Return it as the hand leaves it."""
        return self._replace(passed=tick, lap=self.lap + 1)


Rank = Callable[[Standing], Any]  # of one column a float, else a tuple


def rank_for(policy: str) -> Rank:
    """Return what gives an entry its place in the order of a policy."""
    return attrgetter(*POLICIES[policy])


def in_order(policy: str, standings: Mapping[str, Standing]) -> Iterator[tuple[str, Standing]]:
    """Give keys with their standings in the order in which a policy has them leave."""
    rank = rank_for(policy)
    return iter(sorted(standings.items(), key=lambda each: rank(each[1])))


Hits = tuple[int, float]
"""How many uses, and the tick of the last."""


class Uses:
    """The ticks of uses, and the hits that are not stored yet. What writes and what counts hits share one.

    `unsaved` returns the hits of a key and a generation that are not stored yet, None where there are none.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._now = clock.now
        self._last = 0.0
        self.unsaved: Callable[[str, int], Hits | None] = _no_hits

    def tick(self, beyond: float = 0.0) -> float:
        """Return the time of a use: the clock's, however coarse, but later than all before and than `beyond`."""
        self._last = tick = max(self._now(), math.nextafter(max(self._last, beyond), math.inf))
        return tick

    def see(self, tick: float) -> None:
        """Take note of what is stored: what comes is later, also where the clock was set back since."""
        self._last = max(self._last, tick)


def _no_hits(key: str, generation: int) -> Hits | None:  # noqa: ARG001  # stands for what counts hits
    return None


@dataclass(slots=True)
class Admitted:
    """Which records are to be stored, the standing of each, who left, whom the hand spared, and the last tick."""

    ticked: float
    kept: dict[str, Record] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    left: dict[str, None] = field(default_factory=dict)
    spared: dict[str, Standing] = field(default_factory=dict)


def is_flooded(policy: str, bound: int | None, newcomers: Sequence[Record]) -> bool:
    """Whether all that is stored leaves for newcomers, in whatever order."""
    return policy in IN_TURN and bound is not None and len(newcomers) >= bound and _are_different(newcomers)


def _are_different(records: Sequence[Record]) -> bool:
    return len({record.key for record in records}) == len(records)


class Admission:
    """Lets records into a tier one by one, each new one in the place of who goes first; nothing is written here.

    `number` is how many entries are stored, `ticked` the latest tick of their uses, `known` has the standings of those
    that are to be written again. `stored` gives all in the order of the policy, and is read as far as need be. Keys of
    `gone` are about to leave, and are not among the `number`.
    """

    def __init__(
        self,
        policy: str,
        bound: int | None,
        uses: Uses,
        *,
        number: int,
        ticked: float,
        known: Mapping[str, Standing],
        stored: Iterator[tuple[str, Standing]],
        gone: Collection[str] = (),
    ) -> None:
        self._bound = sys.maxsize if bound is None else bound
        self._sieve = policy == "sieve"
        self._policy = policy
        self._rank = rank_for(policy)
        self._uses = uses
        self._number = number
        self._stored = stored
        self._head: tuple[str, Standing] | None = None
        self._begun = False
        self._changed: dict[str, Standing | None] = {**known, **dict.fromkeys(gone)}  # None: it has left
        self._queue: list[tuple[Any, str]] = []
        if bound is not None:  # else nobody leaves
            self._queue += [(self._rank(standing), key) for key, standing in known.items() if key not in gone]
            heapq.heapify(self._queue)
        self._whole: set[str] = set()  # whose unsaved hits were looked at
        self._admitted = Admitted(ticked)

    def admit(self, records: Sequence[Record]) -> Admitted:
        """Let records in, after those have left that are too many already; one may leave for a later one."""
        if not self._changed and self._policy in IN_TURN and _are_different(records):
            return self._admit_newcomers(records)
        admitted = self._admitted
        self._leave(self._bound)
        for record in records:
            key, accessed_at, count = record.key, record.accessed_at, record.access_count
            standing = self._changed.get(key)
            if standing is None:
                self._leave(self._bound - 1)
                self._number += 1
                tick, lap = self._tick(), self._lap()
                standing = Standing(tick, record.generation, tick, accessed_at, count, tick, lap)
                admitted.left.pop(key, None)
            else:
                arrived, _, _, _, _, passed, lap = standing
                standing = Standing(arrived, record.generation, self._tick(), accessed_at, count, passed, lap)
                self._whole.discard(key)
                admitted.kept.pop(key, None)
            self._change(key, standing)
            admitted.kept[key] = record
            admitted.standings[key] = standing
        return admitted

    def _admit_newcomers(self, records: Sequence[Record]) -> Admitted:
        """Do what `admit` does, where all are new and come after all that is stored: who leaves is known at once."""
        admitted = self._admitted
        surplus = self._number + len(records) - self._bound
        if surplus > 0:
            for key in self._in_turn(all_leave=surplus >= self._number):  # which may give one twice
                admitted.left[key] = None
                if len(admitted.left) == surplus:
                    break
        beyond = max(0, len(records) - self._bound)
        admitted.left.update(dict.fromkeys(record.key for record in records[:beyond]))
        tick = self._tick()
        for record in records[beyond:]:
            key, tick = record.key, math.nextafter(tick, math.inf)
            admitted.kept[key] = record
            admitted.standings[key] = Standing(
                tick, record.generation, tick, record.accessed_at, record.access_count, tick, 0
            )
        admitted.ticked = tick
        self._uses.see(tick)
        return admitted

    def _in_turn(self, *, all_leave: bool) -> Iterator[str]:
        """Give the keys of what is stored as they leave, their unsaved hits included."""
        if all_leave or self._policy == "fifo":  # no hit changes anything
            yield from (key for key, _ in self._stored)
            return
        later: list[tuple[Any, str]] = []
        for key, standing in self._stored:
            rank = self._rank(standing)
            while later and later[0][0] < rank:
                yield heapq.heappop(later)[1]
            hits = self._uses.unsaved(key, standing.generation)
            if hits is None:
                yield key
            else:
                heapq.heappush(later, (self._rank(standing.used_again(*hits)), key))
        while later:
            yield heapq.heappop(later)[1]

    def _leave(self, most: int) -> None:
        """Let those go that go first, until there are no more than `most`."""
        admitted = self._admitted
        while self._number > most and (first := self._first()) is not None:
            key, standing = first
            if key not in self._whole:
                self._whole.add(key)
                hits = self._uses.unsaved(key, standing.generation)
                if hits is not None:
                    self._change(key, standing.used_again(*hits))
                    continue
            if self._sieve and standing.used > standing.passed:
                admitted.spared[key] = spared = standing.spared(self._tick())
                if (written := admitted.standings.get(key)) is not None:  # without the hits that are not stored yet
                    admitted.standings[key] = written._replace(passed=spared.passed, lap=spared.lap)
                self._change(key, spared)
                continue
            self._changed[key] = None
            self._number -= 1
            admitted.left[key] = None
            for places in (admitted.kept, admitted.standings, admitted.spared):
                places.pop(key, None)

    def _first(self) -> tuple[str, Standing] | None:
        """Return who goes first, of what is stored and of what was changed since; None where there is nobody."""
        changed, queue = self._changed, self._queue
        while not self._begun or (self._head is not None and self._head[0] in changed):
            self._head, self._begun = next(self._stored, None), True
        while queue:
            rank, key = queue[0]
            standing = changed[key]
            if standing is None or self._rank(standing) != rank:  # it was changed again
                heapq.heappop(queue)
            elif self._head is not None and self._rank(self._head[1]) < rank:
                break
            else:
                return key, standing
        return self._head

    def _change(self, key: str, standing: Standing) -> None:
        self._changed[key] = standing
        if self._bound < sys.maxsize:
            heapq.heappush(self._queue, (self._rank(standing), key))

    def _lap(self) -> int:
        """Return the lap of the hand, in which a newcomer is the last one."""
        first = self._first() if self._sieve else None
        return 0 if first is None else first[1].lap

    def _tick(self) -> float:
        self._admitted.ticked = tick = self._uses.tick(self._admitted.ticked)
        return tick
