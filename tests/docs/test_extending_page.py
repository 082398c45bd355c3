"""The page on tiers of one's own: its example is installed as a package would be, held to the contract, and used."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.cache.tiers.registry import TierPlan, make_tier, tier_names
from proxywhirl.testing import DurableTierContract, TierContract

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
MODULE, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REGISTRATION, SETTINGS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's module, installed with the entry point that the page shows."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "shelf.py").write_text(MODULE, encoding="utf-8")
    information = folder / "shelf-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(REGISTRATION)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (information / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("shelf", None)


class TestShelf(DurableTierContract):
    """The example keeps every promise of a durable tier."""

    def open_tier(self, folder: Path, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open it by its name."""
        return make_tier("shelf", TierPlan(folder, folder / "shelf", authority, max_entries, policy))


def test_the_suite_of_the_page_is_complete() -> None:
    """The page's test class runs as it stands, all tests of it."""
    names: dict[str, Any] = {}
    exec(compile(SUITE, "docs/extending.md", "exec"), names)
    suite = names["TestShelf"]
    assert suite.clauses() == TestShelf.clauses()
    contract = suite()
    contract.test_each_change_has_a_revision_of_its_own()
    contract.teardown_method()
    assert set(TierContract.clauses()) < set(suite.clauses())


def test_a_cache_runs_on_the_example(tmp_path: Path) -> None:
    """With the page's setting the second tier is the example's, with credentials that are read back."""
    assert tier_names() == ["jsonl", "shelf", "sqlite"]
    settings: dict[str, Any] = tomllib.loads(SETTINGS)["cache"]
    assert settings == {"l2_tier": "shelf"}
    cases: list[dict[str, Any]] = [{}, {"l3_tier": "shelf"}, {"l3_config": {"enabled": False}}]
    for number, more in enumerate(cases):
        home = tmp_path / str(number)
        places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db")}
        config = CacheConfig.model_validate({**places, **settings, **more})
        with CacheManager(config) as cache:
            cache.add("http://bob:hunter2@192.0.2.1:80", source="s")
            assert len(cache) == 1
        with CacheManager(config) as cache:
            (entry,) = cache.scan()
            got = cache.get(entry.key)
            assert got is not None
            assert got.password is not None
            assert got.password.get_secret_value() == "hunter2"
            assert cache.get_statistics().l2_stats.current_size == 1
        kept = {path.parent.name: path for path in home.rglob("shelf.db")}
        assert set(kept) == ({"l2", "l3"} if "l3_tier" in more else {"l2"})
        for path in kept.values():
            assert path.stat().st_mode & 0o777 == 0o600
            assert b"hunter2" not in path.read_bytes()
    assert import_module("shelf").ShelfTier.__name__ == "ShelfTier"


def test_the_table_of_the_plan_is_complete() -> None:
    """Every field of a plan is described."""
    table = PAGE.partition("| `TierPlan` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [field.name for field in fields(TierPlan)]


def test_the_page_says_what_each_contract_needs() -> None:
    """The method of each suite is there with the signature that the suite calls it with."""
    declared = inspect.signature(TierContract.make_tier)
    (shown,) = re.findall(r"`make_tier\((self, .*?)\)`", PAGE)
    assert shown == ", ".join(
        str(each.replace(annotation=each.empty)) for each in declared.parameters.values()
    ).replace("self, authority", "self, *, authority").replace("'", '"')
