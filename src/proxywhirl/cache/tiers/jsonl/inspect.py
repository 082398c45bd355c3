"""Compare the index of the shards with what their files hold, and look at modes and left-overs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from proxywhirl.cache.manifest import DAMAGED, JSONL_FILES, NOTE_SUFFIX
from proxywhirl.cache.tiers.jsonl.directory import SHARDS, Shards, shard_name
from proxywhirl.cache.tiers.jsonl.shard_file import ShardFile
from proxywhirl.cache.tiers.protocol import REPAIR, Finding


def differing(shards: Shards) -> list[tuple[ShardFile, Finding]]:
    """Read every file from its start, and tell where it is damaged or is not what the index says of it."""
    found: list[tuple[ShardFile, Finding]] = []
    for shard in shards.files:
        fresh = shard.reading_anew()
        try:
            news = fresh.catch_up()
            if news is not None and (lines := len(news.damaged) + bool(news.torn)):
                what = f"{lines} damaged or misplaced line{'s' * (lines > 1)}"
                found.append((shard, Finding(str(shard.path), what, f"{REPAIR}: they are set aside in {DAMAGED}")))
            if not fresh.exists:
                what = "the file is missing or empty"
                found.append((shard, Finding(str(shard.path), what, f"{REPAIR}: it is made anew")))
            elif keys := sum(
                shard.index.get(key) != fresh.index.get(key) for key in shard.index.keys() | fresh.index.keys()
            ):
                what = f"the index is wrong for {keys} key{'s' * (keys > 1)}"
                found.append((shard, Finding(str(shard.path), what, f"{REPAIR}: the file is read anew")))
        finally:
            fresh.close()
    return found


def lost(shards: Shards, *, authority: bool) -> list[Finding]:
    """Name files that were gone when they were last looked for, and were made anew; each is told of once."""
    paths = list(shards.lost)
    shards.lost.clear()
    if authority:
        what, advice = "it was removed or emptied: what it held is lost", "restore a back-up, or import the list again"
    else:
        what, advice = "it was removed or emptied, and is made anew", "nothing: what it held is read from below again"
    return [Finding(str(path), what, advice, repaired=not authority) for path in paths]


def too_open(directory: Path) -> list[tuple[Path, Finding]]:
    """Name what others than the owner may read or write."""
    found: list[tuple[Path, Finding]] = []
    for path in [directory, *sorted(path for path in directory.iterdir() if _is_ours(path))]:
        with contextlib.suppress(FileNotFoundError):  # what others are writing comes and goes
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                right = "700" if path.is_dir() else "600"
                what = f"its mode is {mode:03o}: others than its owner have access"
                found.append((path, Finding(str(path), what, f"{REPAIR}, or chmod {right}")))
    return found


def left_over(directory: Path) -> list[tuple[Path, Finding]]:
    """Name what a rewrite that was cut off left behind, and shards that belong to nobody."""
    known = {shard_name(number) for number in range(SHARDS)}
    strays = [path for path in directory.glob("shard-*") if path.name not in known]
    strays += directory.glob(f"*{NOTE_SUFFIX}.tmp")
    found: list[tuple[Path, Finding]] = []
    for path in sorted(strays):
        if path.suffix == ".tmp":
            found.append((path, Finding(str(path), "a write that was cut off left it behind", REPAIR)))
        else:
            found.append((path, Finding(str(path), "nothing reads it", "move it away")))
    return found


def mend(found: list[tuple[Path, Finding]]) -> None:
    """Remove what was left behind, and close what is too open."""
    for path, finding in found:
        if not finding.advice.startswith(REPAIR):
            continue
        if path.suffix == ".tmp":
            path.unlink(missing_ok=True)
        else:
            path.chmod(0o700 if path.is_dir() else 0o600)


def _is_ours(path: Path) -> bool:
    return path.is_file() and any(path.match(name) for name in (*JSONL_FILES, DAMAGED, "*.tmp"))
