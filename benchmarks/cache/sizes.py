"""How the cost of reading and writing grows with the size of the store: it must hardly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from benchmarks.cache.bare import BareReader
from benchmarks.cache.bench import Bench, Scale
from benchmarks.cache.homes import entry, key_of, mixed, served_by
from benchmarks.measure import Figure, Side, cost
from proxywhirl.cache import CacheEntry, CacheManager, CacheTierType

__all__ = ["measure_sizes"]

TURNS = 2
"""So many turns pass before a key comes again: the second tier has forgotten it by then."""


class Store:
    """An open store of one size. Its keys are asked for in a random order, each once before any comes again."""

    def __init__(self, size: int, manager: CacheManager, bare: BareReader, reads: int, writes: int) -> None:
        rng = random.Random(size)
        self._numbers = rng.sample(range(size), min(size, reads * TURNS))
        self._at = 0
        self._reads = reads
        self.size = size
        self.manager = manager
        self.bare = Side(self._keys, bare.read)
        self.get = Side(self._keys, self._get)
        self.put = Side(lambda: self._entries(rng.sample(range(size), writes)), self._put)

    def _keys(self) -> list[str]:
        numbers = [self._numbers[(self._at + n) % len(self._numbers)] for n in range(self._reads)]
        return [key_of(n, sealed=mixed(n)) for n in numbers]

    def _entries(self, numbers: Sequence[int]) -> list[CacheEntry]:
        return [entry(n, sealed=mixed(n)) for n in numbers]

    def _get(self, keys: Sequence[str]) -> None:
        self._at += len(keys)
        for key in keys:
            self.manager.get(key)

    def _put(self, entries: Sequence[CacheEntry]) -> None:
        for each in entries:
            self.manager.put(each.key, each)


def measure_sizes(bench: Bench) -> Iterator[Figure]:
    """Measure `get` from L3 and `put` in stores of three sizes, in turns; compare the largest with the smallest."""
    scale = bench.scale
    reads = scale.sizes[0] // TURNS
    with ExitStack() as opened:
        stores = []
        for size, home in bench.stores.items():
            manager = opened.enter_context(home.open(**bench.windows))
            bare = opened.enter_context(BareReader.of(home))
            stores.append(Store(size, manager, bare, reads, scale.writes))
        medians = [
            (*reading, writing)
            for reading, writing in zip(_read(stores, scale), _write(stores, scale.rounds), strict=True)
        ]
    for store, (bare_cost, get_cost, put_cost) in zip(stores, medians, strict=True):
        bench.curve.append({"entries": store.size, "bare read": bare_cost, "get": get_cost, "put": put_cost})
    small, large = bench.curve[0], bench.curve[-1]
    for name, limit in (("bare read", None), ("get", 2.0), ("put", 2.0)):
        yield Figure(
            f"size_{name.replace(' ', '_')}",
            f"{name}, {int(large['entries']):,} entries",
            large[name] / small[name],
            "times",
            cost=large[name],
            reference=f"the same with {int(small['entries']):,}",
            reference_cost=small[name],
            at_most=limit,
        )


def _read(stores: Sequence[Store], scale: Scale) -> list[tuple[float, float]]:
    """Return microseconds of a bare read and of a `get` for each store."""
    for store in stores:
        cost(store.get)  # from here on the windows hold what was read last
    costs: list[list[tuple[float, float]]] = [[] for _ in stores]
    for _ in range(scale.rounds):
        for store, taken in zip(stores, costs, strict=True):
            bare = cost(store.bare)
            with served_by(store.manager, CacheTierType.L3, insist=not scale.small):
                taken.append((bare, cost(store.get)))
    return [(median(bare for bare, _ in taken), median(get for _, get in taken)) for taken in costs]


def _write(stores: Sequence[Store], rounds: int) -> list[float]:
    """Return microseconds of a `put` for each store."""
    turns = [[cost(store.put) for store in stores] for _ in range(rounds + 1)]
    return [median(costs) for costs in zip(*turns[1:], strict=True)]
