"""How long the command line takes to start, beside interpreters that do nothing, or load pydantic alone.

All are started in turns, one after another, in the same run; the first round warms up and is thrown away, the median
of the others counts. `list` shows ten entries with credentials. Run it with `make bench`; it prints a table, writes it
into `docs/performance.md` and, with the conditions, into `benchmarks/results/startup.json`, and ends with 1 where
`list` takes longer than three times an interpreter that loads pydantic.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cache.table import between_marks
from benchmarks.conditions import conditions

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN = "<!-- the table of starting is written by `make bench` -->\n"

ENTRIES = 10
ROUNDS = 15
AT_MOST = 3.0
LIMITED = "proxywhirl list"
REFERENCE = 'python -c "from pydantic import BaseModel"'
PROGRAM = (sys.executable, "-m", "proxywhirl")
COMMANDS: dict[str, tuple[str, ...]] = {
    'python -c "pass"': (sys.executable, "-c", "pass"),
    'python -c "import pydantic"': (sys.executable, "-c", "import pydantic"),
    REFERENCE: (sys.executable, "-c", "from pydantic import BaseModel"),
    "proxywhirl --version": (*PROGRAM, "--version"),
    "proxywhirl --help": (*PROGRAM, "--help"),
    LIMITED: (*PROGRAM, "list"),
}


def fill(home: Path) -> None:
    """Import some entries, each with a credential."""
    lines = "".join(f"http://user:s3cret@192.0.2.{number}:8080\n" for number in range(ENTRIES))
    command = (*PROGRAM, "import", "-", "--home", str(home))
    subprocess.run(command, input=lines, check=True, capture_output=True, text=True)


def measure(home: Path, rounds: int) -> dict[str, list[float]]:
    """Run each command in turns, one warm-up round before; return the wall seconds that each took."""
    environment = os.environ | {"PROXYWHIRL_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            taken[name].append(time.perf_counter() - began)
    return {name: seconds[1:] for name, seconds in taken.items()}


def rows_of(taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return each command's median, and the median of the rounds' ratios to the reference."""
    return [
        {
            "command": name,
            "milliseconds": round(median(seconds) * 1000, 1),
            "times_pydantic": round(
                median(own / other for own, other in zip(seconds, taken[REFERENCE], strict=True)), 2
            ),
            "at_most": AT_MOST if name == LIMITED else None,
        }
        for name, seconds in taken.items()
    ]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| Command | Median | Times pydantic | Limit |", "| --- | --: | --: | --: |"]
    for row in rows:
        limit = "" if row["at_most"] is None else f"≤ {row['at_most']:g}"
        lines.append(f"| `{row['command']}` | {row['milliseconds']:.0f} ms | {row['times_pydantic']:.2f} | {limit} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, write; fail where the limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Measure how commands start.")
    parser.add_argument("--rounds", type=int, help=f"other than {ROUNDS}; writes no results")
    rounds = parser.parse_args().rounds
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        fill(Path(home))
        rows = rows_of(measure(Path(home), rounds or ROUNDS))
    print(markdown(rows))
    if rounds is None:
        result = {"entries": ENTRIES, "rounds": ROUNDS, "rows": rows, "conditions": conditions(load_before)}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "startup.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        between_marks(PAGE, markdown(rows), BEGIN)
    return 1 if any(row["at_most"] is not None and row["times_pydantic"] > row["at_most"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
