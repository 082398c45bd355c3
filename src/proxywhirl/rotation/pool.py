"""The pool: which proxy serves the next request.

A proxy is either ready, and then the strategy holds it, or set aside after a failure. The rules:

- a failure of the proxy or its account sets it aside for an exponential back-off with full jitter; other
  failures (the target's, ours) teach nothing about it;
- leases that were out together fail together: they count as one failure;
- a proxy that is due comes back by itself; any success brings it back at once and forgets its failures;
- where none is ready the one due first is tried; where there is none at all, that is `PoolEmpty`.

The pool holds no credential: `resolve` reads it when a connection is made. Neither `resolve` nor `on_report`
is called under the lock, so both may wait, or call the pool.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Self

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import PoolEmpty, ProxyGone
from proxywhirl.models import HealthStatus, Outcome, Proxy
from proxywhirl.rotation.lease import Lease, Slot
from proxywhirl.rotation.retry import FAILURES_TO_CAP, backoff
from proxywhirl.rotation.set_aside import SetAside
from proxywhirl.rotation.strategy import make_strategy
from proxywhirl.urls import ProxyURL, parse

__all__ = ["Pool", "ProxyUse"]

_RETURNS_PER_ACQUIRE = 64
"""After an outage thousands may be due at once; no single request pays for the return of them all."""


@dataclass(frozen=True, slots=True)
class ProxyUse:
    """What the pool knows of one proxy at one moment.

    `served` and `failed` count reports of success and of failures that are the proxy's own.
    `set_aside_until` is in seconds on the pool's monotonic clock, None where the proxy is ready.
    """

    proxy: Proxy
    served: int
    failed: int
    in_flight: int
    set_aside_until: float | None
    consecutive_failures: int


class Pool:
    """Chooses among proxies. Thread-safe; `acquire` and `report` cost the same whatever its size.

    Args:
        strategy: The name of a built-in strategy or of an entry point (see `rotation.strategy`).
        resolve: Gives the URL with its credential for a key, None where that is known no more.
        rng: The source of every random decision; seed it to repeat a run.
        clock: Its monotonic time decides who is due.
        on_report: Told of each report after the pool has learnt from it.

    Raises:
        UnknownNameError: No strategy has that name.
    """

    def __init__(
        self,
        strategy: str = "round_robin",
        *,
        resolve: Callable[[str], ProxyURL | None],
        rng: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_report: Callable[[Proxy, Outcome], None] | None = None,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards no secret
        self._name = strategy
        self._ready = make_strategy(strategy, self._rng)
        self._set_aside = SetAside()
        self._slots: dict[str, Slot] = {}
        self._lock = threading.Lock()
        self._resolve = resolve
        self._clock = clock
        self._on_report = on_report

    @classmethod
    def of(
        cls,
        urls: Iterable[str | ProxyURL],
        strategy: str = "round_robin",
        *,
        rng: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Self:
        """Build a pool in memory from proxy URLs; a repeated identity counts once, its last URL wins.

        Raises:
            ProxyURLError: One of `urls` is not a proxy.
        """
        known = {url.key: url for url in (parse(u) if isinstance(u, str) else u for u in urls)}
        pool = cls(strategy, resolve=known.get, rng=rng, clock=clock)
        pool.update(map(Proxy.of, known.values()))
        return pool

    def update(self, proxies: Iterable[Proxy]) -> None:
        """Add proxies, or replace those of the same key, whose statistics and state are kept.

        One that is handed in as dead starts set aside, as if it had failed often enough for the longest
        back-off; it is tried when it is due.
        """
        for proxy in proxies:  # the lock is taken for each: `proxies` may be a slow scan of the store
            with self._lock:
                self._put(proxy)

    def discard(self, keys: Iterable[str]) -> None:
        """Forget proxies; unknown keys are ignored. Leases on them can still be reported."""
        for key in keys:
            with self._lock:
                self._forget(key)

    def acquire(self, *, exclude: Collection[str] = ()) -> Lease:
        """Choose a proxy whose key is not in `exclude` (a set, where there may be many).

        Raises:
            PoolEmpty: The pool is empty, or all of it is excluded.
        """
        with self._lock:
            aside = len(self._set_aside)
            if aside:
                aside -= self._return_due()
            key = self._ready.choose(exclude)
            if key is not None:
                why = f"{self._name}, one of {len(self._slots) - aside} ready"
            else:
                key = self._set_aside.first(exclude)
                if key is None:
                    raise PoolEmpty(self._why_empty())
                why = f"none ready, due first of {aside} set aside"
            slot = self._slots[key]
            slot.in_flight += 1
            return Lease(slot, why, self._endpoint, self._settle)

    def snapshot(self) -> list[ProxyUse]:
        """Return what is known of every proxy, in the order in which they were added. O(n)."""
        with self._lock:
            return [
                ProxyUse(s.proxy, s.served, s.failed, s.in_flight, self._set_aside.until(key), s.failures)
                for key, s in self._slots.items()
            ]

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def _put(self, proxy: Proxy) -> None:
        slot = self._slots.get(proxy.key)
        if slot is not None:
            slot.proxy = proxy
            if proxy.key not in self._set_aside:
                self._ready.add(proxy)
            return
        slot = self._slots[proxy.key] = Slot(proxy)
        if proxy.status is HealthStatus.DEAD:
            slot.failures = FAILURES_TO_CAP
            self._set_aside.put(proxy.key, self._clock.monotonic() + backoff(slot.failures, self._rng))
        else:
            self._ready.add(proxy)

    def _forget(self, key: str) -> None:
        if self._slots.pop(key, None) is not None and not self._set_aside.discard(key):
            self._ready.remove(key)

    def _return_due(self) -> int:
        """Make ready those that are due and return how many they were."""
        now = self._clock.monotonic()
        for returned in range(_RETURNS_PER_ACQUIRE):
            key = self._set_aside.pop_due(now)
            if key is None:
                return returned
            self._ready.add(self._slots[key].proxy)
        return _RETURNS_PER_ACQUIRE

    def _endpoint(self, lease: Lease) -> ProxyURL:
        key = lease.proxy.key
        url = self._resolve(key)
        if url is None:
            with self._lock:
                if self._slots.get(key) is lease.slot:  # not one that was added again meanwhile
                    self._forget(key)
            raise ProxyGone(f"{lease.proxy} was removed after it was chosen; acquire another")
        return url

    def _settle(self, lease: Lease, outcome: Outcome | None) -> bool:
        with self._lock:
            if lease.settled:
                return False
            lease.settled = True
            lease.slot.in_flight -= 1
            if outcome is not None:
                self._learn(lease, outcome)
        if outcome is not None and self._on_report is not None:
            self._on_report(lease.proxy, outcome)
        return True

    def _learn(self, lease: Lease, outcome: Outcome) -> None:
        slot, key = lease.slot, lease.proxy.key
        if self._slots.get(key) is not slot:
            return  # discarded while it was out
        if outcome.ok:
            slot.served += 1
            if slot.failures:  # without one it cannot be set aside
                slot.failures = 0
                if self._set_aside.discard(key):
                    self._ready.add(slot.proxy)
        elif outcome.counts_against_proxy:
            slot.failed += 1
            if lease.incident == slot.incident:
                self._bench(slot)

    def _bench(self, slot: Slot) -> None:
        key = slot.proxy.key
        slot.incident += 1
        slot.failures += 1
        if key not in self._set_aside:
            self._ready.remove(key)
        self._set_aside.put(key, self._clock.monotonic() + backoff(slot.failures, self._rng))

    def _why_empty(self) -> str:
        if not self._slots:
            return "the pool has no proxies: `proxywhirl import FILE` or `proxywhirl add URL` brings some in"
        return f"every proxy of the pool ({len(self._slots)}) was tried for this request: add more or try later"
