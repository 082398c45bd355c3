"""A hit in the first tier: beside cachetools, and from several threads beside one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from benchmarks.cache.bench import Bench
from benchmarks.cache.homes import key_of, served_by
from benchmarks.cache.peers import MissingPeerError, library
from benchmarks.measure import Figure, Side, compare, percentile
from proxywhirl.cache import CacheEntry, CacheTierType

__all__ = ["measure_hits"]

SAMPLE_EVERY = 8

Get = Callable[[str], CacheEntry | None]


def measure_hits(bench: Bench) -> Iterator[Figure]:
    """Measure `get` of entries that are in L1, with statistics, access tracking and the default tiers below."""
    scale, rng = bench.scale, random.Random(1)
    home = bench.home("hits")
    home.fill(range(scale.l1), sealed=True)
    keys = [key_of(n, sealed=True) for n in range(scale.l1)]

    def order() -> list[str]:
        return rng.choices(keys, k=scale.hits)

    with home.open(l1_config={"max_entries": scale.l1}) as manager:
        manager.get_many(keys)
        ours = Side(order, lambda wanted: _get_all(manager.get, wanted))
        with served_by(manager, CacheTierType.L1):
            try:
                lru = library("cachetools").LRUCache(scale.l1)
            except MissingPeerError:
                if not scale.small:
                    raise
                lru = {}  # the smoke test of the suite runs without the peers
            lru.update(dict.fromkeys(keys, True))
            reference = Side(order, lambda wanted: _get_all(lru.get, wanted))
            compared = compare(reference, ours, scale.rounds)
            yield Figure.ratio("hit", "get, hit in L1", compared, "cachetools LRUCache get", at_most=6.0)
            alone = Side(lambda: [order()], lambda orders: _in_threads(manager.get, orders))
            crowd = Side(lambda: _shares(order(), scale.threads), lambda orders: _in_threads(manager.get, orders))
            yield _crowded(alone, crowd, scale.hits, scale.threads, scale.rounds)
            samples = list(chain.from_iterable(_sampled(manager.get, _shares(order() * scale.rounds, scale.threads))))
        slowest = percentile(samples, 0.99)
        operation = f"get, hit in L1, {scale.threads} threads, 99 of 100 calls"
        yield Figure("hit_threads_p99", operation, slowest, "µs", cost=slowest, at_most=10.0)


def _crowded(alone: Side[list[str]], crowd: Side[list[str]], hits: int, threads: int, rounds: int) -> Figure:
    """Compare the cost of a call where several threads make the calls with that where one makes them all."""
    compared = compare(alone, crowd, rounds)  # per list of keys: one list alone, a share of it for each thread
    return Figure(
        "hit_threads",
        f"get, hit in L1, {threads} threads",
        compared.ratio * threads,
        "times",
        cost=compared.ours * threads / hits,
        reference="the same from one thread",
        reference_cost=compared.reference / hits,
        at_most=1.5,
    )


def _shares(order: list[str], threads: int) -> list[list[str]]:
    return [order[n::threads] for n in range(threads)]


def _get_all(get: Get, keys: Sequence[str]) -> None:
    for key in keys:
        get(key)


def _in_threads(get: Get, orders: Sequence[Sequence[str]]) -> None:
    threads = [threading.Thread(target=_get_all, args=(get, order)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _sampled(get: Get, orders: Sequence[Sequence[str]]) -> list[list[float]]:
    """Let a thread work through each order; return microseconds of every `SAMPLE_EVERY`th call of each."""
    samples: list[list[float]] = [[] for _ in orders]

    def work(order: Sequence[str], into: list[float]) -> None:
        clock = time.perf_counter_ns
        for n, key in enumerate(order):
            if n % SAMPLE_EVERY:
                get(key)
                continue
            began = clock()
            get(key)
            into.append((clock() - began) / 1000)

    threads = [threading.Thread(target=work, args=each) for each in zip(orders, samples, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return samples
