"""Compare the index of the shards with what their files hold, and look for what was left over."""

from __future__ import annotations

from pathlib import Path

from proxywhirl.cache.manifest import DAMAGED, NOTE_SUFFIX
from proxywhirl.cache.tiers.jsonl.directory import SHARDS, Shards, shard_name
from proxywhirl.cache.tiers.jsonl.shard_file import ShardFile
from proxywhirl.cache.tiers.protocol import REPAIR, Finding


def differing(shards: Shards) -> list[tuple[ShardFile, Finding]]:
    """Read every file from its start; tell where it is damaged or differs from the index."""
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
    """Name files that were gone and were made anew; each is told once."""
    paths = list(shards.lost)
    shards.lost.clear()
    if authority:
        what, advice = "it was removed or emptied: what it held is lost", "restore a back-up, or import the list again"
    else:
        what, advice = "it was removed or emptied, and is made anew", "nothing: what it held is read from below again"
    return [Finding(str(path), what, advice, repaired=not authority) for path in paths]


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
    """Remove what was left behind."""
    for path, finding in found:
        if finding.advice == REPAIR:
            path.unlink(missing_ok=True)
