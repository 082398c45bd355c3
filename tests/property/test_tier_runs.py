"""Random runs of each tier beside the naive model, with seeds that hypothesis chooses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.cache.tiers.registry import TierPlan, make_tier
from proxywhirl.testing import DurableTierContract, TierContract

STEPS = 60
CONDITIONS = given(
    seed=st.integers(0, 2**32), policy=st.sampled_from(EVICTION_POLICIES), bound=st.none() | st.integers(1, 7)
)


class Memory(TierContract):
    """A tier in memory."""

    stores_hits = False

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make it."""
        return MemoryTier(max_entries=max_entries, policy=policy, authority=authority)


class Stored(DurableTierContract):
    """A tier that is known by a name."""

    name = ""

    def open_tier(self, folder: Path, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open it."""
        return make_tier(self.name, TierPlan(folder, folder / "tier.db", authority, max_entries, policy))


class Jsonl(Stored):
    """Shards."""

    name = "jsonl"


class Sqlite(Stored):
    """A database."""

    name = "sqlite"


def compare(contract: TierContract, seed: int, policy: str, bound: int | None) -> None:
    """Run an authority and a window."""
    try:
        contract.compare_authority(seed, bound=bound, policy=policy, steps=STEPS)
        contract.compare_window(seed, bound=bound, policy=policy, steps=STEPS)
    finally:
        contract.teardown_method()


@CONDITIONS
@settings(max_examples=50)
def test_memory_agrees_with_the_naive_model(seed: int, policy: str, bound: int | None) -> None:
    """No run of any seed, policy and bound tells the tier from the model."""
    compare(Memory(), seed, policy, bound)


@pytest.mark.parametrize("contract", [Jsonl, Sqlite])
@CONDITIONS
@settings(max_examples=5)
def test_a_stored_tier_agrees_with_the_naive_model(
    contract: type[Stored], seed: int, policy: str, bound: int | None
) -> None:
    """The same of the tiers on disk."""
    compare(contract(), seed, policy, bound)
