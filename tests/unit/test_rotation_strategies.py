"""Round robin and random, and the registry that finds strategies by name."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Attributes
from proxywhirl.rotation.answer_times import AnswerTimes
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies.base import Strategy
from proxywhirl.rotation.strategies.chance import RandomChoice
from proxywhirl.rotation.strategies.registry import find_strategy, strategy_names
from proxywhirl.rotation.strategies.round_robin import RoundRobin


class Proxies:
    """A roster of proxies of which all that is known is their key."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.success_worth: float | None = None
        self.times = AnswerTimes()
        self.others: Collection[str] = ()

    def monotonic(self) -> float:
        """Stand still."""
        return 0.0

    def slot(self, key: str) -> None:
        """Know nothing."""

    def attributes(self, key: str) -> Attributes:  # noqa: ARG002  # as above
        """Know nothing."""
        return Attributes()


def choose(strategy: Strategy, exclude: Collection[str] = ()) -> str | None:
    """Choose for a request to nowhere in particular."""
    return strategy.choose(exclude, (), None)


def ring(keys: str) -> RoundRobin:
    """Make a round robin of one-letter keys."""
    strategy = RoundRobin()
    strategy.add(list(keys))
    return strategy


def sampler(keys: str, seed: int = 1) -> RandomChoice:
    """Make a random choice of one-letter keys."""
    strategy = RandomChoice(Proxies(seed))
    strategy.add(list(keys))
    return strategy


def test_round_robin_serves_each_once_in_every_turn() -> None:
    """The turn goes through all proxies in the order in which they came, then begins again."""
    strategy = ring("abc")
    assert [choose(strategy) for _ in range(7)] == list("abcabca")


def test_an_excluded_proxy_keeps_its_place_in_the_ring() -> None:
    """Who was passed over for one request serves the next one."""
    strategy = ring("abcd")
    assert choose(strategy, {"a", "b"}) == "c"
    assert [choose(strategy) for _ in range(4)] == list("abdc")


def test_exclusions_starve_nobody() -> None:
    """With every request excluding who served the last one, all serve equally often."""
    strategy = ring("abcde")
    served: Counter[str | None] = Counter()
    last: str | None = None
    for _ in range(500):
        last = choose(strategy, {last} if last else ())
        served[last] += 1
    assert set(served.values()) == {100}


def test_adding_and_removing_leave_the_turn_of_the_others_as_it_was() -> None:
    """A removed proxy is skipped, a new one serves after all others, a replaced one keeps its place."""
    strategy = ring("abcd")
    assert choose(strategy) == "a"
    strategy.remove("b")
    strategy.add(["e"])
    strategy.add(["c"])
    assert [choose(strategy) for _ in range(4)] == list("cdae")


@given(st.lists(st.tuples(st.sampled_from("arc"), st.sets(st.integers(0, 5)))))
def test_round_robin_is_a_list_whose_chosen_one_goes_to_its_end(steps: list[tuple[str, set[int]]]) -> None:
    """Adding, removing and choosing in any order give what a plain list gives."""
    strategy = RoundRobin()
    turn: list[str] = []
    for what, numbers in steps:
        keys = {str(number) for number in numbers}
        if what == "a":
            for key in sorted(keys):
                strategy.add([key])
                turn += [key] if key not in turn else []
        elif what == "r":
            for key in keys.intersection(turn):
                strategy.remove(key)
                turn.remove(key)
        else:
            expected = next((key for key in turn if key not in keys), None)
            assert choose(strategy, keys) == expected
            if expected is not None:
                turn.remove(expected)
                turn.append(expected)


def test_places_that_were_left_do_not_pile_up() -> None:
    """However often proxies come and go between two choices, the queue stays as long as the ring, and a constant."""
    strategy = ring("abc")
    for _ in range(10_000):
        strategy.remove("b")
        strategy.add(["b"])
    assert len(strategy._turn) < 100
    assert [choose(strategy) for _ in range(4)] == list("acba")


@pytest.mark.parametrize("build", [ring, sampler])
def test_nothing_is_chosen_when_all_are_excluded(build: Callable[[str], Strategy]) -> None:
    """A strategy says None where it has no candidate, and has not changed by that."""
    strategy = build("ab")
    assert choose(strategy, {"a", "b", "unknown"}) is None
    assert choose(strategy, {"a"}) == "b"


def test_random_is_uniform_among_those_not_excluded() -> None:
    """Each candidate has the same chance, wherever the excluded ones stand."""
    strategy = sampler("abcdefgh")
    strategy.remove("c")
    served = Counter(choose(strategy, ("a", "e", "h", "c", "h")) for _ in range(8000))
    assert set(served) == set("bdfg")
    assert all(1850 < count < 2150 for count in served.values())


def test_random_repeats_itself_with_the_same_seed() -> None:
    """The same seed and the same calls give the same choices, whatever the order of the exclusions."""
    draws = [
        [choose(strategy, exclude) for _ in range(50)]
        for strategy, exclude in ((sampler("abcdefgh"), ("b", "g", "d")), (sampler("abcdefgh"), {"d", "b", "g"}))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 5


def test_an_unknown_strategy_names_the_known_ones() -> None:
    """Whoever mistypes a name reads which names there are."""
    with pytest.raises(UnknownNameError, match=r"unknown strategy 'robin'; known: bandit, .*round_robin"):
        find_strategy("robin")


@pytest.fixture
def third_party(tmp_path: Path) -> Iterator[None]:
    """An installed package that offers strategies: one sound, one that cannot be loaded, one impostor."""
    (tmp_path / "whirl_first.py").write_text(
        "class First:\n"
        "    def __init__(self, roster): self.keys = []\n"
        "    def add(self, keys): self.keys.extend(keys)\n"
        "    def remove(self, key): self.keys.remove(key)\n"
        "    def choose(self, exclude, barred, site):\n"
        "        return next((k for k in self.keys if k not in exclude and not any(k in b for b in barred)), None)\n"
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
    strategy = find_strategy("first")(Proxies())
    strategy.add(["a", "b"])
    assert [choose(strategy), choose(strategy, {"a"})] == ["a", "b"]
    assert {"broken", "first", "random", "round_robin"} <= set(strategy_names())
    with Pool.of(["http://192.0.2.1", "http://192.0.2.2"], "first").acquire() as lease:
        assert lease.proxy.host == "192.0.2.1"


def test_a_built_in_name_cannot_be_taken_over(third_party: None) -> None:
    """An installed package cannot change what `random` means."""
    assert isinstance(find_strategy("random")(Proxies()), RandomChoice)


def test_a_strategy_that_cannot_be_loaded_is_a_settings_error(third_party: None) -> None:
    """A defect of another package is told with its place, not as a foreign traceback."""
    with pytest.raises(SettingsError, match=r"strategy 'broken' cannot be loaded from whirl_first:Absent"):
        find_strategy("broken")
