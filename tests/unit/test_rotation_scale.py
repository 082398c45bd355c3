"""A hundred thousand proxies: what is counted is steps, which no other process disturbs."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import pytest

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy, Sketch
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.rotation.strategies.sampling import Sampler
from proxywhirl.testing.clock import ManualClock

MANY = 100_000
SITE = "http://shop.example/"
T = TypeVar("T")


class Counted(dict[str, float]):
    """A table that counts how often it is asked whether it has a key."""

    asked = 0

    def __contains__(self, key: object) -> bool:
        self.asked += 1
        return super().__contains__(key)


class Unscanned(list[str]):
    """A list that nobody may go through."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("a sampler was gone through")


def portray(key: str, sketch: Sketch) -> Proxy:
    """Make the value of a sketch, whose text is a country."""
    return Proxy(key, "http", "192.0.2.1", 8080, attributes=Attributes(country=sketch[1] or None))


def pool_of(strategy: str, count: int = MANY) -> Pool:
    """Make a pool, a tenth of it in Germany."""
    pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock(), portray=portray)
    pool.stock({f"k{n}": ("http://192.0.2.1:8080", "" if n % 10 else "DE") for n in range(count)})
    return pool


def refusing(keys: Collection[str]) -> Counted:
    """Make a table of keys that may not serve."""
    return Counted(dict.fromkeys(keys, 0.0))


def test_a_draw_among_many_goes_through_nothing_unless_nearly_all_are_refused() -> None:
    """Where one in a hundred is admitted the sampler is drawn from about a hundred times, and never gone through.

    The mean of 200 draws is within five standard deviations of geometric distribution (100 each, so 100 ± 35).
    """
    sampler = Sampler(random.Random(1))
    sampler.add([str(n) for n in range(MANY)])
    sampler.keys = Unscanned(sampler.keys)
    for share, expected in ((0.5, 2), (0.1, 10), (0.01, 100)):
        admitted = int(MANY * share)
        barred = refusing([str(n) for n in range(admitted, MANY)])
        for _ in range(200):
            key = sampler.draw((), (barred,))
            assert key is not None
            assert int(key) < admitted
        assert barred.asked / 200 < expected * 1.35 + 1


@pytest.mark.parametrize("strategy", [name for name in strategy_names() if name != "round_robin"])
def test_a_site_that_bans_most_of_them_costs_no_scan(strategy: str) -> None:
    """With nine in ten banned each of a hundred choices looks at a few dozen of 100,000."""
    view = pool_of(strategy)._chooser.views.all
    barred = refusing([f"k{n}" for n in range(MANY) if n % 10])
    for _ in range(100):
        key = view.choose((), (barred,), None)
        assert key is not None
        assert not int(key[1:]) % 10
    assert barred.asked < 100 * 60


def test_round_robin_passes_over_those_that_are_banned_once() -> None:
    """Nine in ten are looked at once on the way, and eight for each request from then on."""
    view = pool_of("round_robin")._chooser.views.all
    barred = refusing([f"k{n}" for n in range(MANY) if n % 10])
    served = [view.choose((), (barred,), None) for _ in range(5000)]
    assert len(set(served)) == 5000
    assert barred.asked < 5000 * (10 + 8 + 1)


@pytest.mark.parametrize("strategy", strategy_names())
def test_a_thousand_that_fail_at_once_are_set_aside_one_step_each(strategy: str) -> None:
    """Afterwards none of them serves, the others do, and nobody is looked through: each is in one timetable."""
    pool = pool_of(strategy, 20_000)
    leases = [pool.acquire() for _ in range(1000)]
    failed = {lease.proxy.key for lease in leases}
    for lease in leases:
        lease.report(Outcome(False, blame=Blame.PROXY))
    aside = pool._chooser.availability.aside
    assert set(aside) == failed
    assert len(aside._heap) <= 2 * len(aside) + 65
    for _ in range(500):
        with pool.acquire() as lease:
            assert lease.proxy.key not in failed


def looks(choose: Callable[[], T], known: list[int]) -> int:
    """Count how often it was asked what is known of a proxy."""
    before = known[0]
    choose()
    return known[0] - before


def test_a_filter_is_looked_through_once() -> None:
    """The first request for a country reads all; another one, and one for a place nobody is at, next to nothing."""
    pool = pool_of("random")
    count = [0]
    index, known = pool._chooser.index, pool._chooser.index._known

    def counting(key: str) -> Proxy:
        count[0] += 1
        return known(key)

    index._known = counting
    assert looks(lambda: pool.acquire(country="DE"), count) >= MANY
    assert looks(lambda: [pool.acquire(country="DE") for _ in range(100)], count) == 0
    assert looks(lambda: pool.explain(country="IT"), count) == 0


def test_where_all_that_fit_are_set_aside_only_they_are_looked_at() -> None:
    """The one due first of three is found among these, not among the 20,000 others that are set aside."""
    pool = Pool("random", resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock(), portray=portray)
    pool.stock({f"k{n}": ("http://192.0.2.1:8080", "FR") for n in range(20_000)}, aside=True)
    pool.stock({f"d{n}": ("http://192.0.2.1:8080", "DE") for n in range(3)}, aside=True)
    at = pool._chooser.availability.aside.at
    first = min(range(3), key=lambda n: at[f"d{n}"])
    asked: list[str] = []
    chooser = pool._chooser
    limited = chooser.availability.at_limit
    chooser.availability.at_limit = lambda key: asked.append(key) or limited(key)  # type: ignore[method-assign,func-returns-value]
    with pool.acquire(country="DE") as lease:
        assert lease.proxy.key == f"d{first}"
    assert len(asked) <= 3


def test_bans_of_most_proxies_leave_other_sites_as_they_were() -> None:
    """A site that bans 5,000 of 10,000 is served by the others, and any other site by all."""
    pool = pool_of("random", 10_000)
    ban = Ban(until=2e12, strikes=1, rule="forbidden", forget_at=3e12)
    pool.learn_bans({(f"k{n}", "shop.example"): ban for n in range(5000)})
    served = [int(pool.acquire(SITE).proxy.key[1:]) for _ in range(500)]
    assert min(served) >= 5000
    elsewhere = [int(pool.acquire("http://other.example/").proxy.key[1:]) for _ in range(500)]
    assert 150 < sum(number < 5000 for number in elsewhere) < 350
