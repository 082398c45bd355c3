"""Which files of a store their own user cannot read and write: whoever runs ProxyWhirl then cannot use them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from proxywhirl.cache.keys import key_file
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.tier import REPAIR, Finding
from proxywhirl.state.salvage import BESIDE

__all__ = ["out_of_reach"]

_IN_L2 = (
    "shard-*.jsonl",
    "mark.json",
    "*.meta",
    "debt.jsonl",
    "refused.jsonl",
    "removed.jsonl",
    ".*.lock",
    ".in-use",
    "backend",
)


def out_of_reach(config: CacheConfig, others: Iterable[Path] = (), *, repair: bool) -> Iterator[Finding]:
    """Name what its own user cannot read and write; with `repair`, that user can.

    `others` are looked at before the files of the cache. A file of keys need only be read.
    """
    for path in chain(others, _files(config)):  # one by one: what is in a directory is seen when that was mended
        yield from _of(path, stat.S_IRUSR | stat.S_IWUSR, repair=repair)
    if config.encryption_key is None:
        yield from _of(key_file(config), stat.S_IRUSR, repair=repair)


def _files(config: CacheConfig) -> Iterator[Path]:
    """Yield what the cache reads and writes, a directory before what is in it."""
    if config.l3_config.holds_entries:
        file = Path(config.l3_database_path).expanduser()
        yield from (file.parent, *_database(file), file.with_suffix(".opening"))
    if config.l2_config.holds_entries:
        directory = Path(config.l2_cache_dir).expanduser()
        yield directory
        yield from _database(directory / "l2.db")
        for pattern in _IN_L2:
            yield from sorted(directory.glob(pattern))


def _database(path: Path) -> Iterator[Path]:
    return (Path(f"{path}{suffix}") for suffix in BESIDE)


def _of(path: Path, needed: int, *, repair: bool) -> Iterator[Finding]:
    try:
        status = path.lstat()
    except OSError:  # it is not there, or its directory was named already
        return
    if stat.S_ISLNK(status.st_mode) or os.name != "posix":
        return
    mode, right = stat.S_IMODE(status.st_mode), 0o600
    if stat.S_ISDIR(status.st_mode):
        needed, right = stat.S_IRWXU, 0o700
    if status.st_uid != os.geteuid():
        if not os.access(path, os.R_OK | (os.W_OK if needed & stat.S_IWUSR else 0)):
            yield Finding(str(path), "belongs to another user and is closed to this one", "run this as its owner")
    elif mode & needed != needed:
        what = f"its own user cannot {'read and write' if needed & stat.S_IWUSR else 'read'} it (mode {mode:03o})"
        yield Finding(str(path), what, f"{REPAIR}, or chmod {right:o}", repair and _set_mode(path, right))


def _set_mode(path: Path, mode: int) -> bool:
    try:
        path.chmod(mode)
    except OSError:  # a file system that is read-only
        return False
    return True
