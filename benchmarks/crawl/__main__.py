"""What a crawl meets on a site where some pages fail for everybody, through good proxies and real sockets.

`python -m benchmarks.crawl` measures a choice of crawls and scripts, prints a line for each, writes a table into
`docs/retries.md` and all figures, with the conditions, into `benchmarks/results/crawl.json`. It ends with 1 where a
floor is missed. With any option that chooses crawls it measures each combination of what is named instead, and
writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.cache.table import between_marks
from benchmarks.conditions import conditions
from benchmarks.crawl.cells import FLOORS, Cell, measure, missed
from benchmarks.crawl.crawler import CLIENTS
from benchmarks.crawl.report import BEGIN, PAGE, markdown, show_cell, show_script
from benchmarks.crawl.scripts import COURSES, SCRIPTS, Script, play
from benchmarks.crawl.site import KINDS, MIXED
from proxywhirl.net.capacity import make_room

RESULTS = Path(__file__).parents[1] / "results"
ALL_KINDS = (*KINDS, MIXED)
IN_TURN = ("403", "404", "429", "429-after", "451", "500", "502", "503", "503-after", "999", "reset", "cut", MIXED)
SHARES, AT_ONCE, PROXIES = (5, 20, 50), (1, 8, 16), (5, 50, 3)


def chosen() -> Iterator[Cell]:
    """Give the crawls that are measured by default.

    Each kind comes with each number at once; the share and the number of proxies change from one to the next.
    """
    for row, kind in enumerate(IN_TURN):
        for column, at_once in enumerate(AT_ONCE):
            share, proxies = SHARES[(row + column) % 3], PROXIES[(row // 3 + column) % 3]
            yield Cell(kind, share / 100, at_once, proxies, pages=300)
    for kind in ("403", "429", "500", "reset"):
        yield Cell(kind, 0.1, 8, 50, pages=300, delay=50)
        yield Cell(kind, 0.2, 8, 5, pages=300, client="library")
    yield Cell("500", 0.3, 16, 50, pages=300, delay=250)
    yield Cell(MIXED, 0.2, 16, 50, pages=300, delay=250)
    yield Cell(MIXED, 0.2, 8, 5, pages=200, client="library-https")
    yield Cell(MIXED, 0.2, 8, 5, pages=200, client="tunnel")
    yield Cell("hang", 0.05, 8, 5, pages=200)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""

    def words(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(word) for word in words(text)]

    parser = argparse.ArgumentParser("python -m benchmarks.crawl", description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", type=words, help=f"ways to fail, with commas between: {', '.join(ALL_KINDS)}")
    parser.add_argument("--shares", type=numbers, help="per cent of the pages that fail (default 20)")
    parser.add_argument("--at-once", type=numbers, help="pages asked for at once (default 8)")
    parser.add_argument("--proxies", type=numbers, help="proxies, http and socks5 by turns (default 5)")
    parser.add_argument("--pages", type=int, help="pages of a crawl (default 400)")
    parser.add_argument("--delay", type=numbers, help="milliseconds that each page takes (default 0)")
    parser.add_argument("--clients", type=words, help=f"who asks: {', '.join(CLIENTS)} (default gateway)")
    parser.add_argument("--scripts", type=words, help=f"scripts alone: {', '.join(COURSES)}")
    parser.add_argument("--seed", type=int, default=1, help="which pages fail, and their order (default 1)")
    parser.add_argument("--words", action="store_true", help="print also what the sender said of a good page")
    parser.add_argument("--results", type=Path, help="the folder to write crawl.json to")
    return parser.parse_args(arguments)


def cells_asked(asked: argparse.Namespace) -> list[Cell]:
    """Return each combination of what was named, else the default choice."""
    named = (asked.kinds, asked.shares, asked.at_once, asked.proxies, asked.pages, asked.delay, asked.clients)
    if not any(named):
        return [] if asked.scripts else list(chosen())
    combinations = product(
        asked.clients or ["gateway"],
        asked.kinds or IN_TURN,
        asked.shares or [20],
        asked.at_once or [8],
        asked.proxies or [5],
        asked.delay or [0],
    )
    return [
        Cell(kind, share / 100, at_once, proxies, asked.pages or 400, delay, client, asked.seed)
        for client, kind, share, at_once, proxies, delay in combinations
    ]


def scripts_asked(asked: argparse.Namespace, cells: list[Cell]) -> list[Script]:
    """Return the scripts: those named, or all where nothing was chosen."""
    if asked.scripts:
        return [
            script
            for script in SCRIPTS
            if script.name in asked.scripts and (not asked.kinds or script.kind in asked.kinds)
        ]
    return list(SCRIPTS) if cells == list(chosen()) else []


def main() -> int:
    """Measure, print, write; fail where a floor is missed."""
    asked = parse()
    cells = [] if asked.scripts else cells_asked(asked)
    scripts = scripts_asked(asked, cells)
    load_before = os.getloadavg()[0]
    make_room(4096)
    logging.getLogger("proxywhirl").setLevel(logging.ERROR)  # each home is told of its key
    written: dict[str, list[dict[str, Any]]] = {"scripts": [], "crawls": []}
    for script in scripts:
        figures = asyncio.run(play(script))
        show_script(script, figures)
        written["scripts"].append(figures)
    for cell in cells:
        figures = asyncio.run(measure(cell))
        figures["missed"] = missed(cell, figures)
        show_cell(cell, figures)
        if asked.words and figures["words"]:
            print(f"    {figures['words'].strip()}")
        written["crawls"].append(figures)
    everything = cells == list(chosen())
    folder = asked.results or (RESULTS if everything else None)
    if folder is not None:
        folder.mkdir(exist_ok=True)
        text = json.dumps({**written, "floors": FLOORS, "conditions": conditions(load_before)}, indent=2)
        (folder / "crawl.json").write_text(text + "\n", encoding="utf-8")
    if folder == RESULTS:
        between_marks(PAGE, markdown(written["crawls"]), BEGIN)
    measured = [*written["scripts"], *written["crawls"]]
    short = sum(bool(figures["missed"]) for figures in measured)
    print(f"{len(measured) - short} of {len(measured)} keep their floors")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
