"""What the commands print: tables for people, tab-separated lines for pipes, JSON for programs.

Data goes to stdout, everything else to stderr. rich respects NO_COLOR and leaves colours out of pipes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table

__all__ = ["note", "print_json", "print_table", "stderr", "stdout"]


def stdout() -> Console:
    """Return a console on stdout."""
    return Console(highlight=False, markup=False)


def stderr() -> Console:
    """Return a console on stderr."""
    return Console(stderr=True, highlight=False, markup=False)


def note(message: str) -> None:
    """Say something beside the data."""
    click.echo(message, err=True)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table on a terminal, tab-separated lines with a header into a pipe."""
    console = stdout()
    if not console.is_terminal:
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
