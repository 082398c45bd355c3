"""The benchmark of choosing measures what it says: run here with tiny pools, whose times mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cache.table import END, markdown
from benchmarks.choosing import BEGIN, CHEAP, DEAR, GROWTH, PAUSE, PICK
from proxywhirl.rotation.strategies.registry import strategy_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "choosing.json").read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in RESULT["rows"]}


def test_a_short_run_has_every_figure_of_a_long_one(tmp_path: Path) -> None:
    """Each strategy is used in both sizes, picked alone and failed; a figure is a time or a ratio above nothing."""
    command = [sys.executable, "-m", "benchmarks.choosing", "--quick", "--results", str(tmp_path)]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    measured = {row["name"]: row for row in json.loads((tmp_path / "choosing.json").read_text("utf-8"))["rows"]}
    assert all(row["reached"] > 0 for row in measured.values())
    assert {name for name in ROWS if not name.startswith("beside ")} <= set(measured)


def test_every_strategy_was_measured_against_its_limits() -> None:
    """Cost, growth with the pool, the pick alone and the longest pause of each have the limits that were set."""
    for name in strategy_names():
        most = CHEAP if name in ("random", "round_robin") else DEAR
        for filtered in ("", ", one filter"):
            assert ROWS[f"use: {name}{filtered}"]["at_most"] == most
            assert ROWS[f"growth: {name}{filtered}"]["at_most"] == GROWTH
        assert ROWS[f"pick: {name}"]["at_most"] == PICK
        assert ROWS[f"pause: {name}"]["at_most"] == PAUSE
    assert ROWS["use: a session"]["at_most"] == DEAR


def test_both_peers_were_measured_in_the_same_run() -> None:
    """Each strategy stands beside both."""
    peers = {name.partition("beside ")[2].partition(":")[0].split()[0] for name in ROWS if name.startswith("beside ")}
    assert peers == {"crawlee", "scrapy-rotating-proxies"}


def test_the_table_is_that_of_the_results() -> None:
    """The page's table is the one of the results that are committed."""
    assert PAGE.partition(BEGIN)[2].partition(END)[0].strip() == markdown(RESULT["rows"]).strip()
