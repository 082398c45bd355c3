"""The proxy with the fewest requests under way."""

from __future__ import annotations

from collections.abc import Collection

from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred, Roster
from proxywhirl.rotation.strategies.sampling import Sampler

_IDLE_LISTED_FROM, _IDLE_LISTED_TO = 1 / 2, 1 / 4
"""Shares of proxies in use: above the first the idle ones are few enough to be listed, until it falls below the second.
Between a listing and the next there are as many changes as a quarter of the pool, so that they pay for it."""


class LeastUsed:
    """Exactly the fewest, evenly among equals.

    Those in use are in a sampler for each number of requests. An idle one is mostly found by drawing from all, since
    few are in use; only while most are, the idle ones have a sampler of their own. So a use changes little that is
    large.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._all = Sampler(roster.rng)
        self._loads: dict[str, int] = {}  # of those in use
        self._levels: list[Sampler] = []  # those with one request under way, with two, and so on
        self._idle: Sampler | None = None

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, each with its number."""
        state_of, places = self._roster.slot, self._all.places
        new = [key for key in keys if key not in places] if not places.keys().isdisjoint(keys) else keys
        self._all.add(new)
        if self._idle is not None:
            self._idle.add(new)
        for key in new:
            state = state_of(key)
            if state is not None and state.in_flight:
                self.moved(state)

    def remove(self, key: str) -> None:
        """Forget a proxy."""
        if self._all.remove(key):
            load = self._loads.pop(key, 0)
            if load:
                self._levels[load - 1].remove(key)
            elif self._idle is not None:
                self._idle.remove(key)

    def moved(self, state: ProxyState) -> None:
        """See `CountsUses`."""
        key, load = state.key, state.in_flight
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
                self._levels.append(Sampler(self._roster.rng))
            self._levels[load - 1].put(key)
        else:
            del self._loads[key]
            if self._idle is not None:
                self._idle.put(key)
        self._list_idle()

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw from the idle, else from those with the fewest requests among which one is admitted."""
        if self._idle is not None:
            key = self._idle.draw(exclude, barred)
        else:
            key = self._all.draw(exclude, (*barred, self._loads) if self._loads else barred)
        if key is None:
            for sampler in self._levels:
                key = sampler.draw(exclude, barred)
                if key is not None:
                    break
        return key

    def _list_idle(self) -> None:
        used, count = len(self._loads), len(self._all)
        if self._idle is None and used > count * _IDLE_LISTED_FROM:
            self._idle = Sampler(self._roster.rng)
            self._idle.add([key for key in self._all.keys if key not in self._loads])
        elif self._idle is not None and used < count * _IDLE_LISTED_TO:
            self._idle = None
