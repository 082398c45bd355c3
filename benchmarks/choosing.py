"""What choosing costs: `acquire` and `report` of every strategy in small and large pools, beside two other pickers.

One thread; the clock is the machine's. Run it with `make bench`. It prints a table, writes it into
`docs/performance.md` and, with the conditions, into `benchmarks/results/choosing.json`, and ends with 1 where a limit
is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cache.table import between_marks, markdown, plain
from benchmarks.conditions import conditions
from benchmarks.measure import Figure, Side, compare, cost
from benchmarks.yields.peers import at_once
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy, Target
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import ProxyState, ProxyStates
from proxywhirl.rotation.strategies.registry import find_strategy, strategy_names
from proxywhirl.testing import ManualClock
from proxywhirl.urls import parse

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN = "<!-- the table of choosing is written by `make bench` -->\n"

CHEAP, DEAR = 6.0, 12.0
"""Microseconds for `acquire` and `report`."""

LIMITS = {"round_robin": CHEAP, "random": CHEAP}
GROWTH = 1.5
PICK = 2.0
PAUSE = 5_000.0
COUNTRIES = ("DE", "FR", "US", "BR", "JP")
FILTER = {"country": "DE"}
SITE = Target("https", "site.example", 443)
GOOD = Outcome(ok=True, latency=0.2, status=200)
BAD = Outcome(ok=False, blame=Blame.PROXY, latency=0.2)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: numbers of proxies in a pool and of those that fail at once, uses in a round, rounds.

    `used` counts the uses of a pool before it is measured.
    """

    small: int = 100
    large: int = 100_000
    peers: int = 20_000
    uses: int = 20_000
    peer_uses: int = 500
    rounds: int = 5
    failing: int = 1_000
    used: int = 2_000


QUICK = Scale(small=20, large=200, peers=100, uses=200, peer_uses=20, rounds=1, failing=50, used=40)


@cache
def proxies(count: int) -> list[Proxy]:
    """Make so many proxies, evenly over the countries."""
    urls = (f"http://198.{18 + n // 65_536}.{n // 256 % 256}.{n % 256}:8080" for n in range(count))
    return [
        Proxy.of(parse(url), attributes=Attributes(country=COUNTRIES[n % len(COUNTRIES)], price_per_gb=float(n % 3)))
        for n, url in enumerate(urls)
    ]


def pool_of(strategy: str, count: int, used: int, clock: Clock = SYSTEM_CLOCK) -> Pool:
    """Make a pool that has been used so often before."""
    pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(1), clock=clock)
    pool.update(proxies(count))
    for wishes in ({}, FILTER):
        use(pool, wishes, range(used))
    return pool


def use(pool: Pool, wishes: dict[str, Any], turns: Sequence[int]) -> None:
    """Take and report so many leases, all of which succeed."""
    for _ in turns:
        pool.acquire(SITE, **wishes).report(GOOD)


def use_in_sessions(pool: Pool, turns: Sequence[int]) -> None:
    """Do so for a thousand sessions in turn."""
    for turn in turns:
        pool.acquire(SITE, session=f"session {turn % 1_000}").report(GOOD)


def measure(scale: Scale, strategies: Sequence[str]) -> Iterator[Figure]:
    """Yield every figure."""
    for name in strategies:
        pools = pool_of(name, scale.small, scale.used), pool_of(name, scale.large, scale.used)
        for wishes, words in (({}, ""), (FILTER, ", one filter")):
            yield from _both_sizes(name + words, scale, pools, partial(_use_with, wishes), LIMITS.get(name, DEAR))
        yield _pick(name, scale)
        if name == strategies[0]:
            yield from _both_sizes("a session", scale, pools, use_in_sessions, DEAR)
    for name in strategies:
        yield _pause(name, scale)
    yield from _beside_peers(scale, strategies)


def _use_with(wishes: dict[str, Any], pool: Pool, turns: Sequence[int]) -> None:
    use(pool, wishes, turns)


def _both_sizes(
    what: str, scale: Scale, pools: tuple[Pool, Pool], work: Callable[[Pool, Sequence[int]], None], at_most: float
) -> Iterator[Figure]:
    small, large = (Side(lambda: range(scale.uses), partial(work, pool)) for pool in pools)
    compared = compare(small, large, scale.rounds)
    beside = f"with {scale.small:,} proxies"
    operation = f"acquire + report, {what}, {scale.large:,} proxies"
    yield Figure(f"use: {what}", operation, compared.ours, "µs", at_most=at_most)
    yield Figure.ratio(f"growth: {what}", f"the same, {what}", compared, beside, at_most=GROWTH)


