"""`proxywhirl export`: the store into a file or a pipe."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxywhirl.cache.maintenance.transfer import export_entries, write_entries
from proxywhirl.cli.options import home_option, open_runtime
from proxywhirl.cli.render import note

FORMATS = ("jsonl", "json", "csv")


@click.command()
@click.argument("file", metavar="[FILE]", default="-")
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: by the file's ending, else jsonl]")
@click.option("--with-credentials", is_flag=True, help="Write usernames and passwords in the clear.")
@home_option
def export(file: str, form: str | None, with_credentials: bool, home: str | None) -> None:
    """Write the store to a file or stdout.

    Those out of service are among the entries. The file has mode 0600, and `import` reads it back. Without
    --with-credentials it holds no secret, and importing it over the store keeps the stored ones.
    """
    ending = Path(file).suffix.lower().removeprefix(".")
    chosen = form or (ending if ending in FORMATS else "jsonl")
    with open_runtime(home) as runtime:
        entries = runtime.cache.scan(retired=None)
        if file == "-":
            count = write_entries(entries, sys.stdout, f".{chosen}", with_credentials=with_credentials)
        else:
            count = export_entries(entries, Path(file), suffix=f".{chosen}", with_credentials=with_credentials)
    note(f"exported {count}" + ("" if with_credentials else ", without credentials"))
