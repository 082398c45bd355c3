"""What an order of eviction is: the keys of a tier, and which of them leaves first. `eviction` has the policies.

An order knows keys only. `touch` may run while another thread changes the order: it never raises.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["EvictionOrder", "nothing_to_evict"]


class EvictionOrder(Protocol):
    """The keys of a tier, ordered by who goes first."""

    def add(self, key: str) -> None:
        """Take a new key in, or treat a known one as written again."""
        ...

    def touch(self, key: str) -> None:
        """Note that a key was used; an unknown one is ignored."""
        ...

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """Take over what a record says of its use: how often in all, and when last (Unix seconds)."""
        ...

    def discard(self, key: str) -> None:
        """Forget a key; an unknown one is ignored."""
        ...

    def victim(self) -> str:
        """Return the key that goes first, to be discarded next. Raises `KeyError` when there is none."""
        ...

    def exchange(self, key: str) -> str:
        """Let go of the key that goes first and take a new one in; return the one that left."""
        victim = self.victim()
        self.discard(victim)
        self.add(key)
        return victim

    def __contains__(self, key: object) -> bool:
        """Whether a key is known."""
        ...

    def __len__(self) -> int:
        """How many keys are known."""
        ...


def nothing_to_evict() -> str:
    """Raise the `KeyError` of `EvictionOrder.victim`."""
    raise KeyError("the order is empty")
