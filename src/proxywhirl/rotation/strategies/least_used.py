"""The proxy with the fewest requests under way."""

from __future__ import annotations

from collections.abc import Collection

from proxywhirl.rotation.proxy_state import Slot
from proxywhirl.rotation.sites.sites import Site
from proxywhirl.rotation.strategies.base import Barred, Roster
from proxywhirl.rotation.strategies.sampling import Urn

_IDLE_LISTED_FROM, _IDLE_LISTED_TO = 1 / 2, 1 / 4
"""Shares of proxies in use: above the first the idle ones are few enough to be listed, until it falls below the second.
Between a listing and the next there are as many changes as a quarter of the pool, so that they pay for it."""


class LeastUsed:
    """Exactly the fewest, evenly among equals.

    Those in use are in an urn for each number of requests. Who is idle is mostly found by drawing from all, since few
    are in use; only while most are, the idle ones have an urn of their own. So a use changes little that is large.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._all = Urn(roster.rng)
        self._loads: dict[str, int] = {}  # of those in use
        self._levels: list[Urn] = []  # those with one request under way, with two, and so on
        self._idle: Urn | None = None

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, each with its number."""
        slot_of, places = self._roster.slot, self._all.places
        new = [key for key in keys if key not in places] if not places.keys().isdisjoint(keys) else keys
        self._all.add(new)
        if self._idle is not None:
            self._idle.add(new)
        for key in new:
            slot = slot_of(key)
            if slot is not None and slot.in_flight:
                self.moved(slot)

    def remove(self, key: str) -> None:
        """Forget a proxy."""
        if self._all.remove(key):
            load = self._loads.pop(key, 0)
            if load:
                self._levels[load - 1].remove(key)
            elif self._idle is not None:
                self._idle.remove(key)

    def moved(self, slot: Slot) -> None:
        """See `CountsUses`."""
        key, load = slot.key, slot.in_flight
        before = self._loads.get(key, 0)
        if load == before or key not in self._all.places:
            return
        if before:
            self._levels[before - 1].remove(key)
        elif self._idle is not None:
            self._idle.remove(key)
        if load:
            self._loads[key] = load
            while len(self._levels) < load:
                self._levels.append(Urn(self._roster.rng))
            self._levels[load - 1].put(key)
        else:
            del self._loads[key]
            if self._idle is not None:
                self._idle.put(key)
        self._list_idle()

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw from the idle, else from those with the fewest requests of whom one is admitted."""
        if self._idle is not None:
            key = self._idle.draw(exclude, barred)
        else:
            key = self._all.draw(exclude, (*barred, self._loads) if self._loads else barred)
        if key is None:
            for urn in self._levels:
                key = urn.draw(exclude, barred)
                if key is not None:
                    break
        return key

    def _list_idle(self) -> None:
        used, count = len(self._loads), len(self._all)
        if self._idle is None and used > count * _IDLE_LISTED_FROM:
            self._idle = Urn(self._roster.rng)
            self._idle.add([key for key in self._all.keys if key not in self._loads])
        elif self._idle is not None and used < count * _IDLE_LISTED_TO:
            self._idle = None
