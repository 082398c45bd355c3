"""What probes may cost: bytes in all, and bytes a day for each provider, since some sell traffic by the gigabyte.

The bytes spent are kept in `state` by day (UTC) and provider: a restart or a second process does not begin at 0.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from proxywhirl.errors import TierError
from proxywhirl.health.levels import Level
from proxywhirl.state.store import Store

EXPECTED_BYTES = {Level.TCP: 0, Level.HANDSHAKE: 300, Level.HTTP: 900, Level.TLS: 7_000, Level.FULL: 8_000}
"""The bytes reserved for a probe until it has ended, both ways together."""

GIGABYTE = 10**9
_KIND = "spent"


class Budget:
    """How many bytes are left. Before a probe the most that it may cost is reserved; after it the real cost counts.

    Args:
        total: Bytes for the life of this object; None for any number.
        providers: Bytes of a day for each provider; others have any number.
        store: Where the bytes of all processes are kept; None where that is of no interest.

    Raises:
        TierError: the store cannot be read or written (from `start` and `save`).
    """

    def __init__(
        self, total: int | None = None, providers: Mapping[str, int] | None = None, store: Store | None = None
    ) -> None:
        self.spent = 0
        self.money = 0.0
        self._total = total
        self._providers = dict(providers or {})
        self._store = store
        self._today: dict[str, int] = {}
        self._day = ""
        self._reserved: Counter[str] = Counter()
        self._unsaved: Counter[str] = Counter()

    def start(self, provider: str | None, level: Level, now: float) -> bool:
        """Reserve the bytes of a probe; False where it must not be made."""
        if _day(now) != self._day:
            self._begin_day(now)
        expected = EXPECTED_BYTES[level]
        name = provider or ""
        in_all = self.spent + self._reserved.total() + expected
        limit = self._providers.get(name)
        on_provider = self._today.get(name, 0) + self._reserved[name] + expected
        if (self._total is not None and in_all > self._total) or (limit is not None and on_provider > limit):
            return False
        self._reserved[name] += expected
        return True

    def end(self, provider: str | None, level: Level, cost: int, price_per_gb: float | None) -> None:
        """Count the cost of a probe, in bytes, in place of its reserve."""
        name = provider or ""
        self._reserved[name] -= EXPECTED_BYTES[level]
        self.spent += cost
        self.money += cost * (price_per_gb or 0.0) / GIGABYTE
        self._today[name] = self._today.get(name, 0) + cost
        self._unsaved[name] += cost

    async def save(self, now: float) -> None:
        """Write in a thread the bytes spent since the last time, and learn those of others. A failure loses nothing."""
        if self._store is None:
            return
        spent, self._unsaved = self._unsaved, Counter()
        try:
            totals = await asyncio.to_thread(_add, self._store, dict.fromkeys(self._providers, 0) | dict(spent), now)
        except TierError:
            self._unsaved += spent
            raise
        self._today |= {name: total + self._unsaved[name] for name, total in totals.items()}

    def _begin_day(self, now: float) -> None:
        self._day, self._today = _day(now), {}
        if self._store is not None:
            past = [name for name in self._store.items(_KIND) if not name.startswith(self._day)]
            self._store.delete_many(_KIND, past)
            self._today = _add(self._store, dict.fromkeys(self._providers, 0), now)


def _add(store: Store, spent: Mapping[str, int], now: float) -> dict[str, int]:
    """Add what was spent on each provider; return what was spent on these today, by all processes."""
    names = {f"{_day(now)} {provider}": provider for provider in spent}

    def added(known: Mapping[str, str]) -> dict[str, str]:
        return {name: str(int(known.get(name, 0)) + spent[provider]) for name, provider in names.items()}

    totals = store.update(_KIND, names, added) if names else {}
    return {names[name]: int(str(total)) for name, total in totals.items()}


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()
