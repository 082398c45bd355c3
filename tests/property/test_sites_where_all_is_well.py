"""A site at which nothing failed yet is asked less; what is chosen and learnt is the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl import Blame, Outcome, Pool, PoolEmpty, SiteResting, Target
from proxywhirl.testing import ManualClock

GOOD = Outcome(ok=True, latency=0.2, status=200)
OUTCOMES = {
    "good": GOOD,
    "refused": Outcome(ok=False, blame=Blame.TARGET_THROUGH_PROXY, latency=0.2, status=403),
    "limited": Outcome(ok=False, blame=Blame.TARGET_THROUGH_PROXY, latency=0.2, status=429),
    "down": Outcome(ok=False, blame=Blame.TARGET, latency=0.2, status=503),
    "dead": Outcome(ok=False, blame=Blame.PROXY, latency=0.2),
}
STEPS = st.lists(
    st.tuples(st.sampled_from(["one.example", "two.example"]), st.integers(1, 3), st.sampled_from(sorted(OUTCOMES))),
    max_size=40,
)


def run(strategy: str, steps: list[tuple[str, int, str]], *, asks_all: bool) -> tuple[list[str], object]:
    """Return who was chosen, and the bans; `asks_all` says that all sites are asked everything at once."""
    clock = ManualClock()
    pool = Pool.of([f"http://192.0.2.{n}:80" for n in range(6)], strategy, rng=random.Random(1), clock=clock)
    chosen = []
    for host, page, what in steps:
        clock.advance(0.5)
        if asks_all:
            pool._chooser.learning.site(host).all_well = False  # nobody outside can tell
        try:
            lease = pool.acquire(Target("https", host, 443, page=page))
        except (PoolEmpty, SiteResting) as exc:
            chosen.append(str(exc))
            continue
        chosen.append(lease.proxy.key)
        lease.report(OUTCOMES[what])
    return chosen, pool.bans()


@given(st.sampled_from(["bandit", "random", "round_robin"]), STEPS)
@settings(deadline=None)
def test_asking_less_of_a_site_where_all_is_well_changes_nothing(
    strategy: str, steps: list[tuple[str, int, str]]
) -> None:
    """The same is chosen, and the same bans are given, as if every site was asked everything."""
    assert run(strategy, steps, asks_all=False) == run(strategy, steps, asks_all=True)
