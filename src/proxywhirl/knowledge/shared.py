"""Writes down what a pool learns, and hands it what others wrote; see `proxywhirl.knowledge` for the rules."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING

from proxywhirl.backoff import Backoff, Trials
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import CacheError
from proxywhirl.knowledge.follower import Follower
from proxywhirl.knowledge.records import (
    BANS,
    BATCH,
    HOLDS,
    SESSIONS,
    SITES,
    BanRecords,
    HoldRecords,
    SessionRecords,
    SiteRecords,
    hold_of,
    session_of,
    site_name,
    site_of,
)
from proxywhirl.knowledge.write_buffer import WriteBuffer
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.rotation.sites.sharing import SiteRecord
from proxywhirl.state.forking import register
from proxywhirl.state.store import Store

if TYPE_CHECKING:
    from proxywhirl.rotation.pool import Pool

_log = logging.getLogger(__name__)

BACKOFF = Backoff(1.0, 30.0)
KEPT = 200_000
SWEEP_SECONDS = 60.0
"""Seconds between deletions of ended and surplus records, in batches; also after `SWEEP_WRITES` bans at once."""

SWEEP_WRITES = 10_000
SWEEP_BATCH = 5_000
USES_SECONDS = 1.0
"""Seconds between writes of a session's last use, which matters only after minutes."""


class _Access(Trials):
    """Whether to ask a store: not while it is left alone after a failure. `meanwhile` is for the log. Thread-safe."""

    def __init__(self, clock: Clock, meanwhile: str) -> None:
        super().__init__(BACKOFF, clock.monotonic)
        self._meanwhile = meanwhile
        self._lock = threading.Lock()

    def failed(self, exc: CacheError) -> None:
        """Leave the store alone for a while."""
        with self._lock:
            if not self.failures:
                _log.warning("%s until the state is well again: %s", self._meanwhile, exc)
            self.fail()

    def succeeded(self) -> None:
        """Ask the store as ever."""
        with self._lock:
            self.succeed()
        _log.warning("the state is well again: it is read and written as before")


