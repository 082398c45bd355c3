"""The composition root: settings become objects, and objects are wired to each other. Alone in knowing all packages.

While requests are served, one thread passes on ten times a second (`feed`):

- the log of the cache's changes to the pool, which asks the cache for a credential when a connection is made;
- the outcomes that were reported to the pool to the cache, as health checks in batches (`checkups`);
- what the pool learnt of sites and sessions to the other processes of the home, and back (`knowledge`).

A user's changes to the store go through here too, since they touch more than the cache: a removed proxy is kept out,
and its bans and its history are forgotten.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from proxywhirl.cache.change_feed import portray
from proxywhirl.cache.manager import CacheManager
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import CacheError, DecryptionError, ProxyGone, SettingsError, TierError
from proxywhirl.models import Attributes
from proxywhirl.repeating import Repeating
from proxywhirl.settings import Settings
from proxywhirl.state.store import Block, Blocklist, MemoryStore, StateStore, Store
from proxywhirl.urls import ProxyURL

if TYPE_CHECKING:
    from proxywhirl.checkups import Checkups
    from proxywhirl.events import EventBus
    from proxywhirl.gateway import Gateway
    from proxywhirl.health.monitor import Monitor, MonitorThread
    from proxywhirl.knowledge import Knowledge
    from proxywhirl.rotation.pool import Pool
    from proxywhirl.rotation.retries.send_policy import SendPolicy
    from proxywhirl.rotation.verdicts.rules import Classifier
    from proxywhirl.supply import Supply
    from proxywhirl.vendors.grammar import Wish

_log = logging.getLogger(__name__)

FEED_SECONDS = 0.1
NO_JUDGE = (
    "there is no judge to ask: `proxywhirl judge` serves one; name it in PROXYWHIRL_HEALTH_JUDGES (and do not set "
    "health.monitor to false)"
)
UNWRITABLE = "the store cannot be written to; nothing of this was done (the log says why)"


@dataclass(frozen=True, slots=True)
class Intake:
    """The result of offering proxies: `blocked` are the ones of `skipped` that the user removed before."""

    loaded: int
    skipped: int
    failed: int = 0
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """How many entries were removed, and how many of the named proxies were not there."""

    removed: int
    missing: int


class Runtime:
    """A cache, a pool that follows it, and what else the settings ask for. A context manager.

    The store is opened at once; every other part is made, and its modules are loaded, when it is first asked for.
    `feed` makes all that other threads use.

    Raises:
        CacheError: the store of the home cannot be opened (the message says what to do), or it cannot take what it is
            told to (from every method that changes it).
        UnknownNameError: no strategy has the configured name.
    """

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self._clock = clock
        self._revision = 0
        self._stale: set[str] = set()
        self._next_record = 0.0
        self._feeder: Repeating | None = None
        self._monitoring: MonitorThread | None = None
        if "strategy" in settings.pool.model_fields_set:
            from proxywhirl.rotation.selection.pool_options import PoolOptions

            PoolOptions.read(settings.pool.strategy)  # a wrong one is refused before a file is made
        with contextlib.ExitStack() as files:
            home = settings.home
            self.state: Store = MemoryStore() if home is None else StateStore(home / "db" / "state.db")
            files.callback(self.state.close)
            self._blocklist = Blocklist(self.state)
            self.cache = CacheManager(settings.cache, clock=clock, to_send=_to_send)
            files.callback(self.cache.close)
            self._files = files.pop_all()

    @cached_property
    def events(self) -> EventBus:
        """The bus with the gateway's events about requests."""
        from proxywhirl.events import EventBus

        return EventBus()

    @cached_property
    def knowledge(self) -> Knowledge:
        """The pool's knowledge, shared with the other processes of the home."""
        from proxywhirl.knowledge import Knowledge

        return Knowledge(self.state, clock=self._clock)

    @cached_property
    def pool(self) -> Pool:
        """The pool, which is empty until it is fed."""
        from proxywhirl.rotation.pool import Pool

        settings = self.settings.pool
        return Pool(
            settings.strategy,
            resolve=self._endpoint,
            clock=self._clock,
            on_health=self.checkups.note,
            portray=portray,
            limits=settings.limits(),
            sessions=settings.sessions(),
            success_worth=settings.success_worth,
            ledger=self.knowledge,
        )

    @cached_property
    def checkups(self) -> Checkups:
        """The checks of proxies, and the record of their health."""
        from proxywhirl.checkups import Checkups

        return Checkups(self.cache, self.state, self.settings, clock=self._clock)

    @cached_property
    def supply(self) -> Supply:
        """The sources of lists, and their fetching."""
        from proxywhirl.supply import SourceRegistry, Supply

        return Supply(
            SourceRegistry(self.state, self.settings.home, catalogue=self.settings.sources.catalogue),
            self.settings.sources.options(),
            known=self.cache.known,
            blocked=self.blocked,
            take_in=lambda proxies, source, ttl: self.take_in(proxies, source=source, ttl=ttl),
            lifetimes=self.settings.cache.per_source_ttl,
            clock=self._clock,
        )

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier: the built-in rules and those of the home's `ban-rules.toml`, read when first used.

        Raises:
            SettingsError: that file cannot be read, or what it says is wrong.
        """
        from proxywhirl.rotation.verdicts.rules import Classifier
        from proxywhirl.settings.files import ban_rules

        return Classifier(ban_rules(self.settings.home))

    @cached_property
    def send_policy(self) -> SendPolicy:
        """How the gateway and the clients pursue requests and judge responses; one budget for all of them.

        Raises:
            SettingsError: As `classifier`.
        """
        from proxywhirl.rotation.retries.send_policy import SendPolicy

        retry = self.settings.retry
        return SendPolicy(retry.policy(), retry.budget(self._clock), self.classifier.verdict)

    def take_in(
        self, proxies: Iterable[tuple[ProxyURL, Attributes]], *, source: str, ttl: float, lift: bool = False
    ) -> Intake:
        """Merge proxies into the cache; what the user removed before is skipped, or with `lift` let in again.

        `ttl` is in seconds, infinity for ever. A vendor's wishes in a username are added to the attributes.
        """
        from proxywhirl.vendors.grammar import has_wish

        offered = [(offer[0], _with_wish(*offer)) if has_wish(offer[0].username) else offer for offer in proxies]
        if lift:
            self._blocklist.lift({url.key for url, _ in offered})
        blocked = self.blocked()
        wanted = [(url, known) for url, known in offered if url.key not in blocked] if blocked else offered
        merge = self.cache.add_many(wanted, source=source, ttl=ttl)
        if merge is None:
            raise CacheError(UNWRITABLE)
        kept_out = len(offered) - len(wanted)
        return Intake(merge.loaded, merge.skipped + kept_out, blocked=kept_out)

    def add_sessions(
        self,
        line: ProxyURL,
        count: int,
        *,
        provider: str | None = None,
        wish: Wish | None = None,
        known: Attributes | None = None,
        source: str = "user",
        ttl: float = math.inf,
    ) -> Intake:
        """Take in sessions 1 to `count` of a vendor's line, each an identity of its own; see `vendor_sessions`.

        Adding the same again adds nothing; with another password it renews that of all of them.

        Raises:
            SettingsError: the vendor cannot be told, or does not take what is wished.
            UnknownNameError: no vendor has this name.
        """
        from proxywhirl.vendors.sessions import vendor_sessions

        sessions = vendor_sessions(line, count, provider=provider, wish=wish, known=known)
        return self.take_in(sessions, source=source, ttl=ttl, lift=True)

    def restore(self, path: Path, *, ttl: float | None) -> Intake:
        """Merge the entries of an exported file; what the user removed since then is skipped.

        `ttl` (seconds, infinity for ever) replaces the times to live of the file.

        Raises:
            ListFormatError: the file cannot be read, or is no export.
        """
        blocked = self.blocked()
        kept_out = 0

        def wanted(key: str) -> bool:
            nonlocal kept_out
            kept_out += key in blocked
            return key not in blocked

        counts = self.cache.warm_from_file(path, ttl_override=ttl, wanted=wanted)
        self._insist()
        return Intake(**counts, blocked=kept_out)

    def remove(self, chosen: Iterable[str | ProxyURL], reason: str) -> Removal:
        """Remove proxies by key or URL and keep them out; one without a username stands for all its sessions."""
        meant = self.keys_of(list(chosen))
        keys = list(dict.fromkeys(key for found in meant for key in found))
        before = self.blocked()
        urls = {key: entry.proxy_url for key in keys if (entry := self.cache.look(key)) is not None}  # retired ones too
        self._blocklist.block({key: Block(urls.get(key, ""), reason) for key in keys if key not in before})
        removed = {key for key in keys if self.cache.delete(key)}  # now: what is offered meanwhile is blocked
        self._blocklist.lift(key for key in keys if key not in removed and key not in before)
        self._forget(removed)
        self._insist()
        return Removal(len(removed), sum(removed.isdisjoint(found) for found in meant))

    def clear(self) -> int:
        """Remove every entry; return how many there were. What was removed by name stays kept out."""
        count = self.cache.clear()
        self._insist()
        return count

    def blocked(self) -> dict[str, Block]:
        """Return what the user removed and is kept out, by key."""
        return self._blocklist.blocks()

    def feed(self) -> None:
        """Have the pool follow the cache and other processes, and pass on to them what the pool learnt."""
        try:
            self._feed_proxies()
        finally:  # whether the cache can be read or not
            self.knowledge.save(self.pool)
            self.knowledge.follow(self.pool)

    def start(self, *, monitor: bool = False) -> None:
        """Feed the pool now, and from then on in a thread; with `monitor` check what is due in another one.

        Raises:
            SettingsError: there is no judge to ask, or a setting of the monitor is wrong.
        """
        if monitor and self._monitoring is None:
            made = self.monitor()
            if made is None:
                raise SettingsError(NO_JUDGE)
            from proxywhirl.health.monitor import MonitorThread

            self._monitoring = MonitorThread(made)
        self.feed()
        if self._feeder is None:
            self._feeder = Repeating(
                self.feed,
                FEED_SECONDS,
                name="proxywhirl-feeder",
                failing="the pool stays as it is until the store can be read again",
            )

    def gateway(self) -> Gateway:
        """Make the gateway of the settings; `start` the runtime too, or its pool stays empty.

        Raises:
            GatewayError: it would be open to a network without credentials.
            SettingsError: its settings contradict each other, or the rules of bans are wrong.
        """
        from proxywhirl.gateway import Gateway

        return Gateway(
            self.pool, self.settings.gateway.options(), events=self.events, clock=self._clock, conduct=self.send_policy
        )

    def monitor(self) -> Monitor | None:
        """Make what checks proxies when they are due; None where no judge is set, or it is switched off.

        Raises:
            SettingsError: a setting of it is wrong.
        """
        return self.checkups.monitor(self._files)

    def close(self) -> None:
        """Stop the thread, write what is still in memory, close every file. Idempotent."""
        if self._monitoring is not None:
            self._monitoring.stop()
            self._monitoring = None
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
        with self._files:
            if "pool" in vars(self):
                self.knowledge.save(self.pool, last=True)
                self.checkups.record()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _endpoint(self, key: str) -> ProxyURL | None:
        try:
            return self.cache.endpoint(key)
        except TierError as exc:  # the proxy is back when the store can be read
            raise ProxyGone(f"the proxy {key} cannot be used now: {exc}") from exc
        except (DecryptionError, SettingsError) as exc:  # this proxy is lost, the others serve
            _log.error("the proxy %s is left out: %s", key, exc)
            return None

    def keys_of(self, chosen: list[str | ProxyURL]) -> list[set[str]]:
        """Return the keys that each key or URL means, an endpoint without a username all its sessions.

        Reads the whole store where there is such a one.
        """
        sessions: dict[str, set[str]] = {
            url.canonical: set() for url in chosen if isinstance(url, ProxyURL) and url.username is None
        }
        for retired in (False, True) if sessions else ():
            for entry in self.cache.scan(retired=retired):
                if entry.proxy_url in sessions:
                    sessions[entry.proxy_url].add(entry.key)
        return [
            {url} if isinstance(url, str) else {url.key} if url.username is not None else sessions[url.canonical]
            for url in chosen
        ]

    def _insist(self) -> None:
        """Raise where no durable tier could do what it was told."""
        figures, tiers = self.cache.get_statistics(), self.settings.cache
        if tiers.l3_config.holds_entries:
            sick = figures.l3_degraded and (figures.l2_degraded or not tiers.l2_config.holds_entries)
        else:
            sick = figures.l2_degraded
        if sick:
            raise CacheError(UNWRITABLE)

    def _feed_proxies(self) -> None:
        self.cache.refresh()
        more, known = True, self._revision != 0
        while more:
            changes = self.cache.changes_since(self._revision)
            if changes.reset:  # proxies that no page names are gone; all serve meanwhile
                self._stale = set(self.pool.keys())
            if changes.removed:
                self.pool.discard(changes.removed)
                if known:  # removals before this runtime began are not its own to forget
                    self._forget(changes.removed)
            if changes.sketches:
                self.pool.stock(changes.sketches)
            if changes.aside:
                self.pool.stock(changes.aside, aside=True)
            self._stale.difference_update(changes.sketches, changes.aside)
            self._revision, more = changes.revision, changes.more
        if self._stale:
            self.pool.discard(self._stale)
            self._stale = set()
        now = self._clock.monotonic()
        if now >= self._next_record:
            self._next_record = now + self.settings.cache.flush_interval_seconds
            self.checkups.record()

    def _forget(self, keys: Iterable[str]) -> None:
        gone = set(keys)
        self.knowledge.forget(gone)
        self.checkups.history.forget(gone)


def _to_send(url: ProxyURL, provider: str | None) -> ProxyURL:
    from proxywhirl.vendors.sessions import to_send

    return to_send(url, provider)


def _with_wish(url: ProxyURL, known: Attributes) -> Attributes:
    from proxywhirl.vendors.sessions import recognised

    try:
        return recognised(url, known)
    except SettingsError as exc:  # one line of a list must not cost the others
        _log.warning("the username for %s is sent as it stands: %s", url.canonical, exc)
        return known
