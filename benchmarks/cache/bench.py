"""What every group of measurements works with: how much of everything, and a store of the largest size, made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.cache.homes import Home

__all__ = ["FULL", "QUICK", "Bench", "Scale"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: sizes in entries, operations in each turn of a side, and rounds.

    A `small` store is so small that what waits for L2 still serves when it is asked for again.
    """

    l1: int
    store: int
    large_store: int
    sizes: tuple[int, ...]
    held_in_memory: int
    rounds: int
    hits: int
    reads: int
    writes: int
    batch: int
    threads: int
    openings: int
    small: bool = False


FULL = Scale(
    l1=1_000,
    store=5_000,
    large_store=200_000,
    sizes=(10_000, 100_000, 1_000_000),
    held_in_memory=100_000,
    rounds=5,
    hits=20_000,
    reads=5_000,
    writes=1_000,
    batch=500,
    threads=8,
    openings=3,
)
QUICK = Scale(
    l1=20,
    store=100,
    large_store=200,
    sizes=(100, 200, 400),
    held_in_memory=1_500,
    rounds=1,
    hits=200,
    reads=100,
    writes=20,
    batch=50,
    threads=8,
    openings=1,
    small=True,
)


@dataclass
class Bench:
    """The scale, and a folder for all files. `curve` collects what the plot shows."""

    scale: Scale
    folder: Path

    def __post_init__(self) -> None:
        self.curve: list[dict[str, float]] = []
        self._homes = 0

    def home(self, name: str) -> Home:
        """Return a new home."""
        self._homes += 1
        return Home(self.folder / f"{self._homes}-{name}")

    @cached_property
    def stores(self) -> dict[int, Home]:
        """A home with the default tiers for each size, filled when first asked for."""
        return dict(self._filled())

    @property
    def windows(self) -> dict[str, Any]:
        """How large L1 and L2 are before those stores: L2 holds a quarter of the smallest, or less."""
        return {"l1_config": {"max_entries": self.scale.l1}, "l2_config": {"max_entries": self.scale.sizes[0] // 4}}

    def _filled(self) -> Iterator[tuple[int, Home]]:
        for size in self.scale.sizes:
            home = self.home(f"{size}-entries")
            home.fill(range(size), **self.windows)
            yield size, home
