"""The strategies of a pool: one over all that are ready, and one for each filter that was asked for. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState, ProxyStates
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter
from proxywhirl.rotation.strategies.base import CountsUses, Learns, ReadsAttributes, Strategy, StrategyFactory

MOST_VIEWS = 64
"""Filters that are kept at once: each costs a step when a proxy leaves or returns. The least recently used goes."""


class Views:
    """Passes on what happens to proxies to every strategy that they concern.

    Args:
        factory: Makes the strategies.
        states: What they may ask, and what is known of a key.
        ready: Gives the keys that are ready and in a filter, for a new view.
    """

    def __init__(self, factory: StrategyFactory, states: ProxyStates, ready: Callable[[Filter], list[str]]) -> None:
        self._factory = factory
        self._states = states
        self._ready = ready
        self.all: Strategy = factory(states)
        self._views: OrderedDict[Filter, Strategy] = OrderedDict()
        self._at_hand: dict[int, tuple[Filter, Strategy]] = {}
        self._sort()

    @property
    def read(self) -> bool:
        """Whether anything depends on what is known of a proxy: a filter, or how the strategy chooses."""
        return bool(self._views) or isinstance(self.all, ReadsAttributes)

    def get(self, wanted: Filter) -> Strategy:
        """Return the strategy over those that are wanted; a new one costs O(candidates)."""
        if wanted is NO_FILTER:
            return self.all
        at_hand = self._at_hand.get(id(wanted))  # it holds the filter, so that no other gets its id
        if at_hand is not None:
            return at_hand[1]
        view = self._views.get(wanted)
        if view is None:
            view = self._factory(self._states)
            view.add(self._ready(wanted))
            self._views[wanted] = view
            if len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
            self._sort()
            self._at_hand.clear()  # each one that is still asked for moves to the end again
        else:
            self._views.move_to_end(wanted)
            if len(self._at_hand) > MOST_VIEWS:
                self._at_hand.clear()
            self._at_hand[id(wanted)] = wanted, view
        return view

    def add(self, key: str) -> None:
        """Let a proxy serve again; one that does already is no error."""
        self.all.add((key,))
        if self._views:
            proxy = self._states.known(key)
            for wanted, view in self._views.items():
                if wanted.admits(proxy):
                    view.add((key,))

    def add_many(self, keys: Collection[str]) -> None:
        """Let new proxies serve."""
        self.all.add(keys)
        for wanted, view in self._views.items():
            view.add([key for key in keys if wanted.admits(self._states.known(key))])

    def remove(self, key: str) -> None:
        """Let a proxy serve no more; one that does not already is no error."""
        self.all.remove(key)
        for view in self._views.values():
            view.remove(key)

    def redrawn(self, key: str, *, serves: bool) -> None:
        """Take note that other things are known of a proxy now."""
        proxy = self._states.known(key)
        for wanted, view in self._each():
            if not wanted.admits(proxy):
                view.remove(key)
            elif serves:
                view.add((key,))
                if isinstance(view, ReadsAttributes):
                    view.redrawn(key)

    def moved(self, state: ProxyState) -> None:
        """Tell how many requests are under way through a proxy."""
        for view in self._counting:
            view.moved(state)

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """Tell what became of a use: a success to all views, a failure to those that have the proxy."""
        for wanted, view in self._learning:
            if outcome.ok or wanted is NO_FILTER or wanted.admits(state.proxy):
                view.learnt(state, outcome)

    def _sort(self) -> None:
        """Note who wants to be told what: to ask a strategy costs more than to tell it."""
        views = list(self._each())
        self._counting = [view for _, view in views if isinstance(view, CountsUses)]
        self._learning = [(wanted, view) for wanted, view in views if isinstance(view, Learns)]

    def _each(self) -> Iterator[tuple[Filter, Strategy]]:
        yield NO_FILTER, self.all
        yield from self._views.items()
