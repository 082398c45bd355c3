"""How often each eviction policy has what is asked for, and what a policy costs.

Requests follow Zipf's law with exponent 1.0 over 100,000 keys: the n-th most wanted key is asked for n times less
often than the first. A bounded tier in memory serves them, filled at each miss. The first half of the requests warms
it up, the second half counts. Everything is drawn from one seed, so that the ratios are the same on every machine;
only the cost of a touch is not. Three patterns:

- steady: nothing but these requests.
- scans: after every 10,000 of them, a scan reads 10,000 keys that nobody asks for before or after, each once. Its reads
  fill the tier and are not counted.
- shift: before the first request that counts, each key is given the popularity of another one, by chance.

Run it with `make bench`. It prints a table, writes it into `docs/eviction.md` and, with the conditions, into
`benchmarks/results/hit_ratio.json`, and fails where lru or sieve is not what it should be.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from benchmarks.cache.table import between_marks
from benchmarks.conditions import conditions
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.eviction import POLICIES, EvictionOrder
from proxywhirl.cache.tiers.memory import MemoryTier

RESULTS = Path(__file__).parent / "results" / "hit_ratio.json"
PAGE = Path(__file__).parents[1] / "docs" / "eviction.md"
KEYS = 100_000
REQUESTS = 1_000_000
SAMPLE = 40_000
SCAN_EVERY = 10_000
SCAN_LENGTH = 10_000
SEED = 1
PERCENTS = (1, 10)
PATTERNS = ("steady", "scans", "shift")
LRU_ABOUT = {1: 50, 10: 73}
SIEVE_GAINS = {1: 8.0, 10: 3.5}
ABOUT = 1.5
TOUCHED_KEYS = 1_000

Ratios = dict[str, dict[str, dict[str, float]]]


@cache
def draw(count: int) -> list[int]:
    """Draw so many keys, as numbers in the order of their popularity."""
    weights = list(accumulate(1 / rank for rank in range(1, KEYS + 1)))
    return random.Random(SEED).choices(range(KEYS), cum_weights=weights, k=count)


@cache
def draw_shifted(count: int) -> list[int]:
    """Draw the same, with the popularity of the keys dealt anew for the second half."""
    dealt = list(range(KEYS))
    random.Random(SEED).shuffle(dealt)
    drawn = draw(count)
    return [*drawn[: count // 2], *(dealt[key] for key in drawn[count // 2 :])]


@cache
def wanted_records() -> list[Record]:
    """Make a record of each key that is asked for."""
    return [_record(key) for key in range(KEYS)]


def best_fixed(percent: int) -> float:
    """Return the percentage of steady hits where the most wanted keys are held from the beginning to the end."""
    shares = [1 / rank for rank in range(1, KEYS + 1)]
    return round(100 * sum(shares[: KEYS * percent // 100]) / sum(shares), 2)


def hit_ratio(percent: int, pattern: str, policy: str, count: int = REQUESTS) -> float:
    """Serve requests from a tier that holds so many percent of the keys; return the percentage of hits."""
    requests = draw_shifted(count) if pattern == "shift" else draw(count)
    tier = MemoryTier(max_entries=KEYS * percent // 100, policy=policy)
    records = wanted_records()
    next_scanned = KEYS
    hits = 0
    for start in range(0, count, SCAN_EVERY):
        served = _serve(tier, (records[key] for key in requests[start : start + SCAN_EVERY]))
        hits += served if start >= count // 2 else 0
        if pattern == "scans":
            _serve(tier, map(_record, range(next_scanned, next_scanned + SCAN_LENGTH)))
            next_scanned += SCAN_LENGTH
    return round(100 * hits / (count - count // 2), 2)


def _serve(tier: MemoryTier, asked: Iterable[Record]) -> int:
    hits = 0
    for record in asked:
        if tier.get(record.key) is None:
            tier.fill((record,), 0)
        else:
            hits += 1
    return hits


def _record(number: int) -> Record:
    return Record(f"{number:016x}", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0)


def measure_ratios() -> Ratios:
    """Return the percentage of hits by size, pattern and policy; they take minutes, so each processor has its share."""
    ratios: Ratios = {f"{percent} %": {pattern: {} for pattern in PATTERNS} for percent in PERCENTS}
    cells = list(product(PERCENTS, PATTERNS, POLICIES))
    with ProcessPoolExecutor() as workers:
        measured = workers.map(hit_ratio, *zip(*cells, strict=True))
        for (percent, pattern, policy), hits in zip(cells, measured, strict=True):
            ratios[f"{percent} %"][pattern][policy] = hits
    return ratios


def sample() -> dict[str, float]:
    """Return the percentage of hits in a short run by policy, which a test repeats."""
    return {policy: hit_ratio(1, "scans", policy, SAMPLE) for policy in POLICIES}


def touch_cost(use: Callable[[str], object], asked: Sequence[str], rounds: int = 200) -> float:
    """Return nanoseconds for each call without those of the loop: the best of many short rounds, for a busy machine."""
    loop = min(_seconds(None, asked) for _ in range(rounds))
    return round((min(_seconds(use, asked) for _ in range(rounds)) - loop) / len(asked) * 1e9, 1)


def _seconds(use: Callable[[str], object] | None, asked: Sequence[str]) -> float:
    began = time.perf_counter()
    if use is None:
        for _ in asked:
            pass
    else:
        for key in asked:
            use(key)
    return time.perf_counter() - began


def memory(order: EvictionOrder, keys: Sequence[str]) -> int:
    """Return how many bytes an order takes for each key, beside the key itself."""
    tracemalloc.start()
    for key in keys:
        order.add(key)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(size / len(keys))


def measure_costs() -> dict[str, dict[str, float]]:
    """Return what a touch and a key cost with each policy, and beside it a look-up in a dictionary."""
    keys = [f"{number:016x}" for number in range(KEYS)]
    asked = random.Random(SEED).choices(keys[:TOUCHED_KEYS], k=2_000)
    costs: dict[str, dict[str, float]] = {}
    for policy, row in POLICIES.items():
        order = row.order()
        for key in keys[:TOUCHED_KEYS]:
            order.add(key)
        costs[policy] = {
            "touch_nanoseconds": touch_cost(order.touch, asked),
            "bytes_per_key": memory(row.order(), keys),
        }
    table = dict.fromkeys(keys[:TOUCHED_KEYS])
    costs["dict.get"] = {"touch_nanoseconds": touch_cost(table.get, asked)}
    return costs


def shortfalls(ratios: Ratios) -> list[str]:
    """Say where lru or sieve is not what it should be without scans."""
    found = []
    for percent in PERCENTS:
        steady = ratios[f"{percent} %"]["steady"]
        if abs(steady["lru"] - LRU_ABOUT[percent]) > ABOUT:
            found.append(f"lru at {percent} %: {steady['lru']:.1f} % is not about {LRU_ABOUT[percent]} %")
        if steady["sieve"] - steady["lru"] < SIEVE_GAINS[percent]:
            found.append(f"sieve at {percent} % gains less than {SIEVE_GAINS[percent]} points")
    return found


def markdown(result: dict[str, Any]) -> str:
    """Return the table as Markdown; `result` is what is written as JSON."""
    ratios, costs, best = result["hit_percent"], result["costs"], result["best_fixed_percent"]
    columns = [(size, pattern) for size in ratios for pattern in ratios[size]]
    head = ["policy", *(f"{size} {pattern}" for size, pattern in columns), "a touch", "for each key"]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for policy in POLICIES:
        hits = [f"{ratios[size][pattern][policy]:.1f} %" for size, pattern in columns]
        cost = costs[policy]
        lines.append([f"`{policy}`", *hits, f"{cost['touch_nanoseconds']:.0f} ns", f"{cost['bytes_per_key']} bytes"])
    fixed = [f"{best[size]:.1f} %" if pattern == "steady" else "" for size, pattern in columns]
    lines.append(["the most wanted keys, always", *fixed, "", ""])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Measure, print, write; fail where a floor is not reached."""
    load_before = os.getloadavg()[0]
    ratios = measure_ratios()
    result: dict[str, Any] = {
        "keys": KEYS,
        "requests": REQUESTS,
        "hit_percent": ratios,
        "sample_requests": SAMPLE,
        "sample_hit_percent": sample(),
        "best_fixed_percent": {f"{percent} %": best_fixed(percent) for percent in PERCENTS},
        "costs": measure_costs(),
        "conditions": conditions(load_before),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    found = shortfalls(ratios)
    print(table := markdown(result), *found, sep="\n")
    between_marks(PAGE, table)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
