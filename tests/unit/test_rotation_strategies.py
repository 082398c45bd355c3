"""The two built-in strategies, and the registry that finds them by name."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Proxy
from proxywhirl.rotation.strategies import RandomChoice, RoundRobin
from proxywhirl.rotation.strategy import Strategy, make_strategy, strategy_names


def proxy(key: str) -> Proxy:
    """Make a proxy of that key."""
    return Proxy(key, "http", "192.0.2.1", 8080)


def ring(keys: str) -> RoundRobin:
    """Make a round robin of one-letter keys."""
    strategy = RoundRobin()
    for key in keys:
        strategy.add(proxy(key))
    return strategy


def urn(keys: str, seed: int = 1) -> RandomChoice:
    """Make a random choice of one-letter keys."""
    strategy = RandomChoice(random.Random(seed))
    for key in keys:
        strategy.add(proxy(key))
    return strategy


def test_round_robin_serves_each_once_in_every_turn() -> None:
    """The turn goes through all proxies in the order in which they came, then begins again."""
    strategy = ring("abc")
    assert [strategy.choose(()) for _ in range(7)] == list("abcabca")


def test_an_excluded_proxy_keeps_its_place_in_the_ring() -> None:
    """Who was passed over for one request serves the next one."""
    strategy = ring("abcd")
    assert strategy.choose({"a", "b"}) == "c"
    assert [strategy.choose(()) for _ in range(4)] == list("abdc")


def test_exclusions_starve_nobody() -> None:
    """With every request excluding who served the last one, all serve equally often."""
    strategy = ring("abcde")
    served: Counter[str | None] = Counter()
    last: str | None = None
    for _ in range(500):
        last = strategy.choose({last} if last else ())
        served[last] += 1
    assert set(served.values()) == {100}


def test_adding_and_removing_leave_the_turn_of_the_others_as_it_was() -> None:
    """A removed proxy is skipped, a new one serves after all others, a replaced one keeps its place."""
    strategy = ring("abcd")
    assert strategy.choose(()) == "a"
    strategy.remove("b")
    strategy.add(proxy("e"))
    strategy.add(proxy("c"))
    assert [strategy.choose(()) for _ in range(4)] == list("cdae")


@pytest.mark.parametrize("build", [ring, urn])
def test_nothing_is_chosen_when_all_are_excluded(build: Callable[[str], Strategy]) -> None:
    """A strategy says None where it has no candidate, and has not changed by that."""
    strategy = build("ab")
    assert strategy.choose({"a", "b", "unknown"}) is None
    assert strategy.choose({"a"}) == "b"


def test_random_is_uniform_among_those_not_excluded() -> None:
    """Each candidate has the same chance, wherever the excluded ones stand."""
    strategy = urn("abcdefgh")
    strategy.remove("c")
    served = Counter(strategy.choose(("a", "e", "h", "c", "h")) for _ in range(8000))
    assert set(served) == set("bdfg")
    assert all(1850 < count < 2150 for count in served.values())


def test_random_repeats_itself_with_the_same_seed() -> None:
    """The same seed and the same calls give the same choices, whatever the order of the exclusions."""
    draws = [
        [strategy.choose(exclude) for _ in range(50)]
        for strategy, exclude in ((urn("abcdefgh"), ("b", "g", "d")), (urn("abcdefgh"), {"d", "b", "g"}))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 5


def test_an_unknown_strategy_names_the_known_ones() -> None:
    """Whoever mistypes a name reads which names there are."""
    with pytest.raises(UnknownNameError, match=r"unknown strategy 'robin'; known: random, round_robin"):
        make_strategy("robin", random.Random())


@pytest.fixture
def third_party(tmp_path: Path) -> Iterator[None]:
    """An installed package that offers strategies: one sound, one that cannot be loaded, one impostor."""
    (tmp_path / "whirl_first.py").write_text(
        "class First:\n"
        "    def __init__(self, rng): self.keys = []\n"
        "    def add(self, proxy): self.keys.append(proxy.key)\n"
        "    def remove(self, key): self.keys.remove(key)\n"
        "    def choose(self, exclude): return next((k for k in self.keys if k not in exclude), None)\n"
    )
    information = tmp_path / "whirl_first-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: whirl-first\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[proxywhirl.strategies]\nfirst = whirl_first:First\nbroken = whirl_first:Absent\nrandom = whirl_first:First\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("whirl_first", None)


def test_an_entry_point_offers_a_strategy(third_party: None) -> None:
    """What another package registers is found by its name and listed among the known ones."""
    strategy = make_strategy("first", random.Random())
    strategy.add(proxy("a"))
    strategy.add(proxy("b"))
    assert [strategy.choose(()), strategy.choose({"a"})] == ["a", "b"]
    assert strategy_names() == ["broken", "first", "random", "round_robin"]


def test_a_built_in_name_cannot_be_taken_over(third_party: None) -> None:
    """An installed package cannot change what `random` means."""
    assert isinstance(make_strategy("random", random.Random()), RandomChoice)


def test_a_strategy_that_cannot_be_loaded_is_a_settings_error(third_party: None) -> None:
    """A defect of another package is told with its place, not as a foreign traceback."""
    with pytest.raises(SettingsError, match=r"strategy 'broken' cannot be loaded from whirl_first:Absent"):
        make_strategy("broken", random.Random())
