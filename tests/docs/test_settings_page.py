"""The page on settings names every setting with its default, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from proxywhirl.cache.models import CacheConfig
from proxywhirl.settings import (
    GatewaySettings,
    HealthSettings,
    PoolSettings,
    RetrySettings,
    Settings,
    SourcesSettings,
)

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "gateway": GatewaySettings,
    "pool": PoolSettings,
    "retry": RetrySettings,
    "health": HealthSettings,
    "sources": SourcesSettings,
    "cache": CacheConfig,
}


def table(section: str) -> dict[str, str]:
    """Return the names of a section's table with their defaults."""
    text = PAGE.partition(f"## `[{section}]`")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_listed_with_its_default(section: str) -> None:
    """The table of a section has each field of its model once, with the default that it has."""
    listed = table(section)
    model = SECTIONS[section]
    assert set(listed) == set(model.model_fields)
    for name, shown in listed.items():
        if shown.startswith("`"):
            assert tomllib.loads(f"value = {shown.strip('`')}")["value"] == plain(getattr(model(), name)), name


def plain(value: Any) -> Any:
    """Return a default as TOML would write it: without what is none."""
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value


def test_file_and_environment_are_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's example sets the port, and the variable that the page names goes before it."""
    example = PAGE.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "settings.toml").write_text(example)
    assert Settings.load(tmp_path).gateway.port == 9000
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_PORT", "9001")
    assert Settings.load(tmp_path).gateway.port == 9001


def test_places_in_the_home_are_as_the_page_says(tmp_path: Path) -> None:
    """Where the table says that something is in the home, it is there."""
    cache = Settings.load(tmp_path).cache
    for name, shown in table("cache").items():
        if shown.startswith("the home's"):
            assert getattr(cache, name) == str(tmp_path / shown.split("`")[1])
