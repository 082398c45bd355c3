"""Options that stand before a command as well as after it, and what `--quiet` leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from proxywhirl.cli.main import cli

if TYPE_CHECKING:
    from cli.conftest import Run


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command that does something, with its path."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def lacking(name: str) -> list[tuple[str, ...]]:
    """Name the commands that do not get an option's value."""
    return [
        path
        for path, command in leaves(cli)
        if name not in {option.name for option in command.params if getattr(option, "expose_value", False)}
    ]


@pytest.fixture
def two(run: Run) -> None:
    """Put two proxies, which do not answer, into the store."""
    assert run("add", "203.0.113.7:8080", "http://127.0.0.1:1").code == 0


@pytest.mark.usefixtures("two")
def test_home_and_json_work_before_the_command_too(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an option stands before a command, between a group and its command, or after it, it says the same."""
    monkeypatch.setenv("PROXYWHIRL_HOME", str(home.parent / "another"))
    after = run("list", "--json", "--home", home).out
    assert after.count('"proxy_url"') == 2
    assert run("--json", "--home", home, "list").out == after
    assert run("--home", home, "list", "--json").out == after
    expected = run("keys", "status", "--json", "--home", home).json
    assert run("--json", "keys", "--home", home, "status").json == expected
    assert run("keys", "--json", "status", "--home", home).json == expected
    assert not (home.parent / "another").exists()


@pytest.mark.usefixtures("two")
def test_the_nearest_home_goes(run: Run, home: Path) -> None:
    """Where several are named, the one that stands nearest to the command is used."""
    far = home.parent / "far"
    assert len(run("--home", far, "list", "--home", home).rows) == 2
    assert len(run("--home", far, "keys", "--home", home, "status").rows) == 1
    assert not far.exists()
    ended = run("--home", "", "list", "--home", home)
    assert (ended.code, "is empty" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("option", "path"),
    [(["--json"], path) for path in lacking("as_json")] + [(["--home", "x"], path) for path in lacking("home")],
    ids=" ".join,
)
def test_a_command_refuses_what_it_has_no_use_for(run: Run, option: list[str], path: tuple[str, ...]) -> None:
    """It says so, and which option, wherever that stands; nothing is begun."""
    arguments = {"sources": ["one"], "migrate": ["--to", "jsonl"]}.get(path[0], [])
    for line in ([*option, *path, *arguments], [*path, *arguments, *option]):
        ended = run(*line)
        assert (ended.code, ended.out) == (2, "")
        assert f"`proxywhirl {' '.join(path)}` takes no {option[0]}" in ended.err


def test_those_without_json_are_these() -> None:
    """A new command prints JSON, or is added here on purpose."""
    assert [" ".join(path) for path in lacking("as_json")] == [
        "sources enable",
        "sources disable",
        "sources remove",
        "serve",
        "monitor",
        "judge",
        "export",
        "keys generate",
        "migrate",
    ]
    assert [" ".join(path) for path in lacking("home")] == ["judge", "keys generate", "demo"]


QUIET: list[tuple[list[Any], str]] = [
    (["add", "203.0.113.9:80"], ""),
    (["import", "-"], ""),
    (["export", "out.jsonl"], ""),
    (["remove", "127.0.0.1:1"], ""),
    (["bans", "--lift"], ""),
    (["sources", "disable", "proxifly-all"], ""),
    (["keys", "rotate"], ""),
    (["migrate", "--to", "sqlite"], ""),
    (["doctor"], ""),
    (["check"], ""),
    (["clear", "--yes"], ""),
    (["remove", "127.0.0.1:1", "--json"], '{"removed": 1, "missing": 0}\n'),
    (["verdict", "--status", "403"], "VERDICT\tRULE\tRETRY AFTER\ntarget-through-proxy\tforbidden\t-\n"),
]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(("command", "printed"), QUIET, ids=lambda value: " ".join(value) if value else "-")
def test_quiet_leaves_what_was_asked_for(
    run: Run, command: list[Any], printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only tells that all went well is left out; data is printed, and the exit code is the same."""
    monkeypatch.chdir(tmp_path)
    if command == ["check"]:
        monkeypatch.setenv("PROXYWHIRL_HEALTH_JUDGES", "http://127.0.0.1:1/")
        assert run("remove", "127.0.0.1:1", "203.0.113.7:8080").code == 0
    first, *rest = command
    for line in (["--quiet", *command], [first, *rest, "-q"]):
        ended = run(*line, stdin="203.0.113.8:80\n")
        assert (ended.code, ended.out, ended.err) == (0, printed, "")
        if first in ("remove", "migrate"):
            break


def test_quiet_hides_no_error_and_no_warning(run: Run) -> None:
    """What is wrong with a line, with a wish, or with the store is said all the same, and the exit code tells."""
    ended = run("--quiet", "import", "-", stdin="203.0.113.8:99999\n")
    assert (ended.code, ended.out) == (1, "")
    assert "stdin:1: the port is not a number from 1 to 65535" in ended.err
    ended = run("remove", "203.0.113.1:80", "--quiet")
    assert (ended.code, ended.out, "1 of 1 not in the store" in ended.err) == (1, "", True)
    ended = run("-q", "list", "--tag")
    assert (ended.code, "requires an argument" in ended.err) == (2, True)
