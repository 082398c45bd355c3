"""The contract of a tier, run over memory, JSONL and SQLite."""

from __future__ import annotations

from pathlib import Path

from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.testing.tiers import DurableTierContract, TierContract


class TestMemoryTier(TierContract):
    """Memory is one process's own, and its owner counts hits in the records that it hands out."""

    stores_hits = False

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make a tier in memory."""
        return MemoryTier(max_entries=max_entries, policy=policy, authority=authority)


class TestJsonlTier(DurableTierContract):
    """Shards in a folder."""

    def open_tier(self, folder: Path, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open the shards."""
        return JsonlTier(folder / "shards", max_entries=max_entries, policy=policy, authority=authority)


class TestSqliteTier(DurableTierContract):
    """A database in a folder."""

    def open_tier(self, folder: Path, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open the database."""
        return SqliteTier(folder / "tier.db", max_entries=max_entries, policy=policy, authority=authority)
