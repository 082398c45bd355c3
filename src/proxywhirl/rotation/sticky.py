"""How a session gets its proxy: by hashing its name, and by agreement with whoever else knows the session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from proxywhirl.clock import Clock
from proxywhirl.errors import PoolEmpty, SessionLost, TierError
from proxywhirl.rotation.affinity.hash_ring import HashRing
from proxywhirl.rotation.affinity.ledger import Assignment, Ledger
from proxywhirl.rotation.affinity.sessions import SessionPolicy, Sessions, require_name, session_id, site_session_id
from proxywhirl.rotation.lease import Because, Lease
from proxywhirl.rotation.selection.chooser import COOLING, SET_ASIDE, Chooser
from proxywhirl.rotation.selection.emptiness import A_WHILE
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.sites.sites import Site
from proxywhirl.rotation.strategies.base import Barred

if TYPE_CHECKING:
    from proxywhirl.rotation.pool import Pool


_log = logging.getLogger(__name__)

_AGREEMENTS = 4
"""So often another process may have moved a session to a proxy that cannot serve here, until that is an error."""


class StickyLeases:
    """Grants leases to sessions.

    A session that is known costs no agreement. A new one, and one that has to move, falls to a proxy by consistent
    hashing, so that processes that know the same proxies think of the same one; whoever writes it down first decides.
    """

    def __init__(
        self, pool: Pool, chooser: Chooser, lock: threading.Lock, policy: SessionPolicy, ledger: Ledger, clock: Clock
    ) -> None:
        self.sessions = Sessions()
        self._pool = pool
        self._chooser = chooser
        self._lock = lock
        self._policy = policy
        self._ledger = ledger
        self._clock = clock
        self._ring: HashRing | None = None

    def came(self, keys: Collection[str]) -> None:
        """Take in proxies that may be new. Called under the lock."""
        if self._ring is not None:
            self._ring.add(keys)

    def went(self, key: str) -> None:
        """Forget a proxy. Called under the lock."""
        if self._ring is not None:
            self._ring.remove(key)

    def acquire(self, criteria: Criteria, name: str | None) -> Lease:
        """Grant a lease to a session; without a name, to that of all requests to the site.

        Raises:
            PoolEmpty: nobody can serve; or the session's proxy is at a limit, for `retry_after` seconds.
            SiteResting: the site is left alone for now.
            SessionLost: the session is hard, and its proxy cannot serve.
        """
        session = self._id(criteria, name)
        self._require_ring()
        lost: dict[str, str] = {}
        last_resort: str | None = None
        for _ in range(_AGREEMENTS):
            with self._lock:
                now, wall = self._clock.monotonic(), self._clock.now()
                self._pool.tidy(now)
                self._chooser.bring_back(now)
                site = self._chooser.site(criteria, now)
                barred = self._chooser.barred(site, criteria, now)
                known = self.sessions.get(session)
                if known is not None and self._policy.lasts(known, wall, self.sessions.last_use(session, known)):
                    problem = self._chooser.usable(known.key, criteria, barred)
                    if not problem or problem == COOLING or (problem == SET_ASIDE and known.key == last_resort):
                        self._require_room(known, site if problem == COOLING else None)
                        self.sessions.use(session, wall)
                        return self._grant(known.key, site, lost, now, again=bool(criteria.exclude))
                    lost[known.key] = problem
                    self._require_soft(problem)
                key = self._fall(session, known, criteria, barred)
                if key is None:
                    key, _ = self._chooser.choose(criteria, site, barred)
                    last_resort = key
            agreed = self._agree(session, key, lost, wall)
            with self._lock:
                self.sessions.put(session, agreed)
        raise PoolEmpty("other processes keep moving this session to proxies that cannot serve here: try again later")

    def _grant(self, key: str, site: Site | None, lost: dict[str, str], now: float, *, again: bool) -> Lease:
        before = next((other for other in lost if other != key), None) if lost else None
        moved = "" if before is None else f"moved away from {before}, since {lost[before]}"
        why: Because = ("session", 0, (), "", moved)
        lease = self._chooser.begin(self._pool, key, site, why, now)
        lease.moved_from, lease.again = before, again
        return lease

    def read(self, criteria: Criteria, name: str | None) -> tuple[str, Assignment | None]:
        """Return the id of a session and what the ledger has of it, for `look`. Not called under the lock."""
        session = self._id(criteria, name)
        self._require_ring()
        try:
            return session, self._ledger.assigned(session)
        except TierError as exc:
            _log.warning("what is written down of sessions cannot be read: %s", exc)
            return session, None

    def look(self, criteria: Criteria, session: str, written: Assignment | None) -> str | None:
        """Return the proxy that a session has, or would fall to; agrees on nothing. None where none is ready.

        Called under the lock, which the caller keeps for as long as the proxy has to be there.

        Raises:
            SessionLost: the session is hard, and its proxy cannot serve.
            PoolEmpty: the session's proxy is at a limit.
        """
        site = self._chooser.learning.peek(criteria.site) if criteria.site is not None else None
        barred = self._chooser.barred(site, criteria, self._clock.monotonic())
        known = self.sessions.used(session) or written
        if known is not None and self._policy.lasts(known, self._clock.now()):
            problem = self._chooser.usable(known.key, criteria, barred)
            if not problem or problem == COOLING:
                self._require_room(known, site if problem else None)
                return known.key
            self._require_soft(problem)
        return self._fall(session, known, criteria, barred)

    def _require_soft(self, problem: str) -> None:
        if self._policy.hard:
            raise SessionLost(f"the session's proxy cannot serve this request: {problem}; a hard session gets no other")

    def _require_room(self, known: Assignment, cooling: Site | None) -> None:
        availability = self._chooser.availability
        limited = availability.at_limit(known.key)
        if cooling is None and not limited:
            return
        now = self._clock.monotonic()
        waits = [] if cooling is None else [cooling.cooling.due_at(known.key) or now]
        if limited:
            waits.append(availability.limited.due_at(known.key) or now + A_WHILE)
        raise PoolEmpty("the session's proxy is at its limit of requests", retry_after=max(max(waits) - now, 0.0))

    def _id(self, criteria: Criteria, name: str | None) -> str:
        return site_session_id(criteria.site or "") if name is None else session_id(require_name(name))

    def _require_ring(self) -> None:
        """Make the ring when the first session comes: of many proxies that takes a while, so nobody waits for it."""
        if self._ring is not None:
            return
        with self._lock:
            known = set(self._chooser.held)
        ring = HashRing(known)
        with self._lock:
            if self._ring is None:
                for key in known - self._chooser.held.keys():
                    ring.remove(key)
                ring.add(self._chooser.held.keys() - known)
                self._ring = ring

    def _fall(self, session: str, known: Assignment | None, criteria: Criteria, barred: Barred) -> str | None:
        """Return the proxy that a session falls to, among those that can serve: not to the one that it had before."""
        if self._ring is None:
            return None
        chooser = self._chooser
        moves, former = (0, None) if known is None else (known.moves + 1, known.key)
        for wanted in chooser.options.filters_for(criteria.wanted):
            free = partial(chooser.free, criteria, barred, wanted)
            key = self._ring.choose(f"{session}:{moves}", lambda key, free=free: key != former and free(key))  # type: ignore[misc]  # bound now
            if key is not None:
                return key
        return None

    def _agree(self, session: str, key: str, lost: dict[str, str], wall: float) -> Assignment:
        def propose(written: Assignment | None) -> Assignment:
            if written is None:
                return Assignment(key, wall, wall)
            if written.key in lost or written.key not in self._pool:
                return Assignment(key, written.since, wall, written.moves + 1)
            if not self._policy.lasts(written, wall):
                return Assignment(key, wall, wall, written.moves + 1)
            return written

        try:
            return self._ledger.assign(session, propose)
        except TierError as exc:
            _log.warning("a session is known to this process alone: %s", exc)
            with self._lock:
                return propose(self.sessions.used(session))
