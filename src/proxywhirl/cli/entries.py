"""`proxywhirl list`, `add`, `remove` and `clear`: the entries of the store."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import click

from proxywhirl.cache.models import NEVER, CacheEntry
from proxywhirl.cli.options import attribute_options, attributes_of, home_option, json_option, open_runtime, ttl_option
from proxywhirl.cli.render import note, print_json, print_table, stdout
from proxywhirl.models import Attributes, HealthStatus, Proxy
from proxywhirl.runtime import Runtime
from proxywhirl.urls import SCHEMES, ProxyURL, parse

__all__ = ["add", "clear", "list_entries", "remove"]

TERMINAL_ROWS = 100
KEY = re.compile(r"[0-9a-f]{16}")
COLUMNS = ("KEY", "PROXY", "LABEL", "STATUS", "COUNTRY", "SOURCE", "EXPIRES", "USED")


@click.command("list")
@click.option("--status", type=click.Choice([status.value for status in HealthStatus]), help="Only of this health.")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="Only of this scheme.")
@click.option("--source", metavar="NAME", help="Only from this source.")
@click.option("--country", metavar="CC", help="Only from this country.")
@click.option("--tag", metavar="TAG", help="Only with this tag.")
@click.option("--retired", is_flag=True, help="Those taken out of service instead.")
@click.option("--limit", type=click.IntRange(1), help="So many at the most. [default: 100 on a terminal, else all]")
@json_option
@home_option
def list_entries(
    status: str | None,
    scheme: str | None,
    source: str | None,
    country: str | None,
    tag: str | None,
    retired: bool,
    limit: int | None,
    as_json: bool,
    home: str | None,
) -> None:
    """List the proxies of the store; --json gives JSON lines, without credentials."""
    with open_runtime(home) as runtime:
        entries = runtime.cache.scan(
            status=HealthStatus(status) if status else None,
            scheme=scheme,
            source=source,
            country=country,
            tag=tag,
            retired=retired,
        )
        if as_json:
            for entry in islice(entries, limit):
                click.echo(entry.model_dump_json())
            return
        shown = limit or (TERMINAL_ROWS if stdout().is_terminal else None)
        print_table(COLUMNS, map(_row, islice(entries, shown)))
        if not limit and shown and (more := sum(1 for _ in entries)):
            note(f"… and {more} more: narrow it down, or --limit {shown + more}")


def _row(entry: CacheEntry) -> tuple[str, ...]:
    known = entry.attributes
    label = known.label or (f"user-{entry.key[:6]}" if entry.username is not None else "")
    return (
        entry.key,
        entry.proxy_url,
        label,
        entry.health_status.value,
        known.country or "",
        entry.source,
        _remaining(entry.expires_at),
        str(entry.access_count),
    )


def _remaining(expires_at: datetime) -> str:
    if expires_at >= NEVER:
        return "never"
    left = expires_at - datetime.now(UTC)
    return f"in {timedelta(seconds=max(0, round(left.total_seconds())))}"


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--username", metavar="NAME", help="The username, where the URL has none.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin, so that it need not stand here.")
@click.option("--source", metavar="NAME", default="user", show_default=True, help="Where it comes from.")
@click.option("--label", metavar="TEXT", help="What to show instead of the username.")
@ttl_option
@attribute_options
@home_option
def add(
    urls: tuple[str, ...],
    username: str | None,
    password_stdin: bool,
    source: str,
    label: str | None,
    ttl: float | None,
    tags: tuple[str, ...],
    country: str | None,
    home: str | None,
) -> None:
    """Add proxies, or renew their password; one that was removed before is let in again."""
    if len(urls) > 1 and (username is not None or password_stdin or label):
        raise click.UsageError("--username, --password-stdin and --label go with one URL.")
    proxies = [parse(url) for url in urls]
    if username is not None or password_stdin:
        proxies = [_with_credential(proxies[0], username, password_stdin=password_stdin)]
    known = attributes_of(Attributes(label=label), tags, country)
    with open_runtime(home) as runtime:
        for proxy in proxies:
            merge = runtime.take_in([(proxy, known)], source=source, ttl=math.inf if ttl is None else ttl, lift=True)
            click.echo(f"{'added' if merge.loaded else 'known already:'} {Proxy.of(proxy, attributes=known)}")


def _with_credential(proxy: ProxyURL, username: str | None, *, password_stdin: bool) -> ProxyURL:
    if username is not None and proxy.username is not None:
        raise click.UsageError("The URL has a username already: leave --username out.")
    name = username if username is not None else proxy.username
    if name is None:
        raise click.UsageError("A password needs a username: give --username, or one in the URL.")
    password = proxy.password
    if password_stdin:
        if password is not None:
            raise click.UsageError("The URL has a password already: leave --password-stdin out.")
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise click.UsageError("stdin holds no password.")
    return ProxyURL(proxy.scheme, proxy.host, proxy.port, name, password)


@click.command()
@click.argument("proxies", metavar="KEY|URL...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", default="removed by the user", help="Why; kept with the block.")
@home_option
def remove(proxies: tuple[str, ...], reason: str, home: str | None) -> int:
    """Remove proxies; they stay out when a list offers them again, until you add them."""
    with open_runtime(home) as runtime:
        keys = list(dict.fromkeys(key for proxy in proxies for key in _keys(runtime, proxy)))
        removed = runtime.remove(keys, reason)
    click.echo(f"removed {len(removed)}")
    missing = len(keys) - len(removed)
    if missing:
        note(f"proxywhirl: {missing} of {len(keys)} were not in the store; `proxywhirl list` shows the keys")
    return 1 if missing else 0


def _keys(runtime: Runtime, proxy: str) -> Iterator[str]:
    """Find what is meant: a key, or a URL; without a username it means every session of the endpoint."""
    if KEY.fullmatch(proxy):
        yield proxy
        return
    url = parse(proxy)
    if url.username is None:
        yield from (e.key for e in runtime.cache.scan() if e.proxy_url == url.canonical and e.key != url.key)
    yield url.key


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@home_option
def clear(yes: bool, as_json: bool, home: str | None) -> None:
    """Remove every proxy of the store; what was removed one by one stays blocked."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("This removes every proxy: say --yes.")
        click.confirm("Remove every proxy of the store?", abort=True)
    with open_runtime(home) as runtime:
        count = runtime.cache.clear()
    if as_json:
        print_json({"removed": count})
    else:
        click.echo(f"removed {count}")
