"""Whatever another thread does whenever the pool's lock is free, each answer is one that was true at a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace, TracebackType

import pytest

from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation import pool as room
from proxywhirl.rotation.pool import Pool
from proxywhirl.urls import parse

URLS = [parse(f"http://10.0.0.{n}:80") for n in range(1, 9)]
SITE = "http://s.example/"


class Gap:
    """A lock that lets something happen each time that it is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.happens: Callable[[], object] | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()  # takes the lock itself, and nothing happens between its own uses of it
            self.happens = happens


def rotate(pool: Pool) -> Callable[[], object]:
    """Return what takes out the proxy that has been in for longest, and puts in the one that was taken out before."""
    out = [URLS[-1]]

    def happens() -> None:
        first = pool.keys()[0]
        pool.discard([first])
        pool.update([Proxy.of(out.pop())])
        out.append(next(url for url in URLS if url.key == first))

    return happens


ASK: dict[str, Callable[[Pool, int], object]] = {
    "acquire": lambda pool, _: pool.acquire(SITE).report(Outcome(True, latency=0.1)),
    "acquire, failing": lambda pool, _: pool.acquire(SITE).report(Outcome(False, blame=Blame.PROXY)),
    "session": lambda pool, n: pool.acquire(SITE, session=str(n % 5)).report(Outcome(True, latency=0.1)),
    "exclusive": lambda pool, _: pool.acquire(SITE, exclusive=True, ttl=5).release(),
    "filter": lambda pool, _: pool.acquire(SITE, scheme="http").release(),
    "explain": lambda pool, _: pool.explain(SITE),
    "explain session": lambda pool, n: pool.explain(SITE, session=str(n % 5)),
    "snapshot": lambda pool, _: pool.snapshot(),
    "learn": lambda pool, _: pool.learn_bans(pool.collect_bans()),
}


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("strategy", ["round_robin", "bandit", "sticky"])
def test_proxies_come_and_go_whenever_the_lock_is_free(
    monkeypatch: pytest.MonkeyPatch, strategy: str, ask: str
) -> None:
    """A proxy that was looked up and is gone when it is used is no error that a user sees."""
    gap = Gap()
    monkeypatch.setattr(room, "threading", SimpleNamespace(Lock=lambda: gap))
    pool = Pool.of(URLS[:-1], strategy)
    for n in range(20):
        pool.acquire(SITE, session=str(n % 5)).release()
    gap.happens = rotate(pool)
    for n in range(100):
        try:
            ASK[ask](pool, n)
        except PoolEmpty:
            assert ask == "session"  # its proxy went each time that it was agreed on
