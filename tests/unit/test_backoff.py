"""The wait before something is tried again: it grows up to a limit, and ends with the first success."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.backoff import Backoff, Trials
from proxywhirl.testing import ManualClock


@given(st.floats(0.001, 10), st.floats(10, 1e6), st.floats(2, 8), st.integers(1, 10**9))
def test_a_wait_grows_and_has_a_limit(first: float, longest: float, growth: float, failures: int) -> None:
    """Each is `growth` times the one before until the longest, however many failures there were."""
    backoff = Backoff(first, longest, growth)
    before, wait = backoff.seconds(failures), backoff.seconds(failures + 1)
    assert backoff.seconds(1) == first
    assert wait in (longest, before * growth) or abs(wait - before * growth) < wait * 1e-9


@given(st.integers(1, 20), st.floats(0, 1), st.integers())
def test_jitter_is_within_its_share(failures: int, least: float, seed: int) -> None:
    """A wait is drawn between the least share of the longest and all of it."""
    backoff = Backoff(1.0, 300.0, 3.0)
    longest = backoff.seconds(failures)
    assert longest * least <= backoff.jittered(failures, random.Random(seed), least=least) <= longest


def test_what_failed_is_tried_when_its_wait_is_over() -> None:
    """The waits double until it goes well, and begin with the first again after that."""
    clock = ManualClock()
    trials = Trials(Backoff(1.0, 4.0), clock.monotonic)
    seen = [(trials.due, 0.0, True)]
    for wait in (1.0, 2.0, 4.0, 4.0):
        failed, at_once = trials.fail(), trials.due
        clock.advance(wait)
        seen.append((at_once, failed, trials.due))
    assert seen == [(True, 0.0, True), *((False, wait, True) for wait in (1.0, 2.0, 4.0, 4.0))]
    trials.succeed()
    assert (trials.failures, trials.fail()) == (0, 1.0)
