"""Tiers by their names: built in, or offered by another package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.opening import open_tiers
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.registry import TierPlan, make_tier, tier_names
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import SettingsError, TierError, UnknownNameError

MODULE = """
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.errors import FormatVersionError

plans = []

def plain(plan):
    plans.append(plan)
    return MemoryTier(max_entries=plan.max_entries, policy=plan.policy, authority=plan.authority)

class Poor:
    revision = 0
    def __init__(self, plan): pass
    def get(self, key): return None

def away(plan):
    raise ConnectionError("redis://bob:hunter2@192.0.2.1 is away")

def newer(plan):
    raise FormatVersionError("a newer version wrote it")
"""
POINTS = """[proxywhirl.tiers]
plain = whirl_tiers:plain
poor = whirl_tiers:Poor
away = whirl_tiers:away
newer = whirl_tiers:newer
broken = whirl_tiers:Absent
sqlite = whirl_tiers:plain
"""


@pytest.fixture
def third_party(tmp_path: Path) -> Iterator[None]:
    """An installed package that offers tiers: one that works, several that do not, and an impostor."""
    folder = tmp_path / "installed"
    information = folder / "whirl_tiers-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "whirl_tiers.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: whirl-tiers\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("whirl_tiers", None)


def plan(tmp_path: Path) -> TierPlan:
    """Make a plan of an authority."""
    return TierPlan(tmp_path / "tier", tmp_path / "tier.db", authority=True)


def config(tmp_path: Path, **fields: object) -> CacheConfig:
    """Make a configuration in a folder."""
    places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "db" / "l3.db")}
    return CacheConfig.model_validate({**places, **fields})


def kinds(tmp_path: Path, **fields: object) -> list[str]:
    """Open the tiers of a configuration; return the names of their classes."""
    tiers = open_tiers(config(tmp_path, **fields))
    for _, tier in tiers:
        tier.close()
    return [type(tier).__name__ for _, tier in tiers]


def test_the_built_in_tiers_have_names(tmp_path: Path) -> None:
    """`jsonl` keeps the plan's directory, `sqlite` its file."""
    assert tier_names() == ["jsonl", "sqlite"]
    jsonl, sqlite = (make_tier(name, plan(tmp_path)) for name in ("jsonl", "sqlite"))
    assert isinstance(jsonl, JsonlTier)
    assert isinstance(sqlite, SqliteTier)
    assert (tmp_path / "tier").is_dir()
    assert (tmp_path / "tier.db").is_file()
    jsonl.close()
    sqlite.close()


def test_a_name_goes_before_the_backend(tmp_path: Path) -> None:
    """`l2_tier` and `l3_tier` choose; where they are not set, `l2_backend` and the database do."""
    assert kinds(tmp_path) == ["MemoryTier", "JsonlTier", "SqliteTier"]
    assert kinds(tmp_path, l2_backend="sqlite") == ["MemoryTier", "SqliteTier", "SqliteTier"]
    assert kinds(tmp_path, l2_backend="jsonl", l2_tier="sqlite") == ["MemoryTier", "SqliteTier", "SqliteTier"]
    assert kinds(tmp_path, l3_tier="jsonl") == ["MemoryTier", "JsonlTier", "JsonlTier"]
    assert (tmp_path / "db" / "l3").is_dir()


def test_an_entry_point_offers_a_tier(tmp_path: Path, third_party: None) -> None:
    """What another package registers is opened with what the configuration says of its place, part and limits."""
    assert tier_names() == ["away", "broken", "jsonl", "newer", "plain", "poor", "sqlite"]
    limits = {"max_entries": 7, "eviction_policy": "fifo"}
    assert kinds(tmp_path, l2_tier="plain", l3_tier="plain", l2_config=limits, durability="power") == ["MemoryTier"] * 3
    assert kinds(tmp_path, l2_tier="plain", l3_config={"enabled": False}) == ["MemoryTier"] * 2
    second, third, alone = sys.modules["whirl_tiers"].plans
    l2, l3 = tmp_path / "l2", tmp_path / "db"
    assert second == TierPlan(l2, l2 / "l2.db", authority=False, max_entries=7, policy="fifo", fsync=True)
    assert third == TierPlan(l3 / "l3", l3 / "l3.db", authority=True, fsync=True)
    assert alone == TierPlan(l2, l2 / "l2.db", authority=True, max_entries=5000)


def test_a_built_in_name_cannot_be_taken_over(tmp_path: Path, third_party: None) -> None:
    """An installed package cannot change what `sqlite` means."""
    tier = make_tier("sqlite", plan(tmp_path))
    assert isinstance(tier, SqliteTier)
    tier.close()


@pytest.mark.parametrize("setting", ["l2_tier", "l3_tier"])
def test_an_unknown_tier_names_the_known_ones(tmp_path: Path, setting: str) -> None:
    """Whoever mistypes a name reads which names there are."""
    with pytest.raises(UnknownNameError, match=r"unknown tier 'rediss'; known: jsonl, sqlite"):
        CacheManager(config(tmp_path, **{setting: "rediss"}))


def test_a_tier_that_cannot_be_loaded_is_a_settings_error(tmp_path: Path, third_party: None) -> None:
    """A defect of another package is told with its place, not as a foreign traceback."""
    with pytest.raises(SettingsError, match=r"tier 'broken' cannot be loaded from whirl_tiers:Absent"):
        make_tier("broken", plan(tmp_path))


def test_what_is_no_tier_is_refused_when_it_is_opened(tmp_path: Path, third_party: None) -> None:
    """The message names what it lacks."""
    with pytest.raises(SettingsError, match=r"what 'poor' opens is no tier: it lacks .*__len__.* transact") as caught:
        make_tier("poor", plan(tmp_path))
    assert "get," not in str(caught.value)


def test_a_tier_that_cannot_be_opened_is_a_tier_error_without_secrets(tmp_path: Path, third_party: None) -> None:
    """A foreign error is translated, its text is left in its cause; an error of ours comes through."""
    with pytest.raises(TierError, match="tier 'away' cannot be opened: ConnectionError") as caught:
        make_tier("away", plan(tmp_path))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Exception, match="a newer version wrote it"):
        make_tier("newer", plan(tmp_path))
