"""Which entry leaves a full tier first: the policies, a row for each, in memory and on disk.

- lru: the earliest last use goes first. A write is a use.
- lfu: the fewest uses, as the entry counts them; among equals the one that was accessed longest ago. A write brings the
  count that is written.
- fifo: the earliest arrival. A write of a known entry changes nothing.
- sieve (SIEVE, Zhang et al., NSDI 2024): a hand goes from the earliest arrival to the latest and begins anew. It spares
  an entry that was used since the hand last passed, and takes the first one that was not. A spared entry has its next
  turn a lap later, so that the hand is always at the lowest (lap, arrival).

A tier in memory keeps an order of its keys (`EvictionOrder`). `touch` may run while another thread changes the order:
it never raises. `admit` lets records in.

A durable tier stores with each entry what its policy needs (`Standing`), and `Admission` lets records in. Which entry
leaves depends on what is stored and on the hits that this process has not stored yet. So it is the same after a flush,
after opening again, and after another process wrote:

- A use has a tick: the time, and later than each tick that is known.
- Hits reach a tier by `touch_many`, with their ticks.
- An entry that is about to leave is looked up in `Uses.unsaved`. That is enough: no use brings an entry to the front.
- Entries of releases without ticks go first: by the time of the last access, or by the generation, which is a smaller
  number than any tick.
"""

from __future__ import annotations

import heapq
import math
import sys
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

from proxywhirl.cache.record import Record, counted
from proxywhirl.clock import SYSTEM_CLOCK, Clock


class EvictionOrder(ABC):
    """The keys of a tier in memory, ordered by who goes first."""

    @abstractmethod
    def add(self, key: str) -> None:
        """Take a new key in, or treat a known one as written again."""

    @abstractmethod
    def touch(self, key: str) -> None:
        """Note that a key was used; an unknown one is ignored."""

    @abstractmethod
    def discard(self, key: str) -> None:
        """Forget a key; an unknown one is ignored."""

    @abstractmethod
    def victim(self) -> str:
        """Return the key that goes first, to be discarded next. Raises `KeyError` when there is none."""

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Whether a key is known."""

    @abstractmethod
    def __len__(self) -> int:
        """How many keys are known."""

    def set_uses(self, key: str, uses: int, used_at: float) -> None:  # noqa: B027  # most count no uses
        """Take over a record's use: how often in all, and when last (Unix seconds)."""

    @property
    def touch_known(self) -> Callable[[str], object]:
        """`touch` where nanoseconds count: it may raise `KeyError` for a key that is not known any more."""
        return self.touch

    def exchange(self, key: str) -> str:
        """Evict the key that goes first and take a new one in; return the evicted one."""
        victim = self.victim()
        self.discard(victim)
        self.add(key)
        return victim

    def add_all(self, keys: Collection[str], bound: int) -> list[str] | None:
        """Add different keys one by one, with a victim for each unknown one too many; return all that are out then.

        None, with nothing done, where that cannot be told at once.
        """
        del keys, bound
        return None


