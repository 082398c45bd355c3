"""How fast a large list is imported into the three tiers, and in how much memory.

Beside it, in the same run, the least that such an import must do: hash each line and insert it into SQLite, in
batches of the same size. The ratio of the two holds when the machine's speed drifts. Run it with `make bench`; it
prints a table and writes `benchmarks/results/import.json` with the conditions it ran under.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import apsw

from benchmarks.conditions import conditions
from proxywhirl.cli.transfer import BATCH

RESULTS = Path(__file__).parent / "results" / "import.json"
FLOOR_LINES_PER_SECOND = 20_000
CEILING_MEGABYTES = 300


def write_list(path: Path, lines: int) -> None:
    """Write a list of so many addresses, almost all different."""
    rng = random.Random(1)
    with path.open("w") as stream:
        for _ in range(lines):
            octets = rng.randint(1, 223), rng.randrange(256), rng.randrange(256), rng.randrange(256)
            stream.write(f"{'.'.join(map(str, octets))}:{rng.choice((80, 1080, 3128, 8080))}\n")


def import_list(path: Path, home: Path) -> tuple[float, float, dict[str, int]]:
    """Run `proxywhirl import`; return wall seconds, the peak of its memory in MB, and its counts."""
    began = time.monotonic()
    command = [sys.executable, "-m", "proxywhirl", "import", str(path), "--json", "--home", str(home)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return seconds, peak, json.loads(done.stdout)


def insert_bare(path: Path, database: Path) -> float:
    """Hash each line and insert it with apsw; return wall seconds."""
    began = time.monotonic()
    connection = apsw.Connection(str(database))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 1)
    connection.execute("CREATE TABLE bare (key TEXT NOT NULL UNIQUE, url TEXT NOT NULL)")
    with path.open() as stream:
        while lines := list(islice(stream, BATCH)):
            urls = [f"http://{line.strip()}" for line in lines]
            rows = [(hashlib.sha256(url.encode()).hexdigest()[:16], url) for url in urls]
            with connection:
                connection.executemany("INSERT OR IGNORE INTO bare VALUES (?, ?)", rows)
    connection.close()
    return time.monotonic() - began


def main() -> int:
    """Measure, print, write; fail where a floor is not reached."""
    parser = argparse.ArgumentParser(description="Measure the import of a large list.")
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many lines (default 1,000,000)")
    lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.txt")
        write_list(path, lines)
        load_before = os.getloadavg()[0]
        seconds, peak, counts = import_list(path, Path(folder, "home"))
        bare = insert_bare(path, Path(folder, "bare.db"))
    result = {
        "lines": lines,
        "counts": counts,
        "lines_per_second": round(lines / seconds),
        "floor_lines_per_second": FLOOR_LINES_PER_SECOND,
        "peak_megabytes": round(peak),
        "ceiling_megabytes": CEILING_MEGABYTES,
        "bare_lines_per_second": round(lines / bare),
        "times_the_bare_insert": round(seconds / bare, 1),
        "conditions": conditions(load_before),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:24} {value}")
    return 0 if lines / seconds >= FLOOR_LINES_PER_SECOND and peak <= CEILING_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
