"""Eight threads do everything to one pool at once: at the end nothing is leaked, and what is known agrees."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pytest

from proxywhirl.errors import Blame, LeaseExpired, PoolEmpty, ProxyGone, SiteResting
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.sites.groups import is_group
from proxywhirl.rotation.sites.learning import EVERYBODY
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.urls import parse

SECONDS = 0.6
URLS = [parse(f"http://10.0.{n >> 8}.{n & 255}:80") for n in range(300)]
SITES = [None, *(f"http://s{n}.example/" for n in range(5))]
OUTCOMES = [
    Outcome(True, latency=0.1, status=200),
    Outcome(True, latency=0.3, status=200),
    Outcome(False, blame=Blame.PROXY),
    Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403),
    Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=429, retry_after=0.01),
    Outcome(False, blame=Blame.TARGET, status=500),
    Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, rule="no-connect"),
]


def proxy(number: int, rng: random.Random) -> Proxy:
    """Make one of the proxies, with attributes that change."""
    return Proxy.of(
        URLS[number],
        attributes=Attributes(country=rng.choice(["DE", "FR"]), weight=rng.random(), price_per_gb=rng.randint(0, 3)),
    )


def ask(pool: Pool, rng: random.Random) -> Lease | None:
    """Ask for a lease of some kind, which there may be none of."""
    target = rng.choice(SITES)
    try:
        match rng.randrange(6):
            case 0:
                return pool.acquire(target, session=str(rng.randrange(50)))
            case 1:
                return pool.acquire(target, exclusive=True, ttl=rng.choice([0.001, 5.0]))
            case 2:
                return pool.acquire(target, country="DE")
            case _:
                return pool.acquire(target, exclude={rng.choice(URLS).key})
    except (PoolEmpty, SiteResting):
        return None


def end(lease: Lease, rng: random.Random) -> None:
    """End a lease in one of the ways that there are, of which losing it is one."""
    match rng.randrange(12):
        case 0:
            lease.release()
        case 1:
            return
        case 2:
            with contextlib.suppress(ProxyGone, LeaseExpired):
                lease.endpoint()
            lease.release()
        case _:
            lease.report(rng.choice(OUTCOMES))


def change(pool: Pool, rng: random.Random) -> None:
    """Change the pool now and then."""
    match rng.randrange(40):
        case 0:
            pool.discard([rng.choice(URLS).key])
        case 1 | 2:
            pool.update([proxy(rng.randrange(len(URLS)), rng)])
        case 3:
            pool.explain(rng.choice(SITES))
        case 4:
            pool.learn_bans(pool.collect_bans())
            pool.collect_uses()


def work(pool: Pool, seed: int, until: float) -> None:
    """Do at random what users do, and lose some leases."""
    rng, out = random.Random(seed), list[Lease]()
    while time.monotonic() < until:
        lease = ask(pool, rng)
        if lease is not None:
            out.append(lease)
        if len(out) > 5:
            ended = out.pop(rng.randrange(len(out)))
            end(ended, rng)
            del ended
        change(pool, rng)
    for lease in out:
        lease.release()


@pytest.mark.parametrize("limits", [Limits(), Limits(requests_per_second=2000, in_flight=2, cooldown=0.001)])
@pytest.mark.parametrize("strategy", [*strategy_names(), "sticky", "geo:country=DE", "composite:country=DE|FR"])
def test_nothing_is_leaked_and_books_agree(strategy: str, limits: Limits) -> None:
    """Nothing is in flight at the end, whom a strategy knows is in the pool, and bans are those of the book."""
    rng, known = random.Random(1), {url.key: url for url in URLS}
    pool = Pool(strategy, resolve=known.get, rng=random.Random(2), limits=limits)
    pool.update(proxy(number, rng) for number in range(len(URLS)))
    trouble: list[BaseException] = []
    until = time.monotonic() + SECONDS

    def guarded(seed: int) -> None:
        try:
            work(pool, seed, until)
        except BaseException as exc:  # noqa: BLE001  # a thread's error is the test's
            trouble.append(exc)

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert trouble == []
    check(pool)


def check(pool: Pool) -> None:
    """Hold what the pool knows against itself."""
    chooser = pool._chooser
    with pool._lock:
        pool._chooser.tidy(time.monotonic())
    assert sum(use.in_flight for use in pool.snapshot()) == 0
    held = set(pool.keys())
    assert set(chooser.availability.aside) | set(chooser.availability.limited) <= held
    assert {key for _, key in pool._sticky._ring._points} == held if pool._sticky._ring else True
    for _, view in chooser.views._each():
        chosen: set[str] = set()
        while (key := view.choose(chosen, (), None)) is not None:
            chosen.add(key)
        assert chosen <= held
        assert all(chooser.availability.ready(key) for key in chosen)
    for site in chooser.learning.sites.values():
        now, wall = time.monotonic(), time.time()
        held_here = {k: b for (k, name), b in chooser.learning.book.held(wall).items() if name == site.name}
        banned = {key: ban for key, ban in held_here.items() if key != EVERYBODY and not is_group(key)}
        assert {key for key, at in site.barred.at.items() if at > now + 0.05} <= set(banned)
        assert {key for key, ban in banned.items() if ban.until > wall + 0.05} <= set(site.barred)
