"""The life of a cache manager: its engine is opened, left to the parent process after a fork, and closed."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

from proxywhirl.arguments import require
from proxywhirl.cache.engine import Engine
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Batch
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import CacheError
from proxywhirl.urls import ProxyURL

__all__ = ["Lifecycle"]

_open: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


class Lifecycle:
    """Owns an engine, and has at hand what a read needs of it.

    The configuration is checked again, since it can have been changed: what it says then is what counts.
    """

    def __init__(
        self,
        config: CacheConfig | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        to_send: Callable[[ProxyURL, str | None], ProxyURL] | None = None,
    ) -> None:
        require("config", config, (CacheConfig, type(None)), "a CacheConfig or None")
        self.config = CacheConfig() if config is None else config.model_validate(config.model_dump(warnings=False))
        self._to_send = to_send
        self._clock = clock
        self._now = clock.now
        self._opening = threading.Lock()
        self._closed = False
        self._inherited: list[Record] = []
        self._engine: Engine | None = None
        self._look_up: Callable[[str], Record | None] = _nothing
        self._use(Engine(self.config, clock))
        _open.add(self)

    def close(self) -> None:
        """Flush and close. Idempotent."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
            _open.discard(self)
            self._look_up = _nothing
            self._dropped.detach()
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _use(self, engine: Engine) -> None:
        """Take the parts that a read needs out of an engine."""
        first = engine.tiers[0][1]
        l1 = first if isinstance(first, MemoryTier) else MemoryTier()
        self._look_up = l1.look_up
        self._touch = l1.touch
        self._counts = engine.counters.enabled
        self._mine = engine.counters.mine
        self._local = engine.counters.local
        self._note = engine.hits.note_first
        self._upkeep = engine.upkeep
        self._dropped = weakref.finalize(self, _drop, engine, self.config.l3_database_path)
        self._dropped.atexit = False  # the end of the process closes everything
        self._snapshot = engine.border.snapshot
        self._used = engine.border.used
        self._engine = engine

    def _running(self) -> Engine:
        """Return the open engine; open it anew in a process that was forked."""
        engine = self._engine
        if engine is None:
            with self._opening:
                if self._closed:
                    raise CacheError("this cache is closed: open it again with CacheManager(config)")
                engine = self._engine  # another thread may have been first
                if engine is None:
                    engine = self._inherit(Engine(self.config, self._clock))
                    self._use(engine)
        return engine

    def _inherit(self, engine: Engine) -> Engine:
        """Give a cache that lives in memory alone what was in the memory that the fork copied."""
        records, self._inherited = self._inherited, []
        if records:
            engine.stack.commit((), lambda _: Batch(puts=records), admit=True, size=len(records))
        return engine

    def _forked(self) -> None:
        """Leave the parent's engine alone."""
        self._opening = threading.Lock()
        engine, self._engine = self._engine, None
        self._look_up = _nothing
        self._dropped.detach()
        if engine is not None:
            self._inherited = engine.abandon()


def _nothing(key: str) -> Record | None:  # noqa: ARG001  # stands for the `get` of a first tier
    return None


def _drop(engine: Engine, place: str) -> None:
    """Give back what a manager held that went without `close`."""
    engine.drop()
    warnings.warn(
        f"a CacheManager of {place} was dropped without close(), so that its last access counts may be lost: use it in "
        "a `with` block",
        ResourceWarning,
        stacklevel=2,
    )


def _in_child() -> None:
    for manager in list(_open):
        manager._forked()  # noqa: SLF001  # of the same module


os.register_at_fork(after_in_child=_in_child)
