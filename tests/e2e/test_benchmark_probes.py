"""The benchmark of probes measures what it says: run here with a small crowd, whose times mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.probes.__main__ import failures, over

ROOT = Path(__file__).parents[2]
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "probes.json").read_text(encoding="utf-8"))


def test_a_small_crowd_is_checked_rightly(tmp_path: Path) -> None:
    """Who is alive is found alive, and nobody else; each figure of the committed results is there."""
    command = [sys.executable, "-m", "benchmarks.probes", "--rounds", "1", "--results", str(tmp_path)]
    command += ["--proxies", "90", "--concurrency", "60"]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    measured = json.loads((tmp_path / "probes.json").read_text(encoding="utf-8"))
    for mix, committed in zip(measured["mixes"], RESULT["mixes"], strict=True):
        assert mix["mix"] == committed["mix"]
        assert mix["ours"].keys() == committed["ours"].keys()
        assert mix["ours"]["alive"] == round(90 * mix["mix"]["alive"])
        assert (mix["ours"]["missed"], mix["ours"]["mistaken"]) == (0, 0)


def test_what_was_missed_is_told() -> None:
    """A ceiling that is passed and a floor that is not reached make a sentence each; medians and worst cases stay."""
    fine = {
        "seconds": 5.0,
        "peak_megabytes": 50,
        "lag_p99_ms": 10.0,
        "missed": 0,
        "mistaken": 0,
        "checks_per_second": 2000,
    }
    result = {"ours": fine, "times_aiohttp": 2.5, "mix": {"floor_times_aiohttp": 2.0}}
    assert failures(result) == []
    worse = {"ours": fine | {"missed": 1, "seconds": 11.0}, "times_aiohttp": 1.9, "mix": {"floor_times_aiohttp": 2.0}}
    assert len(failures(worse)) == 3
    worst = over([fine, fine | {"missed": 1, "seconds": 7.0}, fine | {"seconds": 6.0}])
    assert (worst["missed"], worst["seconds"]) == (1, 6.0)


def test_the_committed_results_are_those_of_the_whole_crowd() -> None:
    """10,000 proxies at 2,000 at once, no live one taken for dead, beside aiohttp."""
    for mix in RESULT["mixes"]:
        assert (mix["proxies"], mix["concurrency"]) == (10_000, 2_000)
        assert (mix["ours"]["missed"], mix["ours"]["mistaken"]) == (0, 0)
        assert mix["aiohttp"]["checks_per_second"] > 0
