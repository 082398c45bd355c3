"""Who is in a pool: proxies come, change and go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxywhirl.clock import Clock
from proxywhirl.models import HealthStatus, Proxy, Sketch
from proxywhirl.rotation.index import Index
from proxywhirl.rotation.retry import FAILURES_TO_CAP
from proxywhirl.rotation.slot import Slot
from proxywhirl.rotation.standing import Standing
from proxywhirl.rotation.stock import Stock
from proxywhirl.rotation.views import Views

__all__ = ["Membership"]


class Membership:
    """Keeps in line with each other what is known of who is in a pool. Called under the pool's lock."""

    def __init__(self, stock: Stock, standing: Standing, index: Index, views: Views, clock: Clock) -> None:
        self._stock = stock
        self._held = stock.held
        self._standing = standing
        self._index = index
        self._views = views
        self._clock = clock

    def put(self, proxy: Proxy) -> None:
        """Take in a proxy, or what is known of it now; one that is handed in as dead starts set aside."""
        key = proxy.key
        known = self._held.get(key)
        if known is not None:
            slot = self._stock.open(key, dead=key in self._standing.aside)
            self._replace(key, lambda: setattr(slot, "proxy", proxy))
            return
        slot = self._held[key] = Slot(key, proxy)
        self._index.add((key,))
        if proxy.status is HealthStatus.DEAD:
            slot.failures = FAILURES_TO_CAP
            self._standing.put_aside(key, slot.failures, self._clock.monotonic())
        else:
            self._standing.enter(key)

    def take_in(self, sketches: Mapping[str, Sketch], *, dead: bool) -> None:
        """Do the same with sketches, of which all are dead or none is."""
        if not self._held.keys().isdisjoint(sketches):
            for key in self._held.keys() & sketches.keys():
                self._redraw(key, sketches[key])
            sketches = {key: sketch for key, sketch in sketches.items() if key not in self._held}
        self._held.update(sketches)
        self._index.add(sketches)
        if dead:
            now = self._clock.monotonic()
            for key in sketches:
                self._standing.put_aside(key, FAILURES_TO_CAP, now)
        else:
            self._views.add_many(sketches)

    def forget(self, key: str) -> bool:
        """Drop a proxy; False where it was not in."""
        if key not in self._held:
            return False
        if self._index.asked:
            self._index.remove(key, self._stock.known(key))
        self._standing.forget(key)
        del self._held[key]
        return True

    def _redraw(self, key: str, sketch: Sketch) -> None:
        held = self._held[key]
        if isinstance(held, Slot):
            self._replace(key, lambda: setattr(held, "proxy", self._stock.make(key, sketch)))
        else:
            self._replace(key, lambda: self._held.__setitem__(key, sketch))

    def _replace(self, key: str, replace: Callable[[], None]) -> None:
        """Put something else in the place of what is known; statistics and standing are kept."""
        if not (self._index.asked or self._views.read):
            replace()
            return
        before = self._stock.known(key)
        replace()
        after = self._stock.known(key)
        if (after.scheme, after.source, after.attributes) != (before.scheme, before.source, before.attributes):
            self._index.remove(key, before)
            self._index.add((key,))
            self._views.redrawn((key,), self._standing.ready)
