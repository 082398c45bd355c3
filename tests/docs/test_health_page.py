"""The page on health: its table is the policy, its settings are settings, its commands are commands."""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path

import click
import pytest

from proxywhirl.cli.main import cli
from proxywhirl.health.history import KEPT
from proxywhirl.health.policy import Schedule, after
from proxywhirl.models import HealthStatus
from proxywhirl.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(proxywhirl [^#\n]+)", PAGE, re.MULTILINE)


def judged(status: str, good: int, bad: int, *, ok: bool) -> str:
    """Return the next status."""
    schedule, rng = Schedule(), random.Random(1)
    return after(HealthStatus(status), good, bad, ok, 0.0, None, schedule=schedule, rng=rng).status.value


def test_the_table_is_what_the_policy_says() -> None:
    """Each row, in its order."""
    rows = re.findall(r"^\| (?!what|---)(.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert [following for _, following in rows] == [
        f"`{judged('unknown', 0, 0, ok=False)}`; `{judged('unhealthy', 0, 2, ok=False)}` with the 3rd in a row",
        f"`{judged('healthy', 5, 0, ok=False)}`",
        f"`{judged('degraded', 0, 2, ok=False)}`",
        f"`{judged('unhealthy', 0, 9, ok=False)}`",
        f"`{judged('dead', 0, 12, ok=True)}`; `{judged('degraded', 1, 0, ok=True)}` once there are 2 in a row",
        f"`{judged('degraded', 0, 1, ok=True)}`",
    ]
    assert f"its last {KEPT} outcomes" in PAGE


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_commands(line: str) -> None:
    """Each has the options that the page gives it."""
    _, name, *arguments = shlex.split(line)
    command = cli.commands[name]
    parsed = command.make_context(name, arguments, parent=click.Context(cli))
    assert parsed.params


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """The file's example is read, and the variable of the other one names the judges."""
    (tmp_path / "settings.toml").write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    assert Settings.load(tmp_path).health.provider_bytes_per_day == {"acme": 50_000_000}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in re.findall(r"^export (\w+)=(.+)$", PAGE, re.MULTILINE):
            patch.setenv(name, value)
        assert Settings.load(tmp_path).health.judge_urls == ["http://judge.example:8898/"]
