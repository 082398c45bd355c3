"""The page on choosing: its numbers are those that the code goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxywhirl.rotation.sites import bans, pages, rate_limit, sharing, site
from proxywhirl.rotation.sites.pages import needed_after, needed_at

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "choosing.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    "sentence",
    [
        f"if *r*ⁿ ≤ {pages._CHANCE}; *n* is {pages.FEW} at least and {pages._MANY} at most",
        f"a first guess that counts for {site._PRIOR} outcomes",
        f"with the same mean and {site._WIDTH} times the deviation",
        f"a probability of {bans.SURELY}. One at a time, the *prober*, comes at {bans.EVEN}",
        f"*r* | {bans._MISTAKE} |",
        f"| refused | *r* | {1 - bans._MISTAKE} |",
        f"(less than {rate_limit.MUCH_TOO_EARLY} of the rest) that is refused multiplies them by",
        f"{1 - rate_limit._MISTAKEN} / *a*, one that is served",
        f"*L* / ({rate_limit._COST} · *N* · *h*)",
        f"a refusal of one that had {rate_limit._WIDE} times its rest",
        f"for {rate_limit._PAUSE:.0f} seconds after its refusal nobody comes",
        f"that had less than {rate_limit._MARGIN} times its rest",
        f"| {sharing.TOLD_EVERY:.0f} second after either was learnt",
        f"every {sharing.NOTED_EVERY:.0f} seconds |",
        f"one that was silent for {sharing.PRESENT_SECONDS:.0f} seconds has gone",
        f"for {site.TRIAL_SECONDS:.0f} seconds others are chosen before this proxy",
        f"the requests of the last {sharing._RATE_SECONDS:.0f} seconds",
        f"wrong by {sharing._TOLERANCE} or more",
        f"is tried again after {rate_limit._PAUSE_OF_RETRIES} seconds",
    ],
)
def test_the_page_has_the_numbers_of_the_code(sentence: str) -> None:
    """Each is read from where the code has it."""
    assert sentence in PAGE


def test_the_formulas_of_the_page_are_those_of_the_code() -> None:
    """How many failures in a row are more than chance, and how far apart tests of a limit are."""
    assert [needed_at(rate) for rate in (0.1, 0.5, 0.9)] == [3, 10, 12]
    failed, served = 3, 40
    count = needed_after(failed, served)
    chances = [1.0]
    for i in range(count):
        chances.append(chances[-1] * (failed + 1 + i) / (failed + served + 2 + i))
    assert chances[count] <= 1e-5 < chances[count - 1]
    assert rate_limit.tests_every(300.0, 20, 0.5) == pytest.approx(300.0 / (rate_limit._COST * 20 * 0.5))
