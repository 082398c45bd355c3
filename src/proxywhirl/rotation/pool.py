"""The pool: which proxy serves the next request.

A proxy is either ready, and then the strategy holds it, or set aside after a failure. The rules:

- a failure of the proxy or its account sets it aside for an exponential back-off with full jitter; other
  failures (the target's, ours) teach nothing about it;
- leases that were out together fail together: they count as one failure;
- a proxy that is due comes back by itself; any success brings it back at once and forgets its failures;
- where none is ready the one due first is tried; where there is none at all, that is `PoolEmpty`.

What comes as a sketch stays one until it is used: a pool of a million is filled in a second or two, and the values
are made one by one. A sketch has never served nor failed, and one that is set aside was handed in as dead.

The pool holds no credential: `resolve` reads it when a connection is made. Neither `resolve` nor `on_report`
is called under the lock, so both may wait, or call the pool.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import PoolEmpty, ProxyGone
from proxywhirl.models import HealthStatus, Outcome, Proxy, Sketch
from proxywhirl.rotation.lease import Lease, Slot
from proxywhirl.rotation.retry import FAILURES_TO_CAP, backoff
from proxywhirl.rotation.strategy import KeyStrategy, make_strategy
from proxywhirl.timetable import Timetable
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
        portray: Makes the value of a key and a sketch, for a pool that is filled with these. Must not wait.

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
        portray: Callable[[str, Sketch], Proxy] | None = None,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards no secret
        self._name = strategy
        self._ready = make_strategy(strategy, self._rng)
        self._set_aside = Timetable()
        self._by_keys = self._ready if isinstance(self._ready, KeyStrategy) else None
        self._slots: dict[str, Slot | Sketch] = {}
        self._lock = threading.Lock()
        self._resolve = resolve
        self._clock = clock
        self._on_report = on_report
        self._portray = portray

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

    def stock(self, sketches: Mapping[str, Sketch], *, dead: bool = False) -> None:
        """Do as `update` with sketches, by key, in a fraction of the time; `dead` tells whether all of them are.

        Requests wait meanwhile, half a millisecond for each thousand.
        """
        with self._lock:
            self._stock(sketches, dead=dead)

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
            if not isinstance(slot, Slot):
                slot = self._open(key, slot, dead=key in self._set_aside)
            slot.in_flight += 1
            return Lease(slot, why, self._endpoint, self._settle)

    def snapshot(self) -> list[ProxyUse]:
        """Return what is known of every proxy, in the order in which they were added. O(n)."""
        with self._lock:
            known = [(key, self._use(key, slot)) for key, slot in self._slots.items()]
        return [
            use if isinstance(use, ProxyUse) else ProxyUse(self._make(key, use[0]), 0, 0, 0, *use[1:])
            for key, use in known
        ]

    def keys(self) -> list[str]:
        """Return the keys of all proxies, in the order in which they were added. O(n)."""
        with self._lock:
            return list(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def _put(self, proxy: Proxy) -> None:
        known = self._slots.get(proxy.key)
        if known is not None:
            aside = proxy.key in self._set_aside
            slot = known if isinstance(known, Slot) else self._open(proxy.key, known, dead=aside)
            slot.proxy = proxy
            if not aside:
                self._ready.add(proxy)
            return
        slot = self._slots[proxy.key] = Slot(proxy)
        if proxy.status is HealthStatus.DEAD:
            slot.failures = FAILURES_TO_CAP
            self._set_aside.put(proxy.key, self._clock.monotonic() + backoff(slot.failures, self._rng))
        else:
            self._ready.add(proxy)

    def _stock(self, sketches: Mapping[str, Sketch], *, dead: bool) -> None:
        if not self._slots.keys().isdisjoint(sketches):
            for key in self._slots.keys() & sketches.keys():
                self._redraw(key, sketches[key])
            sketches = {key: sketch for key, sketch in sketches.items() if key not in self._slots}
        self._slots.update(sketches)
        if dead:
            now = self._clock.monotonic()
            for key in sketches:
                self._set_aside.put(key, now + backoff(FAILURES_TO_CAP, self._rng))
        elif self._by_keys is not None:
            self._by_keys.add_keys(sketches)
        else:
            for key, sketch in sketches.items():
                self._ready.add(self._make(key, sketch))

    def _redraw(self, key: str, sketch: Sketch) -> None:
        """Replace a known proxy; its statistics and state are kept."""
        slot = self._slots[key]
        if isinstance(slot, Slot):
            slot.proxy = self._make(key, sketch)
        else:
            self._slots[key] = sketch
        if self._by_keys is None and key not in self._set_aside:
            self._ready.add(self._make(key, sketch))

    def _open(self, key: str, sketch: Sketch, *, dead: bool) -> Slot:
        """Make the slot of a proxy that was a sketch until now."""
        slot = self._slots[key] = Slot(self._make(key, sketch), failures=FAILURES_TO_CAP if dead else 0)
        return slot

    def _make(self, key: str, sketch: Sketch) -> Proxy:
        if self._portray is None:
            raise TypeError("a pool that is filled with sketches needs to be made with `portray`")
        return self._portray(key, sketch)

    def _use(self, key: str, slot: Slot | Sketch) -> ProxyUse | tuple[Sketch, float | None, int]:
        """Return what is known of a proxy; of a sketch without its value, which takes time to make."""
        until = self._set_aside.due_at(key)
        if isinstance(slot, Slot):
            return ProxyUse(slot.proxy, slot.served, slot.failed, slot.in_flight, until, slot.failures)
        return slot, until, 0 if until is None else FAILURES_TO_CAP

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
            slot = self._slots[key]
            if not isinstance(slot, Slot):
                slot = self._open(key, slot, dead=True)
            self._ready.add(slot.proxy)
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
