"""The proxy with the fewest requests under way."""

from __future__ import annotations

from collections.abc import Collection

from proxywhirl.rotation.sites import Site
from proxywhirl.rotation.slot import Slot
from proxywhirl.rotation.strategies.urn import Urn
from proxywhirl.rotation.strategy import Barred, Roster

__all__ = ["LeastUsed"]


class LeastUsed:
    """Exactly the fewest, evenly among equals: an urn for each number of requests under way.

    O(1) for each step: `_lowest` is never above the first urn that holds somebody, and rises as far as it was lowered.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._loads: dict[str, int] = {}
        self._urns: list[Urn] = [Urn(roster.rng)]
        self._lowest = 0

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, each in the urn of its number."""
        idle = []
        for key in keys:
            if key in self._loads:
                continue
            slot = self._roster.slot(key)
            load = slot.in_flight if slot is not None else 0
            self._loads[key] = load
            if load:
                self._urn(load).add((key,))
            else:
                idle.append(key)
        if idle:
            self._urns[0].add(idle)
            self._lowest = 0

    def remove(self, key: str) -> None:
        """Forget a proxy."""
        load = self._loads.pop(key, None)
        if load is not None:
            self._urns[load].remove(key)

    def moved(self, slot: Slot) -> None:
        """See `CountsUses`."""
        key = slot.key
        load = self._loads.get(key)
        if load is not None and load != slot.in_flight:
            self._urns[load].remove(key)
            self._loads[key] = slot.in_flight
            self._urn(slot.in_flight).put(key)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw from the first urn that has one who is admitted."""
        urns, last = self._urns, len(self._urns) - 1
        while self._lowest < last and not urns[self._lowest].keys:
            self._lowest += 1
        for load in range(self._lowest, last + 1):
            key = urns[load].draw(exclude, barred)
            if key is not None:
                return key
        return None

    def _urn(self, load: int) -> Urn:
        self._lowest = min(self._lowest, load)
        while len(self._urns) <= load:
            self._urns.append(Urn(self._roster.rng))
        return self._urns[load]
