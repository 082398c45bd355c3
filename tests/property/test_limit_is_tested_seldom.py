"""Tests of a learnt limit by rate: paid for by time, however often somebody asks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.sites import rate_limit
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit

REST = 60.0

steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.floats(0.0, 50.0)),
        st.tuples(st.just("served"), st.floats(0.05, 2.0)),
        st.tuples(st.just("refused"), st.floats(0.05, 2.0)),
    ),
    max_size=80,
)


def known_limit() -> LearnedRateLimit:
    """Return a limit of one use in about a minute, as several bans have shown it."""
    limit = LearnedRateLimit()
    for part in (0.5, 0.8, 0.9, 0.95):
        limit.refused([0.0], part * REST, whole=True)
        limit.served([0.0], 1.2 * REST)
    return limit


@given(steps, st.floats(1.0, 2000.0))
def test_there_is_one_test_in_so_many_seconds(moves: list[tuple[str, float]], every: float) -> None:
    """Unless one that came too early was served, no test follows another, or the first question, sooner than that."""
    limit, now, last, free = known_limit(), 1000.0, None, False
    for what, number in moves:
        if what == "ask":
            now += number
            tests = limit.may_test(now, every)
            assert not tests or last is None or free or now - last >= every - 1e-6
            if tests or last is None:
                last, free = now, False
        elif what == "served":
            free = free or limit.rested([now - number * REST], now) < 1.0
            limit.served([now - number * REST], now)
        else:
            limit.refused([now - number * REST], now, whole=True)


@given(st.floats(1.0, 2000.0), st.integers(1, 500))
def test_how_often_somebody_asks_makes_no_difference(every: float, often: int) -> None:
    """In ten times the interval there are nine tests at least and ten at most, for one who asks often enough."""
    limit, now, step = known_limit(), 1000.0, every / (5 + often)
    tests = 0
    for _ in range(10 * (5 + often)):
        now += step
        tests += limit.may_test(now, every)
    assert 8 <= tests <= 10


@given(st.floats(0.05, 0.6), st.floats(100.0, 2000.0))
def test_a_test_that_is_served_allows_the_next(part: float, every: float) -> None:
    """Where a use much too early is served, the limit may be gone: that is found out without delay."""
    limit = known_limit()
    limit.may_test(1000.0, every)
    assert not limit.may_test(1001.0, every)
    rest = part * REST
    limit.served([1001.0 - rest], 1001.0)
    assert limit.may_test(1001.5, every)


@given(st.floats(1.0, 20_000.0), st.integers(1, 1000), st.floats(0.0, 1.0))
def test_tests_keep_few_proxies_banned(ban: float, proxies: int, held: float) -> None:
    """If each is refused, at most a twentieth of the proxies is banned for it."""
    banned = ban / rate_limit.tests_every(ban, proxies, held)
    assert banned <= 0.05 * proxies + 1e-9
