"""The libraries that a cache in Python is compared with: cachetools in memory, diskcache on disk."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from typing import Any

from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import entry, key_of
from benchmarks.measure import Figure, Side, compare

__all__ = ["MissingPeerError", "library", "measure_peers"]

Values = Sequence[tuple[str, Any]]


class MissingPeerError(RuntimeError):
    """A library to compare with is not installed."""


def library(name: str) -> Any:
    """Import a library of the group `bench`.

    Raises:
        MissingPeerError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise MissingPeerError(f"{name} is not installed: `make bench` does it") from exc


def measure_peers(bench: Bench) -> Iterator[Figure]:
    """Compare reading and writing one entry with the peers' get and set of the same values."""
    scale, rng = bench.scale, random.Random(4)
    cachetools, diskcache = library("cachetools"), library("diskcache")
    home = bench.home("peers")
    home.fill(range(scale.store), sealed=False)
    keys = [key_of(n, sealed=False) for n in range(scale.store)]
    plain = {key: entry(n, sealed=False).model_dump(mode="json") for n, key in enumerate(keys)}
    lru = cachetools.LRUCache(scale.store)
    fresh = count(scale.store)

    def some_keys() -> list[str]:
        return rng.sample(keys, scale.reads)

    def new_entries() -> list[Any]:
        return [entry(next(fresh), sealed=False) for _ in range(scale.writes)]

    def new_values() -> list[tuple[str, Any]]:
        return [(key_of(next(fresh), sealed=False), plain[keys[0]]) for _ in range(scale.writes)]

    with closing(diskcache.Cache(str(bench.folder / "diskcache"))) as disk:
        for key, value in plain.items():
            disk.set(key, value)
        with home.open(l2_config={"enabled": False}) as manager:
            compared = compare(_gets(some_keys, disk.get), _gets(some_keys, manager.get), scale.rounds)
            yield Figure.ratio("peer_disk_get", "get, SQLite L3, beside diskcache", compared, "diskcache get")
        with home.open() as manager:
            ours = Side(new_entries, lambda entries: [manager.put(each.key, each) for each in entries])
            compared = compare(_sets(new_values, disk.set), ours, scale.rounds)
            yield Figure.ratio("peer_disk_put", "put, JSONL L2, beside diskcache", compared, "diskcache set")
    off = {"enabled": False}
    with home.open(l1_config={"max_entries": scale.store}, l2_config=off, l3_config=off) as manager:
        ours = Side(new_entries, lambda entries: [manager.put(each.key, each) for each in entries])
        compared = compare(_sets(new_values, lru.__setitem__), ours, scale.rounds)
        yield Figure.ratio("peer_memory_put", "put, in memory alone, beside cachetools", compared, "LRUCache set")


def _gets(prepare: Any, get: Any) -> Side[str]:
    def run(keys: Sequence[str]) -> None:
        for key in keys:
            if get(key) is None:
                raise RuntimeError("a key that was to be read is not there")

    return Side(prepare, run)


def _sets(prepare: Any, put: Any) -> Side[tuple[str, Any]]:
    def run(values: Values) -> None:
        for key, value in values:
            put(key, value)

    return Side(prepare, run)
