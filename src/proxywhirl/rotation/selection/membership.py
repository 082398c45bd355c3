"""Who is in a pool: proxies come, change and go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxywhirl.clock import Clock
from proxywhirl.models import HealthStatus, Proxy, Sketch
from proxywhirl.rotation.proxy_state import ProxyState, ProxyStates
from proxywhirl.rotation.selection.availability import Availability
from proxywhirl.rotation.selection.filters import Index
from proxywhirl.rotation.selection.views import Views


class Membership:
    """Keeps in line with each other what is known of who is in a pool. Called under the pool's lock."""

    def __init__(
        self, states: ProxyStates, availability: Availability, index: Index, views: Views, clock: Clock
    ) -> None:
        self._states = states
        self._held = states.held
        self._availability = availability
        self._index = index
        self._views = views
        self._clock = clock

    def put(self, proxy: Proxy) -> None:
        """Take in a proxy, or what is known of it now; one that is dead is withheld."""
        key, aside = proxy.key, proxy.status is HealthStatus.DEAD
        if key in self._held:
            state = self._states.open(key, aside=key in self._availability.aside)
            self._replace(key, lambda: setattr(state, "proxy", proxy))
            self._tell(key, aside=aside)
            return
        self._held[key] = ProxyState(key, proxy)
        self._index.add((key,))
        if aside:
            self._availability.withhold(key, self._clock.monotonic())
        else:
            self._availability.enter(key)

    def take_in(self, sketches: Mapping[str, Sketch], *, aside: bool) -> None:
        """Do the same with sketches, all of which are withheld, or none is."""
        if not self._held.keys().isdisjoint(sketches):
            for key in [key for key in sketches if key in self._held]:  # in order, which those of a set are not
                self._redraw(key, sketches[key])
                self._tell(key, aside=aside)
            sketches = {key: sketch for key, sketch in sketches.items() if key not in self._held}
        self._held.update(sketches)
        self._index.add(sketches)
        if aside:
            now = self._clock.monotonic()
            for key in sketches:
                self._availability.withhold(key, now)
        else:
            self._views.add_many(sketches)

    def forget(self, key: str) -> bool:
        """Drop a proxy; False where it was not in."""
        if key not in self._held:
            return False
        if self._index.asked:
            self._index.remove(key, self._states.known(key))
        self._availability.forget(key)
        del self._held[key]
        return True

    def _tell(self, key: str, *, aside: bool) -> None:
        """Pass on whether the store withholds a proxy that is in already."""
        if aside:
            self._availability.withhold(key, self._clock.monotonic())
        else:
            self._availability.restore(key)

    def _redraw(self, key: str, sketch: Sketch) -> None:
        held = self._held[key]
        if isinstance(held, ProxyState):
            self._replace(key, lambda: setattr(held, "proxy", self._states.make(key, sketch)))
        else:
            self._replace(key, lambda: self._held.__setitem__(key, sketch))

    def _replace(self, key: str, replace: Callable[[], None]) -> None:
        """Put something else in the place of what is known; statistics and availability are kept."""
        if not (self._index.asked or self._views.read):
            replace()
            return
        before = self._states.known(key)
        replace()
        after = self._states.known(key)
        if (after.scheme, after.source, after.attributes) != (before.scheme, before.source, before.attributes):
            self._index.remove(key, before)
            self._index.add((key,))
            self._views.redrawn((key,), self._availability.ready)
