"""How a proxy is given to one holder alone, in all processes on a home.

The chooser picks as for any request, and a pick that is in use here is passed over. The ledger has the last word: it
gives a token for the proxy, or says that another process holds it. Then the lease is given back, the proxy
is left out for a moment, and the next one is tried. The holds known here keep other requests off the proxy until then.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import replace

from proxywhirl.errors import LeaseExpired, PoolEmpty, TierError
from proxywhirl.rotation.affinity.ledger import Ledger
from proxywhirl.rotation.lease import Grantor, Lease
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.explain import free_in, pool_empty
from proxywhirl.rotation.selection.request_options import Criteria
from proxywhirl.validation import require, require_number

_log = logging.getLogger(__name__)

DEFAULT_TTL = 60.0
"""Seconds that an exclusive lease lasts where none are named."""

_ELSEWHERE = 1.0
"""Seconds for which a proxy is passed over that turned out to be another's; `learn` knows better soon."""


class ExclusiveLeases:
    """Grants exclusive leases."""

    def __init__(self, grantor: Grantor, chooser: Chooser, lock: threading.Lock, ledger: Ledger) -> None:
        self._grantor = grantor
        self._chooser = chooser
        self._lock = lock
        self._ledger = ledger
        self._clock = chooser.clock

    def acquire(self, criteria: Criteria, session: str | None, ttl: float | None, *, exclusive: bool) -> Lease:
        """Grant an exclusive lease on a proxy that nobody uses.

        Raises:
            PoolEmpty: all proxies that could serve are used or held; `retry_after` says when one may be free.
            SiteResting: the site is left alone for now.
            ValueError: the arguments do not fit each other.
            TierError: the ledger cannot be read or written.
        """
        seconds = _checked(session, ttl, exclusive=exclusive)
        tried = set(criteria.exclude)
        while True:
            asked = replace(criteria, exclude=tried)
            wall = self._clock.now()  # before the pool's own time is read, which keeps others off for as long
            lease = self._take(asked, seconds, tried, criteria)
            if lease is None:
                continue
            token = None
            try:
                token = self._ledger.hold(lease.proxy.key, now=wall, until=wall + seconds)
            finally:
                if token is None:
                    self._give_back(lease)
            if token is not None:
                lease.token, lease.expires_at = token, wall + seconds
                return lease
            tried.add(lease.proxy.key)

    def renew(self, lease: Lease, ttl: float) -> None:
        """See `Lease.renew`."""
        if lease.token is None or lease.expires_at is None:
            raise ValueError("only an exclusive lease can be renewed")
        seconds = _checked(None, ttl, exclusive=True)
        key, wall = lease.proxy.key, self._clock.now()
        if lease.ended or lease.lapsed or not self._ledger.extend(key, lease.token, now=wall, until=wall + seconds):
            raise LeaseExpired(f"the exclusive lease on {lease.proxy} ended: acquire another, or renew in time")
        with self._lock:
            lease.expires_at = wall + seconds
            if not lease.ended and not lease.lapsed:
                self._chooser.holds.hold(lease, self._clock.monotonic() + seconds)

    def free(self, lease: Lease) -> None:
        """End an exclusive lease that was ended. One that cannot be written off ends by itself."""
        if lease.token is None:
            return
        with self._lock:
            self._chooser.holds.unhold(lease)
        try:
            self._ledger.free(lease.proxy.key, lease.token)
        except TierError as exc:
            _log.warning("the exclusive lease on %s is over, which others learn when its time is: %s", lease.proxy, exc)

    def learn(self, holds: Mapping[str, float]) -> None:
        """Take in until when others hold proxies (Unix seconds), by key. Called under the lock."""
        now, wall = self._clock.monotonic(), self._clock.now()
        for key, until in holds.items():
            self._chooser.holds.elsewhere(key, now + until - wall if until > wall else None)

    def _take(self, criteria: Criteria, seconds: float, tried: set[str], first: Criteria) -> Lease | None:
        """Take a proxy here; None, and one more in `tried`, where the one that was chosen is in use."""
        with self._lock:
            now = self._clock.monotonic()
            site, barred = self._chooser.prepare(criteria, now)
            chosen = self._chooser.choose(criteria, site, barred)
            if chosen is None:
                used = len(tried) - len(first.exclude)
                if used <= 0:
                    raise pool_empty(self._chooser, criteria, site, now)
                words = f"{used} who could serve are in use or held by others, and an exclusive lease needs one alone"
                raise PoolEmpty(words, retry_after=free_in(self._chooser, first, site, now))
            key, why = chosen
            state = self._chooser.states.slot(key)
            if state is not None and state.in_flight:
                tried.add(key)
                return None
            lease = self._chooser.begin(self._grantor, key, site, why, first, now)
            self._chooser.holds.hold(lease, now + seconds)
            return lease

    def _give_back(self, lease: Lease) -> None:
        lease.release()
        with self._lock:
            self._chooser.holds.unhold(lease)
            holds, key = self._chooser.holds, lease.proxy.key
            if key not in holds:  # else the time of another's hold was learnt meanwhile
                holds.put(key, self._clock.monotonic() + _ELSEWHERE)


def _checked(session: str | None, ttl: float | None, *, exclusive: bool) -> float:
    if not exclusive:
        raise ValueError("ttl is the time of an exclusive lease: say exclusive=True, or leave it out")
    if session is not None:
        raise ValueError("a lease is exclusive or for a session, not both: a session shares its proxy")
    require("exclusive", exclusive, bool, "True or False")
    seconds = DEFAULT_TTL if ttl is None else ttl
    require_number("ttl", seconds, "seconds")
    if seconds == math.inf:
        raise ValueError(
            "ttl must be more than 0 seconds and finite: who dies while holding would keep the proxy for ever"
        )
    return seconds
