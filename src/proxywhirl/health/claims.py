"""Which process checks which proxy now, so that two on one home never check the same one at once.

A claim ends by being given back or by itself, at a moment that the clocks of this machine agree on: a process that
was killed blocks nothing for longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from proxywhirl.state.store import Store

_KIND = "claim"


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
        taken: set[str] = set()

        def claimed(held: Mapping[str, str]) -> dict[str, str | None]:
            taken.clear()
            taken.update(key for key in wanted if not self._blocks(held.get(key), now))
            return dict.fromkeys(taken, json.dumps([self._owner, until]))

        if wanted:
            self._store.update(_KIND, wanted, claimed)
        return taken

    def give_back(self, keys: Iterable[str]) -> None:
        """End claims of this owner; those of others, and keys that are not claimed, stay as they are."""
        wanted = list(keys)

        def freed(held: Mapping[str, str]) -> dict[str, str | None]:
            return {key: None for key, claim in held.items() if json.loads(claim)[0] == self._owner}

        if wanted:
            self._store.update(_KIND, wanted, freed)

    def give_back_all(self) -> None:
        """End every claim of this owner."""
        self.give_back(key for key, claim in self._store.items(_KIND).items() if json.loads(claim)[0] == self._owner)

    def sweep(self, now: float) -> None:
        """Forget the claims, of whatever owner, that have ended by themselves."""
        ended = [key for key, claim in self._store.items(_KIND).items() if json.loads(claim)[1] <= now]

        def gone(held: Mapping[str, str]) -> dict[str, str | None]:
            return {key: None for key, claim in held.items() if json.loads(claim)[1] <= now}

        if ended:
            self._store.update(_KIND, ended, gone)

    def _blocks(self, claim: str | None, now: float) -> bool:
        if claim is None:
            return False
        owner, until = json.loads(claim)
        return bool(owner != self._owner and until > now)
