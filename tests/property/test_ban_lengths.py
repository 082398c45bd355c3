"""How long a site bans, as it is learnt from those that came back: a distribution, whatever they met."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.sites.bans import EVEN, FIRST_BAN, LONGEST_BAN, SURELY, BanBook, BanLengths

chances = st.floats(0.0, 1.0)
seconds = st.floats(0.0, 10.0 * LONGEST_BAN)
returns = st.lists(st.tuples(seconds, st.booleans(), chances), max_size=40)


def learnt(steps: list[tuple[float, bool, float]]) -> BanLengths:
    """Return what is known after some came back."""
    lengths = BanLengths()
    for elapsed, served, refused in steps:
        lengths.returned(elapsed, served=served, refused=refused)
    return lengths


@given(returns, seconds, seconds)
def test_what_is_known_stays_a_distribution(steps: list[tuple[float, bool, float]], one: float, other: float) -> None:
    """The chance that a ban is over is within 0 and 1, grows with its age, and is 1 in the end."""
    lengths = learnt(steps)
    sooner, later = sorted((one, other))
    assert 0.0 <= lengths.over(sooner) <= lengths.over(later) <= 1.0 + 1e-9
    assert lengths.over(0.0) == 0.0
    assert lengths.over(10.0 * LONGEST_BAN) == pytest.approx(1.0)


@given(returns, seconds, chances, chances)
def test_who_wants_to_be_surer_waits_longer(
    steps: list[tuple[float, bool, float]], elapsed: float, one: float, other: float
) -> None:
    """No wait ends in the past, none is endless, and that for a greater chance is no shorter."""
    lengths = learnt(steps)
    less, more = sorted((one, other))
    assert elapsed <= lengths.wait(elapsed, less) <= lengths.wait(elapsed, more)
    assert lengths.wait(elapsed, more) <= max(elapsed, 2.0 * LONGEST_BAN)
    assert 0.0 < lengths.expected < 2.0 * LONGEST_BAN


@given(returns, seconds, st.floats(0.01, 0.5))
def test_a_refusal_makes_bans_longer_and_a_success_shorter(
    steps: list[tuple[float, bool, float]], elapsed: float, refused: float
) -> None:
    """One that is refused after some time makes it less likely that they are over by then; one that is served, more."""
    before, worse, better = learnt(steps), learnt(steps), learnt(steps)
    worse.returned(elapsed, served=False, refused=refused)
    better.returned(elapsed, served=True, refused=refused)
    slack = 0.002  # of a site that bans in another way from now on
    assert worse.over(elapsed) <= before.over(elapsed) + slack
    assert better.over(elapsed) >= before.over(elapsed) - slack


@given(st.floats(4.0, 4 * 3600.0), st.integers(0, 10**6))
def test_how_long_bans_last_is_found_out(true: float, seed: int) -> None:
    """Once forty came back when they thought that it was time, waits are mostly within half and twice the truth."""
    rng, lengths, waits = random.Random(seed), BanLengths(), []
    for number in range(80):
        waits.append(lengths.wait(0.0, EVEN))
        elapsed = lengths.wait(0.0, EVEN if number % 2 else SURELY) * (1.0 + 0.2 * rng.random())
        lengths.returned(elapsed, served=elapsed >= true, refused=0.05)
    assert sum(true / 2 <= wait <= 2 * true for wait in waits[40:]) >= 30


@given(st.floats(1.0, 3600.0), st.integers(0, 10**6))
def test_what_a_site_asks_for_is_followed(asked: float, seed: int) -> None:
    """After a while the expected length is that which the site names, also where that has changed."""
    lengths, rng = BanLengths(), random.Random(seed)
    for _ in range(rng.randrange(5)):
        lengths.was_asked(rng.uniform(1.0, 3600.0))
    for _ in range(60):
        lengths.was_asked(asked)
    assert lengths.expected == pytest.approx(asked, rel=0.01, abs=0.01)


@given(returns, st.booleans(), st.integers(1, 20), st.randoms(use_true_random=False))
def test_a_ban_by_what_is_known_is_bounded(
    steps: list[tuple[float, bool, float]], tests: bool, strikes: int, rng: random.Random
) -> None:
    """However often in a row, and whatever was learnt: some time, never more than the longest and its jitter."""
    book, lengths, now = BanBook(rng), learnt(steps), 1e9
    for _ in range(strikes):
        ban = book.strike(("a", "s"), "403", now=now, retry_after=None, lengths=lengths, tests=tests)
        assert 1.0 - 1e-3 <= ban.until - now <= 1.2 * LONGEST_BAN + 1e-3
        now = ban.until


def test_nothing_known_is_a_minute_at_first() -> None:
    """The first that comes back does so after about a minute, and after a long series of refusals after hours."""
    lengths = BanLengths()
    assert 0.5 * FIRST_BAN <= lengths.expected <= 2 * FIRST_BAN
    for _ in range(10):
        lengths.returned(3600.0, served=False, refused=0.05)
    assert lengths.expected > 3600.0
