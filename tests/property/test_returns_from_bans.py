"""Returns from bans: a proxy that comes back has one request under way, until that is told of."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxywhirl.errors import Blame, PoolEmpty, SiteResting
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.sites.site import TRIAL_SECONDS, Site
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403)
DEAD = Outcome(False, blame=Blame.PROXY, error="refused")
PAGES = st.integers(0, 3)


class Returns(RuleBasedStateMachine):
    """A pool that is asked for pages of a shop, which refuses and serves as it likes; and leases that are out."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.out: list[Lease] = []
        self.returns: dict[str, tuple[Lease, float]] = {}

    @initialize(strategy=st.sampled_from(["round_robin", "bandit", "random"]), size=st.integers(2, 5))
    def make(self, strategy: str, size: int) -> None:
        """Make the pool."""
        urls = [f"http://192.0.2.{number}:80" for number in range(size)]
        self.pool = Pool.of(urls, strategy, rng=random.Random(1), clock=self.clock)
        self.keys = self.pool.keys()

    @property
    def site(self) -> Site:
        """What is known of the shop."""
        return self.pool._chooser.learning.peek("shop.example")

    @rule(page=PAGES, only=st.none() | st.integers(0, 4), session=st.booleans())
    def acquire(self, page: int, only: int | None, *, session: bool) -> None:
        """Ask for a page, through one of them or any."""
        exclude = () if only is None else {key for key in self.keys if key != self.keys[only % len(self.keys)]}
        try:
            target = Target("http", "shop.example", 80, page=page)
            lease = self.pool.acquire(target, exclude=exclude, session="s" if session else None)
        except (PoolEmpty, SiteResting):
            return
        self.out.append(lease)
        key, now = lease.proxy.key, self.clock.monotonic()
        if key in self.site.returning:
            before = self.returns.get(key)
            assert before is None or now - before[1] >= TRIAL_SECONDS
            self.returns[key] = lease, now

    @precondition(lambda self: self.out)
    @rule(number=st.integers(0, 50), outcome=st.sampled_from([OK, OK, BANNED, BANNED, DEAD, None]))
    def end(self, number: int, outcome: Outcome | None) -> None:
        """Tell of one of those that are out, or give it back."""
        lease = self.out.pop(number % len(self.out))
        if outcome is None:
            lease.release()
        else:
            lease.report(outcome)
        for key, (returned, _) in list(self.returns.items()):
            if returned is lease or key not in self.site.returning:
                del self.returns[key]

    @rule(page=PAGES, number=st.integers(0, 4))
    def be_banned(self, page: int, number: int) -> None:
        """Let a proxy be refused what another one is served."""
        self.acquire(page, number, session=False)
        if self.out and self.out[-1].proxy.key == self.keys[number % len(self.keys)]:
            self.end(len(self.out) - 1, BANNED)
        self.acquire(page, number + 1, session=False)
        if self.out and self.out[-1].proxy.key == self.keys[(number + 1) % len(self.keys)]:
            self.end(len(self.out) - 1, OK)

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.0, 11.0, 70.0, 400.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def those_that_return_are_not_barred_for_ever(self) -> None:
        """Each that is barred has a moment at which that ends."""
        if hasattr(self, "pool"):
            assert all(until < self.clock.monotonic() + 10 * 3600.0 for until in self.site.barred.at.values())


Returns.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestReturns = Returns.TestCase


@pytest.mark.parametrize("strategy", ["round_robin", "bandit"])
def test_six_requests_do_not_storm_one_that_returns(strategy: str) -> None:
    """When the ban of the only one is over, one of six is let through; the others are, once that was served."""
    clock = ManualClock()
    pool = Pool.of(["http://192.0.2.1:80", "http://192.0.2.2:80"], strategy, rng=random.Random(1), clock=clock)
    page, (first, second) = "http://shop.example/", pool.keys()
    pool.acquire(page, exclude={second}).report(OK)
    pool.acquire(page, exclude={first}).report(BANNED)
    clock.advance(600)
    lease = pool.acquire(page, exclude={first})
    for _ in range(5):
        with pytest.raises(PoolEmpty) as empty:
            pool.acquire(page, exclude={first})
        assert empty.value.retry_after is not None
        assert empty.value.retry_after <= TRIAL_SECONDS
    lease.report(OK)
    for _ in range(5):
        pool.acquire(page, exclude={first})


def test_a_first_request_that_is_given_up_keeps_nobody_out() -> None:
    """A proxy that has come back may be tried again at once; the end of an older request lets nobody else in."""
    clock = ManualClock()
    pool = Pool.of([f"http://192.0.2.{n}:80" for n in range(2)], rng=random.Random(1), clock=clock)
    for _ in range(4):
        pool.acquire("http://shop.example/").report(OK)
    key, other = pool.keys()
    older, lease = (pool.acquire("http://shop.example/", exclude={other}) for _ in range(2))
    clock.advance(1.0)
    lease.report(BANNED)
    pool.acquire("http://shop.example/", exclude={key}).report(OK)
    clock.advance(3600.0)
    first = pool.acquire("http://shop.example/", exclude={other})
    older.release()
    with pytest.raises(PoolEmpty):
        pool.acquire("http://shop.example/", exclude={other})
    first.release()
    assert pool.acquire("http://shop.example/", exclude={other}).proxy.key == key