class Knowledge:
    """The knowledge of one process, and its exchange with all others. Thread-safe.

    `bans`, `lift`, `sessions`, `end` and `hold` raise `TierError` where the store cannot be read or written.

    Args:
        store: Where it is kept.
        clock: Its wall clock is what processes agree on; its monotonic time paces saving.
        kept: How many bans, and how many sessions, are kept at the most; the soonest forgotten go first.

    Attributes:
        name: what a message calls it.
        lock: held while sessions are assigned in memory; a fork waits for it.
    """

    def __init__(self, store: Store, *, clock: Clock = SYSTEM_CLOCK, kept: int = KEPT) -> None:
        self._store = store
        self._clock = clock
        self._kept = kept
        self._bans = BanRecords(store, clock)
        self._sites = SiteRecords(store, clock)
        self._sessions = SessionRecords(store, clock)
        self._holds = HoldRecords(store, clock)
        self._follower = Follower(store)
        self._readable = _Access(clock, "what other processes find out is not seen")
        self._writable = _Access(clock, "what choosing learns stays in memory")
        self._unsaved = WriteBuffer(kept)
        self._next_uses = 0.0
        self._next_sweep = 0.0
        self._swept_after = 0  # bans that were written since
        self._told = False
        self._known: OrderedDict[str, Assignment] = OrderedDict()  # the last assigned at the end
        self.name = "what is known"
        self._process = token_hex(8)
        self.lock = threading.RLock()
        self._feeding = threading.Lock()  # one saves and follows at a time
        register(self)

    def close_for_fork(self) -> bool:
        """See `ForkAware`: there is nothing to close."""
        return True

    def reset_in_child(self) -> None:
        """See `ForkAware`: the thread that may be feeding has stayed with the parent."""
        self.lock = threading.RLock()
        self._feeding = threading.Lock()
        self._process = token_hex(8)

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:
        """See `Ledger`. `propose` is called within the transaction: it must neither wait nor come back here.

        While the store is sick the session gets its proxy by the knowledge here; that is saved when it is well.
        """
        if self._writable.due:
            try:
                if self._unsaved.sessions:
                    self._save_sessions()
                made = self._sessions.assign(session, propose)
            except CacheError as exc:
                self._writable.failed(exc)
            else:
                if self._writable.failures:
                    self._writable.succeeded()
                with self.lock:
                    self._remember(session, made)
                return made
        with self.lock:
            made = propose(self._known.get(session))
            self._unsaved.take_session(session, made)
            self._remember(session, made)
        return made

    def assigned(self, session: str) -> Assignment | None:
        """See `Ledger`; where the store is sick, return what is known here."""
        with self.lock:
            unsaved = self._unsaved.sessions.get(session)
        if unsaved is None and self._readable.due:
            try:
                return self._sessions.get(session)
            except CacheError as exc:
                self._readable.failed(exc)
        with self.lock:
            return unsaved or self._known.get(session)

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """See `Ledger`."""
        return self._holds.hold(key, now=now, until=until)

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """See `Ledger`."""
        return self._holds.extend(key, token, now=now, until=until)

    def free(self, key: str, token: int) -> None:
        """See `Ledger`; where the store is sick the hold ends when its time is over."""
        try:
            self._holds.free(key, token)
        except CacheError as exc:
            self._writable.failed(exc)

    def save(self, pool: Pool, *, last: bool = False) -> None:
        """Write down the pool's findings since the last time; with `last` do not wait for a better time.

        Raises nothing of the store's: a failed write is made later.
        """
        with self._feeding:
            if bans := pool.collect_bans():
                self._unsaved.take_bans(bans, self._clock.now())
            if sites := pool.collect_sites(self._process, last=last):
                self._unsaved.take_sites(sites)
            if uses := pool.collect_uses():
                self._unsaved.take_uses(uses)
            if not (last or self._writable.due):
                return
            try:
                if self._save(last=last) and self._writable.failures:
                    self._writable.succeeded()
            except CacheError as exc:
                self._writable.failed(exc)

    def follow(self, pool: Pool) -> None:
        """Hand over what others wrote since the last time, at first everything; cheap without news.

        Raises nothing of the store's: a failed read is made later.
        """
        with self._feeding:
            if not self._readable.due:
                return
            try:
                if self._store.changed():
                    self._follower.look_again()
                if self._follower.behind:
                    self._follower.bans(pool.learn_bans, self._clock.now())
                    self._follower.follow(SITES, site_of, partial(self._learn_sites, pool))
                    self._follower.follow(SESSIONS, session_of, partial(self._learn_sessions, pool))
                    self._follower.follow(HOLDS, hold_of, partial(self._learn_holds, pool))
            except CacheError as exc:
                self._readable.failed(exc)
            else:
                if self._readable.failures:
                    self._readable.succeeded()

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the bans of proxies that are gone.

        A session stays with a proxy that is gone: it is to be told that it moves, or that it is lost.
        """
        gone = set(keys)
        with self._feeding:
            self._unsaved.forget(gone)
            if self._unsaved.gone and self._writable.due:
                try:
                    self._forget()
                except CacheError as exc:
                    self._writable.failed(exc)

    def bans(self) -> dict[Pair, Ban]:
        """Return the bans that are written down and hold now."""
        return self._bans.lasting()

    def lift(self, pairs: Iterable[Pair]) -> None:
        """Lift bans, for every process."""
        self._bans.lift(pairs)
        self._follower.look_again()

    def sessions(self) -> dict[str, Assignment]:
        """Return the sessions that are written down, by their ids."""
        return self._sessions.all()

    def end(self, session: str) -> bool:
        """End a session, by its id, for every process; return whether there was one."""
        with self.lock:
            self._unsaved.sessions.pop(session, None)
        ended = self._sessions.end(session)
        self._follower.look_again()
        return ended

    def _save(self, *, last: bool) -> bool:
        """Write what is due now; return whether that was anything."""
        wrote = bool(self._unsaved.gone or self._unsaved.sessions)
        if self._unsaved.gone:
            self._forget()
        if self._unsaved.sessions:
            self._save_sessions()
        if self._unsaved.sites:  # before bans: of these none may go into a file that is found to be damaged
            self._sites.save(self._unsaved.sites)
            self._unsaved.sites = {}
            self._follower.behind.add(SITES)  # what it was merged with is news
            wrote = True
        while self._unsaved.bans:
            batch = dict(islice(self._unsaved.bans.items(), BATCH))
            self._follower.wrote(self._bans.save(batch, self._unsaved.lifted & batch.keys()), len(batch))
            self._swept_after += len(batch)
            self._unsaved.saved(batch)
            wrote = True
        now = self._clock.monotonic()
        if self._unsaved.uses and (last or now >= self._next_uses):
            self._next_uses = now + USES_SECONDS
            with self.lock:
                known = {session: self._known[session] for session in self._unsaved.uses if session in self._known}
            self._sessions.touch(self._unsaved.uses, known)
            self._unsaved.uses = {}
            wrote = True
        if not last and (now >= self._next_sweep or self._swept_after >= SWEEP_WRITES):
            self._sweep(now)
            wrote = True
        return wrote

    def _sweep(self, now: float) -> None:
        """Delete a batch of each kind, and the rest with the next call."""
        full = False
        for kind in (BANS, SITES, SESSIONS, HOLDS):
            swept = self._store.sweep(kind, now=self._clock.now(), most=self._kept, limit=SWEEP_BATCH)
            full = full or swept.ended + swept.surplus == SWEEP_BATCH
            if swept.surplus and not self._told:
                _log.warning("more than %d %ss are kept: those that are forgotten soonest go first", self._kept, kind)
                self._told = True
        if not full:
            self._next_sweep, self._swept_after = now + SWEEP_SECONDS, 0

    def _forget(self) -> None:
        self._bans.forget(self._unsaved.gone)
        self._unsaved.gone = set()
        self._follower.look_again()

    def _save_sessions(self) -> None:
        with self.lock:
            self._sessions.restore(self._unsaved.sessions)
            self._unsaved.sessions.clear()
        self._follower.look_again()  # assignments that others made first stand

    def _remember(self, session: str, assignment: Assignment) -> None:
        self._known[session] = assignment
        self._known.move_to_end(session)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)

    def _learn_sites(self, pool: Pool, news: Mapping[str, SiteRecord]) -> None:
        """Hand over what all know of sites."""
        pool.learn_sites({site_name(key): record for key, record in news.items()}, self._process)

    def _learn_sessions(self, pool: Pool, news: Mapping[str, Assignment | None]) -> None:
        """Hand over news of the sessions that were asked for here: others may have any number."""
        told: dict[str, Assignment | None] = {}
        with self.lock:
            for session in self._known.keys() & news.keys():
                assignment = news[session]
                if assignment == self._known[session]:
                    continue
                if assignment is None:
                    del self._known[session]
                else:
                    self._known[session] = assignment
                told[session] = assignment
        if told:
            pool.learn_sessions(told)

    def _learn_holds(self, pool: Pool, news: Mapping[str, tuple[int, float]]) -> None:
        """Hand over the holds of others."""
        told = {key: until for key, (token, until) in news.items() if not self._holds.is_mine(key, token)}
        if told:
            pool.learn_holds(told)
