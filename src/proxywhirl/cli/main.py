"""The command `proxywhirl`: its groups, and how it ends.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. An error is one line on stderr that says
what to do. A reader who closes a pipe early has seen enough: that is no error.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from proxywhirl import __version__
from proxywhirl.cli.bans_and_sessions import bans, sessions
from proxywhirl.cli.check_report import verdict
from proxywhirl.cli.checking import check, monitor
from proxywhirl.cli.demo import demo
from proxywhirl.cli.doctor import doctor
from proxywhirl.cli.entries import add, clear, remove
from proxywhirl.cli.explaining import explain
from proxywhirl.cli.exporting import export
from proxywhirl.cli.fetching import fetch
from proxywhirl.cli.importing import import_lists
from proxywhirl.cli.judging import judge
from proxywhirl.cli.keys import keys
from proxywhirl.cli.listing import list_entries
from proxywhirl.cli.migrate import migrate
from proxywhirl.cli.options import offer_anywhere
from proxywhirl.cli.render import printable, warn
from proxywhirl.cli.serving import serve
from proxywhirl.cli.show import show
from proxywhirl.cli.sources import sources
from proxywhirl.cli.stats import stats
from proxywhirl.errors import ProxyWhirlError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="proxywhirl")
def cli() -> None:
    """Keep a pool of forward proxies alive and useful.

    Import your list, look at it, and serve it as one proxy URL that rotates:

    \b
      proxywhirl import proxies.txt
      proxywhirl serve
      curl -x http://127.0.0.1:8899 http://example.com
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    logging.basicConfig(level=logging.WARNING, format="proxywhirl: %(message)s", stream=sys.stderr)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # what becomes of a retry is told at its end


COMMANDS = (
    import_lists,
    fetch,
    sources,
    list_entries,
    check,
    show,
    explain,
    stats,
    verdict,
    bans,
    sessions,
    serve,
    monitor,
    judge,
    add,
    remove,
    export,
    clear,
    keys,
    doctor,
    migrate,
    demo,
)
for command in COMMANDS:
    cli.add_command(command)
offer_anywhere(cli)


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
