"""What the commands print: tables for people, tab-separated lines for pipes, JSON for programs, bars that move.

Data goes to stdout, everything else to stderr. What comes from lists and file names is printed without its control
characters: it may neither move a cursor nor add a column. rich respects NO_COLOR and leaves colours out of pipes; it is
loaded where a terminal is written to.

`--quiet` leaves data, warnings and errors; `--no-color` leaves no escape sequence, and so no bar that moves.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from proxywhirl.errors import CacheError

if TYPE_CHECKING:
    from rich.console import Console

    from proxywhirl.cache.models import CacheEntry

T = TypeVar("T")
GAP = 2  # columns of the terminal between those of a table


def is_on(flag: str) -> bool:
    """Whether a flag such as `quiet` stands on the command line, before the command or after it."""
    context = click.get_current_context(silent=True)
    return context is not None and f"proxywhirl.{flag}" in context.meta


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, color_system=None if is_on("no_color") else "auto")


def is_terminal(*, stderr: bool = False) -> bool:
    """Whether stdout or stderr is a terminal, or is to be taken for one by what the environment says."""
    stream = sys.stderr if stderr else sys.stdout
    told = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    return console(stderr=stderr).is_terminal if told or stream.isatty() else False


def printable(text: str) -> str:
    """Return a text of one line with each character that a terminal would act on replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def warn(message: str) -> None:
    """Say what is wrong, beside the data. Whether anybody listens changes nothing about what is done."""
    with suppress(OSError):
        click.echo(message, err=True)


def note(message: str) -> None:
    """Say something optional beside the data."""
    if not is_on("quiet"):
        warn(message)


def acknowledge(message: str) -> None:
    """Say on stdout that a command has done what it was asked for; its exit code says so too."""
    if not is_on("quiet"):
        with suppress(BrokenPipeError):  # as to `warn`
            click.echo(message)


def tell(data: object, words: str, *, as_json: bool) -> None:
    """Say what a command has done, as JSON for programs."""
    if as_json:
        print_json(data)
    else:
        acknowledge(words)


def no_proxy(name: str) -> CacheError:
    """Make the error that a proxy, by its key or URL, is not there."""
    return CacheError(f"there is no proxy {name}: `proxywhirl list` shows the keys of those that there are")


def label_of(entry: CacheEntry) -> str:
    """Return what stands for the username of an entry, which is not shown."""
    return entry.attributes.label or (f"user-{entry.key[:6]}" if entry.username is not None else "")


def ago(moment: datetime | float) -> str:
    """Say how long ago a moment was, in Unix seconds or as a `datetime`."""
    return f"{_span(-_from_now(moment))} ago"


def ahead(moment: datetime | float) -> str:
    """Say in how long a moment is."""
    return f"in {_span(_from_now(moment))}"


def _from_now(moment: datetime | float) -> float:
    return (moment.timestamp() if isinstance(moment, datetime) else moment) - time.time()


def _span(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))


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
    if not is_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(map(printable, row)))
        return
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table

    out = console()
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = {column[0]: max(map(cell_len, column)) + GAP for column in zip(columns, *cells, strict=True)}
    for name in expendable:
        if sum(widths.values()) > out.width:
            del widths[name]
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for name in widths:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in widths))
    out.print(table)


def print_found(
    columns: Sequence[str],
    found: Iterable[T],
    row: Callable[[T], Sequence[str]],
    fields: Callable[[T], object],
    *,
    as_json: bool,
    expendable: Sequence[str] = (),
) -> None:
    """Print one after another: its fields in a line of JSON for programs, else its row of a table."""
    if as_json:
        for one in found:
            print_json(fields(one))
    else:
        print_table(columns, map(row, found), expendable=expendable)


@contextmanager
def progress(label: str, size: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar for as long as the block runs; what it gives is told how many bytes were read.

    With a `size` of None, as that of a pipe, it only moves. Nothing is shown without a terminal, or where it is
    to be `quiet`: so are the other bars.
    """
    with _bar("DownloadColumn", "TimeRemainingColumn", quiet=quiet) as bar:
        task = bar.add_task(label, total=size) if bar else None
        yield lambda count: bar.advance(task, count) if bar else None


@contextmanager
def steps(label: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of steps for as long as the block runs; what it gives is told how many, of how many, and a word."""
    with _bar("MofNCompleteColumn", "{task.fields[word]}", quiet=quiet) as bar:
        task = bar.add_task(label, total=None, word="") if bar else None
        yield lambda done, total, said: bar.update(task, completed=done, total=total, word=said) if bar else None


@contextmanager
def counting(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[bool], None]]:
    """Show a bar for as long as the block runs; what it gives is told of each that is done, and whether it went well.

    It tells how many went well, and how many are done in a second.
    """
    with _bar("MofNCompleteColumn", "{task.fields[good]} work, {task.fields[rate]}/s", quiet=quiet) as bar:
        task = bar.add_task(label, total=total, good=0, rate=0) if bar else None
        went_well = 0

        def advance(ok: bool) -> None:
            nonlocal went_well
            went_well += ok
            if bar:
                rate = round(bar.tasks[0].finished_speed or bar.tasks[0].speed or 0)
                bar.update(task, advance=1, good=went_well, rate=rate)

        yield advance


@contextmanager
def _bar(*columns: str, quiet: bool) -> Iterator[Any]:
    """Show a bar with these columns of rich, or texts, beside its label; None where nothing is to be shown."""
    if quiet or is_on("quiet") or is_on("no_color") or not is_terminal(stderr=True):
        yield None
        return
    from rich import progress as columns_of

    made = [
        columns_of.TextColumn(column, markup=False) if "{" in column else getattr(columns_of, column)()
        for column in ("{task.description}", "BarColumn", *columns)
    ]
    with columns_of.Progress(*made, console=console(stderr=True), transient=True) as bar:
        yield bar


def size_of(stream: BinaryIO) -> int | None:
    """Return the size of a file in bytes; None for a pipe and anything else that has none."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream that is no file of the system
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
