"""The page on probes: its program runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from proxywhirl.cli.serving import judge
from proxywhirl.errors import Blame
from proxywhirl.health.judge_server import HTTPS_PORT, PORT
from proxywhirl.health.levels import Level
from proxywhirl.models import Anonymity
from proxywhirl.wire.judge import NONCE_HEADER

PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def rows(heading: str) -> list[str]:
    """Return the first cells of the table with a heading."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs as it stands, and shows whom it found out."""
    exec(compile(PROGRAM, "docs/probes.md", "exec"), {"__name__": "__main__"})
    assert "answered for the judge with what no judge says" in capsys.readouterr().out


def test_the_tables_are_complete() -> None:
    """Every level, every anonymity and every blame has its line, in order."""
    assert rows("Level") == [level.value for level in Level]
    assert rows("Anonymity") == list(get_args(Anonymity))
    assert rows("Blame") == [blame.value for blame in Blame]


def test_the_judges_options_and_ports_are_those_of_the_command() -> None:
    """What the page says of the command is so."""
    shown = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert shown == {option for parameter in judge.params if parameter.expose_value for option in parameter.opts}
    assert f"--port {PORT}" in PAGE
    assert f"(port {HTTPS_PORT}, `--tls-port`)" in PAGE
    assert f"`{NONCE_HEADER}`" in PAGE
