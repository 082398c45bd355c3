"""The built-in strategies by name."""

from __future__ import annotations

from proxywhirl.rotation.strategies.bandit import Bandit
from proxywhirl.rotation.strategies.base import StrategyFactory
from proxywhirl.rotation.strategies.chance import RandomChoice, WeightedChoice
from proxywhirl.rotation.strategies.cheapest import Cheapest
from proxywhirl.rotation.strategies.fastest import Fastest
from proxywhirl.rotation.strategies.least_used import LeastUsed
from proxywhirl.rotation.strategies.round_robin import RoundRobin

BUILT_IN: dict[str, StrategyFactory] = {
    "round_robin": lambda _roster: RoundRobin(),
    "random": RandomChoice,
    "weighted": WeightedChoice,
    "least_used": LeastUsed,
    "fastest": Fastest,
    "cheapest": Cheapest,
    "bandit": Bandit,
}
