"""What the commands print: tables for people, tab-separated lines for pipes, JSON for programs.

Data goes to stdout, everything else to stderr. What comes from lists and file names is printed without its control
characters: it may neither move a cursor nor add a column. rich respects NO_COLOR and leaves colours out of pipes.

`--quiet` leaves data, warnings and errors; `--no-color` leaves no escape sequence, and so no bar that moves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

GAP = 2  # columns of the terminal between those of a table


def is_on(flag: str) -> bool:
    """Whether a flag such as `quiet` stands on the command line, before the command or after it."""
    context = click.get_current_context(silent=True)
    return context is not None and f"proxywhirl.{flag}" in context.meta


def stdout() -> Console:
    """Return a console on stdout."""
    return Console(highlight=False, markup=False, color_system=None if is_on("no_color") else "auto")


def stderr() -> Console:
    """Return a console on stderr."""
    return Console(stderr=True, highlight=False, markup=False, color_system=None if is_on("no_color") else "auto")


def moving(console: Console) -> bool:
    """Whether something may move on a console, which takes escape sequences."""
    return console.is_terminal and not is_on("no_color")


def printable(text: str) -> str:
    """Return a text of one line with each character that a terminal would act on replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def warn(message: str) -> None:
    """Say what is wrong, beside the data. Whether anybody listens changes nothing about what is done."""
    with suppress(OSError):
        click.echo(message, err=True)


def note(message: str) -> None:
    """Say something beside the data that nobody has to know."""
    if not is_on("quiet"):
        warn(message)


def acknowledge(message: str) -> None:
    """Say on stdout that a command has done what it was asked for; its exit code says so too."""
    if not is_on("quiet"):
        with suppress(BrokenPipeError):  # as to `warn`
            click.echo(message)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a character, from a command line that is not UTF-8: it has to be escaped
        line = json.dumps(value)
    click.echo(line)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, expendable: Sequence[str] = ()) -> None:
    """Print a table on a terminal, tab-separated lines with a header into a pipe.

    A terminal that is too narrow goes without the `expendable` columns, as many of them as it must, in their order.
    """
    console = stdout()
    if not console.is_terminal:
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(map(printable, row)))
        return
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = {column[0]: max(map(cell_len, column)) + GAP for column in zip(columns, *cells, strict=True)}
    for name in expendable:
        if sum(widths.values()) > console.width:
            del widths[name]
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for name in widths:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in widths))
    console.print(table)
