"""The eviction order of a tier that outlives its process: read from what is stored at the first write.

Opening a tier and reading from it need no order; what is read meanwhile is noted and made up for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from proxywhirl.cache.eviction import admit, order_for
from proxywhirl.cache.order import EvictionOrder, Usage
from proxywhirl.cache.record import Record

__all__ = ["StandingOrder"]

UNSAVED_KEPT = 65_536


class StandingOrder:
    """The order of a tier of `bound` entries; one without a bound has none, and costs nothing.

    `usages` reads what the store says of all keys, `number` how many there are.
    """

    def __init__(
        self, policy: str, bound: int | None, *, usages: Callable[[], Iterable[Usage]], number: Callable[[], int]
    ) -> None:
        self._policy = policy
        self._bound = bound
        self._usages = usages
        self._number = number
        self._order: EvictionOrder | None = None
        self._fits = False
        self._unsaved: deque[str] = deque(maxlen=UNSAVED_KEPT)

    def forget(self) -> None:
        """Read it anew when it is needed next: the store may have changed."""
        self._order = None
        self._fits = False
        self._unsaved.clear()

    def touch(self, key: str) -> None:
        """Note a use that is not stored yet."""
        if self._order is not None:
            self._order.touch(key)
        elif self._bound is not None:
            self._unsaved.append(key)

    def settle(self, usages: Iterable[Usage]) -> None:
        """Note uses that are stored now, all that there were; each usage is what the store says of its key."""
        self._unsaved.clear()
        if self._order is not None:
            for usage in sorted(usages, key=lambda usage: usage.used_at):
                self._order.touch(usage.key)
                self._order.settle(usage.key, usage.uses, usage.used_at)

    def follow(self, usage: Usage) -> None:
        """Note that another process wrote or used a key."""
        if self._order is not None:
            self._order.add(usage.key)
            self._order.settle(usage.key, usage.uses, usage.used_at)

    def discard(self, keys: Iterable[str]) -> None:
        """Note that keys have gone."""
        if self._order is not None:
            for key in keys:
                self._order.discard(key)

    def admit(self, records: Sequence[Record], without: Collection[str] = ()) -> tuple[list[Record], list[str]]:
        """Let records in as `eviction.admit` does; keys of `without` are about to leave the store.

        Without records, those leave that are too many.
        """
        if self._bound is None:
            return admit(records, _NO_ORDER, None)
        if self._order is None and not records:
            self._fits = self._fits or self._number() <= self._bound
            if self._fits:
                return [], []
        order = self._order or self._read()
        for key in without:
            order.discard(key)
        return admit(records, order, self._bound)

    def _read(self) -> EvictionOrder:
        self._order = order = order_for(self._policy, self._bound)
        order.restore(self._usages())
        for key in self._unsaved:
            order.touch(key)
        self._unsaved.clear()
        return order


_NO_ORDER = order_for("lru", None)
