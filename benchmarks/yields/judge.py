"""Judge `bandit` by its runs through families of worlds: beside the oracle, and beside the best simple learner.

The best simple learner of a family is the one that is best on the tuning seeds; it is compared on the judging seeds,
pair by pair, which are the same world for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from statistics import fmean, median, stdev
from typing import Any

from benchmarks.yields.contestants import ORACLE
from benchmarks.yields.runs import LEARNERS, Run

__all__ = [
    "FLOORS",
    "JUDGEMENT_BEGIN",
    "Judgement",
    "Row",
    "aligned",
    "best_learners",
    "judge",
    "judgement_table",
    "notes",
    "overall",
    "rows",
    "table",
]

Row = dict[str, Any]
Judgement = dict[str, Any]
Runs = Mapping[str, Sequence[Mapping[str, Run]]]
"""By family, seed by seed, by contestant."""

JUDGED = "bandit"

JUDGEMENT_BEGIN = "<!-- the judgement is written by `benchmarks.yield --judge` -->\n"
"""Where the judgement begins in the page."""

FLOORS = {
    "mean": 0.95,  # over families: first attempts in the second half beside the oracle's
    "whole": 0.7,  # the same in the whole run, in each family
    "served": 0.97,  # requests served in the second half, beside the oracle's
    "behind": -0.02,  # first attempts less those of the best simple learner, as parts of the oracle's
    "recovery": 3.0,  # seconds
    "good pages": 0.99,  # the share that is served of them
    "tries": 1.0,  # at the site, for each one that is allowed
    "slower 50": 1.25,  # times that a good page takes in the median, beside the same run without failing pages
    "slower 95": 2.0,  # the same at 95 %
}
"""What is to be reached. What a family has to reach in the second half, its scenario says."""

USUAL_FLOOR = 0.85
"""What families have to reach in the second half, but for those in which nobody can."""

CRAWL = "pages"
"""The family in which good pages are judged; at a site that limits the rate, what a refusal means is not so plain."""

RECOVERING = ("gateways", "network-bans")
"""Families in whose events a part of the proxies goes."""

HALF, WHOLE, SERVED = "first/oracle second_half", "first/oracle whole", "served/oracle second_half"

_T95 = {2: 12.7, 3: 4.3, 4: 3.18, 5: 2.78, 8: 2.36, 10: 2.26, 15: 2.14, 20: 2.09, 30: 2.05}
"""Student's t at 95 % for so many pairs."""


def best_learners(tuned: Runs) -> dict[str, str]:
    """Return for each family the simple learner that is best on the tuning seeds."""
    return {
        family: max(LEARNERS, key=lambda name: fmean(one[name][HALF] for one in runs))  # used at once
        for family, runs in tuned.items()
    }


def judge(judged: Runs, best: Mapping[str, str]) -> list[Judgement]:
    """Return a judgement of each family: its figures, and in words what is missed; `best` are the best learners."""
    return [_family(family, best[family], runs) for family, runs in judged.items()]


def overall(judgements: Sequence[Judgement]) -> list[str]:
    """Say what is missed over all families."""
    mean = fmean(one["second half"] for one in judgements)
    return [f"all families: {mean:.3f} of the oracle's first attempts"] if mean < FLOORS["mean"] else []


def _family(family: str, best: str, runs: Sequence[Mapping[str, Run]]) -> Judgement:
    mine = [one[JUDGED] for one in runs]
    behind = [one[JUDGED][HALF] - one[best][HALF] for one in runs]
    recovery = [seconds for run in mine for seconds in run["recovery"]]
    found: Judgement = {
        "family": family,
        "floor": mine[0]["floor"],
        "second half": fmean(run[HALF] for run in mine),
        "worst": min(run[HALF] for run in mine),
        "whole": fmean(run[WHOLE] for run in mine),
        "served": fmean(run[SERVED] for run in mine),
        "best": best,
        "of best": fmean(one[best][HALF] for one in runs),
        "behind": fmean(behind),
        "interval": _interval(behind),
        "p50": _beside(runs, "p50"),
        "money": _beside(runs, "money for each"),
        "pairs": [[one[JUDGED][HALF], one[best][HALF]] for one in runs],
        "stalled": sum(run["stalls"] > 0 for run in mine),
        "recovery": median(recovery) if recovery else None,
        "good pages": _mean(mine, "good pages"),
        "tries": _mean(mine, "tries"),
        "slower 50": _mean(mine, "slower 50"),
        "slower 95": _mean(mine, "slower 95"),
    }
    return {**found, "missed": _missed(found)}


def _mean(runs: Sequence[Run], figure: str) -> float | None:
    values = [run[figure] for run in runs if figure in run]
    return fmean(values) if values else None


def _beside(runs: Sequence[Mapping[str, Run]], figure: str) -> tuple[float, float]:
    """Return a figure of `bandit` and the oracle's, in the mean over seeds."""
    mine, best = (fmean(one[name][figure] or 0.0 for one in runs) for name in (JUDGED, ORACLE))
    return mine, best


