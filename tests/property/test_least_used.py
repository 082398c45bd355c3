"""Least used: against a plain count of the requests under way."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.errors import PoolEmpty
from proxywhirl.models import Attributes, Proxy
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing.clock import ManualClock

COUNTRIES = ("DE", "FR", "DE", "IT", "DE", "FR")
KEYS = [f"k{number}" for number in range(len(COUNTRIES))]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["any", "DE", "FR", "end", "end", "discard", "add"]),
        st.sets(st.sampled_from(KEYS), max_size=3),
        st.integers(0, 1000),
    ),
    max_size=60,
)


def proxy(number: int) -> Proxy:
    """Make one of the proxies, in its country."""
    return Proxy(KEYS[number], "http", "192.0.2.1", 8080, attributes=Attributes(country=COUNTRIES[number]))


@settings(max_examples=200)
@given(STEPS)
def test_who_serves_has_the_fewest_requests_under_way(steps: list[tuple[str, set[str], int]]) -> None:
    """Of those that a request's filter and exclusions leave, none has fewer; whatever came, ended or left before."""
    pool = Pool("least_used", resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock())
    pool.update(map(proxy, range(len(KEYS))))
    under_way: dict[str, int] = dict.fromkeys(KEYS, 0)
    out: list[tuple[Lease, int]] = []
    born = Counter[str]()
    for what, some, number in steps:
        if what == "end":
            if out:
                lease, generation = out.pop(number % len(out))
                lease.release()
                if generation == born[lease.proxy.key] and lease.proxy.key in under_way:
                    under_way[lease.proxy.key] -= 1
        elif what == "discard":
            key = KEYS[number % len(KEYS)]
            pool.discard([key])
            if under_way.pop(key, None) is not None:
                born[key] += 1
        elif what == "add":
            key = KEYS[number % len(KEYS)]
            pool.update([proxy(number % len(KEYS))])
            under_way.setdefault(key, 0)
        else:
            wishes = {} if what == "any" else {"country": what}
            fit = {
                key: load
                for key, load in under_way.items()
                if key not in some and (what == "any" or COUNTRIES[KEYS.index(key)] == what)
            }
            if not fit:
                with pytest.raises(PoolEmpty):
                    pool.acquire(exclude=some, **wishes)  # type: ignore[arg-type]  # a country
                continue
            lease = pool.acquire(exclude=some, **wishes)  # type: ignore[arg-type]  # a country
            assert fit[lease.proxy.key] == min(fit.values())
            under_way[lease.proxy.key] += 1
            out.append((lease, born[lease.proxy.key]))


def test_equals_share_evenly() -> None:
    """Among idle proxies each has the same chance: six standard deviations of the binomial distribution hold."""
    pool = Pool("least_used", resolve=lambda _key: None, rng=random.Random(2), clock=ManualClock())
    pool.update(map(proxy, range(len(KEYS))))
    served: Counter[str] = Counter()
    for _ in range(6000):
        with pool.acquire() as lease:
            served[lease.proxy.key] += 1
    assert all(abs(served[key] - 1000) < 6 * (6000 * 1 / 6 * 5 / 6) ** 0.5 for key in KEYS)
