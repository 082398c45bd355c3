"""`proxywhirl import`: lists of proxies, or what `export` wrote, into the store."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from proxywhirl.cli.options import attribute_options, attributes_of, home_option, json_option, open_runtime, ttl_option
from proxywhirl.cli.render import note, print_json, stderr
from proxywhirl.errors import ListFormatError
from proxywhirl.runtime import Runtime
from proxywhirl.sources import Candidate, Ignored, parse_list
from proxywhirl.urls import SCHEMES

__all__ = ["import_lists"]

BATCH = 20_000
FOREVER = float("inf")
EXPORT_MARKS = (b"proxy_url", b"fetch_time")
SNIFFED = 4096


@dataclass(slots=True)
class Counts:
    """What became of the lines; `ignored` ones have not the shape of a proxy."""

    loaded: int = 0
    skipped: int = 0
    failed: int = 0
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class Choices:
    """What the options say of every proxy of an import."""

    scheme: str | None
    source: str | None
    ttl: float | None
    tags: tuple[str, ...]
    country: str | None


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="For lines that name none. [default: http]")
@click.option("--source", metavar="NAME", help="Where they come from. [default: the file's name]")
@ttl_option
@attribute_options
@json_option
@home_option
def import_lists(
    files: tuple[str, ...],
    scheme: str | None,
    source: str | None,
    ttl: float | None,
    tags: tuple[str, ...],
    country: str | None,
    as_json: bool,
    home: str | None,
) -> int:
    """Import lists of proxies: text in any spelling, JSON, JSON lines or CSV; - is stdin.

    The format is recognised by the content. A heading such as "# SOCKS5 Proxies" sets the scheme of the
    lines below it, before --scheme. What `proxywhirl export` wrote is read back whole.
    """
    choices = Choices(scheme, source, ttl, tags, country)
    counts = Counts()
    with contextlib.ExitStack() as stack:
        streams = [(name, stack.enter_context(_opened(name))) for name in files]
        runtime = stack.enter_context(open_runtime(home))
        for name, stream in streams:
            _import_one(runtime, name, stream, choices, counts, quiet=as_json)
    if as_json:
        print_json(asdict(counts))
    else:
        click.echo(
            f"loaded {counts.loaded}, skipped {counts.skipped} (known already), "
            f"failed {counts.failed}, ignored {counts.ignored} (no proxies)"
        )
    if counts.loaded or counts.skipped or not (counts.failed or counts.ignored):
        return 0
    note("proxywhirl: no proxy was found; lines look like host:port or scheme://user:password@host:port")
    return 1


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except OSError as exc:
            raise ListFormatError(f"{name} cannot be read: {exc.strerror}") from exc
        yield stream


def _import_one(
    runtime: Runtime, name: str, stream: BinaryIO, choices: Choices, counts: Counts, *, quiet: bool
) -> None:
    label = "stdin" if name == "-" else Path(name).name
    with _progress(stream, label, quiet=quiet) as watched:
        start = stream.peek(SNIFFED) if hasattr(stream, "peek") else b""
        if all(mark in start[:SNIFFED] for mark in EXPORT_MARKS):
            _import_export(runtime, watched, choices, counts)
            return
        items = parse_list(watched, scheme=choices.scheme or "http")
        try:
            while _import_batch(runtime, items, label, choices, counts):
                pass
        except ListFormatError as exc:
            raise ListFormatError(f"{label}: {exc}") from exc


def _import_batch(runtime: Runtime, items: Iterator[object], label: str, choices: Choices, counts: Counts) -> bool:
    """Take in the next lines, in one transaction; whether there were any."""
    offered = []
    seen = 0
    for item in islice(items, BATCH):
        seen += 1
        if isinstance(item, Candidate):
            offered.append((item.url, attributes_of(item.attributes, choices.tags, choices.country)))
        elif isinstance(item, Ignored):
            counts.ignored += 1
        else:
            counts.failed += 1
            note(f"{label}:{item.line}: {item.reason}")  # type: ignore[attr-defined]  # the only other item
    if offered:
        ttl = FOREVER if choices.ttl is None else choices.ttl
        merge = runtime.take_in(offered, source=choices.source or label, ttl=ttl)
        counts.loaded += merge.loaded
        counts.skipped += merge.skipped
    return seen > 0


def _import_export(runtime: Runtime, stream: IO[bytes], choices: Choices, counts: Counts) -> None:
    """Read an export back. It says itself where its entries come from and what they are."""
    if choices.scheme or choices.source or choices.tags or choices.country:
        raise click.UsageError("An export has its own sources, schemes, tags and countries: leave the options out.")
    with tempfile.TemporaryDirectory() as directory:  # made with mode 0700: the export may hold credentials
        path = Path(directory) / "export"
        with path.open("wb") as copy:
            while piece := stream.read(1 << 20):
                copy.write(piece)
        result = runtime.cache.warm_from_file(path, ttl_override=choices.ttl)
    counts.loaded += result["loaded"]
    counts.skipped += result["skipped"]
    counts.failed += result["failed"]
    if result["failed"]:
        note(f"{result['failed']} entries were damaged, or unknown here and exported without their credentials")


@contextlib.contextmanager
def _progress(stream: BinaryIO, label: str, *, quiet: bool) -> Iterator[IO[bytes]]:
    """Show how far a stream was read, on a terminal."""
    console = stderr()
    if quiet or not console.is_terminal:
        yield stream
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        total = Path(stream.name).stat().st_size if label != "stdin" else None
        with progress.wrap_file(stream, total=total, description=label) as watched:
            yield watched
