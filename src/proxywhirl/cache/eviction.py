"""Which key leaves a full tier in memory first: the policies by name, and how records are let in.

`order` says what one is; `standing` is the same for a durable tier.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count, islice

from proxywhirl.cache.order import EvictionOrder, nothing_to_evict
from proxywhirl.cache.record import Record
from proxywhirl.cache.sieve import Sieve

__all__ = ["ORDERS", "LeastRecentlyUsed", "admit", "order_for"]


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
