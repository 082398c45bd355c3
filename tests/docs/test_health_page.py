"""The page on health: its table is the policy, its settings are settings, its commands are commands."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cli.main import cli
from proxywhirl.health.outcome_history import KEPT
from proxywhirl.health.policy import Schedule, after
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(proxywhirl [^#\n]+)", PAGE, re.MULTILINE)


def judged(status: str, good: int, bad: int, *, ok: bool) -> str:
    """Return the next status."""
    schedule, rng = Schedule(), random.Random(1)
    worked = good > 0
    check = after(HealthStatus(status), good, bad, ok, 0.0, None, worked=worked, schedule=schedule, rng=rng)
    return check.status.value


def test_the_table_is_what_the_policy_says() -> None:
    """Each row, in its order."""
    section = PAGE.partition("## The statuses\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!what|---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert [following for _, following in rows] == [
        f"`{judged('unknown', 0, 0, ok=False)}`; `{judged('unhealthy', 0, 2, ok=False)}` with the 3rd in a row",
        f"`{judged('healthy', 5, 0, ok=False)}`",
        f"`{judged('degraded', 0, 2, ok=False)}`",
        f"`{judged('unhealthy', 0, 9, ok=False)}`",
        f"`{judged('dead', 0, 12, ok=True)}`; `{judged('degraded', 1, 0, ok=True)}` once there are 2 in a row",
        f"`{judged('degraded', 0, 1, ok=True)}`",
    ]
    assert f"its last {KEPT} outcomes" in PAGE


def test_the_two_counts_are_what_the_cache_counts() -> None:
    """Each row, done to an entry that failed a check and was invalidated, out of service where the row says so."""
    failure, success = HealthCheck(False, HealthStatus.DEGRADED, 1.0), HealthCheck(True, HealthStatus.DEGRADED, 1.0)
    doings: dict[str, Callable[[CacheManager, str], object]] = {
        "a failed check": lambda cache, key: cache.record_check(key, failure),
        "a failure of a request that is the proxy's own": lambda cache, key: cache.record_checks([(key, refused)]),
        "a call of `invalidate_by_health`": lambda cache, key: cache.invalidate_by_health(key),
        "a success, of a check or a request": lambda cache, key: cache.record_check(key, success),
        "another password for a proxy that is out of service": lambda cache, _: renew(cache),
    }

    def refused(status: HealthStatus, good: int, bad: int, worked: bool) -> HealthCheck:
        schedule, rng = Schedule(), random.Random(1)
        return after(status, good, bad, False, 1.0, "refused", worked=worked, schedule=schedule, rng=rng)

    def renew(cache: CacheManager) -> None:
        assert cache.add("http://bob:old@192.0.2.1:80", source="user")
        assert cache.add("http://bob:new@192.0.2.1:80", source="user")

    def counted(row: str, *, threshold: int) -> list[str]:
        off = {"enabled": False}
        config = CacheConfig.model_validate({"l2_config": off, "l3_config": off, "failure_threshold": threshold})
        with CacheManager(config) as cache:
            entry = cache.add("http://bob:old@192.0.2.1:80", source="user")
            assert entry is not None
            doings["a failed check"](cache, entry.key)
            doings["a call of `invalidate_by_health`"](cache, entry.key)
            before = cache.look(entry.key)
            doings[row](cache, entry.key)
            now = cache.look(entry.key)
        assert before is not None
        assert now is not None
        names = ("failure_count", "consecutive_health_failures")
        return [words(getattr(before, name), getattr(now, name)) for name in names]

    def words(before: int, now: int) -> str:
        return {0: "sets it to 0", before + 1: "counts", before: "leaves it"}[now]

    section = PAGE.partition("## Out of service\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!---)([a-z].+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert [row for row, *_ in rows] == [*doings, "what follows of it"]
    for row, *cells in rows[:-1]:
        threshold = 2 if "out of service" in row else 9
        told = [cell.replace("does not", "leaves it") for cell in cells]
        assert told == counted(row, threshold=threshold), row


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_commands(line: str) -> None:
    """Each has the options that the page gives it."""
    _, name, *arguments = shlex.split(line)
    command = cli.commands[name]
    parsed = command.make_context(name, arguments, parent=click.Context(cli, **cli.context_settings))
    assert parsed.params


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """The file's example is read, and the variable of the other one names the judges."""
    (tmp_path / "settings.toml").write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    assert Settings.load(tmp_path).health.provider_bytes_per_day == {"acme": 50_000_000}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in re.findall(r"^export (\w+)=(.+)$", PAGE, re.MULTILINE):
            patch.setenv(name, value)
        assert Settings.load(tmp_path).health.judge_urls == ["http://judge.example:8898/"]
