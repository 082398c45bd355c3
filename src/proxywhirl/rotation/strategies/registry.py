"""Every strategy by its name.

Another package offers strategies by entry points of the group `proxywhirl.strategies`: the name is what the user
writes, the object is a `StrategyFactory`.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxywhirl import plugins
from proxywhirl.rotation.strategies.bandit import Bandit
from proxywhirl.rotation.strategies.base import StrategyFactory
from proxywhirl.rotation.strategies.chance import RandomChoice, WeightedChoice
from proxywhirl.rotation.strategies.cheapest import Cheapest
from proxywhirl.rotation.strategies.fastest import Fastest
from proxywhirl.rotation.strategies.least_used import LeastUsed
from proxywhirl.rotation.strategies.round_robin import RoundRobin

ENTRY_POINT_GROUP = "proxywhirl.strategies"

BUILT_IN: dict[str, StrategyFactory] = {
    "round_robin": lambda _roster: RoundRobin(),
    "random": RandomChoice,
    "weighted": WeightedChoice,
    "least_used": LeastUsed,
    "fastest": Fastest,
    "cheapest": Cheapest,
    "bandit": Bandit,
}


def strategy_names() -> list[str]:
    """Return every known name, sorted."""
    return plugins.known_names(ENTRY_POINT_GROUP, BUILT_IN)


def find_strategy(name: str, *, also: Iterable[str] = ()) -> StrategyFactory:
    """Return what makes the strategies of that name; raises as `plugins.find` does."""
    return plugins.find("strategy", ENTRY_POINT_GROUP, name, BUILT_IN, also=also)
