"""What is around the tiers of a store: who may read its files, room on the disk, what was set aside, the keys.

Only files that bear the names of ours are looked at, and changed: a directory may be shared with others.

Which files of a store their own user cannot read and write: whoever runs ProxyWhirl then cannot use them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

from proxywhirl.cache.coordination.handoff import HEADER
from proxywhirl.cache.keys.keyring import exclusively
from proxywhirl.cache.keys.keyset import key_file, key_keeper, origin
from proxywhirl.cache.keys.sealing import fingerprint
from proxywhirl.cache.models import KEY_VARIABLE, PREVIOUS_VARIABLE, CacheConfig
from proxywhirl.cache.tiers.protocol import REPAIR, Finding
from proxywhirl.errors import CacheError
from proxywhirl.state.salvage import BESIDE

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


LEAST_FREE_BYTES = 64 * 1024 * 1024
_CACHE_FILES = (
    *("shard-*", "mark.json", "*.meta", "*.tmp", "damaged*", "l2.db*"),
    *("debt.jsonl", "refused.jsonl", ".debt.lock", "removed.jsonl", ".removed.lock"),
    *(".opening", ".in-use", "backend", "backend.new"),
)


def look_around(
    config: CacheConfig, *, repair: bool = False, least_free: int = LEAST_FREE_BYTES, known: Collection[str] = ()
) -> list[Finding]:
    """Return what is wrong around the tiers; with `repair`, files that others could reach are closed to them.

    `known` are the places of which the same was said already; `least_free` is in bytes.
    """
    findings: list[Finding] = []
    for place, names in _places(config).items():
        try:
            inside = sorted(place.iterdir())
        except FileNotFoundError:
            continue
        except OSError as exc:
            is_file = isinstance(exc, NotADirectoryError)
            advice = "a file stands in its place: move that away" if is_file else "let this user read it"
            findings.append(Finding(str(place), f"cannot be looked into: {exc.strerror}", advice))
            continue
        ours = [path for path in inside if any(fnmatch(path.name, name) for name in names)]
        alone = [place] if len(ours) == len(inside) else []
        findings += too_open([*alone, *ours], repair=repair)
        findings += set_aside(ours)
        free = shutil.disk_usage(place).free
        if free < least_free:
            what = f"only {free // (1024 * 1024)} MiB are free on its disk"
            findings.append(Finding(str(place), what, "make room, or move the home to another disk"))
    findings += _owed_to_nobody(config)
    return [finding for finding in findings if finding.where not in known]


def too_open(paths: Iterable[Path], *, repair: bool, closed: int = 0o077) -> Iterator[Finding]:
    """Name what others than its owner may read or write; with `repair`, they may no more.

    `closed` are the bits of the mode that count.
    """
    if os.name != "posix":
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # what others are writing comes and goes
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode) or not mode & closed:
                continue
            right = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            repaired = repair and _close_to_others(path, right)
            what = f"others than its owner have access (mode {mode:03o})"
            yield Finding(str(path), what, f"{REPAIR}, or chmod {right:o}", repaired)


def set_aside(paths: Iterable[Path]) -> Iterator[Finding]:
    """Tell of files that were put away."""
    for path in paths:
        if "damaged" in path.name and not path.name.endswith(("-wal", "-shm")):
            what = "holds damaged data that was set aside"
        elif ".set-aside-" in path.name:
            what = "stood where a file belongs, and was moved"
        else:
            continue
        yield Finding(str(path), what, "look at it, then delete it or move it elsewhere")


def ask_keys(config: CacheConfig) -> tuple[set[str], list[Finding]]:
    """Read the keys where a process that starts now would; return their fingerprints, and what is wrong with them."""
    keeper = key_keeper(config)
    kept = [] if config.encryption_key is None else [config.encryption_key]
    if keeper is not None:
        try:
            kept = keeper.read()
        except CacheError as exc:
            return set(), [Finding("key", str(exc), f"restore it, or set {KEY_VARIABLE}")]
    checks = {fingerprint(key) for key in (*kept, *config.previous_keys)}
    if keeper is None or len(kept) < 2 or _is_held(config):  # noqa: PLR2004  # the old one, and the new one
        return checks, []
    what = "a change of the key was begun and is not at its end"
    return checks, [Finding("key", what, "run `proxywhirl keys rotate`: it goes on where it ended")]


def missing_keys(config: CacheConfig, known: Collection[str], seals: Mapping[str, int]) -> Iterator[Finding]:
    """Name keys by which credentials are sealed and that a process that starts now would not find."""
    for check, count in sorted(seals.items()):
        if check and check not in known:
            what = f"the key {check}, which sealed {count} of the stored credentials, is not in {origin(config)}"
            yield Finding("key", what, f"restore it, or set {KEY_VARIABLE} or {PREVIOUS_VARIABLE} to it")


def _places(config: CacheConfig) -> dict[Path, tuple[str, ...]]:
    """Return the directories of the store, and how our files in each of them are named."""
    places: dict[Path, tuple[str, ...]] = {}
    if config.l2_config.holds_entries:
        places[Path(config.l2_cache_dir).expanduser()] = _CACHE_FILES
    if config.l3_config.holds_entries:
        file = Path(config.l3_database_path).expanduser()
        places[file.parent] = (*places.get(file.parent, ()), file.name, f"{file.name}[-.]*", f"{file.stem}.opening")
    if places and config.encryption_key is None:
        key = key_file(config)
        names = (key.name, f"{key.name}.lock", f"{key.name}.new")
        places[key.parent] = (*places.get(key.parent, ()), *names)
    return places


def _close_to_others(path: Path, mode: int) -> bool:
    try:
        path.chmod(mode)
    except OSError:  # another user's
        return False
    return True


def _is_held(config: CacheConfig) -> bool:
    """Whether a process is changing the key right now."""
    try:
        with exclusively(key_file(config)):
            return False
    except CacheError:
        return True


def _owed_to_nobody(config: CacheConfig) -> Iterator[Finding]:
    if config.l2_config.holds_entries and config.l3_config.holds_entries:
        return
    for name in ("debt.jsonl", "refused.jsonl"):
        path = Path(config.l2_cache_dir).expanduser() / name
        with contextlib.suppress(OSError):
            if path.stat().st_size > len(HEADER):
                what = "holds changes that wait for the third tier, and the settings leave L2 or L3 out"
                yield Finding(str(path), what, f"enable both again, then {REPAIR}: they are written then")
