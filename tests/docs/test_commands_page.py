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

Exit codes: 0 done, 1 the work failed, 2 wrong usage. Data goes to stdout, everything else to stderr; an error is one
line that says what to do. Tables become tab-separated lines in a pipe.

`--home`, `--json`, `--quiet` and `--no-color` may stand before the command as well as after it; of two homes the one
nearer to the command is used, and a command that has no use for `--home` or `--json` refuses it. `--quiet` leaves the
data that was asked for, warnings and errors: no progress, no sums, no word that all went well, which the exit code
says. `--no-color` leaves no escape sequence, so that no bar moves either; where `NO_COLOR` is set there are bars,
without colours.
"""
WIDTH = 100


def help_of(*path: str) -> str:
    """Return the help of a command as it stands on the page."""
    command: click.Command = cli
    settings = {**cli.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(cli, info_name="proxywhirl", **settings)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context, max_content_width=WIDTH, terminal_width=WIDTH)
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
