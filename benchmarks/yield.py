"""Does choosing well pay? Race all strategies, two peers and an oracle through simulated worlds: `make bench`.

Prints a table for each world, writes them into `docs/yield.md` and, with the curves, into
`benchmarks/results/yield.json` and `yield.svg`, and ends with 1 where a floor is missed in the standard world. `--world
FILE` runs a world of yours, which is a TOML file as `docs/yield.md` tells, and holds it to the floors too; it writes
nothing unless `--results` says where. `--families` races through families of worlds, and `--judge` judges `bandit` in
them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.cache.table import between_marks
from benchmarks.conditions import conditions
from benchmarks.yields.contestants import ORACLE
from benchmarks.yields.families import FAMILIES
from benchmarks.yields.judge import FLOORS as FAMILY_FLOORS
from benchmarks.yields.judge import (
    JUDGEMENT_BEGIN,
    aligned,
    best_learners,
    judge,
    judgement_table,
    notes,
    overall,
    rows,
    table,
)
from benchmarks.yields.plot import write_plot
from benchmarks.yields.report import FLOORS, contestants, markdown, markdown_cells, measure, plain, shortfalls
from benchmarks.yields.runs import LEARNERS, entrants, family_runs
from benchmarks.yields.world import World
from benchmarks.yields.worlds import WORLDS
from proxywhirl.settings.sections import PoolSettings

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "yield.md"


def main() -> int:
    """Race, print, write; fail where a floor is missed."""
    options = _options()
    if options.families is not None:
        return _judge(options) if options.judge else _families(options)
    load_before = os.getloadavg()[0]
    with ProcessPoolExecutor(options.jobs) as workers:
        results = measure(options.worlds, options.contestants, workers)
    for result in results:
        print(f"{result['world']['name']}\n{plain(result)}")
    judged = results if options.world else results[:1]
    missed = [
        f"{result['world']['name']}: {sentence}"
        for result in judged
        for sentence in shortfalls(result, PoolSettings().strategy)
        if {"bandit", ORACLE} <= result["contestants"].keys()
    ]
    written = {"worlds": results, "floors": FLOORS, "missed": missed, "conditions": conditions(load_before)}
    if options.results is not None:
        _write(written, options.results)
    if options.results == RESULTS:
        between_marks(PAGE, "\n".join(f"**{one['world']['name']}**\n\n{markdown(one)}" for one in results).rstrip("\n"))
    for sentence in missed:
        print(f"missed in the world {sentence}")
    return 1 if missed else 0


def _families(options: argparse.Namespace) -> int:
    """Race through families of worlds."""
    with ProcessPoolExecutor(options.jobs) as workers:
        named = dict.fromkeys(options.families, options.contestants)
        runs = family_runs(named, options.seeds, options.cache, workers)
    print(table(rows(runs, options.contestants)))
    if options.results is not None:
        _write_families({"families": runs}, options.results)
    return 0


def _judge(options: argparse.Namespace) -> int:
    """Judge `bandit` in families of worlds, on other seeds than it was tuned on."""
    load_before = os.getloadavg()[0]
    with ProcessPoolExecutor(options.jobs) as workers:
        learners = {family: list(LEARNERS) for family in options.families}
        best = best_learners(family_runs(learners, options.tuning, options.cache, workers))
        named = {family: ["bandit", best[family]] for family in options.families}
        runs = family_runs(named, options.seeds, options.cache, workers)
    judgements = judge(runs, best)
    missed = [sentence for one in judgements for sentence in one["missed"]] + overall(judgements)
    print("\n".join([aligned(judgement_table(judgements)), *notes(judgements)]))
    for sentence in missed:
        print(f"missed in {sentence}")
    if options.results is not None:
        told = {"seeds": [*options.seeds], "tuning": [*options.tuning], "conditions": conditions(load_before)}
        _write_families({"judgements": judgements, "missed": missed, "floors": FAMILY_FLOORS, **told}, options.results)
        if options.results.resolve() == RESULTS:
            between_marks(PAGE, markdown_cells(judgement_table(judgements)).rstrip("\n"), JUDGEMENT_BEGIN)
    return 1 if missed else 0


def _write_families(written: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "families.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yield", description="Race the strategies.")
    parser.add_argument(
        "--world",
        action="append",
        metavar="NAME|FILE",
        help="a world of the benchmark or of yours, in place of all of the benchmark",
    )
    parser.add_argument("--requests", type=int, metavar="N", help="how many requests arrive in each world, at most")
    parser.add_argument("--seed", type=int, metavar="N", help="another seed for each world")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--families", nargs="*", metavar="NAME", help="families of worlds, in place of worlds; all")
    parser.add_argument("--judge", action="store_true", help="judge `bandit` in families, beside simple learners")
    parser.add_argument("--seeds", type=_seeds, metavar="A..B", help="the seeds of families; those that judge")
    parser.add_argument(
        "--tuning",
        type=_seeds,
        default=range(1, 6),
        metavar="A..B",
        help="seeds on which the best simple learner is found",
    )
    parser.add_argument("--contestants", metavar="NAME,...", help="who takes part")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many processes run at once")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where what the oracle reached is remembered")
    options = parser.parse_args()
    everything = not (options.world or options.requests or options.seed or options.contestants)
    named = [name for name in (options.contestants or "").split(",") if name]
    if options.families is not None:
        options.families = options.families or list(FAMILIES)
        options.seeds = options.seeds or (range(1_001, 1_021) if options.judge else range(1, 5))
        options.contestants = named or ([] if options.judge else ["bandit", ORACLE])
        asked = [(options.families, list(FAMILIES)), (options.contestants, list(entrants()))]
    else:
        options.contestants = named or contestants()
        asked = [(named, contestants())]
    for given, known in asked:
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if options.families is None:
        try:
            options.worlds = _worlds(options)
        except (OSError, ValueError) as exc:
            parser.error(str(exc))
        if options.results is None and everything:
            options.results = RESULTS
    return options


def _worlds(options: argparse.Namespace) -> tuple[World, ...]:
    """Return the worlds that were asked for, by name or by file; all where none was."""
    known = {world.name: world for world in WORLDS}
    worlds = tuple(known.get(one) or World.read(Path(one)) for one in options.world or known)
    if options.requests is not None:
        worlds = tuple(replace(world, requests=min(options.requests, world.requests)) for world in worlds)
    if options.seed is not None:
        worlds = tuple(replace(world, seed=options.seed) for world in worlds)
    return worlds


def _write(written: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for other in written["worlds"][1:]:
        for one in other["contestants"].values():
            del one["curve"]  # only the first world's are drawn
    (folder / "yield.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        first = written["worlds"][0]
        curves = {name: one["curve"] for name, one in first["contestants"].items()}
        write_plot(curves, first["world"]["requests"] / first["world"]["rate"], folder / "yield.svg")


if __name__ == "__main__":
    sys.exit(main())
