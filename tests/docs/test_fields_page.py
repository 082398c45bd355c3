"""The page on fields names every field of the cache's models, with tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from proxywhirl.cache import CacheConfig, CacheEntry, CacheStatistics, CacheTierConfig, TierStatistics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
MODELS: dict[type[BaseModel], set[str]] = {
    CacheConfig: set(),
    CacheTierConfig: set(),
    CacheEntry: {"is_expired", "is_healthy"},
    TierStatistics: set(),
    CacheStatistics: {"to_metrics_dict"},
}


def rows(model: type[BaseModel]) -> list[list[str]]:
    """Return the cells of a model's table."""
    text = PAGE.partition(f"## `{model.__name__}`\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def named_tests(file: str) -> set[str]:
    """Return the names of the test functions of a file, without running it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_listed_once(model: type[BaseModel]) -> None:
    """The table of a model has each of its fields, what it computes and what else it tells, and nothing else."""
    listed = [name.strip("`") for name, _, _ in rows(model)]
    assert sorted(listed) == sorted({*model.model_fields, *model.model_computed_fields, *MODELS[model]})


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_says_what_it_does_and_names_a_test(model: type[BaseModel]) -> None:
    """No cell is empty, and every test that is named is there."""
    for name, what, shown in rows(model):
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
        assert what, name
        assert named, name
        assert len(named) == shown.count("::"), name
        for file, test in named:
            assert test in named_tests(file), f"{name}: {file} has no {test}"


def test_what_the_text_names_exists_too() -> None:
    """The tests that are named between the tables are there."""
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE):
        assert test in named_tests(file)
