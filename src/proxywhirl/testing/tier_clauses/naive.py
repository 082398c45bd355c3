"""Eviction done the slow and obvious way: what a bounded tier is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from proxywhirl.cache.record import Record


class NaiveOrder:
    """The keys of a tier of `bound` entries, with everything that was ever noted of their use.

    Who goes first: with `lru` the one that was used longest ago, with `fifo` the one that came first, with
    `lfu` the one with the fewest uses, and among equals the one of which the last is longest ago. Writing is a use,
    except with `lfu`, where it brings the count and the time that are written. With `sieve` a hand goes
    from the one that came first to the last and begins anew; it takes the mark of use, which the first write does not
    leave, from those that have it, and stops at one that has none. The next one is where it goes on.
    """

    def __init__(self, policy: str, bound: int | None) -> None:
        self.policy = policy
        self._bound = bound
        self._came: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._stored: dict[str, float] = {}
        self._latest = 0.0
        self._marked: set[str] = set()
        self._hand: str | None = None  # None: the one that came first
        self._tick = 0

    def use(self, key: str, at: float | None = None) -> None:
        """Note that a key was read, at a time where that is told; an unknown one is ignored."""
        if key in self._came:
            self._tick += 1
            self._used[key] = self._tick
            self._uses[key] += 1
            self._latest = max(self._latest, at or 0.0)
            self._stored[key] = self._latest
            self._marked.add(key)

    def forget(self, key: str) -> None:
        """Note that a key has gone."""
        if key == self._hand:
            self._hand = self._next(key)
        self._came.pop(key, None)
        self._marked.discard(key)

    def write(self, key: str) -> str | None:
        """Note that a key was written; return the one that leaves for it."""
        left = None
        if key not in self._came:
            if self._bound is not None and len(self._came) >= self._bound:
                left = self._sieved() if self.policy == "sieve" else min(self._came, key=self._rank)
                self.forget(left)
            self._came[key] = self._tick + 1
            self._uses[key] = 0
            self.use(key)
            self._marked.discard(key)
        else:
            self.use(key)
        return left

    def write_all(self, records: Sequence[Record]) -> tuple[dict[str, Record], set[str]]:
        """Note that records were written one by one; return those that stay, and the keys that left."""
        staying: dict[str, Record] = {}
        left: set[str] = set()
        for record in records:
            victim = self.write(record.key)
            if victim is not None:
                staying.pop(victim, None)
                left.add(victim)
            left.discard(record.key)
            self._uses[record.key], self._stored[record.key] = record.access_count, record.accessed_at
            self._latest = max(self._latest, record.accessed_at)
            staying[record.key] = record
        return staying, left

    def _next(self, key: str) -> str | None:
        keys = list(self._came)  # in the order in which they came
        return next(iter(keys[keys.index(key) + 1 :]), None)

    def _sieved(self) -> str:
        first = next(iter(self._came))
        key = self._hand or first
        while key in self._marked:
            self._marked.discard(key)
            key = self._next(key) or first
        self._hand = key
        return key

    def _rank(self, key: str) -> tuple[float, ...]:
        if self.policy == "lru":
            return (self._used[key],)
        if self.policy == "fifo":
            return (self._came[key],)
        return self._uses[key], self._stored[key], self._used[key]
