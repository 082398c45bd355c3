"""What writing costs, acknowledged by the authority, beside the least that a durable write of a sealed row costs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count

from benchmarks.cache.bare import BareWriter
from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import entry, key_of
from benchmarks.measure import Figure, Side, compare
from proxywhirl.cache import CacheEntry, CacheManager

__all__ = ["measure_batches", "measure_puts"]

# The backend, how a message names it, what the peer does beside its commit, the floor, and what the peer reached
# where the floor was set (both per second).
PUTS = (
    ("jsonl", "JSONL", "append", "commit and append, sealed", 5_000, 11_600),
    ("sqlite", "SQLite", "commit", "two commits, sealed", 4_000, 6_900),
)
BATCHES = ((False, "without credentials", 40_000), (True, "a credential each", 20_000))
BATCHES_PER_TURN = 4


class Newcomers:
    """What a turn puts: entries of which every second is known already, and the same for the bare writer."""

    def __init__(self, known: int, size: int, *, sealed: bool) -> None:
        self._rng = random.Random(3)
        self._known, self._size, self._sealed = known, size, sealed
        self._fresh = count(known)

    def _numbers(self) -> list[int]:
        return [self._rng.randrange(self._known) if n % 2 else next(self._fresh) for n in range(self._size)]

    def entries(self) -> list[CacheEntry]:
        """Return the entries of a turn."""
        return [entry(n, sealed=self._sealed) for n in self._numbers()]

    def rows(self) -> list[tuple[str, tuple[str, str] | None]]:
        """Return keys and credentials of a turn."""
        credential = ("customer-session-1234", "secret-1234567") if self._sealed else None
        return [(key_of(n, sealed=self._sealed), credential) for n in self._numbers()]


def measure_puts(bench: Bench) -> Iterator[Figure]:
    """Measure `put`, one entry at a time, into stores whose second tier holds as much as the third and is full."""
    scale = bench.scale
    for backend, shown, second, peer, floor, peer_then in PUTS:
        slowdown = 1.0
        for size in (scale.store, scale.large_store):
            home = bench.home(f"puts-{backend}-{size}")
            cache = {"l2_backend": backend, "l2_config": {"max_entries": size}}
            home.fill(range(size), sealed=True, **cache)
            puts = Newcomers(size, scale.writes, sealed=True)
            bare = BareWriter(home, bench.folder / f"bare-{backend}-{size}", second=second)
            with home.open(**cache) as manager, closing(bare):
                ours = Side(puts.entries, partial(_put, manager))
                compared = compare(Side(puts.rows, bare.put), ours, scale.rounds)
            if size == scale.store:  # a large store slows the peer too, which is no fault of the machine
                slowdown = min(1.0, 1e6 / compared.reference / peer_then)
            yield Figure(
                f"put_{backend}_{size}",
                f"put, {shown} L2, {size:,} entries",
                1e6 / compared.ours,
                "/s",
                cost=compared.ours,
                reference=peer,
                reference_cost=compared.reference,
                at_least=floor,
                slowdown=slowdown,
            )


def measure_batches(bench: Bench) -> Iterator[Figure]:
    """Measure `put_many`, per entry, into a home with the default tiers."""
    scale = bench.scale
    for sealed, shown, floor in BATCHES:
        name = "put_many_sealed" if sealed else "put_many"
        home = bench.home(name)
        home.fill(range(scale.store), sealed=sealed)
        puts = Newcomers(scale.store, scale.batch * BATCHES_PER_TURN, sealed=sealed)
        bare = BareWriter(home, bench.folder / f"bare-{name}", second="append")
        with home.open() as manager, closing(bare):
            ours = Side(puts.entries, partial(_put_many, manager, scale.batch))
            theirs = Side(puts.rows, partial(_bare_put_many, bare, scale.batch))
            compared = compare(theirs, ours, scale.rounds)
        yield Figure(
            name,
            f"put_many({scale.batch}), each, {shown}",
            1e6 / compared.ours,
            "/s",
            cost=compared.ours,
            reference="the same rows, committed and appended at once",
            reference_cost=compared.reference,
            at_least=floor,
        )


def _put(manager: CacheManager, entries: Sequence[CacheEntry]) -> None:
    for each in entries:
        if not manager.put(each.key, each):
            raise RuntimeError("a put was not acknowledged")


def _put_many(manager: CacheManager, batch: int, entries: Sequence[CacheEntry]) -> None:
    for at in range(0, len(entries), batch):
        if not manager.put_many(entries[at : at + batch]):
            raise RuntimeError("a batch was not acknowledged")


def _bare_put_many(bare: BareWriter, batch: int, rows: Sequence[tuple[str, tuple[str, str] | None]]) -> None:
    for at in range(0, len(rows), batch):
        bare.put_many(rows[at : at + batch])
