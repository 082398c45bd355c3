"""Whatever is done to the health of proxies, here or elsewhere, the pool knows them all, and whom to try only."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Outcome
from proxywhirl.rotation.pool import ProxyUse
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL

URLS = {n: ProxyURL("http", f"192.0.2.{n}", 80, "bob", "hunter2") for n in range(1, 5)}
WORDS = {"checked well": True, "checked badly": False}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["checked well", "checked badly", "invalidated", "used well", "used badly"]),
        st.sampled_from([*URLS]),
        st.integers(1, 4),
    )
    | st.tuples(st.sampled_from(["removed", "added", "renewed"]), st.sampled_from([*URLS]), st.just(1)),
    max_size=12,
)


def act(elsewhere: Runtime, here: Runtime, clock: ManualClock, word: str, url: ProxyURL) -> None:
    """Do something in another process, or use a proxy in this one."""
    cache = elsewhere.cache
    if word in WORDS:
        ok = WORDS[word]
        cache.record_check(url.key, HealthCheck(ok, HealthStatus.DEGRADED, clock.now()))
    elif word == "invalidated":
        cache.invalidate_by_health(url.key)
    elif word == "removed":
        cache.delete(url.key)
    elif word in ("added", "renewed"):
        offer = url if word == "added" else url.with_credential("bob", f"at {clock.now()}")
        elsewhere.take_in([(offer, Attributes())], source="user", ttl=3600.0)
    elif url.key in here.pool:
        outcome = Outcome(True) if word == "used well" else Outcome(False, blame=Blame.PROXY, error="refused")
        here.pool.acquire(exclude=set(here.pool.keys()) - {url.key}).report(outcome)


@settings(max_examples=15, suppress_health_check=[Check.too_slow])
@given(steps=STEPS)
def test_the_pool_knows_all_that_the_store_has_and_sets_aside_what_is_out_of_service(
    steps: list[tuple[str, int, int]],
) -> None:
    """It forgets nobody who is out of service, gives each credential, and lets those serve that are in service."""
    clock = ManualClock()
    with tempfile.TemporaryDirectory(prefix="proxywhirl-health-") as home:
        loaded = Settings.load(Path(home))
        with Runtime(loaded, clock=clock) as elsewhere, Runtime(loaded, clock=clock) as here:
            elsewhere.take_in([(url, Attributes()) for url in URLS.values()], source="user", ttl=3600.0)
            here.feed()
            failed_here = {URLS[number].key for word, number, _ in steps if word == "used badly"}
            for word, number, times in steps:
                for _ in range(times):
                    act(elsewhere, here, clock, word, URLS[number])
                clock.advance(loaded.cache.flush_interval_seconds)
                here.feed()  # which writes what was reported,
                here.feed()  # and follows that
                stored = {entry.key: entry.key in here.cache for entry in here.cache.scan(retired=None)}
                uses = {use.proxy.key: use for use in here.pool.snapshot()}
                assert uses.keys() == stored.keys()
                for key, served in stored.items():
                    assert here.cache.endpoint(key) is not None
                    assert served or not is_ready(uses[key])
                    assert not served or is_ready(uses[key]) or key in failed_here
                if stored:
                    here.pool.acquire().release()


def is_ready(use: ProxyUse) -> bool:
    """Whether a proxy serves as any other: it is neither set aside nor on trial."""
    return use.set_aside_until is None and not use.consecutive_failures
