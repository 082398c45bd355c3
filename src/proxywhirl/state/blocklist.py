"""What the user removed: it stays removed when a list offers it again, until the user adds it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxywhirl.state.store import Store

_KIND = "blocked"


@dataclass(frozen=True, slots=True)
class Block:
    """Why a proxy is kept out. `proxy_url` is without a credential, and empty where only the key was known."""

    proxy_url: str
    reason: str


class Blocklist:
    """Keys of proxies that are not taken in again. Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def block(self, blocks: Mapping[str, Block]) -> None:
        """Keep proxies out from now on, by key."""
        self._store.put_many(_KIND, {key: json.dumps([block.proxy_url, block.reason]) for key, block in blocks.items()})

    def lift(self, keys: Iterable[str]) -> None:
        """Let proxies in again; keys that are not blocked are no error."""
        self._store.delete_many(_KIND, keys)

    def blocks(self) -> dict[str, Block]:
        """Return what is kept out, by key."""
        return {key: Block(*json.loads(value)) for key, value in self._store.items(_KIND).items()}
