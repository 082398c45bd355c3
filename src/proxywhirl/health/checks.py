"""Checks of a store's proxies: each is claimed, paid for, probed, and recorded in a batch.

Two drivers use it: the monitor takes proxies that are due, a batch takes a list. Both are told which to leave out:

- proxies that another process of the home has claimed;
- proxies that are no longer in the store;
- proxies that the budget does not allow, of the provider or in all.

A claim ends by being given back or by itself, at a moment that the clocks of this machine agree on: a process that was
killed blocks nothing for longer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol

from proxywhirl.clock import Clock
from proxywhirl.health.budget import Budget
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.recorder import Recorder
from proxywhirl.models import Attributes, CheckTimes
from proxywhirl.state.store import Store
from proxywhirl.urls import ProxyURL

_KIND = "claim"

Known = tuple[ProxyURL, Attributes]
"""A proxy's endpoint with its credential, and what is known of it."""


class Claims:
    """The claims of one owner, a name that no other process uses. Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner

    def take(self, keys: Iterable[str], *, now: float, until: float) -> set[str]:
        """Claim keys until a moment (Unix seconds); return those that no other owner has claimed beyond now."""
        wanted = list(keys)

        def claimed(held: Mapping[str, str]) -> dict[str, str]:
            claims = {key: json.loads(claim) for key, claim in held.items()}
            others = {key for key, (owner, ends) in claims.items() if owner != self._owner and ends > now}
            return dict.fromkeys((key for key in wanted if key not in others), json.dumps([self._owner, until]))

        return set(self._store.update(_KIND, wanted, claimed)) if wanted else set()

    def give_back(self, keys: Iterable[str] | None = None) -> None:
        """End claims of this owner, all where no keys are named; those of others stay as they are."""
        wanted = list(self._store.items(_KIND) if keys is None else keys)

        def freed(held: Mapping[str, str]) -> dict[str, str | None]:
            return {key: None for key, claim in held.items() if json.loads(claim)[0] == self._owner}

        if wanted:
            self._store.update(_KIND, wanted, freed)

    def sweep(self, now: float) -> None:
        """Forget the claims, of whatever owner, that have ended by themselves."""

        def ended(held: Mapping[str, str]) -> dict[str, str | None]:
            return {key: None for key, claim in held.items() if json.loads(claim)[1] <= now}

        if found := ended(self._store.items(_KIND)):
            self._store.update(_KIND, found, ended)


class Checkable(Protocol):
    """The proxies to check: a cache."""

    def check_times_since(self, revision: int, limit: int, /) -> CheckTimes:
        """Return a page of what changed after a revision."""

    def to_check(self, keys: Iterable[str], /) -> Mapping[str, Known]:
        """Return the endpoints of those keys that are there."""


@dataclass(slots=True, eq=False)
class Checks:
    """Checks under way, and results to record. Belongs to one event loop; disks are waited for in threads.

    `level` is how deep the probes go, for the budget; a claim lasts for `claimed_for` seconds. Where the store cannot
    be read or written, `claim` and `record` raise `TierError`.
    """

    store: Checkable
    recorder: Recorder
    claims: Claims
    budget: Budget
    _: KW_ONLY
    level: Level
    claimed_for: float
    clock: Clock
    _under_way: dict[str, Known] = field(default_factory=dict, init=False)
    _ended: list[ProbeResult] = field(default_factory=list, init=False)

    async def claim(self, keys: Sequence[str]) -> tuple[set[str], dict[str, Known]]:
        """Claim proxies; return the claimed keys, and the endpoints of those that are in the store."""
        now = self.clock.now()
        claimed = await asyncio.to_thread(self.claims.take, keys, now=now, until=now + self.claimed_for)
        mine = [key for key in keys if key in claimed]
        return claimed, dict(await asyncio.to_thread(self.store.to_check, mine))

    def begin(self, key: str, known: Known) -> bool:
        """Pay for a probe that is to be made now; False where it must not be."""
        if not self.budget.start(known[1].provider, self.level, self.clock.now()):
            return False
        self._under_way[key] = known
        return True

    def end(self, key: str, result: ProbeResult | None) -> Known:
        """Take the result of a probe, None where a defect or a cancellation ended it; it is recorded soon."""
        known = self._under_way.pop(key)
        cost = 0 if result is None else result.bytes_up + result.bytes_down
        self.budget.end(known[1].provider, self.level, cost, known[1].price_per_gb)
        if result is not None:
            self._ended.append(result)
        return known

    def take_ended(self) -> list[ProbeResult]:
        """Return what ended since the last call, to be recorded."""
        ended, self._ended = self._ended, []
        return ended

    async def record(self, results: Sequence[ProbeResult]) -> list[ProbeResult]:
        """Record results, and what they cost; return those that say nothing of their proxies."""
        _, untaught = await self.recorder.record(results)
        await self.budget.save(self.clock.now())
        return untaught
