"""Bans of (proxy, site), written down for all processes on a home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from proxywhirl.clock import Clock
from proxywhirl.knowledge.format import ban_key, ban_of, ban_text, bans_of, pair_of
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.state.records import Perishable
from proxywhirl.state.store import Store

KIND = "ban"
LIFTED = "lifted"
"""The rule of a ban that a person lifted."""

BATCH = 5_000
"""So many are written in one transaction, for which other processes wait."""

TOLD_FOR_SECONDS = 3600.0
"""For how long it stays written down that a ban was lifted, for those who look rarely."""


class Bans:
    """The bans that are written down. Thread-safe.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def save(self, bans: Mapping[Pair, Ban], lifted: Iterable[Pair]) -> dict[str, str]:
        """Write bans down, merged with what others wrote; those of `lifted` replace it.

        Returns the texts, by key, of those that others had no part in.
        """
        now = self._clock.now()
        overruling = {ban_key(pair) for pair in lifted}
        new = {ban_key(pair): ban for pair, ban in bans.items()}
        written: dict[str, str] = {}

        def saved(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            written.clear()
            records: dict[str, str | Perishable | None] = {}
            for key, ban in new.items():
                if key in overruling:
                    stands, ends = ban, max(ban.forget_at, now + TOLD_FOR_SECONDS)
                else:
                    stands = merged(_ban(held.get(key)), ban, now)
                    ends = stands.forget_at
                text = ban_text(stands)
                if stands == ban:
                    written[key] = text
                records[key] = Perishable(text, ends)
            return records

        self._store.update(KIND, new, saved)
        return written

    def lasting(self) -> dict[Pair, Ban]:
        """Return the bans that hold now."""
        now = self._clock.now()
        found: dict[Pair, Ban] = {}
        for key, text in self._store.lasting(KIND, now).items():
            ban = _ban(text)
            if ban is not None and ban.until > now and "@" in key:
                found[pair_of(key)] = ban
        return found

    def lift(self, pairs: Iterable[Pair]) -> None:
        """Lift bans: each is replaced by one that is over, and is no strike."""
        now = self._clock.now()
        over = Ban(until=now, strikes=0, rule=LIFTED, forget_at=now + TOLD_FOR_SECONDS)
        chosen = list(pairs)
        for begin in range(0, len(chosen), BATCH):
            bans = dict.fromkeys(chosen[begin : begin + BATCH], over)
            self.save(bans, bans)

    def forget(self, keys: Iterable[str]) -> None:
        """Lift the bans of proxies that are gone: another process may have them in memory, and one may come back."""
        self.lift(pair_of(key) for key in self._store.below(KIND, map(bans_of, keys)))


def merged(known: Ban | None, new: Ban, now: float) -> Ban:
    """Return what two processes that found out the same hold: the later end, and the more strikes.

    >>> merged(Ban(90.0, 3, "a", 200.0), Ban(99.0, 1, "b", 150.0), now=50.0)
    Ban(until=99.0, strikes=3, rule='b', forget_at=200.0)
    """
    if known is None or known.forget_at <= now:
        return new
    later = known if known.until > new.until else new
    return replace(later, strikes=max(known.strikes, new.strikes), forget_at=max(known.forget_at, new.forget_at))


def _ban(text: str | None) -> Ban | None:
    """Return a ban; one that cannot be read is none."""
    try:
        return ban_of(text) if text is not None else None
    except ValueError:
        return None
