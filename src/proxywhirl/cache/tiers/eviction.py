"""Which key leaves a full tier in memory first: the policies by name, and how records are let in.

`order` says what one is; `standing` is the same for a durable tier.

What an order of eviction is: the keys of a tier, and which of them leaves first. `eviction` has the policies.

An order knows keys only. `touch` may run while another thread changes the order: it never raises.

The policy SIEVE: a queue, a hand, and a mark for what was used.

Which entry leaves a full durable tier first: what a store keeps of each entry's use, and a row for each policy.

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
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from proxywhirl.cache.record import Record, counted
from proxywhirl.clock import SYSTEM_CLOCK, Clock

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


class EvictionOrder(Protocol):
    """The keys of a tier, ordered by who goes first."""

    def add(self, key: str) -> None:
        """Take a new key in, or treat a known one as written again."""
        ...

    def touch(self, key: str) -> None:
        """Note that a key was used; an unknown one is ignored."""
        ...

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """Take over what a record says of its use: how often in all, and when last (Unix seconds)."""
        ...

    def discard(self, key: str) -> None:
        """Forget a key; an unknown one is ignored."""
        ...

    def victim(self) -> str:
        """Return the key that goes first, to be discarded next. Raises `KeyError` when there is none."""
        ...

    def exchange(self, key: str) -> str:
        """Let go of the key that goes first and take a new one in; return the one that left."""
        victim = self.victim()
        self.discard(victim)
        self.add(key)
        return victim

    def __contains__(self, key: object) -> bool:
        """Whether a key is known."""
        ...

    def __len__(self) -> int:
        """How many keys are known."""
        ...


def nothing_to_evict() -> str:
    """Raise the `KeyError` of `EvictionOrder.victim`."""
    raise KeyError("the order is empty")


class _Queue:
    """What leaves at the front and comes in at the end: nothing has to be looked for."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()  # a dict finds its first key slowly after many removals

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def is_disjoint(self, keys: Iterable[str]) -> bool:
        """Whether none of the keys is known."""
        return self._keys.keys().isdisjoint(keys)

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """See `EvictionOrder`: the order of the keys is all that counts."""

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys.pop(key, None)

    def victim(self) -> str:
        """See `EvictionOrder`."""
        while self._keys:
            try:
                return next(iter(self._keys))
            except RuntimeError:  # another thread touched a key between `iter` and `next`
                continue
        return nothing_to_evict()

    def exchange(self, key: str) -> str:
        """See `EvictionOrder`."""
        victim, _ = self._keys.popitem(last=False)
        self._keys[key] = None
        return victim

    def pass_through(self, keys: Collection[str], bound: int) -> list[str]:
        """Take in fewer than `bound` different new keys at once; return those that left for them.

        The same as adding them one by one with an eviction where there is no room.
        """
        surplus = len(self._keys) + len(keys) - bound
        left = [self._keys.popitem(last=False)[0] for _ in range(surplus)]
        self._keys.update(dict.fromkeys(keys))
        return left


class LeastRecentlyUsed(_Queue):
    """Writing and reading both make a key the last to go."""

    @property
    def touch_known(self) -> Callable[[str], object]:
        """`touch` for those who count nanoseconds: it raises `KeyError` where the key is not known any more."""
        return self._keys.move_to_end

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys[key] = None
        self._keys.move_to_end(key)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""
        try:
            self._keys.move_to_end(key)
        except KeyError:  # evicted by another thread between its lookup and here
            return

    def flood(self, keys: Collection[str], bound: int) -> list[str]:
        """Take in `bound` or more different keys at once: the last `bound` stay. Return those that left.

        The same as adding them one by one with an eviction for each, in a fraction of the time: what a
        large import does to a small window.
        """
        left = [key for key in _listed(self._keys) if key not in keys]
        self._keys.clear()
        self._keys.update(dict.fromkeys(islice(keys, len(keys) - bound, None)))
        return [*left, *islice(keys, len(keys) - bound)]


class FirstInFirstOut(_Queue):
    """Only the first write counts: neither reading nor writing again moves a key."""

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys.setdefault(key)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""


