"""Which key leaves a full tier first. A row for each policy; a tier owns one order over its keys.

An order knows keys only. `touch` may run while another thread changes the order: it never raises.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count, islice
from typing import NamedTuple, Protocol

from proxywhirl.cache.record import Record

__all__ = ["ORDERS", "EvictionOrder", "Usage", "admit"]


class Usage(NamedTuple):
    """What a store remembers of a key's use, from which an order is restored."""

    key: str
    generation: int
    revision: int
    used_at: float
    uses: int


class EvictionOrder(Protocol):
    """The keys of a tier, ordered by who goes first."""

    def add(self, key: str) -> None:
        """Take a new key in, or treat a known one as written again."""
        ...

    def touch(self, key: str) -> None:
        """Note that a key was used; an unknown one is ignored."""
        ...

    def discard(self, key: str) -> None:
        """Forget a key; an unknown one is ignored."""
        ...

    def victim(self) -> str:
        """Return the key that goes first. Raises `KeyError` when there is none."""
        ...

    def restore(self, usages: Iterable[Usage]) -> None:
        """Take in the keys of a store that is opened again, as their use there says."""
        ...

    def __contains__(self, key: object) -> bool:
        """Whether a key is known."""
        ...

    def __len__(self) -> int:
        """How many keys are known."""
        ...


class LeastRecentlyUsed:
    """Writing and reading both make a key the last to go."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys[key] = None
        self._keys.move_to_end(key)

    def restore(self, usages: Iterable[Usage]) -> None:
        """See `EvictionOrder`."""
        for usage in sorted(usages, key=lambda usage: (usage.used_at, usage.revision)):
            self.add(usage.key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""
        try:
            self._keys.move_to_end(key)
        except KeyError:  # evicted by another thread between its lookup and here
            return

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
        return _nothing()

    def flood(self, keys: Collection[str], bound: int) -> list[str]:
        """Take in `bound` or more different keys at once: the last `bound` stay. Return those that left.

        The same as adding them one by one with an eviction for each, in a fraction of the time: what a
        large import does to a small window.
        """
        staying = dict.fromkeys(islice(keys, len(keys) - bound, None))
        left = [key for key in self._keys if key not in staying]
        left += [key for key in islice(keys, len(keys) - bound) if key not in self._keys]
        self._keys = OrderedDict(staying)
        return left


class FirstInFirstOut:
    """Only the first write counts: neither reading nor writing again moves a key."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()  # a dict finds its first key slowly after many removals

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys.setdefault(key)

    def restore(self, usages: Iterable[Usage]) -> None:
        """See `EvictionOrder`."""
        for usage in sorted(usages, key=lambda usage: usage.generation):
            self.add(usage.key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys.pop(key, None)

    def victim(self) -> str:
        """See `EvictionOrder`."""
        return next(iter(self._keys)) if self._keys else _nothing()


class LeastFrequentlyUsed:
    """Fewest uses go first (writing counts as one); among equals the least recently used.

    A rank is [uses, tick] and only grows, so a heap of possibly outdated ranks is enough: an outdated one
    that surfaces is pushed back with its present rank. A touch changes a rank in place, so that one that
    comes after the key was discarded does not bring the key back.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, list[int]] = {}
        self._heap: list[tuple[list[int], str]] = []
        self._ticks = count()

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        if key in self._ranks:
            self.touch(key)
        else:
            self._enter(key, 1)

    def restore(self, usages: Iterable[Usage]) -> None:
        """See `EvictionOrder`."""
        for usage in sorted(usages, key=lambda usage: (usage.used_at, usage.revision)):
            self._enter(usage.key, 1 + usage.uses)

    def __contains__(self, key: object) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""
        rank = self._ranks.get(key)
        if rank is not None:
            rank[0] += 1
            rank[1] = next(self._ticks)

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._ranks.pop(key, None)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank.copy(), key) for key, rank in self._ranks.items()]
            heapq.heapify(self._heap)

    def victim(self) -> str:
        """See `EvictionOrder`."""
        while self._heap:
            noted, key = self._heap[0]
            present = self._ranks.get(key)
            if present == noted:
                return key
            heapq.heappop(self._heap)
            if present is not None and present > noted:
                heapq.heappush(self._heap, (present.copy(), key))
        return _nothing()

    def _enter(self, key: str, uses: int) -> None:
        self._ranks[key] = rank = [uses, next(self._ticks)]
        heapq.heappush(self._heap, (rank.copy(), key))


def _nothing() -> str:
    raise KeyError("the order is empty")


ORDERS: dict[str, Callable[[], EvictionOrder]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "fifo": FirstInFirstOut,
}


def admit(records: Sequence[Record], order: EvictionOrder, bound: int | None) -> tuple[list[Record], list[str]]:
    """Let records into a tier of `bound` entries, each new one in the place of whichever goes first.

    The order is brought up to date; a tier without a bound keeps none. Returns the records that are still in
    after the last one, the last of each key, and the keys that left; a record may leave for a later one of
    the same call.
    """
    if bound is None:
        return list({record.key: record for record in records}.values()), []
    if len(records) >= bound and isinstance(order, LeastRecentlyUsed):
        latest: dict[str, Record] = {}
        for record in records:
            latest.pop(record.key, None)
            latest[record.key] = record
        if len(latest) >= bound:
            left = order.flood(latest, bound)
            return list(latest.values())[-bound:], left
    kept: dict[str, Record] = {}
    victims: dict[str, None] = {}
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
    return list(kept.values()), list(victims)
