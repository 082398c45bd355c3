"""The back-off and the rule of retries."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.retry import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    FAILURES_TO_CAP,
    HOPELESS_CAP,
    backoff,
    may_retry,
)


class Highest(random.Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper end."""
        return max(a, b)


def test_the_ceiling_triples_with_each_failure_up_to_the_cap() -> None:
    """The longest possible delay is 2, 6, 18… seconds, 300 from the sixth failure on."""
    ceilings = [backoff(n, Highest()) for n in range(1, 9)]
    assert ceilings == [2, 6, 18, 54, 162, 300, 300, 300]
    assert ceilings[FAILURES_TO_CAP - 2] < BACKOFF_CAP == ceilings[FAILURES_TO_CAP - 1]


def test_one_that_never_served_is_tried_ever_less_often_up_to_once_an_hour() -> None:
    """Its longest possible delay is 2, 16, 128… seconds, an hour from the fifth failure on."""
    ceilings = [backoff(n, Highest(), proven=False) for n in range(1, 8)]
    assert ceilings == [2, 16, 128, 1024, HOPELESS_CAP, HOPELESS_CAP, HOPELESS_CAP]


@given(failures=st.integers(1, 10**9), seed=st.integers())
def test_a_delay_is_never_negative_nor_above_the_cap(failures: int, seed: int) -> None:
    """However often a proxy failed, its delay lies between zero and five minutes."""
    assert 0 <= backoff(failures, random.Random(seed)) <= BACKOFF_CAP


def test_the_jitter_is_full() -> None:
    """Delays are spread evenly from zero to the ceiling, so that proxies do not come back as one crowd."""
    rng = random.Random(7)
    quarters = [0, 0, 0, 0]
    for _ in range(4000):
        quarters[min(3, int(backoff(1, rng) / BACKOFF_BASE * 4))] += 1
    assert all(850 < count < 1150 for count in quarters)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_an_idempotent_method_may_be_sent_again(method: str) -> None:
    """The idempotent methods of RFC 9110 may be retried even after they were sent."""
    assert may_retry(method, sent=True)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "QUERY", "get", "", "PURGE"])
def test_any_other_method_may_be_retried_only_before_it_was_sent(method: str) -> None:
    """A method that may have had an effect is sent once; methods are case-sensitive."""
    assert not may_retry(method, sent=True)
    assert may_retry(method, sent=False)
