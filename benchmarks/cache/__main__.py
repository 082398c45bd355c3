"""Measure the cache: `make bench`, or `make bench ONLY=reads,puts` for a part of it.

Prints a table. A run of everything also writes `benchmarks/results/cache.json`, the plot beside it, and the table of
`docs/performance.md`. Ends with 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.cache import table
from benchmarks.cache.bench import FULL, QUICK, Bench
from benchmarks.cache.hits import measure_hits
from benchmarks.cache.peers import MissingPeerError, measure_peers
from benchmarks.cache.plot import write_plot
from benchmarks.cache.processes import measure_memory, measure_openings
from benchmarks.cache.reads import measure_misses, measure_reads
from benchmarks.cache.sizes import measure_sizes
from benchmarks.cache.writes import measure_batches, measure_puts
from benchmarks.conditions import conditions
from benchmarks.measure import Figure
from proxywhirl.cache.models import KEY_VARIABLE

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"

GROUPS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "hits": measure_hits,
    "reads": measure_reads,
    "misses": measure_misses,
    "puts": measure_puts,
    "batches": measure_batches,
    "openings": measure_openings,
    "memory": measure_memory,
    "sizes": measure_sizes,
    "peers": measure_peers,
}


def main() -> int:
    """Measure, print, write; fail where a limit is missed."""
    options = _options()
    os.environ[KEY_VARIABLE] = Fernet.generate_key().decode()  # for this process and those that it starts
    load_before = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="proxywhirl-bench-") as folder:
        bench = Bench(QUICK if options.quick else FULL, Path(folder))
        for name in options.only:
            began = time.monotonic()
            try:
                for figure in GROUPS[name](bench):
                    rows.append(figure.as_json())
                    print(f"  {figure.operation}: {figure.reached:.3g} {figure.unit}", file=sys.stderr)
            except MissingPeerError as exc:
                if not options.quick:
                    raise
                print(f"{name}: left out: {exc}", file=sys.stderr)
            print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        result = {"conditions": conditions(load_before), "rows": rows, "curve": bench.curve}
    print(table.plain(rows))
    if options.results is not None:
        _write(result, options.results)
        if not options.quick:
            write_plot(bench.curve, options.results / "cost-against-size.svg")
    if options.results == RESULTS:
        table.in_page(PAGE, rows)
    missed = [row["operation"] for row in rows if not row["passed"]]
    for operation in missed:
        print(f"missed: {operation}")
    return 1 if missed and not options.quick else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="Measure the cache.")
    parser.add_argument("--only", metavar="GROUPS", help=f"some of {', '.join(GROUPS)}, with commas; writes no results")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, which say nothing: for a test of the measuring"
    )
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where the results go")
    options = parser.parse_args()
    if options.results is None and not options.quick and not options.only:
        options.results = RESULTS
    options.only = options.only.split(",") if options.only else list(GROUPS)
    if unknown := set(options.only) - set(GROUPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}")
    return options


def _write(result: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    (folder / "cache.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
