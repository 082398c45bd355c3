"""How far one action goes: in how many files of the package it runs, and how many calls it makes there.

`sys.setprofile` records each entry into a function whose code is in the package (`proxywhirl.testing` apart), in the
thread that acts: also a comprehension of its own frame, and each time that a generator or coroutine goes on. What the
cache and the runtime do in threads of their own is not recorded; the runtime's feeding is called here instead. The
clock stands still while an action runs, so that no timer adds to it.

Each action is done once before, so that nothing is opened or imported for the first time, and then nine times with
other proxies. The middle one of these is shown: into how many pieces the network cuts what it carries is chance.

A limit is what `tests/unit/test_routes.py` holds an action to, an aim is where it is to come. Run it with `make bench`;
it prints a table, writes `benchmarks/results/routes.json`, and ends with 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import FrameType
from typing import Any

import proxywhirl
from benchmarks.conditions import conditions
from proxywhirl import (
    Attributes,
    Blame,
    CacheConfig,
    CacheEntry,
    CacheManager,
    Gateway,
    GatewayOptions,
    Lease,
    Outcome,
    Pool,
    Target,
)
from proxywhirl.events import EventBus
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.sources import Candidate, parse_list
from proxywhirl.testing import FleetSpec, ManualClock, running_fleet

__all__ = ["ROUTES", "Length", "Route", "measure"]

RESULTS = Path(__file__).parent / "results" / "routes.json"
PACKAGE = str(Path(proxywhirl.__file__).parent) + os.sep
LEFT_OUT = PACKAGE + "testing" + os.sep
TURNS = 9
PROXIES = 20
FLUSH_SECONDS = 6.0  # after so long, what was reported is due to be written
SITE = Target("https", "shop.example", 443)

Actions = Generator[Callable[[], object]]


@dataclass(slots=True)
class Length:
    """How far an action went: the package's files that it entered, and how often it entered a function."""

    files: set[str] = field(default_factory=set)
    calls: int = 0

    def record(self, action: Callable[[], object]) -> None:
        """Do the action and count."""
        sys.setprofile(self._count)
        try:
            action()
        finally:
            sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and not name.startswith(LEFT_OUT):
            self.calls += 1
            self.files.add(name.removeprefix(PACKAGE))


@dataclass(frozen=True, slots=True)
class Route:
    """One action: what makes it ready again and again, its limits and its aims, each as files and calls."""

    name: str
    actions: Callable[[Path], Actions]
    limit: tuple[int, int]
    aim: tuple[int, int]


