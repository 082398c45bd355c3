"""`proxywhirl import`: take lists of proxies, or files of `export`, into the store; `export`: write it to a file."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import click

from proxywhirl.cache.maintenance.transfer import export_entries, write_entries
from proxywhirl.cache.models import TierStatistics
from proxywhirl.cache.opening import enabled_tiers
from proxywhirl.cli.options import (
    TEXT,
    Said,
    attribute_options,
    home_option,
    json_option,
    open_runtime,
    open_to_write,
    ttl_option,
)
from proxywhirl.cli.output import note, printable, progress, size_of, tell, warn
from proxywhirl.errors import ListFormatError, ProxyWhirlError
from proxywhirl.runtime import Runtime
from proxywhirl.sources import Candidate, Ignored, Item, Rejected, parse_list
from proxywhirl.urls import SCHEMES

BATCH = 50_000
COLLECT_AFTER = 50_000
EXPORT_MARKS = (b"proxy_url", b"fetch_time")
SNIFFED = 4096
FORMATS = ("jsonl", "json", "csv")


class Rewound:
    """A stream whose beginning was read before, and is read once more; `tell` is told of the bytes that it gives."""

    def __init__(self, start: bytes, rest: BinaryIO, tell: Callable[[int], None]) -> None:
        self._start = start
        self._rest = rest
        self._tell = tell

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        piece, self._start = self._start[:size], self._start[size:]
        piece = piece or self._rest.read(size)
        self._tell(len(piece))
        return piece


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="For lines that name none. [default: http]")
@click.option("--source", metavar="NAME", type=TEXT, help="Where they come from. [default: the file's name]")
@ttl_option
@attribute_options
@json_option
@home_option
def import_lists(
    files: tuple[str, ...],
    scheme: str | None,
    source: str | None,
    ttl: float | None,
    said: Said,
    as_json: bool,
    home: str | None,
) -> int:
    """Import lists of proxies; - is stdin.

    They are text in any spelling, JSON, JSON lines, CSV, web pages, or any of these in base64; the format is
    recognised by the content. A heading such as "# SOCKS5 Proxies" sets the scheme of the lines below it, before
    --scheme. What `proxywhirl export` wrote is read back whole.
    """
    with contextlib.ExitStack() as stack:
        streams = [(name, stack.enter_context(_opened(name))) for name in files]
        runtime = stack.enter_context(open_to_write(home))
        stack.enter_context(_rare_collections())
        intake = Import(runtime, scheme, source, ttl, said, as_json)
        before = _let_go(runtime)
        try:
            for name, stream in streams:
                intake.read(name, stream)
        except ProxyWhirlError:
            if any(intake.counts.values()):
                intake.tell(0)
            raise
        let_go = _let_go(runtime) - before
    intake.tell(let_go)
    counts = intake.counts
    return 0 if counts["loaded"] or counts["skipped"] or not (counts["failed"] or counts["ignored"]) else 1


@dataclass(slots=True)
class Import:
    """The options for every proxy, and the counts of lines; ignored ones do not have the shape of a proxy."""

    runtime: Runtime
    scheme: str | None
    source: str | None
    ttl: float | None
    said: Said
    as_json: bool
    counts: Counter[str] = field(default_factory=Counter)

    def read(self, name: str, stream: BinaryIO) -> None:
        """Take in a list, or an export, which is recognised by how it begins."""
        label = "stdin" if name == "-" else printable(Path(name).name)
        start = _start_of(stream)
        is_export = all(mark in start for mark in EXPORT_MARKS)
        with progress(label, None if is_export else size_of(stream), quiet=self.as_json) as tell:
            rewound = Rewound(start, stream, tell)
            try:
                if is_export:
                    self._take_export(label, name, rewound)
                    return
                for batch in _batches(parse_list(rewound, scheme=self.scheme or "http")):
                    self._take_batch(label, batch)
            except ListFormatError as exc:
                raise ListFormatError(f"{label}: {exc}") from exc

    def _take_batch(self, label: str, batch: list[Item]) -> None:
        """Take in some lines, in one transaction."""
        offered = []
        for item in batch:
            match item:
                case Candidate():
                    offered.append((item.url, self.said.of(item.attributes)))
                case Rejected():
                    self.counts["failed"] += 1
                    warn(f"{label}:{item.line}: {item.reason}")
                case Ignored():
                    self.counts["ignored"] += 1
        if offered:
            ttl = math.inf if self.ttl is None else self.ttl
            self.counts.update(asdict(self.runtime.take_in(offered, source=self.source or label, ttl=ttl)))

    def _take_export(self, label: str, name: str, stream: Rewound) -> None:
        """Read an export back. It says itself where its entries come from and what they are."""
        if self.scheme or self.source or self.said != Said():
            raise click.UsageError(
                f"{label} is an export, with sources, schemes, tags and countries of its own: leave these options out."
            )
        try:
            with _as_file(name, stream) as path:
                intake = self.runtime.restore(path, ttl=self.ttl)
        except ListFormatError as exc:
            raise ListFormatError("it looks like what `proxywhirl export` writes, but no entry can be read") from exc
        if intake.failed:
            warn(f"{label}: {intake.failed} not taken in: damaged, or new here and exported without the credentials")
        self.counts.update(asdict(intake))

    def tell(self, let_go: int) -> None:
        """Say what became of the lines, and how many entries left the store for want of room."""
        counts = self.counts
        told = {name: counts[name] for name in ("loaded", "skipped", "failed", "ignored")}
        words = (
            f"loaded {counts['loaded']}, skipped {counts['skipped']} (known already), "
            f"failed {counts['failed']}, ignored {counts['ignored']} (no proxies)"
        )
        tell(told | ({"let_go": let_go} if let_go else {}), words, as_json=self.as_json)
        if let_go:
            warn(f"{let_go} entries were let go for want of room and are not in the store")
        if counts["blocked"]:
            back = "were removed before and stay out; `proxywhirl add` lets one in again"
            note(f"{counts['blocked']} of those skipped {back}")
        if not (counts["loaded"] or counts["skipped"]) and (counts["failed"] or counts["ignored"]):
            warn("proxywhirl: no proxy was found; lines look like host:port or scheme://user:password@host:port")


def _let_go(runtime: Runtime) -> int:
    """Return how many entries left the lowest tier for want of room since the store was opened."""
    lowest = enabled_tiers(runtime.settings.cache)[-1:]
    stats: TierStatistics = getattr(runtime.cache.get_statistics(), f"{lowest[0] if lowest else 'l1'}_stats")
    return stats.evictions_lru


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector look less often: lines become many values and no cycles (a sixth of the time)."""
    thresholds = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except (OSError, ValueError) as exc:  # the latter: a name with a null character
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise ListFormatError(f"{printable(name)} cannot be read: {reason}") from exc
        yield stream


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Gather items; those before a damage are not lost by it."""
    batch: list[Item] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except ListFormatError:
        yield batch
        raise
    yield batch


def _start_of(stream: BinaryIO) -> bytes:
    """Read enough to tell an export from a list; a pipe may give one byte at a time."""
    start = b""
    while len(start) < SNIFFED and (more := stream.read(SNIFFED - len(start))):
        start += more
    return start


@contextlib.contextmanager
def _as_file(name: str, stream: Rewound) -> Iterator[Path]:
    """Give a path to what a stream holds, since an export is read from a file; a pipe is copied."""
    if name != "-" and Path(name).is_file():
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as directory:  # made with mode 0700: an export may hold credentials
        path = Path(directory) / "export"
        with path.open("wb") as copy:
            while piece := stream.read(1 << 20):
                copy.write(piece)
        yield path


@click.command()
@click.argument("file", metavar="[FILE]", default="-")
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: by the file's ending, else jsonl]")
@click.option("--with-credentials", is_flag=True, help="Write usernames and passwords in the clear.")
@home_option
def export(file: str, form: str | None, with_credentials: bool, home: str | None) -> None:
    """Write the store to a file or stdout.

    Entries out of service are included. The file has mode 0600, and `import` reads it back. Without --with-credentials
    it holds no secret, and importing it over the store keeps the stored ones.
    """
    ending = Path(file).suffix.lower().removeprefix(".")
    chosen = form or (ending if ending in FORMATS else "jsonl")
    with open_runtime(home) as runtime:
        entries = runtime.cache.scan(retired=None)
        if file == "-":
            count = write_entries(entries, sys.stdout, f".{chosen}", with_credentials=with_credentials)
        else:
            count = export_entries(entries, Path(file), suffix=f".{chosen}", with_credentials=with_credentials)
    note(f"exported {count}" + ("" if with_credentials else ", without credentials"))