class LeastFrequentlyUsed(EvictionOrder):
    """Fewest uses go first, as the entry counts them; among equals the one of which the last use is longest ago.

    A write is no use, or checking a proxy each minute would keep it in: it brings the count that is written. A rank is
    [uses, last use, tick]; a use is not earlier than any that was known when it came. Most ranks grow, so a heap of
    possibly outdated ones is enough: an outdated one that surfaces is pushed back with its present rank. One
    that may shrink is replaced by a new one, and it is the rank's identity that tells a key from its former life. A
    touch changes a rank in place, so that one that comes after the key was discarded does not bring the key
    back; two at once may lose one of them.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, list[float]] = {}
        self._heap: list[tuple[list[float], str, list[float]]] = []  # (rank when it was pushed, key, the rank itself)
        self._ticks = count()
        self._latest = 0.0

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        if key not in self._ranks:
            self._push(key, [0, self._latest, next(self._ticks)])

    def __contains__(self, key: object) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""
        rank = self._ranks.get(key)
        if rank is not None:
            rank[0] += 1
            rank[1] = self._latest
            rank[2] = next(self._ticks)

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """See `EvictionOrder`."""
        if key in self._ranks:
            self._latest = max(self._latest, used_at)
            self._push(key, [uses, used_at, next(self._ticks)])

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._ranks.pop(key, None)
        self._tidy()

    def victim(self) -> str:
        """See `EvictionOrder`."""
        while self._heap:
            noted, key, rank = self._heap[0]
            if self._ranks.get(key) is not rank:
                heapq.heappop(self._heap)
            elif rank == noted:
                return key
            else:
                heapq.heapreplace(self._heap, (rank.copy(), key, rank))
        return nothing_to_evict()

    def _push(self, key: str, rank: list[float]) -> None:
        self._ranks[key] = rank
        heapq.heappush(self._heap, (rank.copy(), key, rank))
        self._tidy()

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank.copy(), key, rank) for key, rank in self._ranks.items()]
            heapq.heapify(self._heap)


def _listed(keys: OrderedDict[str, None]) -> list[str]:
    while True:
        try:
            return list(keys)
        except RuntimeError:  # another thread touched a key
            continue


class _Place:
    """A key's place in the queue of `Sieve`, and whether the key was used since the hand was here."""

    __slots__ = ("key", "newer", "older", "used")

    def __init__(self, key: str) -> None:
        self.key = key
        self.used = False
        self.older = self.newer = self


class Sieve(EvictionOrder):
    """The oldest key that was not used since the hand last passed it goes first.

    SIEVE (Zhang et al., NSDI 2024): a queue in the order of first writes and a hand that moves from the
    oldest key to the newest and begins anew behind it. A use only marks its key; the hand spares a marked
    key and takes the mark away. A key that is never used again leaves soon, so that a scan does not wash out
    what is in use.

    The places form a ring, closed by one without a key: its `newer` is the oldest key, its `older` the newest.
    The hand stands on the place that is looked at next. Only `victim` moves it, at most once around: amortised
    one step for each use, however busily other threads set marks meanwhile.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._end = self._hand = _Place("")

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        known = self._places.get(key)
        if known is not None:
            known.used = True
            return
        self._places[key] = place = _Place(key)
        end = self._end
        place.newer, place.older = end, end.older
        end.older.newer = end.older = place

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`. A mark on a place that another thread takes out just now changes nothing."""
        place = self._places.get(key)
        if place is not None:
            place.used = True

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """See `EvictionOrder`: that there was a use is all that counts."""

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        place = self._places.pop(key, None)
        if place is None:
            return
        if self._hand is place:
            self._hand = place.newer
        place.older.newer, place.newer.older = place.newer, place.older

    def victim(self) -> str:
        """See `EvictionOrder`."""
        if not self._places:
            return nothing_to_evict()
        place = self._hand if self._hand is not self._end else self._end.newer
        for _ in range(len(self._places)):
            if not place.used:
                break
            place.used = False
            place = place.newer if place.newer is not self._end else self._end.newer
        self._hand = place
        return place.key


ORDERS: dict[str, Callable[[], EvictionOrder]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "fifo": FirstInFirstOut,
    "sieve": Sieve,
}


def order_for(policy: str, bound: int | None) -> EvictionOrder:
    """Make the order of a tier of `bound` entries; one without a bound has none, and the cheapest `touch`."""
    return FirstInFirstOut() if bound is None else ORDERS[policy]()


def admit(records: Sequence[Record], order: EvictionOrder, bound: int | None) -> tuple[list[Record], list[str]]:
    """Let records into a tier of `bound` entries, each new one in the place of whichever goes first.

    The order is brought up to date; a tier without a bound keeps none. Returns the records that are still in
    after the last one, the last of each key, and the keys that left; a record may leave for a later one of
    the same call.
    """
    if bound is None:
        return list({record.key: record for record in records}.values()), []
    victims: dict[str, None] = {}
    while len(order) > bound:  # what was stored when the bound was a larger one
        victims[order.victim()] = None
        order.discard(next(reversed(victims)))
    at_once = _admit_at_once(records, order, bound) if isinstance(order, _Queue) else None
    if at_once is not None:
        staying, left = at_once
        if victims:
            back = {record.key for record in staying}
            left += [key for key in victims if key not in back]
        return staying, left
    kept: dict[str, Record] = {}
    for record in records:
        if record.key not in order:
            while len(order) >= bound:
                victim = order.victim()
                order.discard(victim)
                kept.pop(victim, None)
                victims[victim] = None
            victims.pop(record.key, None)
        kept[record.key] = record
        order.add(record.key)
        order.settle(record.key, record.access_count, record.accessed_at)
    return list(kept.values()), list(victims)


def _admit_at_once(records: Sequence[Record], order: _Queue, bound: int) -> tuple[list[Record], list[str]] | None:
    """Do what `admit` does without a look at each record, where the result is the same; None where it is not."""
    latest = {record.key: record for record in records}
    if len(latest) < len(records):  # a key stands where its last record does
        latest.clear()
        for record in records:
            latest.pop(record.key, None)
            latest[record.key] = record
    if len(latest) >= bound and isinstance(order, LeastRecentlyUsed):
        return list(latest.values())[-bound:], order.flood(latest, bound)
    if len(latest) == len(records) < bound and order.is_disjoint(latest):
        return list(records), order.pass_through(latest, bound)
    return None
