"""Run contestants through families of worlds, seed by seed, and set them beside the oracle.

What the oracle and the simple learners reach is remembered in a folder, since it changes with the benchmark alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.yields.contestants import ORACLE, Enter, PoolChoice, own_contestants
from benchmarks.yields.families import FAMILIES, told_by
from benchmarks.yields.laws import FailingPages
from benchmarks.yields.learners import EpsilonGreedy, PacedRoundRobin, Thompson
from benchmarks.yields.race import race
from benchmarks.yields.scenario import Scenario
from benchmarks.yields.sharing import Restarted, SideBySide
from benchmarks.yields.tally import Tally

__all__ = ["LEARNERS", "Run", "entrants", "family_runs", "recovery", "stalls"]

Run = dict[str, Any]

LEARNERS: dict[str, Enter] = {"paced": PacedRoundRobin, "epsilon": EpsilonGreedy, "thompson": Thompson}
REMEMBERED = frozenset((ORACLE, *LEARNERS))

TIMED = "bandit"
"""Whose times are set beside those of the same run without failing pages."""

CRAWLS = ("pages", "limited-pages")

_RUN_BY = ("scenario", "laws", "draws", "reality", "race", "tally", "contestants")

WINDOW, STEP = 60.0, 10.0
"""Seconds in which nearly nobody is served are a stall; where they are looked for, every so many seconds."""

LEAST_IN_WINDOW = 5

MOST_FOR_GOOD, MOST_FOR_FAILING = 1.3, 4.0
"""Tries at a site that a page may cost which is there, and one that always fails."""

STALLED, GOES_ON = 0.1, 0.5
RECOVERED_OVER, RECOVERED = 10, 0.9


def entrants() -> dict[str, Enter]:
    """Return all who may take part, by name."""
    updated = partial(PoolChoice, strategy="bandit", updated=True)
    priced = partial(PoolChoice, strategy="bandit", priced=True)
    variants: dict[str, Enter] = {
        "bandit-updated": updated,
        "bandit-priced": priced,
        "bandit-two": SideBySide,
        "bandit-restarted": Restarted,
    }
    return {**own_contestants(), **variants, **LEARNERS}


def family_runs(
    families: Mapping[str, Sequence[str]], seeds: Sequence[int], cache_in: Path | None, workers: Executor
) -> dict[str, list[dict[str, Run]]]:
    """Let those who are named run through each family; return the runs by family, seed by seed, by contestant."""
    cells = [(family, seed, tuple(names)) for family, names in families.items() for seed in seeds]
    done = iter(workers.map(partial(_runs_of, cache_in=cache_in), cells))
    return {family: [next(done) for _ in seeds] for family in families}


def _runs_of(cell: tuple[str, int, tuple[str, ...]], *, cache_in: Path | None) -> dict[str, Run]:
    family, seed, names = cell
    runs = {name: _run(family, seed, name, cache_in) for name in dict.fromkeys((ORACLE, *names))}
    scenario = FAMILIES[family](seed)
    for run in runs.values():
        _compare(scenario, run, runs[ORACLE])
    return {name: {key: value for key, value in run.items() if key != "flags"} for name, run in runs.items()}


def _run(family: str, seed: int, name: str, cache_in: Path | None) -> Run:
    """Run one contestant, or read what it reached before."""
    path = None
    if cache_in is not None and name in REMEMBERED:
        path = cache_in / f"{family}-{seed}-{name}-{_code(family, name)}.json"
        if path.exists():
            remembered: Run = json.loads(path.read_text(encoding="utf-8"))
            return remembered
    scenario = FAMILIES[family](seed)
    tally = race(scenario, entrants()[name])
    slower = _slower(FAMILIES[family](seed), tally, entrants()[name]) if name == TIMED and family in CRAWLS else {}
    took = sorted(seconds for seconds, served in zip(tally.took, tally.served, strict=True) if served)
    run: Run = {
        "whole": tally.whole().as_json(),
        "second_half": tally.second_half().as_json(),
        "lost": dict(tally.lost.most_common()),
        "p50": round(took[len(took) // 2], 4) if took else None,
        "p95": round(took[len(took) * 95 // 100], 4) if took else None,
        "money": tally.money,
        "reached": tally.reached,
        "flags": "".join(map(str, map(sum, zip(tally.first, tally.served, strict=True)))),
        **slower,
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(run), encoding="utf-8")
        unfinished.replace(path)  # others may read it
    return run


def _slower(scenario: Scenario, tally: Tally, enter: Enter) -> Run:
    """Return how many times longer good pages take than they take where no page fails: the median, and at 95 %."""
    good = [place for place, request in enumerate(scenario.arrivals) if not scenario.fails_always(request)]
    laws = [tuple(law for law in site.laws if not isinstance(law, FailingPages)) for site in scenario.sites]
    sites = tuple(replace(site, laws=kept) for site, kept in zip(scenario.sites, laws, strict=True))
    whole = race(replace(scenario, sites=sites), enter)
    mine, others = (sorted(one.took[place] for place in good if one.served[place]) for one in (tally, whole))
    if not mine or not others:
        return {}
    return {
        f"slower {part}": round(mine[int(len(mine) * part / 100)] / others[int(len(others) * part / 100)], 3)
        for part in (50, 95)
    }


@cache
def _code(family: str, name: str) -> str:
    """Return the hash of the code that a run depends on: what was remembered of other code counts no more."""
    files = [*_RUN_BY, *(["learners"] if name in LEARNERS else [])]
    texts = [Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8") for file in files]
    return hashlib.sha256("\n".join([*texts, told_by(FAMILIES[family])]).encode()).hexdigest()[:12]


def _compare(scenario: Scenario, run: Run, best: Run) -> None:
    """Set a run beside that of the oracle."""
    for part in ("second_half", "whole"):
        for figure in ("first", "served"):
            run[f"{figure}/oracle {part}"] = _ratio(run[part][figure], best[part][figure])
    run["stalls"] = stalls(scenario, run["flags"], best["flags"])
    run["recovery"] = recovery(scenario, run["flags"], best["flags"])
    run["floor"] = scenario.floor
    run["money for each"] = run["money"] / max(1, run["flags"].count("1") + run["flags"].count("2"))
    failing = sum(map(scenario.fails_always, scenario.arrivals))
    if failing:
        good = len(scenario.arrivals) - failing
        run["good pages"] = sum(flag != "0" for flag in run["flags"]) / good
        run["tries"] = run["reached"] / (MOST_FOR_GOOD * good + MOST_FOR_FAILING * failing)


def _ratio(reached: float, best: float) -> float:
    return round(reached / best, 4) if best else 1.0


def stalls(scenario: Scenario, flags: str, best: str) -> int:
    """Return in how many windows nearly nobody is served, though the oracle serves."""
    last = scenario.arrivals[-1].at
    bins = [[0, 0, 0] for _ in range(int(last / STEP) + 1)]
    for arrival, flag, of_best in zip(scenario.arrivals, flags, best, strict=True):
        counts = bins[int(arrival.at / STEP)]
        counts[0] += 1
        counts[1] += flag != "0"
        counts[2] += of_best != "0"
    found, width = 0, int(WINDOW / STEP)
    for start in range(len(bins) - width + 1):
        came, served, of_oracle = (sum(column) for column in zip(*bins[start : start + width], strict=True))
        found += came >= LEAST_IN_WINDOW and served < STALLED * came and of_oracle > GOES_ON * came
    return found


def recovery(scenario: Scenario, flags: str, best: str) -> list[float]:
    """Return for each event after how many seconds first attempts succeed again, of those that the oracle serves."""
    found = []
    for event in scenario.events:
        after = [
            (arrival.at, flag == "2")
            for arrival, flag, of_best in zip(scenario.arrivals, flags, best, strict=True)
            if arrival.at >= event.at and event.site in (None, arrival.site) and of_best != "0"
        ]
        for place in range(len(after) - RECOVERED_OVER + 1):
            if sum(first for _, first in after[place : place + RECOVERED_OVER]) >= RECOVERED * RECOVERED_OVER:
                found.append(round(max(0.0, after[place][0] - event.at), 3))
                break
        else:
            found.append(after[-1][0] - event.at if after else 0.0)
    return found
