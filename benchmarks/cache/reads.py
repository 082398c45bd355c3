"""What is read from below the first tier: each time beside a bare read of the same rows.

More keys are read in turn than L1 holds, so that each is found below and promoted. The credentials are there and
stay sealed.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cache.bare import BareReader, BareWindow
from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import key_of, served_by
from benchmarks.measure import Figure, Side, compare
from proxywhirl.cache import CacheManager, CacheTierType

__all__ = ["measure_misses", "measure_reads"]

BARE_READ = "bare read of the row"
HANDED_ON = "bare read, written on"
JSONL_WINDOW = {"l2_backend": "jsonl"}
SQLITE_WINDOW = {"l2_backend": "sqlite"}
NO_WINDOW = {"l2_config": {"enabled": False}}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tiers there are, which of them serves, and the limits (times a bare read) where the project has set one."""

    name: str
    shown: str
    serves: CacheTierType
    cache: dict[str, Any]
    get: float
    get_many: float | None
    window: float = 1.0
    """How much of the store the second tier holds: below 1, what is served by the third is written into it."""


LAYOUTS = (
    Layout("l2_sqlite", "SQLite L2", CacheTierType.L2, SQLITE_WINDOW, get=3.0, get_many=1.5),
    Layout("l3", "SQLite L3, no L2", CacheTierType.L3, NO_WINDOW, get=3.0, get_many=1.5),
    Layout("l3_l2_jsonl", "SQLite L3, into a JSONL L2", CacheTierType.L3, JSONL_WINDOW, 3.0, None, window=0.25),
    Layout("l3_l2_sqlite", "SQLite L3, into a SQLite L2", CacheTierType.L3, SQLITE_WINDOW, 3.0, None, window=0.25),
    Layout("l2_jsonl", "JSONL L2", CacheTierType.L2, JSONL_WINDOW, get=4.0, get_many=None),
)


def measure_reads(bench: Bench) -> Iterator[Figure]:
    """Measure `get` and `get_many` of entries that are below L1."""
    for layout in LAYOUTS:
        yield from _read(bench, layout)


def _read(bench: Bench, layout: Layout) -> Iterator[Figure]:
    scale = bench.scale
    home = bench.home(layout.name)
    insist = layout.window >= 1.0 or not scale.small
    bound = int(scale.store * layout.window)
    cache: dict[str, Any] = {"l1_config": {"max_entries": scale.l1}, "l2_config": {"max_entries": bound}} | layout.cache
    if layout.window < 1.0:  # a flush in between would keep what is read from being written on
        cache["flush_interval_seconds"] = 3600
    home.fill(range(scale.store), sealed=True, **cache)
    keys = [key_of(n, sealed=True) for n in range(scale.store)]
    random.Random(2).shuffle(keys)  # one order for all rounds: what was read last is furthest from being read again
    with home.open(**cache) as manager, BareReader.of(home) as bare, contextlib.ExitStack() as opened:
        reference, beside = Side(lambda: keys, bare.read), BARE_READ
        if layout.window < 1.0:
            window = BareWindow(home, home.folder / "bare", backend=layout.cache["l2_backend"], bound=bound)
            opened.callback(window.close)
            reference, beside = (
                Side(lambda: keys, lambda wanted: bare.read_into(window, wanted, scale.batch)),
                HANDED_ON,
            )
        _get(manager, keys)  # from here on the windows hold what was read last, not what was put last
        with served_by(manager, layout.serves, insist=insist):
            compared = compare(reference, Side(lambda: keys, lambda wanted: _get(manager, wanted)), scale.rounds)
        yield Figure.ratio(f"get_{layout.name}", f"get, {layout.shown}", compared, beside, at_most=layout.get)
        with served_by(manager, layout.serves, insist=insist):
            ours = Side(lambda: keys, lambda wanted: _get_many(manager, wanted, scale.batch))
            compared = compare(reference, ours, scale.rounds)
        operation = f"get_many({scale.batch}), each, {layout.shown}"
        yield Figure.ratio(f"get_many_{layout.name}", operation, compared, beside, at_most=layout.get_many)


def measure_misses(bench: Bench) -> Iterator[Figure]:
    """Measure `get` of keys that no tier holds."""
    scale = bench.scale
    absent = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(scale.reads)]
    keys = [key_of(n, sealed=True) for n in range(scale.store)]
    for backend, shown in (("jsonl", "JSONL"), ("sqlite", "SQLite")):
        home = bench.home(f"misses-{backend}")
        home.fill(range(scale.store), sealed=True, l2_backend=backend)
        with home.open(l2_backend=backend) as manager, BareReader.of(home) as bare, served_by(manager, None):
            ours = Side(lambda: absent, lambda wanted: _get(manager, wanted))
            compared = compare(Side(lambda: keys, bare.read), ours, scale.rounds)
        operation = f"get, in no tier, {shown} L2"
        yield Figure.ratio(f"miss_{backend}", operation, compared, BARE_READ, at_most=2.5)


def _get(manager: CacheManager, keys: Sequence[str]) -> None:
    get = manager.get
    for key in keys:
        get(key)


def _get_many(manager: CacheManager, keys: Sequence[str], batch: int) -> None:
    for at in range(0, len(keys), batch):
        manager.get_many(keys[at : at + batch])
