"""Fastest: what counts is when an answer comes, and a proxy can become better."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.testing.clock import ManualClock

Answer = Callable[[random.Random], Outcome]


def good(seconds: float) -> Answer:
    """Answer after so many seconds."""
    return lambda _rng: Outcome(True, latency=seconds, status=200)


def failing(share: float, seconds: float) -> Answer:
    """Fail so often, else answer."""
    return lambda rng: Outcome(False, blame=Blame.PROXY) if rng.random() < share else good(seconds)(rng)


class World:
    """Proxies with ways to answer, each request a second after the one before."""

    def __init__(self, answers: dict[str, Answer], seed: int = 1) -> None:
        self.answers = dict(answers)
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.pool = Pool("fastest", resolve=lambda _key: None, rng=random.Random(seed), clock=self.clock)
        self.pool.update(Proxy(key, "http", "192.0.2.1", 8080) for key in answers)

    def run(self, requests: int) -> Counter[str]:
        """Send requests, and count who serves."""
        served: Counter[str] = Counter()
        for _ in range(requests):
            self.clock.advance(1.0)
            with self.pool.acquire() as lease:
                served[lease.proxy.key] += 1
                lease.report(self.answers[lease.proxy.key](self.rng))
        return served


def test_a_fast_proxy_that_fails_loses_to_slower_ones_that_do_not() -> None:
    """Ten milliseconds and a failure in two requests cost more than 400 ms without any: it gets less than a tenth.

    An even share were a quarter; by twos that are drawn a loser gets a sixteenth, and a little of what is explored.
    """
    world = World({"failing": failing(0.5, 0.01), **{f"good{n}": good(0.4) for n in range(3)}})
    world.run(500)
    assert world.run(4000)["failing"] < 400


def test_the_faster_serve_more() -> None:
    """Of ten the share falls with the latency: the n-th of two draws wins as chance says, within five deviations.

    With a share of 0.05 explored, the k-th fastest gets 0.05/10 + 0.95·(2·(10-k)+1)/100.
    """
    world = World({f"k{n}": good(0.05 + 0.05 * n) for n in range(10)})
    world.run(2000)
    served = world.run(20_000)
    for n in range(10):
        share = 0.005 + 0.95 * (2 * (9 - n) + 1) / 100
        assert abs(served[f"k{n}"] - 20_000 * share) < 5 * (20_000 * share) ** 0.5, (n, served)


def test_those_of_which_nothing_is_known_are_tried() -> None:
    """Each of fifty newcomers beside fifty good ones serves within 5,000 requests."""
    world = World({f"old{n}": good(0.1) for n in range(50)})
    world.run(1000)
    newcomers = {f"new{n}": good(0.1) for n in range(50)}
    world.answers |= newcomers
    world.pool.update(Proxy(key, "http", "192.0.2.1", 8080) for key in newcomers)
    assert set(newcomers) <= set(world.run(5000))


def test_a_proxy_that_was_repaired_comes_back() -> None:
    """One that failed for half an hour has its share (a fifth, or more) again within 10,000 requests."""
    world = World({"sick": failing(1.0, 0.1), **{f"good{n}": good(0.2) for n in range(4)}})
    world.run(1800)
    world.answers["sick"] = good(0.1)
    world.run(10_000)
    assert world.run(1000)["sick"] > 200


def test_a_slow_proxy_that_became_fast_is_found_out() -> None:
    """Who answers in 50 ms after it needed two seconds leads within 3,000 requests, though hardly anyone asked it."""
    world = World({"changed": good(2.0), **{f"good{n}": good(0.2) for n in range(5)}})
    assert world.run(1000)["changed"] < 100
    world.answers["changed"] = good(0.05)
    world.run(3000)
    assert world.run(1000).most_common(1)[0][0] == "changed"
