"""The page on what choosing knows: its numbers are the code's, its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from proxywhirl.cli.main import cli
from proxywhirl.knowledge import records, shared
from proxywhirl.runtime import FEED_SECONDS

PAGE = (Path(__file__).parents[2] / "docs" / "knowledge.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^proxywhirl ([^#\n]+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_commands(line: str) -> None:
    """Each has the options that the page gives it."""
    name, *arguments = shlex.split(line)
    command = cli.commands[name]
    assert command.make_context(name, arguments, parent=click.Context(cli, **cli.context_settings)).params


def test_the_bounds_are_those_of_the_code() -> None:
    """How many are kept, for how long, and how often is written, read and swept."""
    assert PAGE.count(f"at most {shared.KEPT:,}") == 3
    assert f"{records.LIFE_SECONDS / 86_400:g} days after its last use" in PAGE
    assert f"at most once every {shared.SWEEP_SECONDS:g} seconds" in PAGE
    assert f"after {shared.BACKOFF.first:g} second, then {shared.BACKOFF.first * 2:g}" in PAGE
    assert f"up to {shared.BACKOFF.longest:g};" in PAGE
    assert (shared.USES_SECONDS, "written once every second" in PAGE) == (1, True)
    assert (FEED_SECONDS, "ten times a second" in PAGE) == (0.1, True)
