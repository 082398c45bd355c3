"""The pool: which proxy serves the next request.

`acquire` decides in memory, under one lock, with a `Chooser`. Processes agree on two things through the ledger, without
the lock: the proxy of a session, and the holder of an exclusive lease.

The pool holds no credential: `resolve` reads it when a connection is made. Neither `resolve`, `on_report`, `on_health`
nor the ledger is called under the lock, so they may wait, or call the pool.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self, Unpack

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import LeaseExpired, PoolEmpty, ProxyGone, SessionLost
from proxywhirl.models import Outcome, Proxy, Sketch, Target
from proxywhirl.rotation.affinity.ledger import Assignment, Ledger, MemoryLedger
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.exclusive import ExclusiveLeases
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.proxy_state import FAILURES_TO_CAP, NO_LIMITS, Limits, ProxyState
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.explain import Explanation, explain, pool_empty
from proxywhirl.rotation.selection.filters import Wishes
from proxywhirl.rotation.selection.pool_options import DEFAULT_STRATEGY, PoolOptions
from proxywhirl.rotation.selection.request_options import ANYTHING, Criteria
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.rotation.sites.learning import EVERYBODY
from proxywhirl.rotation.sites.sharing import SiteRecord
from proxywhirl.rotation.sticky import StickyLeases
from proxywhirl.urls import ProxyURL, parse
from proxywhirl.validation import require, require_number

_DEFAULT_POLICY = SessionPolicy()


@dataclass(frozen=True, slots=True)
class ProxyUse:
    """What the pool knows of one proxy at one moment.

    `served` and `failed` count reports of success and of failures that are the proxy's own.
    `set_aside_until` is in seconds on the pool's monotonic clock, None where the proxy is ready; while a trial is under
    way it is when that ends by itself.
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
        strategy: The name of a built-in strategy or of an entry point, and wishes (see `selection.pool_options`).
        resolve: Gives the URL with its credential for a key, None where that is known no more.
        rng: The source of every random decision; seed it to repeat a run.
        clock: Its monotonic time says what is due. Bans and sessions outlive the process and go by the other.
        on_report: Told of each report after the pool has learnt from it.
        on_health: Told by key of what tells of a proxy's own health: a success, or a failure that is its own, and of
            leases that were out together no more than the first. None takes its last failure back: a site hangs.
        portray: Makes the value of a key and a sketch, for a pool that is filled with these. Must not wait.
        limits: How much one proxy may be used.
        sessions: How long a session lasts, and whether it may move.
        success_worth: What a served request is worth, in the currency of `Attributes.price_per_gb`: `bandit` weighs it
            against what a proxy's bytes cost. None: prices do not count, but for the strategy `cheapest`.
        ledger: What sessions and exclusive leases are agreed on through; None for one in memory.

    Raises:
        UnknownNameError: No strategy has that name.
        SettingsError: A wish of the strategy is wrong.
        ValueError: `success_worth` is not more than 0.
    """

    def __init__(
        self,
        strategy: str = DEFAULT_STRATEGY,
        *,
        resolve: Callable[[str], ProxyURL | None],
        rng: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_report: Callable[[Proxy, Outcome], None] | None = None,
        on_health: Callable[[str, Outcome | None], None] | None = None,
        portray: Callable[[str, Sketch], Proxy] | None = None,
        limits: Limits = NO_LIMITS,
        sessions: SessionPolicy = _DEFAULT_POLICY,
        success_worth: float | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if rng is None:
            rng = random.Random()  # noqa: S311 - spreads load, guards no secret
        require("rng", rng, random.Random, "a random.Random")
        require("limits", limits, Limits, "a value of Limits")
        require("sessions", sessions, SessionPolicy, "a SessionPolicy")
        if success_worth is not None:
            require_number("success_worth", success_worth, more="; leave it out for prices not to count")
        agreed = MemoryLedger() if ledger is None else ledger
        self._options = PoolOptions.read(strategy)
        self._chooser = Chooser(self._options, rng, clock, limits, portray, success_worth)
        self._lock = threading.Lock()
        self._sticky = StickyLeases(self, self._chooser, self._lock, agreed, sessions)
        self._exclusive = ExclusiveLeases(self, self._chooser, self._lock, agreed)
        self._resolve = resolve
        self._clock = clock
        self._on_report = on_report
        self._on_health = on_health

    @classmethod
    def of(
        cls,
        urls: Iterable[str | ProxyURL],
        strategy: str = DEFAULT_STRATEGY,
        *,
        rng: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
        limits: Limits = NO_LIMITS,
        sessions: SessionPolicy = _DEFAULT_POLICY,
        success_worth: float | None = None,
    ) -> Self:
        """Build a pool in memory from proxy URLs; a repeated identity counts once, its last URL wins.

        Raises:
            ProxyURLError: One of `urls` is not a proxy.
            TypeError: `urls` is a lone one, or holds what is neither a text nor a `ProxyURL`.
        """
        if isinstance(urls, str | ProxyURL):
            raise TypeError("urls must be a list of proxy URLs, not one: put it in brackets")
        known = {url.key: url for url in map(_url, urls)}
        pool = cls(
            strategy,
            resolve=known.get,
            rng=rng,
            clock=clock,
            limits=limits,
            sessions=sessions,
            success_worth=success_worth,
        )
        pool.update(map(Proxy.of, known.values()))
        return pool

    def update(self, proxies: Iterable[Proxy]) -> None:
        """Add proxies, or replace those of the same key, whose statistics and state are kept.

        One that is handed in as dead is set aside, as if it had failed often enough for the longest back-off; it is
        tried when it is due, and comes back with a success, or when it is handed in as another.
        """
        for proxy in proxies:  # the lock is taken for each: `proxies` may be a slow scan of the store
            require("a proxy", proxy, Proxy, "a Proxy; Proxy.of makes it of a URL")
            with self._lock:
                self._chooser.put(proxy)
                self._sticky.came((proxy.key,))

    def stock(self, sketches: Mapping[str, Sketch], *, aside: bool = False) -> None:
        """Do as `update` with sketches, by key, in a fraction of the time; `aside` sets all of them aside as dead ones.

        Requests wait meanwhile, half a millisecond for each thousand.
        """
        with self._lock:
            self._chooser.take_in(sketches, aside=aside)
            self._sticky.came(sketches.keys())

    def discard(self, keys: Iterable[str]) -> None:
        """Forget proxies; unknown keys are ignored. Leases on them can still be reported."""
        if isinstance(keys, str):
            raise TypeError("keys must be a set or a list of keys, not one: put it in brackets")
        for key in keys:
            with self._lock:
                self._forget(key)

    def acquire(
        self,
        target: Target | str | None = None,
        *,
        session: str | None = None,
        exclude: Collection[str] = (),
        exclusive: bool = False,
        ttl: float | None = None,
        within: float | None = None,
        **wishes: Unpack[Wishes],
    ) -> Lease:
        """Choose a proxy.

        Args:
            target: Where the request goes, as a value or a URL: a proxy that is banned there is not chosen.
            session: A name that is to have the same proxy, whatever process asks, for as long as the session lasts.
            exclude: Keys that are not wanted (a set, where there may be many).
            exclusive: Nobody else gets the proxy until the lease ends, in no process; see `Lease.token`.
            ttl: Seconds after which an exclusive lease ends by itself.
            within: Seconds in which the request has to be answered. `bandit` leaves out proxies that are probably too
                slow, as long as others can serve; no other strategy takes account of it.
            **wishes: What the proxy must be (see `Wishes`).

        Raises:
            PoolEmpty: Nobody can serve the request; the message says why, `retry_after` when that may change.
            SiteResting: The target failed through several proxies and is left alone for now.
            SessionLost: The proxy of a hard session cannot serve it.
            ProxyURLError: `target` is a text and no absolute http or https URL.
            TypeError: An argument is of the wrong kind.
            ValueError: A wish is unknown or impossible, `session` is no name, `within` is not more than 0, or
                `exclusive` and `ttl` do not fit.
            TierError: An exclusive lease cannot be agreed on, since the ledger cannot be read or written.
        """
        anything = target is None and not wishes and not exclude and within is None
        criteria = ANYTHING if anything else Criteria.of(target, exclude, wishes, within)
        if exclusive or ttl is not None:
            return self._exclusive.acquire(criteria, session, ttl, exclusive=exclusive)
        if session is not None or self._options.sticky:
            return self._sticky.acquire(criteria, session)
        chooser = self._chooser
        with self._lock:
            now = self._clock.monotonic()
            site, barred = chooser.prepare(criteria, now)
            chosen = chooser.choose(criteria, site, barred)
            chooser.learning.exchange.asked = True
            if chosen is None:
                chooser.learning.exchange.unserved(site)
                raise pool_empty(chooser, criteria, site, now)
            key, why = chosen
            return chooser.begin(self, key, site, why, criteria, now)

    def explain(
        self,
        target: Target | str | None = None,
        *,
        session: str | None = None,
        exclude: Collection[str] = (),
        within: float | None = None,
        **wishes: Unpack[Wishes],
    ) -> Explanation:
        """Tell which proxy `acquire` would choose now, why, and what keeps out the others. Grants nothing. O(n).

        Raises:
            ProxyURLError: `target` is a text and no absolute http or https URL.
            ValueError: A wish is unknown or impossible, or `within` is not more than 0.
        """
        criteria = Criteria.of(target, exclude, wishes, within)
        sticks = session is not None or self._options.sticky
        asked = self._sticky.read(criteria, session) if sticks else None
        with self._lock:
            key, refusal = None, ""
            if asked is not None:
                try:
                    key = self._sticky.look(criteria, *asked)
                except (PoolEmpty, SessionLost) as exc:
                    refusal = str(exc)
            return explain(self._chooser, criteria, session_key=key, refusal=refusal)

    def snapshot(self) -> list[ProxyUse]:
        """Return what is known of every proxy, in the order in which they were added. O(n)."""
        with self._lock:
            known = [(key, self._use(key, state)) for key, state in self._chooser.held.items()]
        make = self._chooser.states.make
        return [
            use if isinstance(use, ProxyUse) else ProxyUse(make(key, use[0]), 0, 0, 0, *use[1:]) for key, use in known
        ]

    def keys(self) -> list[str]:
        """Return the keys of all proxies, in the order in which they were added. O(n)."""
        with self._lock:
            return list(self._chooser.held)

    def __len__(self) -> int:
        return len(self._chooser.held)

    def __contains__(self, key: str) -> bool:
        return key in self._chooser.held

    # What is learnt, for those who write it down; and what others wrote.

    def bans(self) -> dict[Pair, Ban]:
        """Return the bans that hold, by key and site. O(bans).

        A group that is barred is in it by its text, such as `203.0.113.0/24` or `gateway gw.example`, with `*:group`
        for the site where it is barred everywhere.
        """
        with self._lock:
            held = self._chooser.learning.book.held(self._clock.now())
        return {pair: ban for pair, ban in held.items() if pair[0] != EVERYBODY}

    def collect_bans(self) -> dict[Pair, Ban]:
        """Return the bans that changed here since the last call; with the key `*`, which sites are left alone."""
        with self._lock:
            return self._chooser.learning.book.collect()

    def learn_bans(self, bans: Mapping[Pair, Ban]) -> None:
        """Take in bans that others found out, or lifted (`until` is in the past then)."""
        with self._lock:
            self._chooser.learning.learn_bans(bans)

    def collect_sites(self, name: str, *, last: bool = False) -> dict[str, SiteRecord]:
        """Return what was learnt of sites since the last call, and which of them are in use, by site.

        Args:
            name: That of this process among all that share its proxies.
            last: It ends, so that others may have its part of the proxies.
        """
        with self._lock:
            return self._chooser.learning.exchange.collect(name, last=last)

    def learn_sites(self, records: Mapping[str, SiteRecord], name: str) -> None:
        """Take in what all processes know of sites, as `sharing.merged` makes it; `name` is this process."""
        with self._lock:
            self._chooser.learn_sites(records, name)

    def collect_uses(self) -> dict[str, float]:
        """Return when sessions were last used (Unix seconds), of those that were since the last call, by id."""
        with self._lock:
            return self._sticky.sessions.collect()

    def learn_sessions(self, sessions: Mapping[str, Assignment | None]) -> None:
        """Take in what others agreed on, by id; None ends a session."""
        with self._lock:
            self._sticky.sessions.learn(sessions)

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """Take in until when others hold proxies (Unix seconds), by key; the past means that one is free."""
        with self._lock:
            self._exclusive.learn(holds)

    # For leases.

    def endpoint(self, lease: Lease) -> ProxyURL:
        """See `Lease.endpoint`."""
        key = lease.proxy.key
        if lease.expires_at is not None and self._clock.now() >= lease.expires_at:
            raise LeaseExpired(f"the exclusive lease on {lease.proxy} ended: acquire another, or renew in time")
        url = self._resolve(key)
        if url is None:
            with self._lock:
                if self._chooser.held.get(key) is lease.state:  # not one that was added again meanwhile
                    self._forget(key)
            raise ProxyGone(f"{lease.proxy} was removed after it was chosen; acquire another")
        return url

    def release(self, lease: Lease, outcome: Outcome | None) -> bool:
        """End a lease; False where it was ended before."""
        with self._lock:
            if lease.ended:
                return False
            lease.ended = True
            told = self._chooser.end(lease, outcome, self._clock.monotonic())
        if lease.token is not None:
            self._exclusive.free(lease)
        if self._on_health is not None:
            for key, of_health in told:
                self._on_health(key, of_health)
        if outcome is not None and self._on_report is not None:
            self._on_report(lease.proxy, outcome)
        return True

    def renew(self, lease: Lease, ttl: float) -> None:
        """See `Lease.renew`."""
        self._exclusive.renew(lease, ttl)

    def lost(self, lease: Lease) -> None:
        """Take note of a lease that nobody holds any more. Takes no lock: the garbage collector calls it anywhere."""
        self._chooser.dropped.append(lease)

    def _forget(self, key: str) -> None:
        if self._chooser.forget(key):
            self._sticky.went(key)

    def _use(self, key: str, state: ProxyState | Sketch) -> ProxyUse | tuple[Sketch, float | None, int]:
        """Return what is known of a proxy; of a sketch without its value, which takes time to make."""
        until = self._chooser.availability.aside.at.get(key)
        if isinstance(state, ProxyState):
            return ProxyUse(state.proxy, state.served, state.failed, state.in_flight, until, state.failures)
        return state, until, 0 if until is None else FAILURES_TO_CAP


def _url(url: str | ProxyURL) -> ProxyURL:
    require("a proxy", url, (str, ProxyURL), "a URL as text or a ProxyURL")
    return parse(url) if isinstance(url, str) else url
