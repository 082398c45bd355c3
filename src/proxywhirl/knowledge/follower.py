"""Reads what other processes wrote down, from where it last stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from proxywhirl.knowledge.records import BANS, HOLDS, LAST_TOKEN, SESSIONS, SITES, ban_of, pair_of
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.state.store import Store

_log = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K")

PAGE = 5_000
_FOLLOWED = (BANS, SITES, SESSIONS, HOLDS)


class Follower:
    """How far each kind was read. Not thread-safe, but for `look_again`.

    Records that cannot be read or taken (a `TierError` then) are read again the next time.

    Attributes:
        behind: the kinds that may have news.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told = False
        self._written: dict[str, str] = {}
        self._reached = dict.fromkeys(_FOLLOWED, 0)
        self.behind = set(_FOLLOWED)

    def look_again(self) -> None:
        """Read the writes of this process too."""
        self.behind.update(_FOLLOWED)

    def wrote(self, bans: Mapping[str, str], count: int) -> None:
        """Note which bans this process wrote unchanged, of how many: they are no news."""
        self._written.update(bans)
        if len(bans) < count or len(self._written) > PAGE:  # read past them, so that they need be remembered no more
            self.behind.add(BANS)

    def bans(self, learn: Callable[[Mapping[Pair, Ban]], None], now: float) -> None:
        """Hand over the bans that others wrote; at the beginning only those that are still remembered."""
        whole = self._reached[BANS] == 0

        def handed(news: Mapping[str, str]) -> None:
            foreign = {key: text for key, text in news.items() if self._written.get(key) != text}
            read = self._decoded(foreign, pair_of, ban_of)
            bans = {pair: ban for pair, ban in read.items() if not whole or ban.forget_at > now}
            if bans:
                learn(bans)

        if self._follow(BANS, handed):
            self._written.clear()

    def follow(self, kind: str, decode: Callable[[str], T], learn: Callable[[Mapping[str, T]], None]) -> None:
        """Hand over the sites, the sessions or the holds that were written, by their keys."""
        self._follow(kind, lambda news: learn(self._decoded(news, str, decode)))

    def _follow(self, kind: str, take: Callable[[Mapping[str, str]], None]) -> bool:
        """Read the news of a kind, if there may be any; return whether it was looked for."""
        if kind not in self.behind:
            return False
        self.behind.discard(kind)  # first: later writes are looked for again
        try:
            more = True
            while more:
                page = self._store.since(kind, self._reached[kind], PAGE)
                take(page.values)
                self._reached[kind], more = page.revision, page.more
        except BaseException:
            self.behind.add(kind)
            raise
        return True

    def _decoded(self, news: Mapping[str, str], key_of: Callable[[str], K], value_of: Callable[[str], T]) -> dict[K, T]:
        read: dict[K, T] = {}
        for key, text in news.items():
            if key == LAST_TOKEN:
                continue
            try:
                read[key_of(key)] = value_of(text)
            except ValueError as exc:
                if not self._told:
                    _log.warning("a record of what was learnt is damaged (%s): it is left out, as others like it", exc)
                self._told = True
        return read