def _pick(name: str, scale: Scale) -> Figure:
    """Measure the strategy alone, over proxies that have served, without the rest of the pool."""
    states = ProxyStates(random.Random(1), SYSTEM_CLOCK, None)
    for proxy in proxies(scale.large):
        states.held[proxy.key] = ProxyState(proxy.key, proxy, served=3, latency=0.2, good=3.0)
    strategy = find_strategy(name)(states)
    strategy.add(list(states.held))

    def pick(turns: Sequence[int]) -> None:
        for _ in turns:
            strategy.choose((), (), None)

    side = Side(lambda: range(scale.uses), pick)
    reached = median([cost(side) for _ in range(scale.rounds + 1)][1:])
    return Figure(f"pick: {name}", f"the pick alone, {name}, {scale.large:,} proxies", reached, "µs", at_most=PICK)


def _pause(name: str, scale: Scale) -> Figure:
    """Let many fail at once, and come back at once; find the longest single call, in the quietest of the rounds."""
    longest = []
    for _ in range(scale.rounds):
        clock = ManualClock()
        pool = pool_of(name, scale.large, scale.used, clock)
        leases = [pool.acquire(SITE) for _ in range(scale.failing)]
        gc.collect()
        took = [_timed(partial(lease.report, BAD)) for lease in leases]
        for _ in range(2):
            clock.advance(300.0)
            took += [_timed(partial(use, pool, {}, (0,))) for _ in range(scale.failing)]
        longest.append(max(took))
    words = f"the longest call while {scale.failing:,} fail at once and return, {name}"
    return Figure(f"pause: {name}", words, min(longest), "µs", at_most=PAUSE)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1000


def _beside_peers(scale: Scale, strategies: Sequence[str]) -> Iterator[Figure]:
    urls = [proxy.url for proxy in proxies(scale.peers)]
    peers: dict[str, Callable[[Sequence[int]], None]] = {}
    if find_spec("crawlee"):
        peers["crawlee new_proxy_info"] = _crawlee(urls)
    if find_spec("rotating_proxies"):
        peers["scrapy-rotating-proxies get_random + mark_good"] = _scrapy(urls)
    for name in strategies:
        pool = pool_of(name, scale.peers, scale.used)
        for peer, work in peers.items():
            ours = Side(lambda: range(scale.peer_uses), partial(_use_with, {}, pool))
            compared = compare(Side(lambda: range(scale.peer_uses), work), ours, scale.rounds)
            words = f"acquire + report, {name}, {scale.peers:,} proxies"
            yield Figure.ratio(f"beside {peer}: {name}", words, compared, peer)


def _crawlee(urls: list[str]) -> Callable[[Sequence[int]], None]:
    configuration = import_module("crawlee.proxy_configuration").ProxyConfiguration(proxy_urls=urls)

    def work(turns: Sequence[int]) -> None:
        for _ in turns:
            at_once(configuration.new_proxy_info(None, None, None))

    return work


def _scrapy(urls: list[str]) -> Callable[[Sequence[int]], None]:
    peer = import_module("rotating_proxies.expire").Proxies(urls)

    def work(turns: Sequence[int]) -> None:
        for _ in turns:
            peer.mark_good(peer.get_random())

    return work


def main() -> int:
    """Measure, print, write; fail where a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choosing", description="Measure choosing.")
    parser.add_argument("--only", metavar="STRATEGIES", help="some strategies, with commas; writes no results")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, which say nothing: for a test of the measuring"
    )
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where the results go")
    options = parser.parse_args()
    strategies = options.only.split(",") if options.only else strategy_names()
    load_before = os.getloadavg()[0]
    rows = []
    gc.freeze()  # what was imported is looked through once, not before each measurement
    for figure in measure(QUICK if options.quick else Scale(), strategies):
        rows.append(figure.as_json())
        print(f"  {figure.operation}: {figure.reached:.3g} {figure.unit}", file=sys.stderr)
    print(plain(rows))
    results = options.results or (None if options.quick or options.only else RESULTS)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"conditions": conditions(load_before), "rows": rows}, indent=1, ensure_ascii=False)
        (results / "choosing.json").write_text(text + "\n", encoding="utf-8")
    if results == RESULTS:
        between_marks(PAGE, markdown(rows), BEGIN)
    missed = [row["operation"] for row in rows if not row["passed"]]
    for operation in missed:
        print(f"missed: {operation}")
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
