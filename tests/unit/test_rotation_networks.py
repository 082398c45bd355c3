"""Sites that count the uses of a network together: how that shows, and what a proxy then rests for."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.networks import Networks
from proxywhirl.testing.clock import ManualClock

ONE, TWO, OTHER = "203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24"
OK = Outcome(True, latency=0.1, status=200)
FORBIDDEN = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)


def show(networks: Networks, times: int, *, of: tuple[str, ...] = (ONE, TWO), outside: str = OTHER) -> None:
    """Let neighbours be refused one after another, in networks in turn, while another one is served."""
    now = 0.0
    for turn in range(times):
        network = of[turn % len(of)]
        for key in (f"a{turn}", f"b{turn}"):
            networks.refused(network, key, now, now + 0.5, 0.1)
            networks.served(outside, "o", now + 0.6, now + 0.7, 0.1)
            now += 1.0
        networks.served(network, f"b{turn}", now, now + 0.1, 0.1)
        now += 60.0


def test_neighbours_that_are_refused_together_show_it() -> None:
    """After a few times in more than one network the site is seen to count by network."""
    networks = Networks()
    show(networks, 1)
    assert not networks.together
    show(networks, 8)
    assert networks.together


@pytest.mark.parametrize("spoilt", ["one network", "nobody outside"])
def test_one_network_or_a_site_that_serves_nobody_shows_nothing(spoilt: str) -> None:
    """One network may be banned as a whole, and a site that refuses all says nothing of networks."""
    networks = Networks()
    if spoilt == "one network":
        show(networks, 20, of=(ONE,))
    else:
        for turn in range(20):
            for key in ("a", "b", "c"):
                networks.refused((ONE, TWO)[turn % 2], f"{key}{turn}", 10.0 * turn, 10.0 * turn + 0.5, 0.1)
    assert not networks.together


def test_neighbours_that_are_served_speak_against_it() -> None:
    """Where a neighbour is served right after a refusal, each proxy is counted by itself."""
    networks = Networks()
    show(networks, 9)
    for turn in range(20):
        now = 10_000.0 + 100.0 * turn
        networks.refused(ONE, "a", now, now + 0.5, 0.1)
        networks.served(ONE, "b", now + 1.0, now + 1.5, 0.1)
    assert not networks.together


EVENT = st.tuples(st.booleans(), st.sampled_from([ONE]), st.sampled_from("abcd"), st.floats(0.0, 20.0))


@given(st.lists(EVENT, max_size=200))
def test_a_pool_in_one_network_is_never_counted_together(events: list[tuple[bool, str, str, float]]) -> None:
    """Whatever happens: it would say nothing, and its proxies would all rest for each other."""
    networks, now = Networks(), 0.0
    for ok, network, key, wait in events:
        now += wait
        if ok:
            networks.served(network, key, now, now, 0.1)
        else:
            networks.refused(network, key, now, now, 0.1)
    assert not networks.together


@dataclass
class Site:
    """A site that lets each network come so often in a window, and bans it for a while else."""

    uses: int
    window: float
    ban: float
    used: dict[str, deque[float]] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)

    def answer(self, host: str, now: float) -> Outcome:
        """Serve a request, or refuse it."""
        network = host.rpartition(".")[0]
        used = self.used.setdefault(network, deque())
        while used and used[0] <= now - self.window:
            used.popleft()
        if now < self.until.get(network, 0.0):
            return FORBIDDEN
        if len(used) >= self.uses:
            self.until[network] = now + self.ban
            used.clear()
            return FORBIDDEN
        used.append(now)
        return OK


def test_requests_go_round_among_the_networks_of_a_site_that_counts_so() -> None:
    """At 40 % of what ten networks may carry, nearly all that is sent is served once that is learnt."""
    clock, site, rng = ManualClock(), Site(1, 3.0, 60.0), random.Random(1)
    urls = [f"http://198.51.{network}.{n}:80" for network in range(10) for n in range(1, 6)]
    pool = Pool.of(urls, clock=clock, rng=random.Random(1))
    sent = served = 0
    for number in range(6000):
        clock.advance(rng.expovariate(4 / 3))
        tried: set[str] = set()
        for _ in range(3):
            try:
                lease = pool.acquire(f"http://shop.example/{number}", exclude=tried)
            except PoolEmpty:
                break
            tried.add(lease.proxy.key)
            outcome = site.answer(lease.proxy.host, clock.monotonic())
            lease.report(outcome)
            if number >= 3000:
                sent, served = sent + 1, served + outcome.ok
            if outcome.ok:
                break
    assert served > 2500  # the others were told to wait
    assert served > 0.97 * sent
