"""The page on sources: its commands are commands, its definitions and its package work as they stand."""

from __future__ import annotations

import io
import math
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxywhirl.cli.main import cli
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.sources import Candidate, Rejected, parse_list
from proxywhirl.sources.definitions import SourceDefinition, built_in, plugged_in, with_file
from proxywhirl.sources.fetch_history import rest_after
from proxywhirl.sources.parsing.parse import parser_names

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^proxywhirl (.+)$", PAGE, re.MULTILINE)
FILE, REGISTRATION = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(MODULE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one(line: str) -> None:
    """The command line takes every line of the page, with its options."""
    with cli.make_context("proxywhirl", line.split()) as context:
        name, command, rest = cli.resolve_command(context, line.split())
        assert command is not None
        with command.make_context(name, rest, parent=context, resilient_parsing=False) as inner:
            if name == "sources":
                assert hasattr(command, "resolve_command")
                sub, subcommand, arguments = command.resolve_command(inner, rest)
                subcommand.make_context(sub, arguments, parent=inner).close()


def test_the_numbers_of_the_page_are_the_catalogues() -> None:
    """How many lists there are, how many of them are enabled, and how long a source rests."""
    specs = built_in()
    assert f"{len(specs)} public lists" in PAGE
    assert f"the {sum(spec.enabled for spec in specs.values())} of them" in PAGE
    assert [rest_after(n) for n in (1, 2, 3, 99)] == [0, 60, 120, 86_400]


def test_the_file_of_the_page_is_read(tmp_path: Path) -> None:
    """It adds two sources and switches a known one off."""
    (tmp_path / "sources.toml").write_text(FILE)
    specs = with_file(built_in(), tmp_path / "sources.toml")
    assert (specs["shop"].path, specs["shop"].ttl, specs["shop"].scheme) == ("data.proxies", 1800, "socks5")
    assert specs["mine"].location == str(tmp_path / "lists" / "mine.txt")
    assert specs["mine"].ttl == math.inf
    assert not specs["monosans-http"].enabled


def test_the_table_of_definitions_is_complete() -> None:
    """Each setting of a definition is there, with its default."""
    table = PAGE.partition("| `url` |")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", "| `url` |" + table[2].partition("\n\n")[0], re.MULTILINE))
    defaults = SourceDefinition(url="x").model_dump()
    assert set(rows) == set(defaults)
    for name, shown in rows.items():
        if name != "url":
            written = "none" if defaults[name] is None else shown.strip("`")
            assert shown.strip("`") == written
            if written != "none":
                assert tomllib.loads(f"value = {written}")["value"] == defaults[name]


def test_the_table_of_formats_is_complete() -> None:
    """Each format is there."""
    table = PAGE.partition("| format |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == parser_names()


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[None]:
    """The page's package, as it is installed."""
    (tmp_path / "harbour.py").write_text(MODULE)
    information = tmp_path / "harbour-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: harbour\nVersion: 1.0\n")
    groups = tomllib.loads(REGISTRATION)["project"]["entry-points"]
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{n} = {v}" for n, v in names.items()))
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("harbour", None)


def test_the_package_of_the_page_works(harbour: None) -> None:
    """Its source is known, and its parser reads."""
    spec = plugged_in()["harbour-all"]
    text = b"hello\nship 203.0.113.1:80\nship 203.0.113.1:99999\n"
    items = list(parse_list(io.BytesIO(text), format_name=spec.format))
    assert [item.url.canonical for item in items if isinstance(item, Candidate)] == ["http://203.0.113.1:80"]
    assert [item.line for item in items if isinstance(item, Rejected)] == [3]


def test_the_settings_reach_the_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting of the section is a bound."""
    values = {
        "concurrency": 1,
        "connect_timeout": 2.0,
        "read_timeout": 3.0,
        "total_timeout": 4.0,
        "max_bytes": 5,
        "attempts": 6,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"PROXYWHIRL_SOURCES_{name.upper()}", str(value))
    monkeypatch.setenv("PROXYWHIRL_SOURCES_CATALOGUE", "off")
    settings = Settings.load(tmp_path)
    with Runtime(settings) as runtime:
        assert runtime.supply.registry.specs() == {}
    options = settings.sources.options()
    assert {name: getattr(options, name) for name in values} == values
