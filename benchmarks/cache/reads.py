"""What is read from below the first tier: each time beside a bare read of the same rows.

More keys are read in turn than L1 holds, so that each is found below and promoted. The credentials are there and
stay sealed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cache.bare import BareReader
from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import key_of, served_by
from benchmarks.measure import Figure, Side, compare
from proxywhirl.cache import CacheManager, CacheTierType

__all__ = ["measure_misses", "measure_reads"]

BARE_READ = "bare read of the row"
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
    """How much of the store the second tier holds."""


LAYOUTS = (
    Layout("l2_sqlite", "SQLite L2", CacheTierType.L2, SQLITE_WINDOW, get=3.0, get_many=1.5),
    Layout("l3", "SQLite L3, no L2", CacheTierType.L3, NO_WINDOW, get=3.0, get_many=1.5),
    Layout("l3_l2_jsonl", "SQLite L3, into a JSONL L2", CacheTierType.L3, JSONL_WINDOW, 3.0, 1.5, window=0.25),
    Layout("l3_l2_sqlite", "SQLite L3, into a SQLite L2", CacheTierType.L3, SQLITE_WINDOW, 3.0, 1.5, window=0.25),
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
    window = {"l2_config": {"max_entries": int(scale.store * layout.window)}}
    cache = {"l1_config": {"max_entries": scale.l1}} | window | layout.cache
    home.fill(range(scale.store), sealed=True, **cache)
    keys = [key_of(n, sealed=True) for n in range(scale.store)]
    random.Random(2).shuffle(keys)  # one order for all rounds: what was read last is furthest from being read again
    with home.open(**cache) as manager, BareReader.of(home) as bare:
        reference = Side(lambda: keys, bare.read)
        _get(manager, keys)  # from here on the windows hold what was read last, not what was put last
        with served_by(manager, layout.serves, insist=insist):
            compared = compare(reference, Side(lambda: keys, lambda wanted: _get(manager, wanted)), scale.rounds)
        yield Figure.ratio(f"get_{layout.name}", f"get, {layout.shown}", compared, BARE_READ, at_most=layout.get)
        with served_by(manager, layout.serves, insist=insist):
            ours = Side(lambda: keys, lambda wanted: _get_many(manager, wanted, scale.batch))
            compared = compare(reference, ours, scale.rounds)
        operation = f"get_many({scale.batch}), each, {layout.shown}"
        yield Figure.ratio(f"get_many_{layout.name}", operation, compared, BARE_READ, at_most=layout.get_many)


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
