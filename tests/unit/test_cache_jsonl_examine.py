"""`examine` of the JSONL tier: it finds what is wrong, and mends it where told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxywhirl.cache import CacheConfig, CacheManager, CacheTierConfig
from proxywhirl.cache.manifest import DAMAGED
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.directory import shard_number
from proxywhirl.cache.tiers.jsonl.format import encode_record
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Batch

KEY = "a"
SHARD = f"shard-{shard_number(KEY):02x}.jsonl"


def record(key: str) -> Record:
    """Make a record."""
    return Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0)


@pytest.fixture
def tier(tmp_path: Path) -> JsonlTier:
    """Open a tier with some records."""
    made = JsonlTier(tmp_path / "l2", authority=True)
    made.transact([], lambda _: Batch([record(key) for key in (KEY, "b", "c")]))
    made.set_meta("note", "value")
    return made


def test_a_store_that_is_well_has_nothing_to_say(tier: JsonlTier) -> None:
    """Neither looking nor repairing finds anything."""
    assert tier.examine() == []
    assert tier.examine(repair=True) == []


def flip(home: Path, tier: JsonlTier) -> None:
    """Damage a line that the index knows."""
    content = (home / SHARD).read_bytes()
    with (home / SHARD).open("r+b") as stream:
        stream.write(content[:-40] + b"#" + content[-39:])


def misplace(home: Path, tier: JsonlTier) -> None:
    """Add a line of another shard."""
    other = next(key for key in ("x", "y", "z") if shard_number(key) != shard_number(KEY))
    with (home / SHARD).open("ab") as stream:
        stream.write(encode_record(record(other)))


def lose(home: Path, tier: JsonlTier) -> None:
    """Remove a shard."""
    (home / SHARD).unlink()


def forget(home: Path, tier: JsonlTier) -> None:
    """Take a key out of the index alone."""
    tier._shards.files[shard_number(KEY)].index.clear()


def leave(home: Path, tier: JsonlTier) -> None:
    """Leave what a killed rewrite leaves."""
    (home / "shard-00.tmp").touch(0o600)


@pytest.mark.parametrize(
    ("spoil", "where", "what"),
    [
        (flip, SHARD, "damaged"),
        (misplace, SHARD, "misplaced"),
        (lose, SHARD, "missing"),
        (forget, SHARD, "index is wrong for 1 key"),
        (leave, "shard-00.tmp", "cut off"),
    ],
)
def test_what_is_wrong_is_found_and_mended(
    tier: JsonlTier, tmp_path: Path, spoil: Callable[[Path, JsonlTier], None], where: str, what: str
) -> None:
    """A finding names file and fault; looking changes nothing, repairing leaves nothing to say."""
    home = tmp_path / "l2"
    spoil(home, tier)
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    for _ in range(2):
        found = tier.examine()
        assert any(Path(finding.where).name == where and what in finding.what for finding in found)
        assert not any(finding.repaired for finding in found)
        assert all(finding.advice for finding in found)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before
    assert all(finding.repaired for finding in tier.examine(repair=True))
    assert tier.examine() == []
    assert {"b", "c"} <= {found.key for found in tier.scan("", 9)}
    if spoil is forget:
        assert KEY in tier
    if spoil in (flip, misplace):
        assert (home / DAMAGED).exists()


def test_a_shard_that_belongs_to_nobody_is_named_and_left_alone(tier: JsonlTier, tmp_path: Path) -> None:
    """What may hold somebody's data is not removed."""
    stray = tmp_path / "l2" / "shard-1f.jsonl"
    stray.touch(0o600)
    (finding,) = tier.examine(repair=True)
    assert (Path(finding.where), finding.repaired) == (stray, False)
    assert stray.exists()


def test_what_others_can_reach_is_found_and_closed(tmp_path: Path) -> None:
    """`verify` names the directory and each file of it that others than their owner may read."""
    home = tmp_path / "l2"
    config = CacheConfig(
        l2_cache_dir=str(home), l3_config=CacheTierConfig(enabled=False), key_file=str(tmp_path / "key")
    )
    with CacheManager(config) as cache:
        cache.add("http://192.0.2.1:80", source="test")
        (home / SHARD).chmod(0o644)
        home.chmod(0o755)
        for repair in (False, True):
            found = {finding.where: finding for finding in cache.verify(repair=repair)}
            assert {"mode 755", "mode 644"} == {found[str(path)].what[-9:-1] for path in (home, home / SHARD)}
            assert {finding.repaired for finding in found.values()} == {repair}
        assert cache.verify() == []
        assert (home / SHARD).stat().st_mode & 0o777 == 0o600
