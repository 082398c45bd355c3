"""Choosing by weight: shares in proportion, whatever the sizes, and 0 means never, by no way at all."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping

import pytest

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.strategies.chance import RandomChoice
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
REFUSED = Outcome(False, blame=Blame.PROXY)


def proxy(key: str, weight: float | None = None, country: str | None = None) -> Proxy:
    """Make a proxy of which weight and country are known."""
    return Proxy(key, "http", "192.0.2.1", 8080, attributes=Attributes(weight=weight, country=country))


def pool_of(weights: Mapping[str, float | None], strategy: str = "weighted", seed: int = 1) -> Pool:
    """Make a pool of proxies with weights."""
    pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(seed), clock=ManualClock())
    pool.update(proxy(key, weight) for key, weight in weights.items())
    return pool


def shares(pool: Pool, requests: int, exclude: tuple[str, ...] = ()) -> Counter[str]:
    """Count who serves so many requests."""
    served: Counter[str] = Counter()
    for _ in range(requests):
        with pool.acquire(exclude=exclude) as lease:
            served[lease.proxy.key] += 1
    return served


def assert_shares(served: Counter[str], weights: Mapping[str, float]) -> None:
    """Hold each count to its binomial distribution: five standard deviations, which one seed in 1.7 million exceeds."""
    requests, total = served.total(), sum(weights.values())
    assert set(served) <= set(weights)
    for key, weight in weights.items():
        share = weight / total
        bound = 5 * math.sqrt(requests * share * (1 - share)) + 1
        assert abs(served[key] - requests * share) <= bound, (key, served[key], requests * share, bound)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "weights",
    [
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0},
        {"a": 0.999, "b": 1.0, "c": 1.001, "d": 0.501},
        {"a": 1e-6, "b": 1e6, "c": 5e5},
        {"a": 1e-320, "b": 3e-320},
        {"a": 1e308, "b": 1e308},
        {f"k{n}": float(n) for n in range(1, 60)},
    ],
)
def test_shares_are_in_proportion_to_weights(weights: dict[str, float], seed: int) -> None:
    """Each is within five standard deviations of the binomial distribution of its share.

    Beyond 1e±150 weights count as these, so that the two tiny ones of 1e-320 and 3e-320 share alike.
    """
    served = shares(pool_of(weights, seed=seed), 6000)
    assert_shares(served, {key: min(max(weight, 1e-150), 1e150) for key, weight in weights.items()})


def test_a_proxy_without_a_weight_has_the_weight_of_one() -> None:
    """Who was given none has the share of who was given 1."""
    assert_shares(shares(pool_of({"a": None, "b": 1.0, "c": 2.0}), 6000), {"a": 1.0, "b": 1.0, "c": 2.0})


def test_the_weight_that_has_no_end_serves_beside_the_others() -> None:
    """Infinity is a weight that a number can have: it takes all requests and breaks nothing, excluded or not."""
    pool = pool_of({"a": math.inf, "b": 1.0})
    assert set(shares(pool, 100)) == {"a"}
    assert set(shares(pool, 100, exclude=("a",))) == {"b"}


def test_without_the_heaviest_the_others_keep_their_proportions() -> None:
    """A request that excludes who weighs more than all others finds these by their weights (five deviations)."""
    weights = {"huge": 1e12, "a": 1.0, "b": 2.0, **{f"k{n}": 0.1 for n in range(50)}}
    served = shares(pool_of(weights), 6000, exclude=("huge",))
    del weights["huge"]
    assert_shares(served, weights)


def test_random_is_even_by_chi_square() -> None:
    """With 50 proxies the statistic stays below 100: at 49 degrees chance exceeds it less than once in 20,000."""
    served = shares(pool_of({f"k{n}": None for n in range(50)}, "random"), 20_000)
    assert sum((served[f"k{n}"] - 400) ** 2 / 400 for n in range(50)) < 100


@pytest.mark.parametrize("strategy", ["weighted", "composite:scheme=http,chooser=weighted"])
def test_the_weight_of_nought_never_serves(strategy: str) -> None:
    """Neither beside others, nor when these are excluded or set aside, nor for a session, and `PoolEmpty` says so."""
    pool = pool_of({"never": 0.0, "a": 1.0, "b": 1.0}, strategy)
    assert set(shares(pool, 200)) == {"a", "b"}
    with pytest.raises(PoolEmpty):
        pool.acquire(exclude={"a", "b"})
    for number in range(50):
        with pool.acquire(session=f"s{number}") as lease:
            assert lease.proxy.key != "never"
    for _ in range(2):
        pool.acquire().report(REFUSED)
    assert {pool.acquire().proxy.key for _ in range(20)} <= {"a", "b"}  # both are set aside by now
    assert [(each.reason, each.example.key) for each in pool.explain().excluded if each.count == 1] == [
        ("of weight 0", "never")
    ]


def test_one_that_was_set_aside_and_then_given_the_weight_of_nought_never_serves() -> None:
    """Not when it is due, not as the only one left, not on trial: it is as if it were not there."""
    clock = ManualClock()
    pool = Pool("weighted", resolve=lambda _key: None, rng=random.Random(1), clock=clock)
    pool.update([proxy("a", 1.0)])
    pool.acquire().report(REFUSED)
    pool.update([proxy("a", 0.0)])
    for wait in (0.0, 1000.0):
        clock.advance(wait)
        with pytest.raises(PoolEmpty):
            pool.acquire()
        with pytest.raises(PoolEmpty):
            pool.acquire(exclusive=True)
    pool.update([proxy("a", 2.0)])
    assert pool.acquire().proxy.key == "a"


def test_a_session_moves_away_from_the_weight_of_nought() -> None:
    """A proxy that is given the weight 0 loses its sessions, and the lease says why."""
    pool = pool_of({"a": 1.0, "b": 1.0})
    with pool.acquire(session="s") as lease:
        key = lease.proxy.key
    pool.update([proxy(key, 0.0)])
    with pool.acquire(session="s") as lease:
        assert lease.proxy.key != key
        assert "it is of weight 0" in str(lease.why)


def test_a_new_weight_counts_from_the_next_request_on() -> None:
    """Weights that change, to and from nothing, change the shares of all who ask, with a filter and without."""
    pool = pool_of({"a": 1.0, "b": 1.0})
    pool.acquire(scheme="http").release()
    pool.update([proxy("a", 0.0)])
    assert set(shares(pool, 50)) == {"b"}
    assert {pool.acquire(scheme="http").proxy.key for _ in range(50)} == {"b"}
    pool.update([proxy("a", 3.0)])
    assert_shares(shares(pool, 4000), {"a": 3.0, "b": 1.0})


def test_a_new_weight_brings_nobody_into_a_filter_that_does_not_admit_it() -> None:
    """Whose weight changes is chosen only by requests that it fits."""
    pool = Pool("weighted", resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock())
    pool.update([proxy("de", 1.0, "DE"), proxy("fr", 1.0, "FR")])
    pool.acquire(country="DE").release()
    pool.update([proxy("fr", 50.0, "FR")])
    assert {pool.acquire(country="DE").proxy.key for _ in range(50)} == {"de"}


def test_the_shares_of_random_do_not_depend_on_weights() -> None:
    """Only `weighted` knows of weights: to every other strategy they mean nothing."""
    assert_shares(shares(pool_of({"a": 0.0, "b": 5.0}, "random"), 4000), {"a": 1.0, "b": 1.0})
    assert not hasattr(RandomChoice, "declines")
