"""The two built-in strategies, and the registry that finds them by name."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Proxy, Sketch
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies import RandomChoice, RoundRobin
from proxywhirl.rotation.strategy import KeyStrategy, Strategy, make_strategy, strategy_names


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


@pytest.mark.parametrize("built_in", [RoundRobin(), urn("")])
def test_keys_alone_are_taken_in_like_proxies(built_in: RoundRobin | RandomChoice) -> None:
    """`add_keys` does as `add` does with each."""
    assert isinstance(built_in, KeyStrategy)
    built_in.add(proxy("a"))
    built_in.add_keys({"b": None, "c": None}.keys())
    built_in.remove("b")
    assert {built_in.choose(()) for _ in range(50)} == {"a", "c"}
    assert built_in.choose({"a"}) == "c"


@given(st.lists(st.tuples(st.sampled_from("arc"), st.sets(st.integers(0, 5)))))
def test_round_robin_is_a_list_whose_chosen_one_goes_to_its_end(steps: list[tuple[str, set[int]]]) -> None:
    """Adding, removing and choosing in any order give what a plain list gives."""
    strategy = RoundRobin()
    turn: list[str] = []
    for what, numbers in steps:
        keys = {str(number) for number in numbers}
        if what == "a":
            for key in sorted(keys):
                strategy.add(proxy(key))
                turn += [key] if key not in turn else []
        elif what == "r":
            for key in keys.intersection(turn):
                strategy.remove(key)
                turn.remove(key)
        else:
            expected = next((key for key in turn if key not in keys), None)
            assert strategy.choose(keys) == expected
            if expected is not None:
                turn.remove(expected)
                turn.append(expected)


def test_places_that_were_left_do_not_pile_up() -> None:
    """However often proxies come and go between two choices, the queue stays as long as the ring, and a constant."""
    strategy = ring("abc")
    for _ in range(10_000):
        strategy.remove("b")
        strategy.add(proxy("b"))
    assert len(strategy._turn) < 100
    assert [strategy.choose(()) for _ in range(4)] == list("acba")


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


def test_a_strategy_that_wants_values_gets_them_of_sketches(third_party: None) -> None:
    """One without `add_keys` is told the whole proxy, and told again when it changes."""

    def portray(key: str, sketch: Sketch) -> Proxy:
        return Proxy(key, "http", "192.0.2.1", 8080, label=sketch[1])

    pool = Pool("first", resolve=lambda _key: None, portray=portray)
    told: list[Proxy] = []
    take = pool._ready.add

    def listen(proxy: Proxy) -> None:
        told.append(proxy)
        take(proxy)

    pool._ready.add = listen  # type: ignore[method-assign]  # to hear what it is told
    pool.stock({"a": ("", "one"), "b": ("", "one")})
    pool.stock({"a": ("", "two")})
    assert [(proxy.key, proxy.label) for proxy in told] == [("a", "one"), ("b", "one"), ("a", "two")]
    assert pool.acquire().proxy.label == "two"


def test_a_built_in_name_cannot_be_taken_over(third_party: None) -> None:
    """An installed package cannot change what `random` means."""
    assert isinstance(make_strategy("random", random.Random()), RandomChoice)


def test_a_strategy_that_cannot_be_loaded_is_a_settings_error(third_party: None) -> None:
    """A defect of another package is told with its place, not as a foreign traceback."""
    with pytest.raises(SettingsError, match=r"strategy 'broken' cannot be loaded from whirl_first:Absent"):
        make_strategy("broken", random.Random())
