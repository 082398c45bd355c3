"""The files of a store: one list for all code that makes, moves, locks, checks or removes them.

=====================  ===============================================  =============================================
directory              files                                            what they are
=====================  ===============================================  =============================================
`l2_cache_dir`         `shard-XX.jsonl`, `mark.json`, `NAME.meta`       the second tier in JSON lines
`l2_cache_dir`         `l2.db`, `l2.db-wal`, `l2.db-shm`                the second tier in SQLite
`l2_cache_dir`         `.in-use`, `backend`                             who uses the directory; which backend has it
`l2_cache_dir`         `debt.jsonl`, `refused.jsonl`, `removed.jsonl`   hinted handoff, with a lock for each file
the database's         the database, `-wal`, `-shm`                     the third tier
the key's              the key file, `.lock`, `.new`                    the key that seals, where none is configured
the lowest tier's      `STEM.opening` or `.opening`                     held while a process opens the store
=====================  ===============================================  =============================================

Damaged files and lines are set aside beside their file; a write that was cut off leaves a `.tmp` or `.new` file.
"""

from __future__ import annotations

from dataclasses import dataclass
from glob import escape
from pathlib import Path

from proxywhirl.cache.models import CacheConfig
from proxywhirl.state.salvage import BESIDE

MARK, NOTE_SUFFIX, DAMAGED = "mark.json", ".meta", "damaged.jsonl"
L2_DATABASE = "l2.db"
IN_USE, BACKEND = ".in-use", "backend"
HINTS, REFUSED, REMOVED = "debt.jsonl", "refused.jsonl", "removed.jsonl"

JSONL_FILES = ("shard-*", MARK, f"*{NOTE_SUFFIX}", f"*{NOTE_SUFFIX}.tmp")
"""Patterns of the files of the second tier in JSON lines."""


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """A directory, patterns of the files that the cache reads and writes in it, and of others that are ours."""

    directory: Path
    used: tuple[str, ...]
    beside: tuple[str, ...] = ()


def places(config: CacheConfig) -> list[StoreDirectory]:
    """Return the directories of the durable tiers that hold entries, the lowest tier's first."""
    found: list[StoreDirectory] = []
    if config.l3_config.holds_entries:
        file = l3_file(config)
        used = (*(escape(f"{file.name}{suffix}") for suffix in BESIDE), escape(f"{file.stem}.opening"))
        found.append(StoreDirectory(file.parent, used, (f"{escape(file.name)}[-.]*",)))
    if config.l2_config.holds_entries:
        database = (f"{L2_DATABASE}{suffix}" for suffix in BESIDE)
        used = (*database, *JSONL_FILES, HINTS, REFUSED, REMOVED, ".*.lock", IN_USE, BACKEND, ".opening")
        found.append(
            StoreDirectory(l2_directory(config), used, ("*.tmp", "damaged*", f"{L2_DATABASE}*", f"{BACKEND}.new"))
        )
    return found


def key_files(config: CacheConfig) -> StoreDirectory:
    """Return where the key is kept when none is configured; a process need not write there."""
    file = key_file(config)
    return StoreDirectory(file.parent, (), tuple(escape(f"{file.name}{suffix}") for suffix in ("", ".lock", ".new")))


def l2_directory(config: CacheConfig) -> Path:
    """Return the directory of the second tier."""
    return Path(config.l2_cache_dir).expanduser()


def l3_file(config: CacheConfig) -> Path:
    """Return the database of the third tier."""
    return Path(config.l3_database_path).expanduser()


def key_file(config: CacheConfig) -> Path:
    """Return the file of the key that is kept when none is configured."""
    if config.key_file is not None:
        return Path(config.key_file).expanduser()
    lowest = l3_file(config) if config.l3_config.holds_entries else l2_directory(config)
    return lowest.with_suffix(".key")


def opening_lock(config: CacheConfig, *, l3: bool) -> Path:
    """Return what a process locks while it opens the store: beside the third tier, or in the second one's directory."""
    return l3_file(config).with_suffix(".opening") if l3 else l2_directory(config) / ".opening"
