"""Run contestants through families of worlds, seed by seed, and set them beside the oracle.

What the oracle and the simple learners reach is remembered in a folder, since it changes with the benchmark alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.yields.contestants import ORACLE, Enter, PoolChoice, own_contestants
from benchmarks.yields.families import FAMILIES
from benchmarks.yields.learners import EpsilonGreedy, PacedRoundRobin, Thompson
from benchmarks.yields.race import race
from benchmarks.yields.scenario import Scenario

__all__ = ["Row", "entrants", "family_runs", "rows", "table"]

Run = dict[str, Any]
Row = dict[str, Any]

LEARNERS: dict[str, Enter] = {"paced": PacedRoundRobin, "epsilon": EpsilonGreedy, "thompson": Thompson}
REMEMBERED = frozenset((ORACLE, *LEARNERS))

_RUN_BY = ("scenario", "laws", "draws", "families", "reality", "race", "tally", "contestants", "learners")

WINDOW, STEP = 60.0, 10.0
"""Seconds in which nearly nobody is served are a stall; where they are looked for, every so many seconds."""

LEAST_IN_WINDOW = 5
STALLED, GOES_ON = 0.1, 0.5
RECOVERED_OVER, RECOVERED = 10, 0.9


def entrants() -> dict[str, Enter]:
    """Return all who may take part, by name."""
    updated = partial(PoolChoice, strategy="bandit", updated=True)
    return {**own_contestants(), "bandit, updated": updated, **LEARNERS}


def family_runs(
    families: Sequence[str], seeds: Sequence[int], names: Sequence[str], cache_in: Path | None, workers: Executor
) -> dict[str, list[dict[str, Run]]]:
    """Let everybody run through each family; return the runs by family, seed by seed, by contestant."""
    cells = [(family, seed) for family in families for seed in seeds]
    done = iter(workers.map(partial(_runs_of, names=tuple(names), cache_in=cache_in), cells))
    return {family: [next(done) for _ in seeds] for family in families}


def _runs_of(cell: tuple[str, int], *, names: Sequence[str], cache_in: Path | None) -> dict[str, Run]:
    family, seed = cell
    runs = {name: _run(family, seed, name, cache_in) for name in dict.fromkeys((ORACLE, *names))}
    scenario = FAMILIES[family](seed)
    for run in runs.values():
        _compare(scenario, run, runs[ORACLE])
    return {name: {key: value for key, value in run.items() if key != "flags"} for name, run in runs.items()}


def _run(family: str, seed: int, name: str, cache_in: Path | None) -> Run:
    """Run one contestant, or read what it reached before."""
    path = None
    if cache_in is not None and name in REMEMBERED:
        path = cache_in / f"{family}-{seed}-{name}-{_code()}.json"
        if path.exists():
            remembered: Run = json.loads(path.read_text(encoding="utf-8"))
            return remembered
    scenario = FAMILIES[family](seed)
    tally = race(scenario, entrants()[name])
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
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run), encoding="utf-8")
    return run


@cache
def _code() -> str:
    """Return the hash of the code that a run depends on: what was remembered of other code counts no more."""
    files = [Path(__file__).with_name(f"{name}.py") for name in _RUN_BY]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _compare(scenario: Scenario, run: Run, best: Run) -> None:
    """Set a run beside that of the oracle."""
    for part in ("second_half", "whole"):
        for figure in ("first", "served"):
            run[f"{figure}/oracle {part}"] = _ratio(run[part][figure], best[part][figure])
    run["stalls"] = _stalls(scenario, run["flags"], best["flags"])
    run["recovery"] = _recovery(scenario, run["flags"], best["flags"])


def _ratio(reached: float, best: float) -> float:
    return round(reached / best, 4) if best else 1.0


def _stalls(scenario: Scenario, flags: str, best: str) -> int:
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


def _recovery(scenario: Scenario, flags: str, best: str) -> list[float]:
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


def rows(runs: Mapping[str, Sequence[Mapping[str, Run]]], names: Iterable[str]) -> list[Row]:
    """Return the means over seeds: a row for each family and contestant."""
    return [
        _row(family, name, [one[name] for one in of_family]) for family, of_family in runs.items() for name in names
    ]


def _row(family: str, name: str, runs: Sequence[Run]) -> Row:
    recovery = [seconds for run in runs for seconds in run["recovery"]]
    return {
        "family": family,
        "contestant": name,
        "second half": fmean(run["first/oracle second_half"] for run in runs),
        "worst": min(run["first/oracle second_half"] for run in runs),
        "whole": fmean(run["first/oracle whole"] for run in runs),
        "served": fmean(run["served/oracle whole"] for run in runs),
        "first": fmean(run["second_half"]["first"] for run in runs),
        "stalls": sum(run["stalls"] for run in runs),
        "recovery": median(recovery) if recovery else None,
        "bans": fmean(run["whole"]["bans"] for run in runs),
        "p50": fmean(run["p50"] or 0.0 for run in runs),
        "lost": _total([run["lost"] for run in runs]),
    }


def _total(lost: Sequence[Mapping[str, int]]) -> dict[str, int]:
    causes = sorted({cause for one in lost for cause in one})
    total = {cause: sum(one.get(cause, 0) for one in lost) for cause in causes}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def table(found: Sequence[Row]) -> str:
    """Return rows in columns of equal width."""
    heads = ("family", "contestant", "2nd half", "worst", "whole", "served", "1st", "stalls", "recov", "bans", "p50")
    lines = [heads, *(_cells(row) for row in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ends = ["lost first attempts of the second half", *(_lost(row) for row in found)]
    return "\n".join(
        "  ".join(cell.ljust(width) if n < 2 else cell.rjust(width) for n, (cell, width) in enumerate(cells))  # noqa: PLR2004
        + f"  {end}"
        for line, end in zip(lines, ends, strict=True)
        for cells in [list(zip(line, widths, strict=True))]
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["family"],
        row["contestant"],
        *(f"{row[name]:.3f}" for name in ("second half", "worst", "whole", "served", "first")),
        f"{row['stalls']}",
        "" if row["recovery"] is None else f"{row['recovery']:.1f}",
        f"{row['bans']:.0f}",
        f"{row['p50']:.2f}",
    )


def _lost(row: Row) -> str:
    return ", ".join(f"{cause} {times}" for cause, times in row["lost"].items())
