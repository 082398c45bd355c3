"""The proxies of a pool: sketches until they are used, then slots.

What comes as a sketch stays one until it is used: a pool of a million is filled in a second or two, and the values are
made one by one. What many sketches have in common is read once for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from proxywhirl.clock import Clock
from proxywhirl.models import Attributes, Proxy, Sketch
from proxywhirl.rotation.retry import FAILURES_TO_CAP
from proxywhirl.rotation.slot import Slot

__all__ = ["Stock"]

_TEXTS = 65_536  # of sketches, that are read once


class Stock:
    """Slots and sketches by key, in the order in which they came. Also the `Roster` of the strategies."""

    def __init__(self, rng: random.Random, clock: Clock, portray: Callable[[str, Sketch], Proxy] | None) -> None:
        self.rng = rng
        self.monotonic = clock.monotonic
        self.held: dict[str, Slot | Sketch] = {}
        self._portray = portray
        self._alike = lru_cache(maxsize=_TEXTS)(self._read)

    def slot(self, key: str) -> Slot | None:
        """See `Roster`."""
        held = self.held.get(key)
        return held if type(held) is Slot else None

    def attributes(self, key: str) -> Attributes:
        """See `Roster`."""
        return self.known(key).attributes

    def known(self, key: str) -> Proxy:
        """Return a proxy of which all but address and label is that of a key's."""
        held = self.held[key]
        if isinstance(held, Slot):
            return held.proxy
        return self._alike(held[0].partition("://")[0], held[1])

    def make(self, key: str, sketch: Sketch) -> Proxy:
        """Make the value of a sketch.

        Raises:
            TypeError: the pool was made without what makes them.
        """
        if self._portray is None:
            raise TypeError("a pool that is filled with sketches needs to be made with `portray`")
        return self._portray(key, sketch)

    def open(self, key: str, *, aside: bool = False) -> Slot:
        """Return the slot of a key; of a sketch it is made now: `aside` says that it is one of those withheld."""
        held = self.held[key]
        if isinstance(held, Slot):
            return held
        slot = Slot(key, self.make(key, held), failures=FAILURES_TO_CAP if aside else 0, withheld=aside)
        self.held[key] = slot
        return slot

    def _read(self, scheme: str, text: str) -> Proxy:
        return self.make("", (f"{scheme}://host.invalid:1", text))