def measure(route: Route, folder: Path) -> Length:
    """Warm up and return the middle one of some turns; `folder` is empty."""
    actions = route.actions(folder)
    next(actions)()
    lengths = []
    for action in islice(actions, TURNS):
        lengths.append(Length())
        lengths[-1].record(action)
    actions.close()
    return sorted(lengths, key=lambda length: (length.calls, len(length.files)))[TURNS // 2]


def _config(folder: Path) -> CacheConfig:
    """Return the default configuration, with its files in a folder."""
    return CacheConfig(
        l2_cache_dir=str(folder / "cache"), l3_database_path=str(folder / "db"), key_file=str(folder / "key")
    )


def _entry(number: int, clock: ManualClock) -> CacheEntry:
    """Make an entry with a credential."""
    key = CacheManager.generate_cache_key(f"http://user@192.0.2.{number}:8080")
    return CacheEntry(
        key=key,
        proxy_url=f"http://192.0.2.{number}:8080",
        username="user",
        password="s3cret",
        source="here",
        fetch_time=datetime.fromtimestamp(clock.now(), UTC),
        ttl_seconds=3_600,
    )


def _line(number: int) -> bytes:
    return f"http://user:s3cret@192.0.2.{number}:8080\n".encode()


def opening(folder: Path) -> Actions:
    """Make a `CacheManager` on an empty folder, with all three tiers."""
    opened: list[CacheManager] = []

    def open_one(config: CacheConfig) -> None:
        opened.append(CacheManager(config, clock=ManualClock()))

    for number in count():
        try:
            yield partial(open_one, _config(folder / str(number)))
        finally:
            opened.pop().close()


def getting(folder: Path) -> Actions:
    """Get an entry that is in L1."""
    clock = ManualClock()
    with CacheManager(_config(folder), clock=clock) as cache:
        entry = _entry(1, clock)
        cache.put(entry.key, entry)
        while True:
            yield partial(cache.get, entry.key)


def getting_from_l2(folder: Path) -> Actions:
    """Get an entry with a credential that is in L2 and not in L1, after a restart."""
    clock = ManualClock()
    entries = [_entry(number, clock) for number in range(PROXIES)]
    with CacheManager(_config(folder), clock=clock) as cache:
        cache.put_many(entries)
    with CacheManager(_config(folder), clock=clock) as cache:
        for served, entry in enumerate(entries, 1):
            yield partial(cache.get, entry.key)
            if cache.get_statistics().l2_stats.hits != served:
                raise RuntimeError("another tier than L2 has served")


def putting(folder: Path) -> Actions:
    """Put a new entry with a credential."""
    clock = ManualClock()
    with CacheManager(_config(folder), clock=clock) as cache:
        for number in count():
            entry = _entry(number, clock)
            yield partial(cache.put, entry.key, entry)


def deleting(folder: Path) -> Actions:
    """Delete one entry, which is in every tier."""
    clock = ManualClock()
    entries = [_entry(number, clock) for number in range(PROXIES)]
    with CacheManager(_config(folder), clock=clock) as cache:
        cache.put_many(entries)
        for entry in entries:
            yield partial(cache.delete, entry.key)


def importing(folder: Path) -> Actions:
    """Parse a line with a credential and take in what it names, as `proxywhirl import` does."""
    with Runtime(Settings.load(folder), clock=ManualClock()) as runtime:

        def take_in(line: bytes) -> None:
            items = parse_list(io.BytesIO(line))
            proxies = [(item.url, Attributes()) for item in items if isinstance(item, Candidate)]
            runtime.take_in(proxies, source="here", ttl=math.inf)

        for number in count():
            yield partial(take_in, _line(number))


def choosing(_folder: Path) -> Actions:
    """Choose a proxy for a site, with the strategy `bandit`."""
    pool = Pool.of([_line(number).decode() for number in range(PROXIES)], "bandit", clock=ManualClock())
    yield from _leasing(pool, ({} for _ in count()))


def reporting(_folder: Path) -> Actions:
    """Report that a proxy has served a site which never refused anybody, with the strategy `bandit`."""
    pool = Pool.of([_line(number).decode() for number in range(PROXIES)], "bandit", clock=ManualClock())
    while True:
        yield partial(pool.acquire(SITE).report, Outcome(True, latency=0.2, status=200))


def _filled(folder: Path, clock: ManualClock) -> Runtime:
    """Return a runtime on a home, whose pool has proxies."""
    settings = Settings.load(folder, overrides={"pool": {"strategy": "round_robin"}})  # none is chosen twice
    runtime = Runtime(settings, clock=clock)
    items = parse_list(io.BytesIO(b"".join(map(_line, range(PROXIES)))))
    proxies = [(item.url, Attributes()) for item in items if isinstance(item, Candidate)]
    runtime.take_in(proxies, source="here", ttl=math.inf)
    runtime.feed()
    return runtime


def beginning_a_session(folder: Path) -> Actions:
    """Choose a proxy for a new session, in a pool of a home, which other processes share."""
    with _filled(folder, ManualClock()) as runtime:
        yield from _leasing(runtime.pool, ({"session": f"session {number}"} for number in count()))


def _leasing(pool: Pool, wishes: Iterable[dict[str, str]]) -> Actions:
    leases: list[Lease] = []

    def acquire(wish: dict[str, Any]) -> None:
        leases.append(pool.acquire(SITE, **wish))

    for wish in wishes:
        yield partial(acquire, wish)
        leases.pop().release()


def failing(folder: Path) -> Actions:
    """Report a failure of the proxy, and feed the cache, the history of checks, the pool and what is known of sites."""
    clock = ManualClock()
    with _filled(folder, clock) as runtime:

        def fail(lease: Lease) -> None:
            lease.report(Outcome(False, blame=Blame.PROXY, latency=0.2))
            runtime.feed()

        while True:
            runtime.feed()
            lease = runtime.pool.acquire(SITE)
            clock.advance(FLUSH_SECONDS)
            yield partial(fail, lease)
            clock.advance(FLUSH_SECONDS)


def forwarding(_folder: Path) -> Actions:
    """Send one GET through the gateway and an HTTP proxy, over a connection of its own, from its opening to its end."""
    with running_fleet([FleetSpec()]) as (fleet, origin), asyncio.Runner() as runner:
        gateway = Gateway(Pool.of(fleet.urls(), "bandit"), GatewayOptions(port=0), events=EventBus())
        _, port = runner.run(gateway.start())
        request = f"GET {origin.url}/ HTTP/1.1\r\nHost: {origin.host}:{origin.port}\r\nConnection: close\r\n\r\n"

        async def get() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request.encode())
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"the gateway answered {answer[:40]!r}")

        try:
            while True:
                yield lambda: runner.run(get())
        finally:
            runner.run(gateway.aclose())


