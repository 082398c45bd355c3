"""The command `proxywhirl`: its groups, and how it ends.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. An error is one line on stderr that says
what to do. A reader who closes a pipe early has seen enough: that is no error.

A command starts quickly because little is loaded: `COMMANDS` says in which module each command is, and what `--help`
tells of it, so that only the module of the command that runs is imported. A module of this folder that several commands
share (`options`, `output`) imports nothing of the library before it is used.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections import UserDict
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click

from proxywhirl import __version__
from proxywhirl.cli.options import offer_anywhere
from proxywhirl.cli.output import printable, warn
from proxywhirl.errors import ProxyWhirlError

INTERRUPTED = 130

COMMANDS = {
    "import": ("transfer", "import_lists", "Import lists of proxies; - is stdin."),
    "fetch": ("fetching", "fetch", "Fetch the sources and take in what they offer."),
    "sources": ("sources", "sources", "Choose the lists that `proxywhirl fetch` asks."),
    "list": ("listing", "list_entries", "List the proxies of the store."),
    "check": ("checking", "check", "Check proxies, and remember what was found out."),
    "show": ("show", "show", "Show all that is known of a proxy."),
    "explain": ("explain", "explain", "Explain which proxy a request would get, and why."),
    "stats": ("stats", "stats", "Show what the tiers hold, and what processes did with them."),
    "verdict": ("verdict", "verdict", "Tell who is to blame for a response, and by which rule."),
    "bans": ("bans_and_sessions", "bans", "List the bans that hold: which proxies and groups, on which sites."),
    "sessions": ("bans_and_sessions", "sessions", "List the sessions that last, and their proxies."),
    "serve": ("serving", "serve", "Serve the pool as one rotating HTTP proxy."),
    "monitor": ("serving", "monitor", "Check proxies when they are due, until told to stop."),
    "judge": ("serving", "judge", "Serve a judge, which tells each asker how its request arrived."),
    "add": ("entries", "add", "Add proxies, or renew their password."),
    "remove": ("entries", "remove", "Remove proxies, and keep them out."),
    "export": ("transfer", "export", "Write the store to a file or stdout."),
    "clear": ("entries", "clear", "Remove every proxy of the store."),
    "keys": ("keys", "keys", "Make, change and inspect the key of the store."),
    "doctor": ("doctor", "doctor", "Say what is wrong with the store, and what to do about it."),
    "migrate": ("migrate", "migrate", "Move the second tier to another backend."),
    "demo": ("demo", "demo", "Run the main job on this machine, offline."),
}
"""The module of each command, its name there, and the first sentence of its help."""


class _Commands(UserDict[str, click.Command]):
    """The commands by name; the module of one is imported when that one is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in self.data and name in COMMANDS:
            module, attribute, _ = COMMANDS[name]
            command: click.Command = getattr(_loaded(module), attribute)
            offer_anywhere(command)
            self.data[name] = command
        return self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _loaded(module: str) -> ModuleType:
    """Import a module of this folder, and with it what it needs of the library.

    What is loaded stays, so that the garbage collector need not look for something to collect in it meanwhile; and
    pydantic need not search all that is installed for plug-ins. Together that is a twentieth of the time.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
    gc.disable()
    try:
        return import_module(f"proxywhirl.cli.{module}")
    finally:
        gc.freeze()
        gc.enable()


class _Group(click.Group):
    """The group of all commands, which tells of them without loading them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's name and what it does."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))  # as click has it
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, click.Command(name, help=COMMANDS[name][2]).get_short_help_str(room)) for name in names]
            )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="proxywhirl")
def cli() -> None:
    """Keep a pool of forward proxies alive and useful.

    Import your list, look at it, and serve it as one proxy URL that rotates:

    \b
      proxywhirl import proxies.txt
      proxywhirl serve
      curl -x http://127.0.0.1:8899 http://example.com
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    import logging

    logging.basicConfig(level=logging.WARNING, format="proxywhirl: %(message)s", stream=sys.stderr)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # the result of a retry is told at its end


offer_anywhere(cli)
cli.commands = _Commands()  # each of them takes these options when it is loaded


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    _prepare_stdout()
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _prepare_stdout() -> None:
    """Programs get UTF-8; a terminal gets its own encoding, with escapes for what that lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")


def _open_standard_streams() -> None:
    """Put the null device where the caller has closed stdin, stdout or stderr, as cron and daemons do."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process


def _run(arguments: Sequence[str]) -> int:
    _open_standard_streams()
    code = 0
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        warn("proxywhirl: interrupted; what was done before that stays")
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
        return code
    except click.exceptions.NoArgsIsHelpError as exc:
        warn(exc.format_message())
        return exc.exit_code
    except (click.ClickException, click.Abort, ProxyWhirlError, OSError) as exc:
        warn("proxywhirl: " + printable(" ".join(_message(exc).split())))
        _give_up_stdout()
        return exc.exit_code if isinstance(exc, click.ClickException) else 1
    return code


def _invoke(arguments: Sequence[str]) -> int:
    """Run a command without click's own endings, which take a closed pipe for a failure."""
    try:
        with cli.make_context("proxywhirl", list(arguments)) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as exc:  # --help and --version
        return exc.exit_code
    return code if isinstance(code, int) else 0


def _give_up_stdout() -> None:
    """Write what can still be written; the rest must not fail again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(exc: Exception) -> str:
    match exc:
        case click.UsageError():
            path = exc.ctx.command_path if exc.ctx is not None else "proxywhirl"
            return f"{exc.format_message()} See '{path} --help'."
        case click.ClickException():
            return exc.format_message()
        case click.Abort():
            return "nothing was done"
        case OSError():
            return f"{exc.filename or 'the system'}: {exc.strerror or exc}"
        case _:
            return str(exc)
