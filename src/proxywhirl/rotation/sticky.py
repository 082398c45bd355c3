"""How a session gets its proxy: by hashing its name, and by agreement with others that know the session.

A known session costs no agreement. A new one, and one that has to move, gets a proxy by consistent hashing, so that
processes that know the same proxies choose the same one. The first process that writes it down decides. The cases:

- its proxy can serve: it does, and the use is noted;
- its proxy is at a limit, or rests after its last use on the site: `PoolEmpty` says for how long;
- its proxy cannot serve: a soft session moves to another one, a hard one is `SessionLost`;
- a group of its proxy is barred: a soft session moves to a proxy outside of it, if there is one, a hard one stays;
- no ready proxy fits: the set-aside proxy that is due first serves as a last resort;
- others wrote down another proxy meanwhile: the same again with that one, a few times.

The lock of the pool is never held while the ledger is asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection

from proxywhirl.errors import PoolEmpty, SessionLost, TierError
from proxywhirl.rotation.affinity.ledger import Assignment, Ledger
from proxywhirl.rotation.affinity.sessions import (
    HashRing,
    SessionPolicy,
    Sessions,
    require_name,
    session_id,
    site_session_id,
)
from proxywhirl.rotation.lease import Because, Grantor, Lease
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.explain import A_WHILE, COOLING, GROUP, SET_ASIDE, pool_empty, why_not
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred

_log = logging.getLogger(__name__)

_AGREEMENTS = 4
"""How often another process may move a session to a proxy that cannot serve here, before that is an error."""


class StickyLeases:
    """Grants leases to sessions."""

    def __init__(
        self, grantor: Grantor, chooser: Chooser, lock: threading.Lock, ledger: Ledger, policy: SessionPolicy
    ) -> None:
        self.sessions = Sessions()
        self._grantor = grantor
        self._chooser = chooser
        self._lock = lock
        self._policy = policy
        self._ledger = ledger
        self._clock = chooser.clock
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
        """Grant a lease to a session; without a name, to the session of all requests to the site.

        Raises:
            PoolEmpty: nobody can serve; or the session's proxy is at a limit, for `retry_after` seconds.
            SiteResting: the site is left alone for now.
            SessionLost: the session is hard, and its proxy cannot serve.
        """
        session = site_session_id(criteria.site or "") if name is None else session_id(require_name(name))
        chooser = self._chooser
        filters = chooser.filters_for(criteria)
        if self._ring is None:
            self._make_ring()
        lost: dict[str, str] = {}
        last_resort: str | None = None
        for _ in range(_AGREEMENTS):
            with self._lock:
                now, wall = self._clock.monotonic(), self._clock.now()
                site, barred = chooser.prepare(criteria, now)
                known = self.sessions.known.get(session)
                if known is not None and self._policy.lasts(known, wall, self.sessions.last_use(session, known)):
                    problem = ""
                    if not chooser.may_serve(known.key, criteria, filters[-1], barred):
                        problem = why_not(chooser, known.key, criteria, site)
                    if (
                        not problem
                        or problem == COOLING
                        or (problem == SET_ASIDE and known.key == last_resort)
                        or (problem.startswith(GROUP) and (self._policy.hard or known.key == last_resort))
                    ):
                        if problem or not chooser.unlimited:
                            self._require_room(known, site if problem == COOLING else None)
                        self.sessions.use(session, wall)
                        return self._grant(known.key, site, lost, criteria, now)
                    lost[known.key] = problem
                    self._require_soft(problem)
                key = self._fall(session, known, criteria, barred)
                if key is None and known is not None and lost.get(known.key, "").startswith(GROUP):
                    last_resort = known.key
                    del lost[last_resort]
                    continue
                if key is None:
                    chosen = chooser.choose(criteria, site, barred)
                    if chosen is None:
                        raise pool_empty(chooser, criteria, site, now)
                    key = last_resort = chosen[0]
            agreed = self._agree(session, key, lost, wall)
            with self._lock:
                self.sessions.put(session, agreed)
        raise PoolEmpty("other processes keep moving this session to proxies that cannot serve here: try again later")

    def _grant(self, key: str, site: Site | None, lost: dict[str, str], criteria: Criteria, now: float) -> Lease:
        before = next((other for other in lost if other != key), None) if lost else None
        moved = "" if before is None else f"moved away from {before}, since {lost[before]}"
        why: Because = ("session", 0, (), "", moved)
        lease = self._chooser.begin(self._grantor, key, site, why, criteria, now)
        lease.moved_from = before
        return lease

    def read(self, criteria: Criteria, name: str | None) -> tuple[str, Assignment | None]:
        """Return the id of a session and what the ledger has of it, for `look`. Not called under the lock."""
        session = site_session_id(criteria.site or "") if name is None else session_id(require_name(name))
        if self._ring is None:
            self._make_ring()
        try:
            return session, self._ledger.assigned(session)
        except TierError as exc:
            _log.warning("what is written down of sessions cannot be read: %s", exc)
            return session, None

    def look(self, criteria: Criteria, session: str, written: Assignment | None) -> str | None:
        """Return the proxy that a session has or would get, agreeing on nothing; None where none is ready.

        Called under the lock, which the caller keeps for as long as the proxy has to be there.

        Raises:
            SessionLost: the session is hard, and its proxy cannot serve.
            PoolEmpty: the session's proxy is at a limit.
        """
        site = self._chooser.site(criteria)
        barred = self._chooser.barred(site, criteria, self._clock.monotonic())
        filters, known = self._chooser.filters_for(criteria), self.sessions.used(session) or written
        if known is not None and self._policy.lasts(known, self._clock.now()):
            problem = ""
            if not self._chooser.may_serve(known.key, criteria, filters[-1], barred):
                problem = why_not(self._chooser, known.key, criteria, site)
            alone = problem.startswith(GROUP)
            if not problem or problem == COOLING or (alone and self._policy.hard):
                self._require_room(known, site if problem == COOLING else None)
                return known.key
            self._require_soft(problem)
            return self._fall(session, known, criteria, barred) or (known.key if alone else None)
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
        waits = [] if cooling is None else [cooling.cooling.at.get(known.key) or now]
        if limited:
            waits.append(availability.limited.at.get(known.key) or now + A_WHILE)
        raise PoolEmpty("the session's proxy is at its limit of requests", retry_after=max(max(waits) - now, 0.0))

    def _make_ring(self) -> None:
        """Make the ring when the first session comes: with many proxies that takes a while, so nobody waits for it."""
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
        """Return the proxy that a session gets, among those that can serve: not the one that it had before."""
        chooser, ring = self._chooser, self._ring
        if ring is None:
            return None
        moves, former = (0, None) if known is None else (known.moves + 1, known.key)
        for wanted in chooser.filters_for(criteria):
            key = ring.choose(
                f"{session}:{moves}",
                lambda key, wanted=wanted: (  # type: ignore[misc]  # bound now
                    key != former
                    and chooser.may_serve(key, criteria, wanted, barred)
                    and (chooser.unlimited or not chooser.availability.at_limit(key))
                ),
            )
            if key is not None:
                return key
        return None

    def _agree(self, session: str, key: str, lost: dict[str, str], wall: float) -> Assignment:
        def propose(written: Assignment | None) -> Assignment:
            if written is None:
                return Assignment(key, wall, wall)
            if written.key in lost or written.key not in self._chooser.held:
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
