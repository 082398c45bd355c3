"""The benchmarks measure what they say: run here with tiny sizes, whose times mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = {"peer_disk_get", "peer_disk_put", "peer_memory_put"}


def test_everything_can_be_measured(tmp_path: Path) -> None:
    """A quick run measures each row of the committed results; other libraries may be missing."""
    command = [sys.executable, "-m", "benchmarks.cache", "--quick", "--results", str(tmp_path)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cache.json").read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "benchmarks" / "results" / "cache.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in result["rows"]]
    wanted = [row["name"] for row in committed["rows"]]
    assert len(names) == len(set(names))
    sizes = {"_100": "_5000", "_200": "_200000"}
    renamed = {name[: -len(end)] + sizes[end] for name in names for end in sizes if name.endswith(end)}
    kept = {name for name in names if not name.endswith(tuple(sizes))}
    assert PEERS | renamed | kept == set(wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]  # the stores are gone


def test_an_unknown_group_is_refused() -> None:
    """A wrong name ends the command before anything is measured, with the names that there are."""
    command = [sys.executable, "-m", "benchmarks.cache", "--only", "hits,dreams"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "dreams" in done.stderr
    assert "hits, reads" in done.stderr
