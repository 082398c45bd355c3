"""What the user removed: it stays removed when a list offers it again, until the user adds it."""

from __future__ import annotations

from collections.abc import Iterable

from proxywhirl.state.store import StateStore

__all__ = ["Blocklist"]

_KIND = "blocked"


class Blocklist:
    """Keys of proxies that are not taken in again, each with the reason."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def block(self, keys: Iterable[str], reason: str) -> None:
        """Keep proxies out from now on."""
        self._store.put_many(_KIND, dict.fromkeys(keys, reason))

    def lift(self, keys: Iterable[str]) -> None:
        """Let proxies in again."""
        self._store.delete_many(_KIND, keys)

    def reasons(self) -> dict[str, str]:
        """Return the blocked keys with the reasons."""
        return self._store.items(_KIND)
