"""The command `proxywhirl`: its groups, and how it ends.

Exit codes: 0 done, 1 the work failed, 2 wrong usage. An error is one line on stderr that says what to do.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from proxywhirl.cli.demo import demo
from proxywhirl.cli.entries import add, clear, list_entries, remove
from proxywhirl.cli.exporting import export
from proxywhirl.cli.importing import import_lists
from proxywhirl.cli.options import VERSION
from proxywhirl.cli.serving import serve
from proxywhirl.cli.stats import stats
from proxywhirl.errors import ProxyWhirlError

__all__ = ["cli", "main"]

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, package_name="proxywhirl", prog_name="proxywhirl")
def cli() -> None:
    r"""Keep a pool of forward proxies alive and useful.

    Import your list, look at it, and serve it as one proxy URL that rotates:

    \b
      proxywhirl import proxies.txt
      proxywhirl serve
      curl -x http://127.0.0.1:8899 http://example.com
    """
    logging.basicConfig(level=logging.WARNING, format="proxywhirl: %(message)s", stream=sys.stderr)


for command in (import_lists, list_entries, stats, serve, add, remove, export, clear, demo):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=arguments, prog_name="proxywhirl", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough; nothing more can be written to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (click.ClickException, click.Abort, ProxyWhirlError, OSError) as exc:
        click.echo("proxywhirl: " + " ".join(_message(exc).split()), err=True)
        return exc.exit_code if isinstance(exc, click.ClickException) else 1
    return code if isinstance(code, int) else 0


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
