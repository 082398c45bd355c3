"""`proxywhirl list`: the entries of the store, and what was removed from it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from proxywhirl.cache.models import NEVER, CacheEntry
from proxywhirl.cli.options import COUNTRY, TEXT, home_option, json_option, open_runtime
from proxywhirl.cli.output import ahead, is_terminal, label_of, note, print_found, print_table
from proxywhirl.models import HealthStatus
from proxywhirl.runtime import Runtime
from proxywhirl.urls import SCHEMES

TERMINAL_ROWS = 100
COLUMNS = ("KEY", "PROXY", "LABEL", "STATUS", "CC", "SOURCE", "EXPIRES", "USED")
EXPENDABLE = ("USED", "LABEL", "EXPIRES", "SOURCE", "CC")
REMOVED_COLUMNS = ("KEY", "PROXY", "REASON")


@click.command("list")
@click.option("--status", type=click.Choice([status.value for status in HealthStatus]), help="Only of this health.")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="Only of this scheme.")
@click.option("--source", metavar="NAME", type=TEXT, help="Only from this source.")
@click.option("--country", type=COUNTRY, metavar="CC", help="Only from this country.")
@click.option("--tag", metavar="TAG", type=TEXT, help="Only with this tag.")
@click.option("--retired", is_flag=True, help="Those taken out of service instead.")
@click.option("--removed", is_flag=True, help="What you removed and is kept out instead, with the reason.")
@click.option("--limit", type=click.IntRange(1), help="So many at the most. [default: 100 on a terminal, else all]")
@json_option
@home_option
def list_entries(removed: bool, limit: int | None, as_json: bool, home: str | None, **filters: Any) -> None:
    """List the proxies of the store.

    --json gives JSON lines, without credentials.
    """
    if removed and any(filters.values()):
        raise click.UsageError("--removed goes with no filter.")
    with open_runtime(home) as runtime:
        if removed:
            _list_removed(runtime, limit, as_json=as_json)
            return
        status = filters.pop("status")
        entries = runtime.cache.scan(status=HealthStatus(status) if status else None, **filters)
        if as_json:
            for entry in islice(entries, limit):
                click.echo(entry.model_dump_json())
            return
        shown = limit or (TERMINAL_ROWS if is_terminal() else None)
        rows = [_row(entry) for entry in islice(entries, shown)]
        print_table(COLUMNS, rows, expendable=EXPENDABLE)
        if not rows and filters["retired"] is False and next(runtime.cache.scan(retired=True), None) is not None:
            note("none in service; `proxywhirl list --retired` shows those that failed too often")
        if limit is None and next(entries, None) is not None:
            note(f"… and more than these {shown}: narrow them down, or say --limit")


def _list_removed(runtime: Runtime, limit: int | None, *, as_json: bool) -> None:
    blocked = islice(runtime.blocked().items(), limit)
    rows = ((key, block.proxy_url, block.reason) for key, block in blocked)
    fields = ("key", "proxy_url", "reason")
    print_found(REMOVED_COLUMNS, rows, tuple, lambda row: dict(zip(fields, row, strict=True)), as_json=as_json)


def _row(entry: CacheEntry) -> tuple[str, ...]:
    known = entry.attributes
    return (
        entry.key,
        entry.proxy_url,
        label_of(entry),
        entry.health_status.value,
        known.country or "",
        entry.source,
        "never" if entry.expires_at >= NEVER else ahead(entry.expires_at),
        str(entry.access_count),
    )