ROUTES = (
    Route("cache.get, a hit in L1", getting, limit=(2, 2), aim=(2, 2)),
    Route("cache.get that L2 serves", getting_from_l2, limit=(10, 19), aim=(9, 25)),
    Route("cache.put", putting, limit=(18, 77), aim=(12, 60)),
    Route("cache.delete of one key", deleting, limit=(22, 138), aim=(13, 80)),
    Route("CacheManager() on an empty folder", opening, limit=(39, 846), aim=(25, 300)),
    Route("import of one line with a credential", importing, limit=(28, 121), aim=(25, 150)),
    Route("pool.acquire(target), bandit", choosing, limit=(8, 13), aim=(7, 12)),
    Route("a successful lease.report, bandit", reporting, limit=(9, 13), aim=(9, 12)),
    Route("pool.acquire(session=new)", beginning_a_session, limit=(16, 58), aim=(14, 60)),
    Route("a failing lease.report, then fed", failing, limit=(52, 415), aim=(30, 200)),
    Route("the gateway, one GET", forwarding, limit=(30, 215), aim=(22, 150)),  # in how many pieces bytes arrive varies
)


def main() -> int:
    """Measure, print, write; fail where a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routes", description="Record how far actions go.")
    parser.add_argument("--files", metavar="PART", help="name the files of the actions with this in their name")
    part = parser.parse_args().files
    logging.disable(logging.WARNING)  # of each key that is made
    load_before = os.getloadavg()[0]
    rows, passed = [], True
    print(f"{'files / calls':36} {'reached':>11} {'limit':>11} {'aim':>11}")
    for route in ROUTES:
        if part is not None and part not in route.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            length = measure(route, Path(folder))
        reached = len(length.files), length.calls
        kept = all(number <= most for number, most in zip(reached, route.limit, strict=True))
        passed = passed and kept
        print(
            f"{route.name:36} {_shown(reached)} {_shown(route.limit)} {_shown(route.aim)}{'' if kept else '  passed'}"
        )
        if part is not None:
            print("".join(f"  {name}\n" for name in sorted(length.files)))
        rows.append(
            {"name": route.name, "what": route.actions.__doc__, "reached": reached, "limit": route.limit}
            | {"aim": route.aim, "files": sorted(length.files)}
        )
    if part is None:
        RESULTS.parent.mkdir(exist_ok=True)
        text = json.dumps({"conditions": conditions(load_before), "rows": rows}, indent=1)
        RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0 if passed else 1


def _shown(pair: tuple[int, int]) -> str:
    return f"{pair[0]:>4} / {pair[1]:>4}"


if __name__ == "__main__":
    sys.exit(main())
