"""The page on performance shows what was measured, and what it says about measuring is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import startup
from benchmarks.cache.table import BEGIN, END, markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "cache.json").read_text(encoding="utf-8"))
PROMISED = {
    "hit",
    "hit_threads",
    "hit_threads_p99",
    "get_l2_sqlite",
    "get_l3",
    "get_l2_jsonl",
    "get_many_l2_sqlite",
    "get_many_l3",
    "miss_jsonl",
    "miss_sqlite",
    "put_jsonl_5000",
    "put_jsonl_200000",
    "put_sqlite_5000",
    "put_sqlite_200000",
    "put_many",
    "put_many_sealed",
    "reopen",
    "pool",
    "memory_resident",
    "memory_traced",
    "size_get",
    "size_put",
}


def test_the_table_is_that_of_the_results() -> None:
    """The page's table is the one of the results that are committed."""
    assert PAGE.partition(BEGIN)[2].partition(END)[0].strip() == markdown(RESULT["rows"]).strip()


def test_every_limit_was_measured() -> None:
    """The results have each operation that has a limit."""
    limited = {row["name"] for row in RESULT["rows"] if row["used"] is not None}
    assert limited >= PROMISED


def test_the_table_of_starting_is_that_of_the_results() -> None:
    """The page shows the committed figures of each command that is started."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "startup.json").read_text(encoding="utf-8"))["rows"]
    assert [row["command"] for row in rows] == list(startup.COMMANDS)
    assert PAGE.partition(startup.BEGIN)[2].partition(END)[0].strip() == startup.markdown(rows).strip()


def test_the_plot_is_that_of_three_sizes() -> None:
    """The committed plot is an SVG with an axis for the sizes that were measured."""
    (source,) = re.findall(r"!\[.*?\]\((.+?\.svg)\)", PAGE)
    plot = (ROOT / "docs" / source).read_text(encoding="utf-8")
    assert [point["entries"] for point in RESULT["curve"]] == [10_000, 100_000, 1_000_000]
    assert all(f"{int(point['entries']):,}" in plot for point in RESULT["curve"])


def test_the_groups_are_those_of_the_command() -> None:
    """The page names each group that the command can measure by itself, and no other."""
    shown = re.findall(r"`(\w+)`", PAGE.partition("The groups are ")[2].partition(".")[0])
    command = [sys.executable, "-m", "benchmarks.cache", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert shown == re.findall(r"\w+", text.partition("some of")[2].partition(" with")[0])
