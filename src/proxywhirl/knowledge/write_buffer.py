"""The write buffer: what was learnt and is not written down yet, bounded in number."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from heapq import nsmallest

from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.rotation.sites.sharing import SiteRecord

_log = logging.getLogger(__name__)


class WriteBuffer:
    """Knowledge that waits for a store, which may be sick. Not thread-safe.

    Attributes:
        bans: by proxy and site.
        lifted: those of them that end a ban: they had ended when the pool told of them.
        sites: what is to be told of sites, by name.
        uses: when sessions were last used, by id.
        sessions: what was assigned without the store, by id.
        gone: proxies whose bans are to be forgotten.
    """

    def __init__(self, kept: int) -> None:
        self.bans: dict[Pair, Ban] = {}
        self.lifted: set[Pair] = set()
        self.sites: dict[str, SiteRecord] = {}
        self.uses: dict[str, float] = {}
        self.sessions: dict[str, Assignment] = {}
        self.gone: set[str] = set()
        self._kept = kept
        self._told = False

    def take_bans(self, bans: Mapping[Pair, Ban], now: float) -> None:
        """Add bans, in the place of older ones of the same pairs."""
        for pair, ban in bans.items():
            self.bans[pair] = ban
            if ban.until <= now:
                self.lifted.add(pair)
            else:
                self.lifted.discard(pair)
        surplus = len(self.bans) - self._kept
        if surplus > 0:
            if not self._told:
                _log.warning(
                    "more than %d bans wait to be saved: those that are forgotten soonest go first", self._kept
                )
                self._told = True
            self.saved(nsmallest(surplus, self.bans, key=lambda pair: self.bans[pair].forget_at))

    def take_sites(self, sites: Mapping[str, SiteRecord]) -> None:
        """Add what is to be told of sites, in the place of what was before."""
        for site, record in sites.items():
            self.sites.pop(site, None)
            self.sites[site] = record
        while len(self.sites) > self._kept:
            del self.sites[next(iter(self.sites))]

    def take_uses(self, uses: Mapping[str, float]) -> None:
        """Add when sessions were used."""
        self.uses.update(uses)
        surplus = len(self.uses) - self._kept
        if surplus > 0:
            for session in nsmallest(surplus, self.uses, key=lambda session: self.uses[session]):
                del self.uses[session]

    def take_session(self, session: str, assignment: Assignment) -> None:
        """Add what a session was assigned."""
        self.sessions[session] = assignment
        if len(self.sessions) > self._kept:
            del self.sessions[next(iter(self.sessions))]

    def saved(self, bans: Iterable[Pair]) -> None:
        """Forget what is written down now."""
        for pair in bans:
            del self.bans[pair]
            self.lifted.discard(pair)

    def forget(self, gone: set[str]) -> None:
        """Drop everything about proxies that are gone."""
        self.gone |= gone
        self.saved([pair for pair in self.bans if pair[0] in gone])
