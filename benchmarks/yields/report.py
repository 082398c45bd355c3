"""Run contestants in a world, set them beside the oracle, and judge."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

from benchmarks.yields.contestants import BLIND, ORACLE, own_contestants
from benchmarks.yields.peers import CRAWLEE, CRAWLEE_TIERS, SCRAPY, peer_contestants
from benchmarks.yields.population import populate
from benchmarks.yields.race import race
from benchmarks.yields.world import World

__all__ = ["FLOORS", "contestants", "markdown", "markdown_cells", "measure", "plain", "run", "shortfalls"]

FLOORS = {"first_of_oracle": 0.9, "attempts_of_oracle": 1.15, "behind_the_best": 0.003}
"""What `bandit` must reach in the second half, and by how much the default may fall short of the best strategy of ours:
two runs of one strategy differ by as much."""

OTHERS = frozenset((BLIND, ORACLE, SCRAPY, CRAWLEE, CRAWLEE_TIERS))
"""All others are strategies of ours."""

Result = dict[str, Any]

HEADINGS = (
    "Contestant",
    "First attempt",
    "in the second half",
    "of the oracle's",
    "Attempts for each success",
    "of the oracle's",
    "Bans",
    "Given up",
    "Idle",
)


def contestants() -> list[str]:
    """Return all names: ours, the peers that are installed, the oracle last."""
    *own, oracle = own_contestants()
    return [*own, *peer_contestants(), oracle]


def run(world: World, name: str) -> Result:
    """Let one contestant, by name, run through a world."""
    enter = (own_contestants() | peer_contestants())[name]
    tally = race(populate(world), enter)
    return {
        "whole": tally.whole().as_json(),
        "second_half": tally.second_half().as_json(),
        "lost_in_second_half": dict(tally.lost.most_common()),
        "curve": tally.curve(),
    }


def measure(worlds: Sequence[World], names: Sequence[str], workers: Executor) -> list[Result]:
    """Let everybody run through each world; return a result for each world."""
    cells = [(world, name) for world in worlds for name in names]
    runs = iter(list(workers.map(run, *zip(*cells, strict=True))))
    results = [{"world": asdict(world), "contestants": {name: next(runs) for name in names}} for world in worlds]
    for result in results:
        _compare(result["contestants"])
    return results


def shortfalls(result: Result, default: str) -> list[str]:
    """Say where a floor is missed in a world, `default` being the strategy that nobody has to ask for."""
    found, everybody = [], result["contestants"]
    bandit = everybody["bandit"]
    if bandit["first_of_oracle"] < FLOORS["first_of_oracle"]:
        found.append(f"bandit: {bandit['first_of_oracle']:.3f} of the oracle's first attempts succeed")
    if bandit["attempts_of_oracle"] > FLOORS["attempts_of_oracle"]:
        found.append(f"bandit: {bandit['attempts_of_oracle']:.3f} times the oracle's attempts")
    if bandit["whole"]["given_up"]:
        found.append(f"bandit: {bandit['whole']['given_up']} healthy proxies are given up")
    ours = {name: everybody[name]["second_half"]["first"] for name in everybody if name not in OTHERS}
    best = max(ours, key=ours.__getitem__)
    if ours[best] - ours[default] > FLOORS["behind_the_best"]:
        found.append(f"{best} wins, and the default is {default}")
    return found


def markdown(result: Result) -> str:
    """Return the table of a world as Markdown."""
    return markdown_cells([HEADINGS, *_lines(result)])


def markdown_cells(lines: Sequence[Sequence[str]]) -> str:
    """Return cells, the headings first, as a table in Markdown."""
    heads, *others = lines
    rule = ("---", *["--:"] * (len(heads) - 1))
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, rule, *others))


def plain(result: Result) -> str:
    """Return the table of a world in columns of equal width, with what made first attempts fail."""
    lost = {name: _lost(one) for name, one in result["contestants"].items()}
    short = ("", "1st", "2nd half", "/oracle", "attempts", "/oracle", "bans", "given up", "idle")
    lines = [short, *_lines(result)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(cells))
        + f"  {lost.get(line[0].strip('`'), 'first attempts lost in the second half')}\n"
        for line in lines
        for cells in [list(zip(line, widths, strict=True))]
    )


def _compare(everybody: Result) -> None:
    """Set each contestant beside the oracle, in the second half."""
    best = everybody.get(ORACLE, {}).get("second_half")
    for one in everybody.values():
        half = one["second_half"]
        one["first_of_oracle"] = _ratio(half["first"], best["first"]) if best else None
        one["attempts_of_oracle"] = _ratio(half["attempts"], best["attempts"]) if best else None


def _ratio(reached: float, best: float) -> float:
    return round(reached / best, 4) if best else 1.0


def _lines(result: Result) -> list[tuple[str, ...]]:
    everybody = result["contestants"]
    order = sorted(everybody, key=lambda name: -everybody[name]["second_half"]["first"])
    return [_line(name, everybody[name]) for name in order]


def _line(name: str, one: Result) -> tuple[str, ...]:
    whole, half = one["whole"], one["second_half"]
    return (
        f"`{name}`" if name not in OTHERS else name,
        f"{whole['first']:.1%}",
        f"{half['first']:.1%}",
        f"{one['first_of_oracle']:.3f}",
        f"{half['attempts']:.3f}",
        f"{one['attempts_of_oracle']:.3f}",
        f"{whole['bans']:,}",
        f"{whole['given_up']:,}",
        f"{whole['idle']:,}",
    )


def _lost(one: Result) -> str:
    return ", ".join(f"{cause} {times}" for cause, times in one["lost_in_second_half"].items())
