"""What a strategy is, and how one is found by its name.

A strategy orders the proxies that are ready and picks one. It knows nothing of failures, set-aside proxies
or leases: the pool adds and removes. Every call is made under the pool's lock, so a strategy needs none of
its own and must neither wait nor call back.

Another package offers strategies by entry points of the group `proxywhirl.strategies`: the name is what the
user writes, the object is a `StrategyFactory`. A built-in name cannot be taken over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Proxy
from proxywhirl.rotation.strategies import RandomChoice, RoundRobin

__all__ = ["ENTRY_POINT_GROUP", "KeyStrategy", "Strategy", "StrategyFactory", "make_strategy", "strategy_names"]

ENTRY_POINT_GROUP = "proxywhirl.strategies"


class Strategy(Protocol):
    """Keeps the proxies that are ready and picks among them."""

    def add(self, proxy: Proxy) -> None:
        """Take in a proxy; one of a known key replaces that and keeps its place."""
        ...

    def remove(self, key: str) -> None:
        """Forget a proxy that was added."""
        ...

    def choose(self, exclude: Collection[str]) -> str | None:
        """Return the key of the proxy to use now, none of `exclude`; None where all are excluded."""
        ...


@runtime_checkable
class KeyStrategy(Strategy, Protocol):
    """A strategy that needs to know nothing of a proxy but its key: a pool of a million is filled in less time.

    Of proxies that are added without having served it gets keys alone, and it is not told of what changes in them.
    """

    def add_keys(self, keys: Collection[str]) -> None:
        """Take in proxies of which none is known."""
        ...


StrategyFactory = Callable[[random.Random], Strategy]

_BUILT_IN: Mapping[str, StrategyFactory] = {
    "round_robin": lambda _rng: RoundRobin(),
    "random": RandomChoice,
}


def strategy_names() -> list[str]:
    """Return every known name, sorted."""
    return sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINT_GROUP).names})


def make_strategy(name: str, rng: random.Random) -> Strategy:
    """Build the strategy of that name; whatever it draws, it draws from `rng`.

    Raises:
        UnknownNameError: No strategy has that name; the message lists the known ones.
        SettingsError: The package that offers the strategy cannot be loaded.
    """
    built_in = _BUILT_IN.get(name)
    if built_in is not None:
        return built_in(rng)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            factory: StrategyFactory = entry_point.load()
        except (ImportError, AttributeError) as exc:
            raise SettingsError(f"strategy {name!r} cannot be loaded from {entry_point.value}: {exc}") from exc
        return factory(rng)
    raise UnknownNameError("strategy", name, strategy_names())
