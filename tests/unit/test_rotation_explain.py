"""`Pool.explain`: who could serve, what keeps out the others, and why this one; and that nothing comes of asking."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.affinity.ledger import MemoryLedger
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.testing.clock import ManualClock
from proxywhirl.urls import parse

SHOP = "https://shop.example/"
OK = Outcome(True, latency=0.2, status=200)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="status-403")
BUSY = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=503)


def pool_of(size: int = 8, strategy: str = "round_robin", *, limits: Limits | None = None, hard: bool = False) -> Pool:
    """Make a pool of so many, all in Germany but the last."""
    urls = [parse(f"http://192.0.2.{n}:80") for n in range(size)]
    pool = Pool(
        strategy,
        resolve={url.key: url for url in urls}.get,
        rng=random.Random(1),
        clock=ManualClock(),
        limits=limits or Limits(),
        sessions=SessionPolicy(hard=hard),
    )
    countries = ["DE"] * (size - 1) + ["FR"]
    pool.update(
        Proxy.of(url, attributes=Attributes(country=country)) for url, country in zip(urls, countries, strict=True)
    )
    return pool


def let(pool: Pool, key: str, outcome: Outcome, target: str | None = None) -> None:
    """Let one proxy have an outcome."""
    pool.acquire(target, exclude=set(pool.keys()) - {key}).report(outcome)


def test_each_reason_is_told_once_and_all_add_up() -> None:
    """One proxy for each thing that may stand in the way, and two who can serve."""
    pool = pool_of(9, limits=Limits(in_flight=1))
    keys = pool.keys()
    let(pool, keys[0], Outcome(False))
    let(pool, keys[7], OK, SHOP)
    let(pool, keys[1], BANNED, SHOP)
    let(pool, keys[2], Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, rule="no-connect"))
    busy = pool.acquire(exclude=set(keys) - {keys[3]})
    held = pool.acquire(exclude=set(keys) - {keys[4]}, exclusive=True)
    told = pool.explain(SHOP, exclude=[keys[5]], country="DE")
    assert {e.reason: (e.count, e.example.key) for e in told.excluded} == {
        "set aside after failures": (1, keys[0]),
        "banned by shop.example (status-403)": (1, keys[1]),
        "opens no tunnels": (1, keys[2]),
        "at its limit of requests": (1, busy.proxy.key),
        "held exclusively": (1, held.proxy.key),
        "excluded by the request": (1, keys[5]),
        "not country=DE": (1, keys[8]),
    }
    assert told.eligible + sum(e.count for e in told.excluded) == told.pool == 9
    assert told.proxy is not None
    assert told.proxy.key in keys[6:8]
    assert told.why.startswith("round_robin, one of ")
    assert "1 of 9 are barred from it" in told.site


def test_a_cool_down_is_not_called_a_ban() -> None:
    """It says that the proxy was used there a moment ago."""
    pool = pool_of(2, limits=Limits(cooldown=5))
    pool.acquire(SHOP).report(OK)
    assert [e.reason for e in pool.explain(SHOP).excluded] == ["cooling down from shop.example"]


def test_bans_of_a_site_that_nobody_asked_for_yet_are_told() -> None:
    """Those that were learnt from others count as much."""
    first, second = pool_of(3), pool_of(3)
    let(first, first.keys()[1], OK, SHOP)
    let(first, first.keys()[0], BANNED, SHOP)
    second.learn_bans(first.collect_bans())
    assert second.explain(SHOP).eligible == 2


def test_asking_changes_nothing() -> None:
    """No lease, no session and no trial comes of it, however often; who is due is found all the same."""
    clock, ledger = ManualClock(), MemoryLedger()
    pool = Pool.of([f"http://192.0.2.{n}:80" for n in range(3)], "round_robin", clock=clock, rng=random.Random(1))
    pool._sticky._ledger = ledger
    pool.acquire().report(Outcome(False))
    clock.advance(2)
    before = [replace(use, set_aside_until=None) for use in pool.snapshot()]
    room = [queue.trials for queue in pool._chooser.availability._queues]
    for _ in range(50):
        assert pool.explain(SHOP).eligible == 3
        assert pool.explain(SHOP, session="s").proxy is not None
    assert [replace(use, set_aside_until=None) for use in pool.snapshot()] == before
    assert (ledger._sessions, pool.collect_uses(), pool.collect_bans()) == ({}, {}, {})
    assert all(queue.trials <= had for queue, had in zip(pool._chooser.availability._queues, room, strict=True))
    assert pool._chooser.learning.sites.get("shop.example") is None


@pytest.mark.parametrize("strategy", ["random", "sticky"])
def test_a_session_gets_whom_it_was_told(strategy: str) -> None:
    """Before it has one and after, named or by the strategy."""
    pool = pool_of(8, strategy)
    name = None if strategy == "sticky" else "s"
    told = pool.explain(SHOP, session=name)
    with pool.acquire(SHOP, session=name) as lease:
        assert told.proxy == lease.proxy
        assert told.why == "session"
    assert pool.explain(SHOP, session=name).proxy == lease.proxy


def test_the_record_of_the_chosen_is_shown() -> None:
    """What it served, how fast, and how likely it is to serve again."""
    pool = pool_of(1)
    pool.acquire().report(OK)
    record = pool.explain().record
    assert record is not None
    assert (record.served, record.failed, record.in_flight, record.latency) == (1, 0, 0, 0.2)
    assert 0.9 < record.chance < 1


def test_a_resting_site_is_told_instead_of_a_proxy() -> None:
    """Nobody would be chosen, and the reason is the site."""
    pool = pool_of(5)
    for number in range(15):
        pool.acquire(f"{SHOP}{number}").report(OK if number < 12 else BUSY)
    trial = pool.acquire(SHOP)
    told = pool.explain(SHOP)
    assert (told.proxy, told.eligible) == (None, 5)
    assert "failed alike" in told.why
    assert "left alone for" in told.site
    trial.release()


def test_where_nobody_can_serve_the_reasons_stand() -> None:
    """The error's words, beside what keeps each of them out."""
    told = pool_of(3).explain(country="IT")
    assert (told.proxy, told.eligible) == (None, 0)
    assert [(e.reason, e.count) for e in told.excluded] == [("not country=IT", 3)]
    assert "none of the 3 proxies of the pool fulfils country=IT" in told.why