class _Queue(EvictionOrder):
    """A queue: keys leave at the front and come in at the end."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()  # a dict finds its first key slowly after many removals

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def discard(self, key: str) -> None:
        self._keys.pop(key, None)

    def victim(self) -> str:
        while self._keys:
            try:
                return next(iter(self._keys))
            except RuntimeError:  # another thread touched a key between `iter` and `next`
                continue
        return _nothing_left()

    def exchange(self, key: str) -> str:
        victim, _ = self._keys.popitem(last=False)
        self._keys[key] = None
        return victim

    def add_all(self, keys: Collection[str], bound: int) -> list[str] | None:
        """The last `bound` keys are in at the end, each behind all that were there before."""
        beyond = list(islice(keys, max(0, len(keys) - bound)))
        if not self._keys.keys().isdisjoint(keys):
            for key in keys:
                self._keys.pop(key, None)
        self._keys.update(dict.fromkeys(islice(keys, len(beyond), None)))
        surplus = len(self._keys) - bound
        return [*(self._keys.popitem(last=False)[0] for _ in range(surplus)), *beyond]


class _LeastRecentlyUsed(_Queue):
    @property
    def touch_known(self) -> Callable[[str], object]:
        return self._keys.move_to_end

    def add(self, key: str) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)

    def touch(self, key: str) -> None:
        try:
            self._keys.move_to_end(key)
        except KeyError:  # evicted by another thread between its lookup and here
            return


class _FirstInFirstOut(_Queue):
    def add(self, key: str) -> None:
        self._keys.setdefault(key)

    def touch(self, key: str) -> None:
        pass

    def add_all(self, keys: Collection[str], bound: int) -> list[str] | None:
        """A known key keeps its place, and so may leave before its turn and come again."""
        return super().add_all(keys, bound) if self._keys.keys().isdisjoint(keys) else None


class _LeastFrequentlyUsed(EvictionOrder):
    """A rank is [uses, last use, tick]; a use is not earlier than any that was known when it came.

    Most ranks grow, so a heap with outdated ranks is enough: when one surfaces it is pushed back as it is now. A rank
    that may shrink is replaced by a new object; its identity tells a key from an earlier one. A touch changes a rank in
    place, so a touch after the key was discarded does not bring it back; of two at once one may be lost.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, list[float]] = {}
        self._heap: list[tuple[list[float], str, list[float]]] = []  # (rank when it was pushed, key, the rank itself)
        self._ticks = count()
        self._latest = 0.0

    def add(self, key: str) -> None:
        if key not in self._ranks:
            self._push(key, [0, self._latest, next(self._ticks)])

    def __contains__(self, key: object) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def touch(self, key: str) -> None:
        rank = self._ranks.get(key)
        if rank is not None:
            rank[0] += 1
            rank[1] = self._latest
            rank[2] = next(self._ticks)

    def set_uses(self, key: str, uses: int, used_at: float) -> None:
        if key in self._ranks:
            self._latest = max(self._latest, used_at)
            self._push(key, [uses, used_at, next(self._ticks)])

    def discard(self, key: str) -> None:
        self._ranks.pop(key, None)
        self._tidy()

    def victim(self) -> str:
        while True:
            noted, key, rank = self._heap[0] if self._heap else _nothing_left()
            if self._ranks.get(key) is not rank:
                heapq.heappop(self._heap)
            elif rank == noted:
                return key
            else:
                heapq.heapreplace(self._heap, (rank.copy(), key, rank))

    def _push(self, key: str, rank: list[float]) -> None:
        self._ranks[key] = rank
        heapq.heappush(self._heap, (rank.copy(), key, rank))
        self._tidy()

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank.copy(), key, rank) for key, rank in self._ranks.items()]
            heapq.heapify(self._heap)


class _Sieve(EvictionOrder):
    """Two queues in the order of arrival: the keys before the hand in this lap, and those spared for the next one.

    A key has a cell that a use marks. Only `victim` moves keys, each at most once: amortised one step for each use,
    however busily other threads set marks meanwhile.
    """

    def __init__(self) -> None:
        self._ahead: OrderedDict[str, list[bool]] = OrderedDict()
        self._spared: OrderedDict[str, list[bool]] = OrderedDict()

    def add(self, key: str) -> None:
        cell = self._ahead.get(key) or self._spared.get(key)
        if cell is not None:
            cell[0] = True
            return
        if not self._ahead:
            self._ahead, self._spared = self._spared, self._ahead
        self._ahead[key] = [False]

    def __contains__(self, key: object) -> bool:
        return key in self._ahead or key in self._spared

    def __len__(self) -> int:
        return len(self._ahead) + len(self._spared)

    def touch(self, key: str) -> None:
        cell = self._ahead.get(key) or self._spared.get(key)
        if cell is not None:  # a mark on one that another thread takes out just now changes nothing
            cell[0] = True

    def discard(self, key: str) -> None:
        if self._ahead.pop(key, None) is None:
            self._spared.pop(key, None)

    def victim(self) -> str:
        for _ in range(len(self._ahead) + len(self._spared)):
            key = self._next()
            cell = self._ahead[key]
            if not cell[0]:
                return key
            cell[0] = False
            self._spared[key] = self._ahead.pop(key)
        return self._next()  # others have marked all of them again

    def _next(self) -> str:
        """Return the key that the hand comes to, in the next lap where this one is at its end."""
        if not self._ahead:
            self._ahead, self._spared = self._spared, self._ahead
        return next(iter(self._ahead)) if self._ahead else _nothing_left()


