"""Whatever its numbers, a world keeps its books, and nobody beats the oracle in it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.yields.contestants import ORACLE, own_contestants
from benchmarks.yields.population import populate
from benchmarks.yields.race import race
from benchmarks.yields.world import World


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a small world of any mixture."""
    shares = draw(st.lists(st.floats(0.0, 0.25), min_size=4, max_size=4))
    return World(
        "drawn",
        seed=draw(st.integers(0, 1_000)),
        proxies=draw(st.integers(1, 25)),
        dead=shares[0],
        flaky=shares[1],
        fast_failing=shares[2],
        returning=shares[3],
        sites=5,
        banning=draw(st.integers(0, 3)),
        uses=(1, draw(st.integers(1, 6))),
        window=(1.0, draw(st.floats(1.0, 300.0))),
        walled=draw(st.sampled_from((0.0, 0.5, 1.0))),
        outages=draw(st.integers(0, 2)),
        requests=draw(st.integers(1, 150)),
        rate=draw(st.sampled_from((0.01, 1.0, 50.0))),
        attempts=draw(st.integers(1, 5)),
    )


@settings(max_examples=40)
@given(world=worlds())
def test_the_books_are_kept(world: World) -> None:
    """Shares are shares, attempts keep to what is allowed, and those given up are some of the idle."""
    for enter in own_contestants().values():
        tally = race(populate(world), enter)
        whole = tally.whole()
        assert 0.0 <= whole.first <= whole.served <= 1.0
        assert whole.served == 0.0 or whole.attempts >= 1.0
        assert whole.attempts * whole.served <= world.attempts + 1e-9 or whole.served == 0.0
        assert 0 <= whole.given_up <= whole.idle <= world.proxies
        assert sum(tally.lost.values()) <= world.requests


@settings(max_examples=40)
@given(world=worlds())
def test_the_oracle_is_never_banned(world: World) -> None:
    """It knows what the next use would lead to, and chooses who is alive: nothing fails but by bad luck."""
    tally = race(populate(world), own_contestants()[ORACLE])
    assert tally.bans == 0
    assert not {"dead", "refused", "site down"} & set(tally.lost)


@settings(max_examples=40)
@given(world=worlds())
def test_a_population_is_drawn_from_its_seed(world: World) -> None:
    """The same numbers make the same proxies and sites."""
    assert populate(world) == populate(world)
    assert len(populate(world).proxies) == world.proxies
