"""The budget of retries: a share of the requests of the last seconds, or a floor."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.retries.send_policy import RetryBudget
from proxywhirl.testing import ManualClock


def taken(budget: RetryBudget, tries: int) -> int:
    """Return how many retries a budget allows of so many."""
    return sum(budget.take() for _ in range(tries))


def test_the_floor_lets_a_small_program_retry() -> None:
    """After one request ten retries are allowed, and not one more."""
    budget = RetryBudget(clock=ManualClock())
    budget.note_request()
    assert taken(budget, 50) == 10


def test_above_the_floor_a_fifth_of_the_requests_may_be_retried() -> None:
    """Of 200 requests in a window, all of which fail, 40 are retried."""
    budget = RetryBudget(clock=ManualClock())
    allowed = 0
    for _ in range(200):
        budget.note_request()
        allowed += budget.take()
    assert allowed == 40
    assert budget.spent() == (40, 200)


def test_what_is_older_than_the_window_counts_no_more() -> None:
    """A window later a spent budget is whole again, and requests of then allow nothing now."""
    clock = ManualClock()
    budget = RetryBudget(share=0.5, floor=2, window=10.0, clock=clock)
    for _ in range(100):
        budget.note_request()
    assert taken(budget, 100) == 50
    clock.advance(9.0)
    assert taken(budget, 1) == 0
    clock.advance(2.0)
    assert budget.spent() == (0, 0)
    assert taken(budget, 100) == 2


def test_a_retry_that_was_not_made_can_be_given_back() -> None:
    """What is given back is there for another request; more than was taken cannot be."""
    budget = RetryBudget(share=0.0, floor=1, clock=ManualClock())
    budget.give_back()
    assert taken(budget, 2) == 1
    budget.give_back()
    assert taken(budget, 2) == 1


def test_threads_together_get_no_more_than_one_alone() -> None:
    """Under contention the sum is exact."""
    budget = RetryBudget(share=0.0, floor=500, clock=ManualClock())
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(taken(budget, 1000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 500


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"floor": -1}, {"window": 0.0}, {"share": float("nan")}])
def test_impossible_figures_are_refused(wrong: dict[str, float]) -> None:
    """A budget that makes no sense is an error at once."""
    with pytest.raises(ValueError, match="share and floor"):
        RetryBudget(**wrong)  # type: ignore[arg-type]  # an int is a float to the reader


@given(
    st.lists(st.tuples(st.sampled_from(["request", "take", "back"]), st.floats(0, 4)), max_size=200),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_at_no_moment_more_than_the_share_or_the_floor(
    steps: list[tuple[str, float]], share: float, floor: int
) -> None:
    """Whatever is asked when, a retry is allowed exactly while the window's retries are within its share."""
    clock = ManualClock()
    budget = RetryBudget(share=share, floor=floor, window=10.0, clock=clock)
    for what, seconds in steps:
        clock.advance(seconds)
        retries, requests = budget.spent()
        if what == "request":
            budget.note_request()
        elif what == "take":
            assert budget.take() == (retries + 1 <= max(floor, share * requests))
        else:
            budget.give_back()
    clock.advance(10.5)
    assert budget.spent() == (0, 0)
