"""Round robin among sites that bar different proxies, and requests that exclude some: nobody starves."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.strategies.round_robin import RoundRobin
from proxywhirl.testing.clock import ManualClock

MOST = 40
OK = Outcome(True, latency=0.1, status=200)


@settings(max_examples=200)
@given(
    count=st.integers(1, MOST),
    sites=st.lists(st.sets(st.integers(0, MOST - 1)), min_size=1, max_size=5),
    pattern=st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
@example(count=18, sites=[set(range(16)), set(range(1, 16))], pattern=[0, 1])
@example(count=40, sites=[set(range(38)), set(range(38)) - {7}, set()], pattern=[0, 1, 0, 1, 0, 2])
def test_whoever_a_site_admits_serves_within_a_bounded_number_of_requests(
    count: int, sites: list[set[int]], pattern: list[int]
) -> None:
    """Between two turns of a proxy no more than 4n + 32 requests go to sites that it is not barred from.

    Sites take turns in any pattern that repeats itself. The bound: a proxy in the queue has at most n before it; one
    that is owed a turn waits for at most two rounds over the 2n + 64 places of the line, each request of which serves
    one of n or looks at eight places.
    """
    strategy = RoundRobin()
    strategy.add([str(number) for number in range(count)])
    barred = [{str(number): 0.0 for number in site if number < count} for site in sites]
    waited: Counter[str] = Counter()
    for step in range(12 * count + 200):
        site = barred[pattern[step % len(pattern)] % len(barred)]
        key = strategy.choose((), (site,) if site else (), None)
        waited.update(str(number) for number in range(count) if str(number) not in site)
        if key is None:
            assert len(site) == count
            continue
        assert key not in site
        waited[key] = 0
        assert max(waited.values()) <= 4 * count + 32


@settings(max_examples=50)
@given(count=st.integers(2, 20), seed=st.integers(0, 1000), tries=st.integers(1, 4))
def test_retries_that_exclude_who_was_tried_starve_nobody(count: int, seed: int, tries: int) -> None:
    """Where each request is retried with other proxies at two sites that bar halves, all serve in 10n requests."""
    rng = random.Random(seed)
    keys = [str(number) for number in range(count)]
    bars = [dict.fromkeys(rng.sample(keys, count // 2), 0.0) for _ in range(2)]
    strategy = RoundRobin()
    strategy.add(keys)
    served: Counter[str] = Counter()
    for _ in range(10 * count + 40):
        site = rng.choice(bars)
        tried: set[str] = set()
        for _ in range(tries):
            key = strategy.choose(tried, (site,) if site else (), None)
            if key is None:
                assert set(keys) - site.keys() <= tried
                break
            assert key not in tried
            assert key not in site
            tried.add(key)
        served.update(tried)
    assert {key for key in keys if not all(key in site for site in bars)} == set(served)


def test_a_pool_with_bans_at_three_sites_uses_everyone_wherever_it_may() -> None:
    """Each proxy serves the sites that did not ban it, and nobody serves one that did; within 4n + 32 requests each."""
    rng = random.Random(7)
    pool = Pool("round_robin", resolve=lambda _key: None, rng=rng, clock=ManualClock())
    keys = [f"k{number:02}" for number in range(30)]
    pool.update(Proxy(key, "http", "192.0.2.1", 8080) for key in keys)
    banning = {f"s{number}.example": set(rng.sample(keys, 20)) for number in range(3)}
    ban = Ban(until=1e12, strikes=1, rule="forbidden", forget_at=1e13)
    pool.learn_bans({(key, site): ban for site, banned in banning.items() for key in banned})
    waited: Counter[str] = Counter()
    served: set[tuple[str, str]] = set()
    for step in range(3000):
        site = f"s{step % 3 if step % 7 else 0}.example"
        with pool.acquire(f"http://{site}/") as lease:
            key = lease.proxy.key
            lease.report(OK)
        assert key not in banning[site]
        served.add((key, site))
        waited.update(each for each in keys if each not in banning[site])
        waited[key] = 0
        assert max(waited.values()) <= 4 * len(keys) + 32
    assert {key for key, _ in served} == {key for key in keys if any(key not in banned for banned in banning.values())}
