"""A tier that fails on command: it raises, takes its time, hangs or answers nonsense, and recovers.

It stands before a real tier and does what that does until it is told otherwise. Nothing sleeps: a delay moves the
test's clock, and a call that is held waits until the test lets it go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from threading import Lock
from typing import Any, TypeVar, cast

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Access, Applied, Changes, Decision, Finding, Followed, Stretch, Tier
from proxywhirl.errors import TierError
from proxywhirl.testing.clock import ManualClock
from proxywhirl.testing.trouble import METHODS, Delay, Failure, Garbage, Garbled, Held, Trouble

T = TypeVar("T")


class ChaosTier:
    """A `Tier` around another one, which can be told to misbehave.

    Args:
        tier: What does the work; it may be looked at behind the trouble.
        clock: What `delay` moves: the clock that the cache under test was given.
        rng: What decides where a trouble has a chance below 1.

    `calls` counts how often each of `METHODS` was called, troubled or not. May be called from several threads, where
    the tier may.

    >>> from proxywhirl.cache.tiers.memory import MemoryTier
    >>> chaos = ChaosTier(MemoryTier(authority=True))
    >>> trouble = chaos.fail(OSError("the disk is away"), "get", times=1)
    >>> chaos.get("k")
    Traceback (most recent call last):
    ...
    OSError: the disk is away
    >>> chaos.get("k"), chaos.calls["get"], trouble.met
    (None, 2, 1)
    """

    def __init__(self, tier: Tier, *, clock: ManualClock | None = None, rng: Random | None = None) -> None:
        self.tier = tier
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._rng = rng or Random(0)  # noqa: S311  # no secret
        self._troubles: list[Trouble] = []
        self._lock = Lock()

    def fail(
        self,
        error: BaseException | Callable[[], BaseException] = lambda: TierError("told to fail"),
        *methods: str,
        after: bool = False,
        skip: int = 0,
        times: int | None = None,
        chance: float = 1.0,
    ) -> Trouble:
        """Raise an error from the named methods, from all but `close` where none is named.

        `skip` calls go well first, then `times` of them fail (None: all that follow), each with `chance`. With `after`
        the call has done its work when it fails, as when an acknowledgement is lost.

        Raises:
            ValueError: there is no method of a name.
        """
        names = _known(methods)
        return self._add(Failure(names, skip, times, chance, after, error=error))

    def delay(
        self, seconds: float, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0
    ) -> Trouble:
        """Let calls take a time by the clock. Arguments and errors as of `fail`; `ValueError` without a clock."""
        if self._clock is None:
            raise ValueError("a delay needs the clock that the cache was given: ChaosTier(tier, clock=…)")
        return self._add(Delay(_known(methods), skip, times, chance, clock=self._clock, seconds=seconds))

    def garble(
        self, garbage: Garbage, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0
    ) -> Trouble:
        """Answer garbage; what the call does is done. Arguments and errors as of `fail`."""
        return self._add(Garbled(_known(methods), skip, times, chance, garbage=garbage))

    def hold(self, *methods: str, skip: int = 0, times: int | None = None, chance: float = 1.0) -> Held:
        """Hold calls until they are released, 30 s at most. Arguments and errors as of `fail`."""
        held = Held(_known(methods), skip=skip, times=times, chance=chance)
        self._add(held)
        return held

    def recover(self) -> None:
        """End all troubles; calls that are held go on."""
        with self._lock:
            ended, self._troubles = self._troubles, []
        for trouble in ended:
            if isinstance(trouble, Held):
                trouble.release()

    def _add(self, trouble: Trouble) -> Trouble:
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    @contextmanager
    def _troubled(self, method: str) -> Iterator[list[Trouble]]:
        with self._lock:
            self.calls[method] += 1
            met = [trouble for trouble in self._troubles if trouble.meets(method, self._rng)]
        for trouble in met:
            if not trouble.after:
                trouble.strike()
        yield met
        for trouble in met:
            if trouble.after:
                trouble.strike()

    def _do(self, method: str, act: Callable[[], T]) -> T:
        with self._troubled(method) as met:
            answer: Any = act()
            for trouble in met:
                answer = trouble.spoil(answer)
        return cast("T", answer)

    def __getattr__(self, name: str) -> Any:
        """Hand through what a tier offers beyond the protocol."""
        return getattr(self.tier, name)

    @property
    def revision(self) -> int:
        """See `Tier`."""
        return self._do("revision", lambda: self.tier.revision)

    @property
    def corrupted(self) -> int:
        """See `Tier`."""
        return self.tier.corrupted

    def get(self, key: str) -> Record | None:
        """See `Tier`."""
        return self._do("get", lambda: self.tier.get(key))

    def peek(self, key: str) -> Record | None:
        """See `Tier`."""
        return self._do("peek", lambda: self.tier.peek(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`."""
        return self._do("get_many", lambda: self.tier.get_many(keys))

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """See `Tier`."""
        return self._do("transact", lambda: self.tier.transact(keys, decide))

    def follow(self, stretch: Stretch) -> Followed | None:
        """See `Tier`."""
        return self._do("follow", lambda: self.tier.follow(stretch))

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        """See `Tier`."""
        return self._do("fill", lambda: self.tier.fill(records, revision))

    def drop(self, keys: Collection[str]) -> list[str]:
        """See `Tier`."""
        return self._do("drop", lambda: self.tier.drop(keys))

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """See `Tier`."""
        self._do("touch_many", lambda: self.tier.touch_many(accesses))

    def expired(self, now: float, limit: int) -> list[str]:
        """See `Tier`."""
        return self._do("expired", lambda: self.tier.expired(now, limit))

    def scan(self, after: str, limit: int) -> list[Record]:
        """See `Tier`."""
        return self._do("scan", lambda: self.tier.scan(after, limit))

    def changes_since(self, revision: int, limit: int) -> Changes:
        """See `Tier`."""
        return self._do("changes_since", lambda: self.tier.changes_since(revision, limit))

    def changed_elsewhere(self) -> bool:
        """See `Tier`."""
        return self._do("changed_elsewhere", self.tier.changed_elsewhere)

    def clear(self, revision: int | None = None) -> int:
        """See `Tier`."""
        return self._do("clear", lambda: self.tier.clear(revision))

    def get_meta(self, name: str) -> str | None:
        """See `Tier`."""
        return self._do("get_meta", lambda: self.tier.get_meta(name))

    def set_meta(self, name: str, value: str | None) -> None:
        """See `Tier`."""
        self._do("set_meta", lambda: self.tier.set_meta(name, value))

    def metas(self, prefix: str) -> dict[str, str]:
        """See `Tier`."""
        return self._do("metas", lambda: self.tier.metas(prefix))

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """See `Tier`."""
        return self._do("examine", lambda: self.tier.examine(repair=repair))

    def close(self) -> None:
        """See `Tier`."""
        self._do("close", self.tier.close)

    def __len__(self) -> int:
        return self._do("len", lambda: len(self.tier))

    def __contains__(self, key: object) -> bool:
        return self._do("contains", lambda: key in self.tier)


def _known(methods: Sequence[str]) -> frozenset[str]:
    if unknown := set(methods) - METHODS:
        raise ValueError(f"a tier has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(METHODS))}")
    return frozenset(methods) or METHODS - {"close"}