def _nothing_left() -> NoReturn:
    raise KeyError("the order is empty")


class Policy(NamedTuple):
    """What decides which entry leaves: in memory an order of keys, on disk columns whose lowest values leave first.

    With `in_turn` a newcomer leaves after all stored entries.
    """

    order: Callable[[], EvictionOrder]
    columns: tuple[str, ...]
    in_turn: bool = False


POLICIES: dict[str, Policy] = {
    "lru": Policy(_LeastRecentlyUsed, ("used", "accessed_at"), in_turn=True),
    "lfu": Policy(_LeastFrequentlyUsed, ("access_count", "accessed_at", "used")),
    "fifo": Policy(_FirstInFirstOut, ("arrived",), in_turn=True),
    "sieve": Policy(_Sieve, ("lap", "arrived")),
}


def order_for(policy: str, bound: int | None) -> EvictionOrder:
    """Make the order of a tier of `bound` entries; one without a bound has none, and the cheapest `touch`."""
    return _FirstInFirstOut() if bound is None else POLICIES[policy].order()


def admit(records: Sequence[Record], order: EvictionOrder, bound: int | None) -> tuple[list[Record], list[str]]:
    """Let records into a tier of `bound` entries, each new one in the place of the one that goes first.

    The order is brought up to date; a tier without a bound keeps none. Returns the records that are still in
    after the last one, the last of each key, and the keys that left; a record may leave for a later one of
    the same call.
    """
    latest = {record.key: record for record in records}
    if bound is None:
        return list(latest.values()), []
    left: dict[str, None] = {}
    while len(order) > bound:  # stored when the bound was larger
        left[order.victim()] = None
        order.discard(next(reversed(left)))
    out = order.add_all(latest, bound) if len(latest) == len(records) else None
    if out is not None:
        kept = dict(islice(latest.items(), max(0, len(latest) - bound), None))
        return list(kept.values()), [key for key in (*left, *out) if key not in kept]
    kept = {}
    for record in records:
        if record.key not in order:
            while len(order) >= bound:
                victim = order.victim()
                order.discard(victim)
                kept.pop(victim, None)
                left[victim] = None
            left.pop(record.key, None)
        kept[record.key] = record
        order.add(record.key)
        order.set_uses(record.key, record.access_count, record.accessed_at)
    return list(kept.values()), list(left)


class Standing(NamedTuple):
    """The stored use of an entry. `arrived`, `used` and `passed` (by the hand) are ticks."""

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


Rank = Callable[[Standing], Any]  # a float for one column, else a tuple


def rank_for(policy: str) -> Rank:
    """Return an entry's rank in the order of a policy."""
    return attrgetter(*POLICIES[policy].columns)


def in_order(policy: str, standings: Mapping[str, Standing]) -> Iterator[tuple[str, Standing]]:
    """Give keys with their standings in the order in which a policy has them leave."""
    rank = rank_for(policy)
    return iter(sorted(standings.items(), key=lambda each: rank(each[1])))


Hits = tuple[int, float]
"""How many uses, and the tick of the last."""


