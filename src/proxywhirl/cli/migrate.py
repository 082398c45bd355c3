"""`proxywhirl migrate`: the second tier, moved to another backend."""

from __future__ import annotations

import click

from proxywhirl.cache.maintenance.migrate import migrate as move
from proxywhirl.cache.tiers.directory_lock import BACKENDS
from proxywhirl.cli.options import home_option
from proxywhirl.cli.output import acknowledge, note, warn
from proxywhirl.settings import SETTINGS_FILE, Settings


@click.command()
@click.option("--to", "to", type=click.Choice(sorted(BACKENDS)), required=True, help="The backend that L2 is to have.")
@home_option
def migrate(to: str, home: str | None) -> None:
    """Move the second tier to another backend.

    It moves everything: entries, those out of service too, counts, encrypted credentials. The home's settings.toml then
    names the new backend. First stop every process that uses the store. If it is cut off, run it again: nothing is
    removed from the old place before the end.
    """
    settings = Settings.load(home)
    name = "l2_tier" if settings.cache.l2_tier else "l2_backend"
    write = Settings.prepare_change(home, "cache", name, to)
    done = move(settings.cache, to)
    changed = write()
    acknowledge(f"moved {done.moved} from {done.source} to {to}")
    if done.damaged:
        warn(f"{done.damaged} damaged ones were set aside before; the log names the file")
    if changed:
        note(f'{SETTINGS_FILE} of the home says {name} = "{to}" now')
