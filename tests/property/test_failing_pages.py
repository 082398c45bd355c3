"""A crawl of a site on which a share of the pages always fails: those that work are served, in any order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.errors import Blame, PoolEmpty, SiteResting
from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.verdicts.response import CUT, SILENT
from proxywhirl.testing.clock import ManualClock

OK = Outcome(True, latency=0.1, status=200)
FAILURES = {
    "403": Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403),
    "429": Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429),
    "429 with Retry-After": Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=60.0),
    "503": Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503),
    "500": Outcome(False, blame=Blame.TARGET, status=500),
    "hangs": Outcome(False, blame=Blame.PROXY, rule=SILENT),
    "cuts": Outcome(False, blame=Blame.PROXY, rule=CUT, reached=True),
}
ATTEMPTS, PATIENCE, PAUSES = 5, 400, 12


@dataclass(frozen=True)
class Request:
    """One for a page, which was tried through some proxies, and waited so often for the site."""

    page: int
    fails: bool
    tried: AbstractSet[str] = frozenset()
    waited: int = 0


@dataclass
class Crawl:
    """So many requests at once, in any order, through proxies that never fail by themselves."""

    pool: Pool
    clock: ManualClock
    rng: random.Random
    failure: Outcome
    width: int
    pace: float
    waiting: list[Request]
    out: list[tuple[Lease, Request]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> Counter[str]:
        """Send all requests; return how many attempts they took, and how many nobody could serve."""
        while self.waiting or self.out:
            self.clock.advance(self.rng.expovariate(2.0 * self.width / self.pace))
            if self.waiting and len(self.out) < self.width and (not self.out or self.rng.random() < 0.6):
                self.send(self.waiting.pop())
            elif self.out:
                self.end(*self.out.pop(self.rng.randrange(len(self.out))))
        return self.counts

    def send(self, request: Request) -> None:
        """Send a request; where the site rests, or all proxies pause, a moment later."""
        kind = "failing" if request.fails else "good"
        try:
            target = Target("http", "shop.example", 80, page=request.page)
            self.out.append((self.pool.acquire(target, exclude=request.tried), request))
        except (SiteResting, PoolEmpty) as exc:
            self.clock.advance(min(exc.retry_after or 0.0, 0.25))
            if request.waited < (PATIENCE if isinstance(exc, SiteResting) else PAUSES):
                self.waiting.insert(0, replace(request, waited=request.waited + 1))
            else:
                self.counts[f"{kind} refused"] += 1

    def end(self, lease: Lease, request: Request) -> None:
        """Let a request end; one that failed is tried again, unless that is the target's own answer."""
        self.counts["failing attempts" if request.fails else "good attempts"] += 1
        lease.report(self.failure if request.fails else OK)
        tried = request.tried | {lease.proxy.key}
        if request.fails and not lease.targets_own and len(tried) < ATTEMPTS:
            self.waiting.append(replace(request, tried=tried, waited=0))


@pytest.mark.parametrize("failure", FAILURES)
@settings(max_examples=8, derandomize=True)
@given(
    strategy=st.sampled_from(["bandit", "round_robin"]),
    size=st.integers(3, 10),
    share=st.sampled_from([0.05, 0.2, 0.5]),
    width=st.sampled_from([1, 2, 8, 16]),
    pace=st.sampled_from([0.1, 1.0, 3.0]),
    known=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_pages_that_work_are_served_beside_pages_that_fail(
    failure: str, strategy: str, size: int, share: float, width: int, pace: float, seed: int, *, known: bool
) -> None:
    """No order of good and failing pages bars all proxies, or rests the site for long; few attempts are in vain."""
    rng, clock = random.Random(seed), ManualClock()
    urls = [f"http://192.0.2.{number}:80" for number in range(size)]
    pool = Pool.of(urls, strategy, rng=random.Random(seed), clock=clock)
    keys = set(pool.keys())
    for key in sorted(keys) if known or "s" in failure else ():
        pool.acquire("http://other.example/", exclude=keys - {key}).report(OK)
    requests = [Request(page, rng.random() < share) for page in range(150)]
    failing = sum(request.fails for request in requests)
    counts = Crawl(pool, clock, rng, FAILURES[failure], width, pace, requests).run()
    assert counts["good refused"] == 0
    assert counts["good attempts"] == 150 - failing
    assert counts["failing attempts"] <= 4 * failing
