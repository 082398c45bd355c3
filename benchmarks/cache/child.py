"""What needs a process of its own: opening a large store, and how much memory entries take. Prints JSON."""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
import tracemalloc
from itertools import islice
from pathlib import Path

from benchmarks.cache.homes import PAGE, Home, entry
from proxywhirl.cache import CacheManager
from proxywhirl.runtime import Runtime

STATUS = Path("/proc/self/statm")


def reopen(folder: str, key: str) -> dict[str, float]:
    """Open a store and get one entry, then open it again and load a pool from it; return seconds of each."""
    home = Home(Path(folder))
    config = home.settings().cache
    began = time.perf_counter()
    with CacheManager(config) as manager:
        if manager.get(key) is None:
            raise RuntimeError("the entry that was to be read is not there")
        first_get = time.perf_counter() - began
    began = time.perf_counter()
    with Runtime(home.settings()) as runtime:
        runtime.start()
        pool = time.perf_counter() - began
        loaded = len(runtime.pool)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first_get": first_get, "pool": pool, "loaded": loaded, "peak_megabytes": peak}


def memory(folder: str, count: str) -> dict[str, float]:
    """Hold entries in L1 with L3 below; return bytes each by the process's size and by tracemalloc."""
    sizes = []
    for n, traced in enumerate((False, True)):
        home = Home(Path(folder, str(n)))
        with home.open(l1_config={"max_entries": int(count)}, l2_config={"enabled": False}) as manager:
            _put(manager, range(PAGE))  # whatever is made once is made now
            if traced:
                tracemalloc.start()
            before = _held(traced=traced)
            _put(manager, range(PAGE, int(count)))
            sizes.append((_held(traced=traced) - before) / (int(count) - PAGE))
            if (held := manager.get_statistics().l1_stats.current_size) != int(count):
                raise RuntimeError(f"L1 holds {held} entries instead of {count}")
    return {"resident": sizes[0], "traced": sizes[1]}


def _put(manager: CacheManager, numbers: range) -> None:
    rest = iter(numbers)
    while page := [entry(n, sealed=True) for n in islice(rest, PAGE)]:
        manager.put_many(page)
        del page


def _held(*, traced: bool) -> float:
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps({"reopen": reopen, "memory": memory}[sys.argv[1]](*sys.argv[2:])))
