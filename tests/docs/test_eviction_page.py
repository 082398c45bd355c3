"""The page on eviction: its figures are the measured ones, and its words follow from them."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import hit_ratio
from benchmarks.cache.table import BEGIN, END
from proxywhirl.cache.tiers.eviction import POLICIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "eviction.md").read_text(encoding="utf-8")
RESULT = json.loads((ROOT / "benchmarks" / "results" / "hit_ratio.json").read_text(encoding="utf-8"))


def test_the_table_is_the_one_that_was_measured() -> None:
    """The page shows the committed results, line for line."""
    assert f"{BEGIN}\n{hit_ratio.markdown(RESULT)}\n{END}" in PAGE


def test_the_results_are_what_was_asked_for() -> None:
    """Without scans lru has about 50 and 73 percent of hits, and sieve gains 8 and 3.5 points."""
    assert hit_ratio.shortfalls(RESULT["hit_percent"]) == []


def test_the_results_are_those_of_this_code() -> None:
    """The short run that was measured beside the long ones has the same hits again, to the last digit."""
    assert hit_ratio.sample() == RESULT["sample_hit_percent"]


def test_the_advice_follows_from_the_results() -> None:
    """Sieve has most and stands scans; lru suits a large tier whose favourites change, and lfu does so least."""
    for size in RESULT["hit_percent"].values():
        steady, scans, shift = size["steady"], size["scans"], size["shift"]
        assert steady["sieve"] > steady["lru"] > steady["fifo"]
        assert steady["sieve"] > steady["lfu"] - 0.1
        assert scans["sieve"] > scans["lru"] + 8
        assert shift["lfu"] == min(shift.values())
    large = RESULT["hit_percent"]["10 %"]["shift"]
    assert large["lru"] == max(large.values())
    costs = RESULT["costs"]
    assert costs["sieve"]["touch_nanoseconds"] <= costs["lru"]["touch_nanoseconds"]
    assert costs["lfu"]["bytes_per_key"] > 2.5 * costs["sieve"]["bytes_per_key"]


def test_every_policy_is_explained() -> None:
    """The page says of each policy what goes first and when to use it."""
    for policy in POLICIES:
        assert f"\n| `{policy}` | " in PAGE
        assert f"\n- **`{policy}`**" in PAGE
