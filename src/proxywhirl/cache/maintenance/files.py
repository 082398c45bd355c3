"""The files of a store: who may reach them, room on the disk, what was set aside.

Only files with names of the `manifest` are looked at, and changed: a directory may be shared with others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from proxywhirl.cache.coordination.handoff import HEADER
from proxywhirl.cache.manifest import HINTS, REFUSED, key_file, key_files, l2_directory, places
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.tiers.protocol import REPAIR, Finding

LEAST_FREE_BYTES = 64 * 1024 * 1024
_READ, _WRITE = stat.S_IRUSR, stat.S_IWUSR


def out_of_reach(config: CacheConfig, others: Iterable[Path] = (), *, repair: bool) -> Iterator[Finding]:
    """Name files that their own user cannot read and write; with `repair`, give that user access.

    `others` are looked at before the files of the cache. A file of keys need only be read.
    """
    for path in others:
        yield from _closed_to_owner(path, _READ | _WRITE, repair=repair)
    for place in places(config):
        yield from _closed_to_owner(place.directory, _READ | _WRITE, repair=repair)
        for pattern in place.used:  # the files of a directory are seen when it was mended
            for path in sorted(place.directory.glob(pattern)):
                yield from _closed_to_owner(path, _READ | _WRITE, repair=repair)
    if config.encryption_key is None:
        yield from _closed_to_owner(key_file(config), _READ, repair=repair)


def _closed_to_owner(path: Path, needed: int, *, repair: bool) -> Iterator[Finding]:
    if (found := _mode_of(path)) is None:  # it is not there, or its directory was named already
        return
    mode, right, owner = found
    if right == stat.S_IRWXU:
        needed = right
    if owner != os.geteuid():
        if not os.access(path, os.R_OK | (os.W_OK if needed & _WRITE else 0)):
            yield Finding(str(path), "belongs to another user and is closed to this one", "run this as its owner")
    elif mode & needed != needed:
        what = f"its own user cannot {'read and write' if needed & _WRITE else 'read'} it (mode {mode:03o})"
        yield Finding(str(path), what, f"{REPAIR}, or chmod {right:o}", repair and _set_mode(path, right))


def too_open(paths: Iterable[Path], *, repair: bool, closed: int = 0o077) -> Iterator[Finding]:
    """Name files that others than their owner may read or write; with `repair`, close them.

    `closed` are the bits of the mode that count.
    """
    for path in paths:
        if (found := _mode_of(path)) is not None and found[0] & closed:
            mode, right, _ = found
            what = f"others than its owner have access (mode {mode:03o})"
            yield Finding(str(path), what, f"{REPAIR}, or chmod {right:o}", repair and _set_mode(path, right))


def _mode_of(path: Path) -> tuple[int, int, int] | None:
    """Return the mode of a file or directory, the one that it should have, and its owner; None of a link.

    None as well for what is not there: what others are writing comes and goes.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    if os.name != "posix" or stat.S_ISLNK(status.st_mode):
        return None
    return stat.S_IMODE(status.st_mode), 0o700 if stat.S_ISDIR(status.st_mode) else 0o600, status.st_uid


def _set_mode(path: Path, mode: int) -> bool:
    try:
        path.chmod(mode)
    except OSError:  # another user's, or of a file system that is read-only
        return False
    return True


def look_around(
    config: CacheConfig, *, repair: bool = False, least_free: int = LEAST_FREE_BYTES, known: Collection[str] = ()
) -> list[Finding]:
    """Return what is wrong around the tiers; with `repair`, files that others could reach are closed to them.

    `known` are the places that have a finding already; `least_free` is in bytes.
    """
    ours: dict[Path, tuple[str, ...]] = {}
    stores = places(config)
    keys = [key_files(config)] if stores and config.encryption_key is None else []
    for each in (*reversed(stores), *keys):
        ours[each.directory] = (*ours.get(each.directory, ()), *each.used, *each.beside)
    findings = [found for place, names in ours.items() for found in _look_into(place, names, least_free, repair=repair)]
    return [found for found in (*findings, *_stranded_hints(config)) if found.where not in known]


def _look_into(place: Path, names: Collection[str], least_free: int, *, repair: bool) -> Iterator[Finding]:
    try:
        inside = sorted(place.iterdir())
    except FileNotFoundError:
        return
    except OSError as exc:
        is_file = isinstance(exc, NotADirectoryError)
        advice = "a file stands in its place: move that away" if is_file else "let this user read it"
        yield Finding(str(place), f"cannot be looked into: {exc.strerror}", advice)
        return
    ours = [path for path in inside if any(fnmatch(path.name, name) for name in names)]
    alone = [place] if len(ours) == len(inside) else []
    yield from too_open([*alone, *ours], repair=repair)
    yield from set_aside(ours)
    free = shutil.disk_usage(place).free
    if free < least_free:
        what = f"only {free // (1024 * 1024)} MiB are free on its disk"
        yield Finding(str(place), what, "make room, or move the home to another disk")


def set_aside(paths: Iterable[Path]) -> Iterator[Finding]:
    """Name files that were set aside."""
    for path in paths:
        if "damaged" in path.name and not path.name.endswith(("-wal", "-shm")):
            what = "holds damaged data that was set aside"
        elif ".set-aside-" in path.name:
            what = "stood where a file belongs, and was moved"
        else:
            continue
        yield Finding(str(path), what, "look at it, then delete it or move it elsewhere")


def _stranded_hints(config: CacheConfig) -> Iterator[Finding]:
    if config.l2_config.holds_entries and config.l3_config.holds_entries:
        return
    for name in (HINTS, REFUSED):
        path = l2_directory(config) / name
        with contextlib.suppress(OSError):
            if path.stat().st_size > len(HEADER):
                what = "holds changes that wait for the third tier, and the settings leave L2 or L3 out"
                yield Finding(str(path), what, f"enable both again, then {REPAIR}: they are written then")
