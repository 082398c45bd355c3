"""What is measured in a process of its own: reopening a large store, and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import key_of, mixed
from benchmarks.measure import Figure

__all__ = ["measure_memory", "measure_openings"]


def measure_openings(bench: Bench) -> Iterator[Figure]:
    """Measure how long a process needs until a large store serves, and until the gateway's pool holds it all."""
    size = bench.scale.sizes[-1]
    folder = str(bench.stores[size].folder)
    number = size // 3
    key = key_of(number, sealed=mixed(number))
    runs = [_child("reopen", folder, key) for _ in range(bench.scale.openings)]
    if any(run["loaded"] != size for run in runs):
        raise RuntimeError(f"the pool holds {runs[0]['loaded']} of {size} entries")
    first, pool, peak = (median(run[name] for run in runs) for name in ("first_get", "pool", "peak_megabytes"))
    yield Figure("reopen", f"reopen {size:,} entries, first get", first, "s", at_most=1.0)
    yield Figure("pool", f"the gateway's pool of {size:,} entries", pool, "s", at_most=3.0)
    yield Figure("pool_memory", f"memory of a gateway with {size:,} entries", peak, "MB")


def measure_memory(bench: Bench) -> Iterator[Figure]:
    """Measure what an entry with a credential takes in L1, by the size of the process and by what Python allocated."""
    count = bench.scale.held_in_memory
    figures = _child("memory", str(bench.home("memory").folder), str(count))
    for name, shown in (("resident", "the process's size"), ("traced", "Python's own account")):
        operation = f"memory of an entry in L1 ({count:,}), {shown}"
        yield Figure(f"memory_{name}", operation, figures[name] / 1000, "kB", at_most=1.9)


def _child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.cache.child", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
