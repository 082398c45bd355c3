"""The parts of an open cache, put together, started and stopped (`Engine`), and who owns them (`Lifecycle`).

An engine is opened in this order: the tiers, each with its files; what a tier has to give back to another one; the key;
the hints for a tier that is away; the thread that looks after the files. A durable tier that cannot be opened is left
out, if another one can, and opened later (`_reopen`).

One engine belongs to one process. A forked child neither uses nor closes its parent's engine, and opens its own at the
first call.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Self, cast

from filelock import FileLock, Timeout

from proxywhirl.cache import opening
from proxywhirl.cache.coordination.breaker import AbsentTier, DecisionError
from proxywhirl.cache.coordination.handoff import Handoff, Removals
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.coordination.reads import Reader
from proxywhirl.cache.coordination.reconcile import STORE_ID, adopt, has_left, is_new_store, rejoin
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.keys.keyset import KeyNotes, leave_notes, noted, open_sealer
from proxywhirl.cache.maintenance.periodic import Upkeep
from proxywhirl.cache.maintenance.statistics_history import PREFIX, ProcessStatistics, Publisher, published
from proxywhirl.cache.manifest import l2_directory, opening_lock
from proxywhirl.cache.models import KEY_VARIABLE, CacheConfig, CacheStatistics
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.directory_lock import DirectoryLock, backend_of
from proxywhirl.cache.tiers.eviction import Uses
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch, Decision, Tier, TierName
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import CacheError, TierError
from proxywhirl.repeating import Repeating
from proxywhirl.state.files import explained
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require

OPENING_TIMEOUT_SECONDS = 60.0
PAGE = 1_000
FORK_WAIT_SECONDS = 5.0
LOOK_SECONDS = 0.05

_log = logging.getLogger(__name__)
_running: weakref.WeakSet[Engine] = weakref.WeakSet()
_of_the_parent: list[object] = []


class Engine:
    """Opens what a configuration names.

    Raises:
        TierError: no durable tier can be opened, or one that holds another program's data, or was moved.
        DecryptionError: credentials are stored and the key is missing or wrong.
        FormatVersionError: a file was written by a newer version.
    """

    def __init__(self, config: CacheConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.counters = Counters(enabled=config.enable_statistics)
        names = opening.enabled_tiers(config)
        self.durable = bool(names) and names[-1] != "l1"
        self.holds_nothing = not names
        if self.holds_nothing:
            _log.warning(
                "this cache holds nothing: each of its tiers is off or has max_entries 0; give one of them room"
            )
        self.tiers: list[tuple[TierName, Tier]] = []
        self._uses = Uses(clock)
        self._directory_lock: DirectoryLock | None = None
        self._is_open = False
        try:
            self.tiers += opening.open_tiers(config, names, open_one=self._open_tier, absent=self._absent)
            removals = self._adopt(self.tiers)
            self.mapping = EntryMapping(None)
            self._find_key()
            self.hits = HitLog(durable=self.durable, uses=self._uses)
            handoff = None
            if {"l2", "l3"} <= {*names}:
                handoff = Handoff(
                    l2_directory(config),
                    clock=clock,
                    password_changed=self.mapping.password_changed,
                    fsync=config.durability == "power",
                )
            self.stack = TierStack(
                self.tiers, clock=clock, counters=self.counters, hits=self.hits, handoff=handoff, removals=removals
            )
            self.reader = Reader(self.stack)
            self.mapping.renew = self.stack.peek
        except BaseException:
            for _, tier in self.tiers:
                tier.close()
            self._leave()
            raise
        self._publisher = Publisher(datetime.fromtimestamp(clock.now(), UTC))
        self.history = self._publisher.points
        self.upkeep = Upkeep(
            config,
            clock=clock,
            flush=self.stack.flush,
            sweep=lambda: self.stack.sweep(clock.now()),
            remember=self.remember,
        )
        self._watcher: Repeating | None = None
        self._is_open = True
        self.resume()
        _running.add(self)

    def statistics(self) -> CacheStatistics:
        """Return a copy of the statistics of this process, with the sizes of the tiers now."""
        return self.counters.snapshot(*self.stack.measure())

    def remember(self, *, ended: bool = False) -> None:
        """Add a point to the history, and publish it where other processes can read it."""
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        figures = self.counters.snapshot(*self.stack.measure(promote=ended))
        self._publisher.remember(figures, now)
        if self.durable and self._publisher.has_news(figures, ended=ended):
            self.stack.authority.write(lambda tier: self._publisher.publish(tier, figures, now, ended=ended), None)

    def published(self) -> list[ProcessStatistics]:
        """Return what processes on the same files have published of themselves, this one included."""
        none: dict[str, str] = {}
        return published(self.stack.authority.call(lambda tier: tier.metas(PREFIX), none).values())

    def sealing(self) -> Callable[[Decision], Decision] | None:
        """Make sure of the key before credentials are written; return a function that does so in the transaction."""
        if self.keys is None:
            return None
        self.keys.prepare(self.stack.each_durable)
        if self.stack.authority.sick and self.sealer is not None:
            self.sealer.reload()  # a record that waits for long must not be sealed with a key that is gone by then
        return self.keys.guard

    def ask_for_upkeep(self) -> None:
        """Have due maintenance done, without waiting for it if it could take long."""
        if self._watcher is None:
            self.upkeep.tick()
        else:
            self.upkeep.ask()
            self._watcher.wake()

    def resume(self) -> None:
        """Start the thread that looks after the files, or that cleans up in the background."""
        if self._watcher is None and (self.durable or self.config.enable_background_cleanup):
            self._watcher = Repeating(
                self._look, LOOK_SECONDS, name="proxywhirl-cache", failing="the files of the cache are not looked after"
            )

    def pause(self, timeout: float | None = None) -> None:
        """Stop that thread; wait for it up to `timeout` seconds."""
        if self._watcher is not None:
            self._watcher.stop(timeout)
            self._watcher = None

    def close(self) -> None:
        """Write what is still in memory; close every file."""
        _running.discard(self)
        self.pause()
        self.upkeep.stop()
        self.stack.flush()
        if self.config.enable_statistics and self.durable:
            self.remember(ended=True)
        self.stack.close()
        self._leave()

    def drop(self) -> None:
        """Close every file and write nothing, for a manager that went without `close`."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            self._let_go()
        else:
            watcher.end_with(self._let_go)

    def _let_go(self) -> None:
        _running.discard(self)
        self.upkeep.stop()
        self.stack.release()
        self._leave()

    def abandon(self) -> list[Record]:
        """Leave everything to the parent process, closing nothing: that would be its files' end.

        Returns the records that are in memory alone, and so in the child's memory too.
        """
        _running.discard(self)
        _of_the_parent.append(self)
        for _, tier in self.tiers:
            forget = getattr(tier, "abandon", None)  # third-party tiers need not have files
            if forget is not None:
                forget()
        self.stack.abandon()
        self._leave()
        return [] if self.durable else self.tiers[0][1].scan("", sys.maxsize)

    def _leave(self) -> None:
        if self._directory_lock is not None:
            self._directory_lock.close()

    def _look(self) -> None:
        self.stack.refresh(promote=False)
        self.upkeep.tick(watching=True)

    def _open_tier(self, name: TierName) -> Tier:
        """Open a tier; of the second one, hold its directory and read its notes."""
        if name == "l2" and self._directory_lock is None and backend_of(self.config) is not None:
            self._directory_lock = DirectoryLock(l2_directory(self.config))
        tier = opening.open_tier(self.config, name, self._uses)
        if name == "l2":
            try:
                tier.metas("")
            except BaseException:
                tier.close()
                raise
        return tier

    def _absent(self, name: TierName, reason: TierError) -> Tier:
        return cast("Tier", AbsentTier(reason, partial(self._reopen, name)))

    def _reopen(self, name: TierName) -> Tier:
        """Open a tier that could not be opened before, and make it one store with the others."""
        if not self._is_open:
            raise TierError("the other tiers are being opened")
        tier = self._open_tier(name)
        before = self.tiers
        tiers = [(each, tier if each == name else other) for each, other in before]
        try:
            if name == before[-1][0]:
                self._join_windows(tiers)
            else:
                self._join_authority(tier)
            self.tiers = tiers
            if self.sealer is None:
                self._find_key()
        except BaseException:
            self.tiers = before
            tier.close()
            raise
        return tier

    def _join_authority(self, window: Tier) -> None:
        authority = self.stack.authority
        there = authority.call(lambda tier: (tier.get_meta(STORE_ID), tier.revision, noted(tier)), None)
        if there is None:
            raise TierError(f"it waits for tier {authority.name}")
        rejoin(window, there[0] or "", there[1])
        if not noted(window):  # the note was lost with the tier's file
            leave_notes(window, there[2])

    def _join_windows(self, tiers: list[tuple[TierName, Tier]]) -> None:
        """Make an authority one store with the window that stood in for it, once the keys are known to open both."""
        (window,) = self.stack.windows

        def join(_: Tier) -> bool:
            try:
                open_sealer(self.config, tiers, whole=False)
                self._adopt(tiers, timeout=0.0)
            except CacheError as exc:
                raise DecisionError(exc) from exc  # not the window's fault
            return True

        if not window.call(join, False, PAGE, waits=True):
            raise TierError(f"it waits for tier {window.name}")
        self.stack.rejoin(tiers[-1][1])

    def _find_key(self) -> None:
        """Find the key, or make one where every durable tier could be read."""
        there = [(name, tier) for name, tier in self.tiers if not isinstance(tier, AbsentTier)]
        whole = len(there) == len(self.tiers)
        self.sealer = open_sealer(self.config, there, whole=whole)
        self.keys = KeyNotes(self.sealer, lambda: self.tiers[-1][1]) if self.sealer is not None else None
        self.mapping.seal_with(self.sealer)
        if self.sealer is None and not whole:
            unread = ", ".join(name for name, tier in self.tiers if isinstance(tier, AbsentTier))
            self.mapping.refusal = (
                f"there is no key, and none is made while tier {unread} cannot be read: mend what the log says of it, "
                f"or set {KEY_VARIABLE}"
            )

    def _adopt(
        self, tiers: list[tuple[TierName, Tier]], *, timeout: float = OPENING_TIMEOUT_SECONDS
    ) -> Removals | None:
        """Make the tiers one store; return what notes removals, if a tier that is off has to know of them later."""
        durable = [(name, tier) for name, tier in tiers if name != "l1" and not isinstance(tier, AbsentTier)]
        if not durable or isinstance(tiers[-1][1], AbsentTier):
            return None
        directory = l2_directory(self.config)
        removals = None
        if durable[0][0] == "l2":
            removals = Removals(directory, clock=self.clock, fsync=self.config.durability == "power")
        place = opening_lock(self.config, l3=durable[-1][0] == "l3")
        try:
            with FileLock(place, timeout=timeout, mode=0o600):
                for _, tier in tiers:
                    if isinstance(tier, AbsentTier) and is_new_store(durable[-1][1]):
                        raise TierError(tier.reason)
                adopt(durable, removals)
        except Timeout as exc:
            raise TierError(f"{place} stayed locked by another process that opens the same store") from exc
        except OSError as exc:
            raise TierError(explained(exc, "making", place)) from exc
        return removals if has_left(durable[-1][1]) else None


def _before_fork() -> None:
    deadline = time.monotonic() + FORK_WAIT_SECONDS
    for engine in list(_running):
        engine.pause(max(0.0, deadline - time.monotonic()))


def _in_parent() -> None:
    for engine in list(_running):
        engine.resume()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent)


_open: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


class Lifecycle:
    """Owns an engine, and has at hand what a read needs of it.

    The configuration is checked again, since it may have been changed.
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

    def __exit__(self, *_: object) -> None:
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
        self._snapshot = engine.mapping.snapshot
        self._used = engine.mapping.used
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
        """Give a cache in memory alone the records that the fork copied."""
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
