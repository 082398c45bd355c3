"""Bars that show on a terminal how far a command is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from proxywhirl.cli.render import is_on, moving, stderr


@contextlib.contextmanager
def progress(label: str, size: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar for as long as the block runs; what it gives is told how many bytes were read.

    With a `size` of None, as that of a pipe, it only moves. Nothing is shown without a terminal, or where it is
    to be `quiet`.
    """
    console = stderr()
    if quiet or is_on("quiet") or not moving(console):
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415  # a tenth of the time that a command takes to start
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=size)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def steps(label: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of steps for as long as the block runs; what it gives is told how many, of how many, and a word.

    Nothing is shown without a terminal, or where it is to be `quiet`.
    """
    console = stderr()
    if quiet or is_on("quiet") or not moving(console):
        yield lambda _done, _total, _word: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415  # as above

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    word = TextColumn("{task.fields[word]}", markup=False)
    with Progress(*columns, word, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None, word="")
        yield lambda done, total, said: bar.update(task, completed=done, total=total, word=said)


@contextlib.contextmanager
def counting(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[bool], None]]:
    """Show a bar for as long as the block runs; what it gives is told of each that is done, and whether it went well.

    It tells how many went well, and how many are done in a second.
    """
    console = stderr()
    if quiet or is_on("quiet") or not moving(console):
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415  # as above

    good = TextColumn("{task.fields[good]} work, {task.fields[rate]}/s", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), good)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, good=0, rate=0)
        went_well = 0

        def advance(ok: bool) -> None:
            nonlocal went_well
            went_well += ok
            rate = round(bar.tasks[0].finished_speed or bar.tasks[0].speed or 0)
            bar.update(task, advance=1, good=went_well, rate=rate)

        yield advance


def size_of(stream: BinaryIO) -> int | None:
    """Return the size of a file in bytes; None for a pipe and anything else that has none."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream that is no file of the system
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