def notes(judgements: Sequence[Judgement]) -> list[str]:
    """Say what is measured and has no floor: how long requests take where that matters, and what they cost."""
    found = []
    for one in judgements:
        if one["family"] == "heavy-tails":
            found.append("heavy-tails: {:.2f} s in the median, the oracle {:.2f} s".format(*one["p50"]))
        if one["money"][1]:
            mine, best = (1_000.0 * money for money in one["money"])
            found.append(f"{one['family']}: a thousand requests cost {mine:.2f}, with the oracle {best:.2f}")
    return found


def _interval(values: Sequence[float]) -> float:
    """Return the half width of the interval in which the mean is with 95 %."""
    if len(values) < 2:  # noqa: PLR2004  # one alone has no spread
        return math.inf
    t = next((t for count, t in sorted(_T95.items(), reverse=True) if count <= len(values)), 12.7)
    return t * stdev(values) / math.sqrt(len(values))


def _missed(found: Judgement) -> list[str]:
    sentences = {
        f"{found['second half']:.3f} of the oracle's first attempts in the second half": found["second half"]
        < found["floor"],
        f"{found['whole']:.3f} of them in the whole run": found["whole"] < FLOORS["whole"],
        f"{found['served']:.3f} of what the oracle serves": found["served"] < _least_served(found["floor"]),
        f"{found['behind']:+.3f} beside {found['best']}": found["behind"] < FLOORS["behind"],
        f"{found['stalled']} runs with a stall": found["stalled"] > 0,
    }
    if found["family"] in RECOVERING:
        sentences[f"{found['recovery']:.1f} s to recover"] = found["recovery"] > FLOORS["recovery"]
    if found["family"] == CRAWL:
        sentences[f"{found['good pages']:.3f} of the good pages served"] = found["good pages"] < FLOORS["good pages"]
        sentences[f"{found['tries']:.2f} of the tries that are allowed"] = found["tries"] > FLOORS["tries"]
        for part in ("slower 50", "slower 95"):
            sentences[f"{found[part]:.2f} times the time at {part[-2:]} %"] = found[part] > FLOORS[part]
    return [f"{found['family']}: {sentence}" for sentence, missed in sentences.items() if missed]


def _least_served(floor: float) -> float:
    """Return the share that is to be served: where fewer first attempts can succeed, no more can be served."""
    return FLOORS["served"] if floor >= USUAL_FLOOR else floor


def judgement_table(found: Sequence[Judgement]) -> list[tuple[str, ...]]:
    """Return judgements as cells, the headings first."""
    heads = (
        "Family",
        "Second half",
        "worst seed",
        "Whole run",
        "Served",
        "Best simple",
        "reaches",
        "Ahead of it",
        "Stalled",
        "Recovers in",
        "Good pages",
        "Tries",
        "Slower",
        "Missed",
    )
    return [heads, *map(_judgement_cells, found)]


def _judgement_cells(one: Judgement) -> tuple[str, ...]:
    return (
        one["family"],
        *(f"{one[name]:.3f}" for name in ("second half", "worst", "whole", "served")),
        one["best"],
        f"{one['of best']:.3f}",
        f"{one['behind']:+.3f} ± {one['interval']:.3f}",
        f"{one['stalled']}",
        "" if one["recovery"] is None else f"{one['recovery']:.1f} s",
        "" if one["good pages"] is None else f"{one['good pages']:.3f}",
        "" if one["tries"] is None else f"{one['tries']:.2f}",
        "" if one["slower 50"] is None else f"{one['slower 50']:.2f}, {one['slower 95']:.2f}",
        f"{len(one['missed'])}",
    )


def rows(runs: Runs, names: Iterable[str]) -> list[Row]:
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
        "money": fmean(run["money for each"] for run in runs),
        "good pages": _mean(runs, "good pages"),
        "tries": _mean(runs, "tries"),
        "lost": _total([run["lost"] for run in runs]),
    }


def _total(lost: Sequence[Mapping[str, int]]) -> dict[str, int]:
    causes = sorted({cause for one in lost for cause in one})
    total = {cause: sum(one.get(cause, 0) for one in lost) for cause in causes}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


HEADS = ("family", "contestant", "2nd half", "worst", "whole", "served", "1st", "stalls", "recov", "bans", "p50")
FURTHER = ("money", "good", "tries")
"""What a thousand served requests cost, the share of the good pages served, and tries for each that is allowed."""


def table(found: Sequence[Row]) -> str:
    """Return rows in columns of equal width."""
    lines = [(*HEADS, *FURTHER), *(_cells(row) for row in found)]
    return aligned(lines, ["lost first attempts of the second half", *(_lost(row) for row in found)])


def aligned(lines: Sequence[Sequence[str]], ends: Sequence[str] = ()) -> str:
    """Return cells in columns of equal width, and what stands at the end of each line."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(f"{text}  {end}".rstrip() for text, end in zip_longest(texts, ends, fillvalue=""))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["family"],
        row["contestant"],
        *(f"{row[name]:.3f}" for name in ("second half", "worst", "whole", "served", "first")),
        f"{row['stalls']}",
        "" if row["recovery"] is None else f"{row['recovery']:.1f}",
        f"{row['bans']:.0f}",
        f"{row['p50']:.2f}",
        f"{1_000.0 * row['money']:.2f}" if row["money"] else "",
        *("" if row[name] is None else f"{row[name]:.3f}" for name in ("good pages", "tries")),
    )


def _lost(row: Row) -> str:
    return ", ".join(f"{cause} {times}" for cause, times in row["lost"].items())
