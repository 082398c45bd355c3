"""The results as a table: on the terminal, and in the page on performance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "between_marks", "in_page", "markdown", "plain"]

BEGIN = "<!-- the table is written by `make bench` -->\n"
END = "<!-- end of the table -->\n"
HEADINGS = ("Operation", "Costs", "Beside it", "Costs", "Reached", "Limit", "Used")

SHOWN = {"times": "×", "/s": "/s"}  # noqa: RUF001  # the sign that tables use

Row = dict[str, Any]


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows of the results as a Markdown table."""
    lines = [HEADINGS, ("---", "--:", "---", "--:", "--:", "--:", "--:"), *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(rows: Sequence[Row]) -> str:
    """Return the rows of the results in columns of equal width."""
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) if n in (0, 2) else cell.rjust(width) for n, (cell, width) in enumerate(cells))
        + "\n"
        for line in lines
        for cells in [list(zip(line, widths, strict=True))]
    )


def in_page(page: Path, rows: Sequence[Row]) -> None:
    """Replace the table in a page, between the two marks."""
    between_marks(page, markdown(rows))


def between_marks(page: Path, table: str, begin: str = BEGIN) -> None:
    """Replace what stands between the two marks of a page, of which the first tells its tables apart."""
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, tail = rest.partition(END)
    if not found:
        raise RuntimeError(f"{page} has no marks for the table")
    page.write_text(f"{head}{begin}\n{table}\n{END}{tail}", encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    used = "" if row["used"] is None else f"{row['used']:.0%}" + ("" if row["passed"] else " (missed)")
    return (
        row["operation"],
        _quantity(row["cost"], "µs"),
        row["reference"] or "",
        _quantity(row["reference_cost"], "µs"),
        _quantity(row["reached"], row["unit"]),
        _limit(row),
        used,
    )


def _limit(row: Row) -> str:
    if row["at_most"] is not None:
        return f"≤ {_quantity(row['at_most'], row['unit'])}"
    if row["at_least"] is None:
        return ""
    return f"≥ {_quantity(row['at_least'] * row['slowdown'], row['unit'])}"


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  # three digits say enough
    return digits + SHOWN.get(unit, f" {unit}")
