"""The page on commands is what `--help` prints; RENEW_PAGES=1 writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from proxywhirl.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
INTRODUCTION = """\
# Commands

- Exit codes: 0 done, 1 the work failed, 2 wrong usage.
- Data goes to stdout, everything else to stderr. An error is one line that says what to do. Tables become tab-separated
  lines in a pipe.
- `--home`, `--json`, `--quiet` and `--no-color` may stand before the command as well as after it. Of two homes the last
  one is used. A command that cannot use `--home` or `--json` refuses it.
- `--quiet` prints only the data that was asked for, warnings and errors: no progress, no sums, no message of success.
  The exit code says that.
- `--no-color` prints no escape sequence, and so no moving bar. With `NO_COLOR` set there are bars, without colours.
"""
WIDTH = 100


def help_of(*path: str, width: int = WIDTH) -> str:
    """Return the help of a command as it stands on the page, or on a terminal of another width."""
    command: click.Command = cli
    settings = {**cli.context_settings, "max_content_width": width, "terminal_width": width}
    context = click.Context(cli, info_name="proxywhirl", **settings)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context, max_content_width=width, terminal_width=width)
    title = " ".join(("proxywhirl", *path))
    return f"\n## `{title}`\n\n```\n{command.get_help(context)}\n```\n"


def paths(group: click.Group) -> Iterator[tuple[str, ...]]:
    """Yield the path of each command, a group before those in it."""
    for name, command in group.commands.items():
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, *path) for path in paths(command))


def test_the_page_is_what_help_prints() -> None:
    """Every command and option is on the page, with the words of its help."""
    page = INTRODUCTION + help_of() + "".join(help_of(*path) for path in paths(cli))
    if os.environ.get("RENEW_PAGES"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page


def test_what_a_command_does_fits_beside_its_name() -> None:
    """No list of commands cuts off what one does, on a terminal of 80 columns."""
    groups = [path for path in paths(cli) if isinstance(cli.commands[path[0]], click.Group) and len(path) == 1]
    for path in [(), *groups]:
        lines = help_of(*path, width=80).partition("Commands:")[2].splitlines()
        assert not [line for line in lines if line.endswith("...")]


def test_every_option_has_a_help_text() -> None:
    """No command and no option stands there without a word."""
    for path in paths(cli):
        name = " ".join(path)
        command: click.Command = cli
        for part in path:
            assert isinstance(command, click.Group)
            command = command.commands[part]
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
