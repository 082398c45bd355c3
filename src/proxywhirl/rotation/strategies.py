"""The strategies that come with ProxyWhirl. Each call costs O(1), or O(excluded) where some are excluded."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection

from proxywhirl.models import Proxy

__all__ = ["RandomChoice", "RoundRobin"]


class RoundRobin:
    """Each proxy once in every turn.

    The front of the queue is the next to serve and who serves goes to its end. An excluded proxy is passed
    over and keeps its place, so it serves as soon as a request does not exclude it.
    """

    def __init__(self) -> None:
        # Not a dict: finding the first key of a dict costs O(n) after many were taken from its front.
        self._turn: OrderedDict[str, None] = OrderedDict()

    def add(self, proxy: Proxy) -> None:
        """Put a new proxy at the end of the turn; a known one keeps its place."""
        self._turn[proxy.key] = None

    def remove(self, key: str) -> None:
        """Take a proxy out of the ring."""
        del self._turn[key]

    def choose(self, exclude: Collection[str]) -> str | None:
        """Return the first in turn that is not excluded and send it to the end."""
        for key in self._turn:
            if key not in exclude:
                self._turn.move_to_end(key)
                return key
        return None


class RandomChoice:
    """Every proxy with the same chance, whatever came before."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._keys: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, proxy: Proxy) -> None:
        """Give a new proxy its share of the chances."""
        if proxy.key not in self._places:
            self._places[proxy.key] = len(self._keys)
            self._keys.append(proxy.key)

    def remove(self, key: str) -> None:
        """Take a proxy away; the last one of the list fills its place."""
        place = self._places.pop(key)
        last = self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._places[last] = place

    def choose(self, exclude: Collection[str]) -> str | None:
        """Draw evenly among those that are not excluded."""
        skipped = sorted({self._places[key] for key in exclude if key in self._places})
        candidates = len(self._keys) - len(skipped)
        if candidates <= 0:
            return None
        place = self._rng.randrange(candidates)
        # Number the candidates by stepping over the skipped places: one draw, no bias, no second try.
        for hole in skipped:
            if hole > place:
                break
            place += 1
        return self._keys[place]
