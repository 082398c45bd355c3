"""How fast a large list of proxies is checked, beside the same job done with aiohttp.

Both sides check the same crowd in turns, each in a process of its own; the median of the rounds counts, the worst round
for what was missed. Run it with `make bench`; it prints the figures and writes `benchmarks/results/probes.json` with
the conditions it ran under. It ends with an error where a floor is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.conditions import conditions
from proxywhirl.net.capacity import make_room

RESULTS = Path(__file__).parents[1] / "results"
WORST = ("missed", "mistaken", "peak_megabytes")


@dataclass(frozen=True, slots=True)
class Mix:
    """A crowd, and how it is checked: shares of those alive and refusing (the others are black holes), seconds.

    The floor is the times of aiohttp's rate; None where waiting for black holes bounds both sides too closely.
    """

    name: str
    alive: float
    refusing: float
    timeout: float
    floor_times_aiohttp: float | None


MIXES = (
    Mix("thirds", 1 / 3, 1 / 3, 2.0, None),
    Mix("public list", 0.1, 0.6, 1.0, 2.0),
)
CEILINGS = {"seconds": 10.0, "peak_megabytes": 250, "lag_p99_ms": 50.0, "missed": 0, "mistaken": 0}


@contextlib.contextmanager
def running(mix: Mix, count: int) -> Iterator[list[Any]]:
    """Run a crowd for the length of a block; give where its proxies are."""
    alive, refusing = round(count * mix.alive), round(count * mix.refusing)
    sizes = [str(size) for size in (alive, refusing, count - alive - refusing)]
    command = [sys.executable, "-m", "benchmarks.probes.crowd", *sizes]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


def check(side: str, crowd: list[Any], concurrency: int, timeout: float) -> dict[str, Any]:
    """Let one side check a crowd; return its figures."""
    command = [sys.executable, "-m", "benchmarks.probes.side", side]
    asked = json.dumps({"crowd": crowd, "concurrency": concurrency, "timeout": timeout})
    done = subprocess.run(command, check=True, input=asked, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def over(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all rounds in one: the median, or the worst of what may never happen."""
    return {name: (max if name in WORST else median)(one[name] for one in rounds) for name in rounds[0]}


def compare(mix: Mix, count: int, concurrency: int, rounds: int) -> dict[str, Any]:
    """Let the sides work in turns on one mix."""
    sides = ["ours", "aiohttp"] if find_spec("aiohttp") else ["ours"]
    figures: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            with running(mix, count) as crowd:  # a fresh one: a black hole's backlog fills up
                figures[side].append(check(side, crowd, concurrency, mix.timeout))
    result: dict[str, Any] = {"mix": asdict(mix), "proxies": count, "concurrency": concurrency, "rounds": rounds}
    holes = count - round(count * mix.alive) - round(count * mix.refusing)
    result["least_seconds"] = ceil(holes / concurrency) * mix.timeout  # waiting for black holes, whatever waits
    result |= {side: over(of_side) for side, of_side in figures.items()}
    if "aiohttp" in figures:
        times = [o["checks_per_second"] / a["checks_per_second"] for o, a in zip(*figures.values(), strict=True)]
        result["times_aiohttp"] = round(median(times), 2)
    return result


def failures(result: dict[str, Any]) -> list[str]:
    """Return what was not reached, one sentence each."""
    ours = result["ours"]
    missed = [f"{name} is {ours[name]:g}, above {most:g}" for name, most in CEILINGS.items() if ours[name] > most]
    floor, times = result["mix"]["floor_times_aiohttp"], result.get("times_aiohttp")
    if floor is not None and times is not None and times < floor:
        missed.append(f"{times:g} times the rate of aiohttp, below {floor:g}")
    return missed


def show(result: dict[str, Any]) -> None:
    """Print one mix."""
    mix = result["mix"]
    print(
        f"{mix['name']}: {result['proxies']:,} proxies, {result['concurrency']:,} at once, {mix['timeout']:g} s,",
        end=" ",
    )
    print(f"not less than {result['least_seconds']:g} s")
    sides = [side for side in ("ours", "aiohttp") if side in result]
    print(f"  {'':20}" + "".join(f"{side:>12}" for side in sides))
    for name in result["ours"]:
        print(f"  {name:20}" + "".join(f"{result[side][name]:>12g}" for side in sides))
    if "times_aiohttp" in result:
        print(f"  {'times_aiohttp':20}{result['times_aiohttp']:>12g}")


def main() -> int:
    """Measure, print, write; fail where a floor is not reached."""
    parser = argparse.ArgumentParser(description="Measure the checking of a large list.")
    parser.add_argument("--proxies", type=int, default=10_000, help="how many (default 10,000)")
    parser.add_argument("--concurrency", type=int, default=2_000, help="how many at once (default 2,000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write probes.json to")
    asked = parser.parse_args()
    make_room(asked.concurrency)
    load_before = os.getloadavg()[0]
    results, short = [], []
    for mix in MIXES:
        result = compare(mix, asked.proxies, asked.concurrency, asked.rounds)
        show(result)
        results.append(result)
        short += [f"{mix.name}: {sentence}" for sentence in failures(result)]
    written = {"mixes": results, "ceilings": CEILINGS, "missed": short}
    asked.results.mkdir(exist_ok=True)
    text = json.dumps(written | {"conditions": conditions(load_before)}, indent=2)
    (asked.results / "probes.json").write_text(text + "\n", encoding="utf-8")
    for sentence in short:
        print(f"missed: {sentence}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
