"""How the figures of crawls are shown: a line for each on the terminal, a table of the worst in the page on retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.crawl.cells import Cell
from benchmarks.crawl.scripts import Script

__all__ = ["BEGIN", "PAGE", "markdown", "show_cell", "show_script"]

PAGE = Path(__file__).parents[2] / "docs" / "retries.md"
BEGIN = "<!-- the table of crawls is written by `make bench` -->\n"

_HEADINGS = (
    "Pages fail by",
    "Crawls",
    "Good pages served",
    "A good page takes (median)",
    "(95 %)",
    "A failing page is asked",
)
_IN_WORDS = {
    "429-after": "429 with `Retry-After`",
    "503-after": "503 with `Retry-After`",
    "reset": "a reset",
    "cut": "half of an answer",
    "mixed": "all of these",
    "hang": "no answer",
}

Figures = Mapping[str, Any]


def show_cell(cell: Cell, figures: Figures) -> None:
    """Print a line for a crawl."""
    name = f"{cell.client:13} {cell.kind:9} {cell.share:4.0%} {cell.at_once:3} at once {cell.proxies:3} proxies"
    times = [f"{figures[f'times_{which}'] or float('nan'):5.2f}x" for which in ("median", "p95")]
    tries = (
        f"{figures['tries']:5} of {figures['tries_allowed']:5} tries ({figures['tries_of_a_failing']:.1f} a failing)"
    )
    wrong = f"{figures['failing_wrong']:3} of {figures['failing']:3} wrong"
    health = " ".join(f"{count} {health}" for health, count in sorted(figures["health"].items()) if count)
    print(
        f"{name} {cell.delay:4} ms | served {figures['served']:6.1%}, {figures['refused']:3} refused |",
        f"{figures['median_ms'] or 0:7.1f} ms {' '.join(times)} | {tries} | {wrong} | {health}{_end(figures)}",
        flush=True,
    )


def show_script(script: Script, figures: Figures) -> None:
    """Print a line for a script."""
    odd, others, health = (
        ", ".join(f"{count} x {what}" for what, count in sorted(figures[name].items()) if count)
        for name in ("odd", "others", "health")
    )
    print(
        f"{script.client:13} {script.name:7} {script.kind:9} | the page: {odd}, {figures['tries']} tries",
        f"| others: {others or 'none'} | {health}{_end(figures)}",
        flush=True,
    )


def _end(figures: Figures) -> str:
    return f"  MISSED {', '.join(figures['missed'])}" if figures["missed"] else ""


def markdown(crawls: Sequence[Figures]) -> str:
    """Return a table with a row for each kind of failing pages: the worst of its crawls."""
    kinds = dict.fromkeys(crawl["cell"]["kind"] for crawl in crawls)
    rows = [_HEADINGS, ("---", *["--:"] * (len(_HEADINGS) - 1))]
    rows += [_row(kind, [crawl for crawl in crawls if crawl["cell"]["kind"] == kind]) for kind in kinds]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(kind: str, crawls: Sequence[Figures]) -> tuple[str, ...]:
    times = (_worst(crawls, f"times_{name}") for name in ("median", "p95"))
    return (
        _IN_WORDS.get(kind, kind),
        str(len(crawls)),
        f"{min(crawl['served'] for crawl in crawls):.1%}".replace("%", " %"),
        *(f"{ratio:.2f}×" for ratio in times),  # noqa: RUF001  # the sign that tables use
        f"{_worst(crawls, 'tries_of_a_failing'):.1f} times",
    )


def _worst(crawls: Sequence[Figures], name: str) -> float:
    return max(float(crawl[name]) for crawl in crawls if crawl[name] is not None)