class Uses:
    """The ticks of uses, and the hits that are not stored yet; shared by the writers and the counter of hits.

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
        """Take note of a stored tick: later ones are greater, even if the clock was set back."""
        self._last = max(self._last, tick)


def _no_hits(key: str, generation: int) -> Hits | None:  # noqa: ARG001  # stands for what counts hits
    return None


@dataclass(slots=True)
class Admitted:
    """Which records to store, the standing of each, which keys left, which the hand spared, and the last tick."""

    ticked: float
    kept: dict[str, Record] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    left: dict[str, None] = field(default_factory=dict)
    spared: dict[str, Standing] = field(default_factory=dict)


class Admission:
    """Lets records into a tier one by one, each new one in the place of the first to leave; nothing is written here.

    `number` is how many entries are stored, `ticked` the latest tick of their uses, `known` has the standings of those
    that are to be written again. `stored` gives all in the order of the policy, and is read as far as need be; `keys`
    gives theirs in any order, where that costs less. Keys of `gone` are about to leave, and are not among the `number`.
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
        keys: Iterable[str] | None = None,
        gone: Collection[str] = (),
    ) -> None:
        self._bound = sys.maxsize if bound is None else bound
        self._sieve = policy == "sieve"
        self._in_turn = POLICIES[policy].in_turn
        self._rank = rank_for(policy)
        self._uses = uses
        self._number = number
        self._stored = stored
        self._keys = (key for key, _ in stored) if keys is None else keys
        self._head: tuple[str, Standing] | None = None
        self._begun = False
        self._changed: dict[str, Standing | None] = {}  # None: it has left
        self._queue: list[tuple[Any, str]] = []
        for key, standing in known.items():
            self._change(key, standing)
        self._changed.update(dict.fromkeys(gone))
        self._whole: set[str] = set()  # keys with unsaved hits that were looked at
        self._ticks = False
        self._admitted = Admitted(ticked)

    def admit(self, records: Sequence[Record]) -> Admitted:
        """Let records in, after surplus ones have left; one may leave for a later one."""
        if self._in_turn and not self._changed and len({record.key for record in records}) == len(records):
            return self._admit_newcomers(records)
        admitted = self._admitted
        self._leave(self._bound)
        for record in records:
            key, accessed_at, count = record.key, record.accessed_at, record.access_count
            standing = self._changed.get(key)
            if standing is None:
                self._leave(self._bound - 1)
                self._number += 1
                tick, first = self._tick(), self._first() if self._sieve else None
                lap = 0 if first is None else first[1].lap  # the hand's lap, in which it comes last
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
        self._uses.see(admitted.ticked)
        return admitted

    def _admit_newcomers(self, records: Sequence[Record]) -> Admitted:
        """Do as `admit` where all are new and come after all stored ones: it is known at once which leave."""
        admitted = self._admitted
        surplus = self._number + len(records) - self._bound
        for key in self._leaving(all_leave=surplus >= self._number) if surplus > 0 else ():  # a key may come twice
            admitted.left[key] = None
            if len(admitted.left) == surplus:
                break
        beyond = max(0, len(records) - self._bound)
        admitted.left.update(dict.fromkeys(record.key for record in records[:beyond]))
        tick = self._tick()
        for record in records[beyond:]:
            key, tick = record.key, math.nextafter(tick, math.inf)
            admitted.kept[key] = record
            accessed_at, count = record.accessed_at, record.access_count
            admitted.standings[key] = Standing(tick, record.generation, tick, accessed_at, count, tick)
        admitted.ticked = tick
        self._uses.see(tick)
        return admitted

    def _leaving(self, *, all_leave: bool) -> Iterator[str]:
        """Give the stored keys in the order in which they leave, their unsaved hits included."""
        if all_leave:
            yield from self._keys
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
        """Evict until there are no more than `most`."""
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
        """Return which goes first of the stored and the changed ones; None where there is none."""
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

    def _tick(self) -> float:
        """Return the next tick: the clock is asked once for all records."""
        admitted = self._admitted
        tick = math.nextafter(admitted.ticked, math.inf) if self._ticks else self._uses.tick(admitted.ticked)
        admitted.ticked, self._ticks = tick, True
        return tick
