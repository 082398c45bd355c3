"""Which key leaves a full tier first. A row for each policy; a tier owns one order over its keys.

An order knows keys only. `touch` may run while another thread changes the order: it never raises.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from proxywhirl.cache.record import Record

__all__ = ["ORDERS", "EvictionOrder", "admit"]


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
        return next(iter(self._keys)) if self._keys else _nothing()


class FirstInFirstOut:
    """Only the first write counts: neither reading nor writing again moves a key."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._keys.setdefault(key)

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

    Ranks only grow, so a heap of possibly outdated ranks is enough: an outdated one that surfaces
    is pushed back with its present rank.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, tuple[int, int]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []
        self._ticks = count()

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        known = self._ranks.get(key)
        self._ranks[key] = rank = ((known[0] if known else 0) + 1, next(self._ticks))
        if known is None:
            heapq.heappush(self._heap, (rank, key))

    def __contains__(self, key: object) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`."""
        known = self._ranks.get(key)
        if known is not None:
            self._ranks[key] = (known[0] + 1, next(self._ticks))

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        self._ranks.pop(key, None)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank, key) for key, rank in self._ranks.items()]
            heapq.heapify(self._heap)

    def victim(self) -> str:
        """See `EvictionOrder`."""
        while self._heap:
            rank, key = self._heap[0]
            present = self._ranks.get(key)
            if present == rank:
                return key
            heapq.heappop(self._heap)
            if present is not None and present > rank:
                heapq.heappush(self._heap, (present, key))
        return _nothing()


def _nothing() -> str:
    raise KeyError("the order is empty")


ORDERS: dict[str, Callable[[], EvictionOrder]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "fifo": FirstInFirstOut,
}


def admit(records: Sequence[Record], order: EvictionOrder, bound: int) -> tuple[list[Record], list[str]]:
    """Let records into a tier of `bound` entries, each new one in the place of whichever goes first.

    The order is brought up to date. Returns the records that are still in after the last one, each
    key once, and the keys that left; a record may leave for a later one of the same call.
    """
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
