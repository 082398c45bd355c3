"""`proxywhirl sources`: which lists are fetched."""

from __future__ import annotations

import math
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from proxywhirl.cli.options import LIFETIME, TEXT, home_option, json_option, open_runtime
from proxywhirl.cli.output import acknowledge, note, print_found, print_json, printable
from proxywhirl.errors import SettingsError
from proxywhirl.sources.definitions import define, read_definitions, tables_of
from proxywhirl.sources.fetch_history import SourceRecord
from proxywhirl.sources.parsing.parse import parser_names
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.supply import Supply
from proxywhirl.urls import SCHEMES
from proxywhirl.validation import user_text

COLUMNS = ("NAME", "ENABLED", "FROM", "FORMAT", "SCHEME", "FETCHED", "PROXIES", "LOCATION", "ERROR")
EXPENDABLE = ("FORMAT", "FROM", "SCHEME", "PROXIES", "ERROR", "FETCHED")
SHOWN = 5  # proxies of a source that `test` prints

names_argument = click.argument("names", metavar="NAME...", type=TEXT, nargs=-1, required=True)


@click.group()
def sources() -> None:
    """Choose the lists that `proxywhirl fetch` asks."""


@sources.command("list")
@click.option("--enabled", is_flag=True, help="Only those that are asked.")
@json_option
@home_option
def list_sources(enabled: bool, as_json: bool, home: str | None) -> None:
    """List the sources, with what is known of each.

    --json gives JSON lines. Locations are shown without anything that may be a credential.
    """
    with open_runtime(home) as runtime:
        registry = runtime.supply.registry
        specs = [spec for spec in registry.specs().values() if spec.enabled or not enabled]
        records = registry.records()
    known = [(spec, records.get(spec.name, SourceRecord())) for spec in specs]
    print_found(COLUMNS, known, _row, _as_json, as_json=as_json, expendable=EXPENDABLE)


@sources.command()
@names_argument
@home_option
def enable(names: tuple[str, ...], home: str | None) -> None:
    """Ask sources when none is named."""
    _switch(names, home, enabled=True)


@sources.command()
@names_argument
@home_option
def disable(names: tuple[str, ...], home: str | None) -> None:
    """Do not ask sources, unless they are named.

    Their proxies stay until their time ends.
    """
    _switch(names, home, enabled=False)


@sources.command()
@click.argument("what", metavar="URL|FILE|-")
@click.option("--name", metavar="NAME", type=TEXT, help="What to call it. [default: by its location]")
@click.option("--format", "format_name", metavar="NAME", help="Its format. [default: recognised by the content]")
@click.option("--path", metavar="KEYS", type=TEXT, help="Where in a JSON document the list is, such as data.proxies.")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="For entries that name none. [default: http]")
@click.option("--refresh", type=click.IntRange(60), metavar="SECONDS", help="When to ask again. [default: 3600]")
@click.option("--ttl", type=LIFETIME, metavar="SECONDS|never", help="How long what it gives lives. [default: 21600]")
@json_option
@home_option
def add(what: str, ttl: float | None, as_json: bool, home: str | None, **given: Any) -> None:
    """Add a source of your own, a URL or a file.

    A file is read anew at each fetch. A FILE that ends in .toml, and - for stdin, hold definitions: TOML as in the
    home's sources.toml, or (stdin) a URL on each line. Yours may be on your own network, where public lists may not
    lead.
    """
    definitions, folder = _definitions(what, ttl=ttl, **given)
    with open_runtime(home) as runtime:
        added = runtime.supply.registry.add(definitions, _called(what), folder)
    for spec in added:
        if as_json:
            print_json(_as_json((spec, SourceRecord())))
        else:
            acknowledge(f"added {printable(spec.name)}: {printable(spec.shown)}")
    if not as_json:
        note("proxywhirl: `proxywhirl fetch` asks it with the others, `proxywhirl sources test` shows what it gives")


@sources.command()
@names_argument
@home_option
def remove(names: tuple[str, ...], home: str | None) -> None:
    """Forget sources that `add` brought.

    Their proxies stay until their time ends.
    """
    with open_runtime(home) as runtime:
        runtime.supply.registry.remove(names)
    for name in dict.fromkeys(names):
        acknowledge(f"removed {printable(name)}")


@sources.command()
@click.argument("what", metavar="NAME|URL|FILE")
@json_option
@home_option
def test(what: str, as_json: bool, home: str | None) -> None:
    """Fetch a source and show what it would give, without taking it in."""
    with open_runtime(home) as runtime:
        spec = _meant(runtime.supply, what)
        found = runtime.supply.examine(spec)
    urls = [url for url, _ in found.proxies.values()]
    schemes = dict(Counter(url.scheme for url in urls))
    if as_json:
        counts = {"name": spec.name, "proxies": len(urls), "rejected": found.rejected, "reason": found.reason}
        print_json({**counts, "schemes": schemes, "first": [url.canonical for url in urls[:SHOWN]]})
        return
    told = ", ".join(f"{count} {scheme}" for scheme, count in schemes.items())
    click.echo(f"{printable(spec.name)}: {len(urls)} proxies ({told}), rejected {found.rejected}")
    for url in urls[:SHOWN]:
        click.echo(url.canonical)
    if found.reason:
        note(f"the first of the rejected: {found.reason}")


def _switch(names: tuple[str, ...], home: str | None, *, enabled: bool) -> None:
    with open_runtime(home) as runtime:
        runtime.supply.registry.switch(names, enabled=enabled)
    for name in dict.fromkeys(names):
        acknowledge(f"{'enabled' if enabled else 'disabled'} {printable(name)}")


def _meant(supply: Supply, what: str) -> SourceSpec:
    """Return the source of a name, or one that is made of a URL or a file for this once."""
    known = supply.registry.specs().get(what)
    if known is not None:
        return known
    if "://" in what or Path(what).exists():
        return define("tested", {"url": what}, "the source", Provenance.USER, Path.cwd())
    (spec,) = supply.registry.find([what])
    return spec


def _called(what: str) -> str:
    return "stdin" if what == "-" else "the source" if "://" in what else printable(Path(what).name)


def _definitions(
    what: str, *, name: str | None, format_name: str | None, ttl: float | None, **given: Any
) -> tuple[list[tuple[str | None, dict[str, Any]]], Path]:
    """Return what the argument and the options define, and the folder where the paths of files begin."""
    if format_name is not None and format_name not in parser_names():
        raise click.UsageError(f"--format: unknown format {format_name!r}; known: {', '.join(parser_names())}.")
    options = {key: value for key, value in {"format": format_name, **given}.items() if value is not None}
    if ttl is not None:
        options["ttl"] = "never" if math.isinf(ttl) else int(ttl)
    if what != "-" and not what.endswith(".toml"):
        if "://" not in what and not Path(what).is_file():
            raise SettingsError(f"{printable(what)} is no file, and no URL such as https://lists.example/http.txt")
        return [(name, {"url": what, **options})], Path.cwd()
    if name is not None or options:
        raise click.UsageError("Definitions say all of it themselves: leave the options out.")
    if what == "-":
        return read_definitions(_stdin(), "stdin"), Path.cwd()
    text = user_text(Path(what), printable(what))
    if text is None:
        raise SettingsError(f"{printable(what)} cannot be read: No such file or directory")
    return list(tables_of(text, printable(what)).items()), Path(what).absolute().parent


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise SettingsError("stdin holds no text in UTF-8") from exc


def _as_json(known: tuple[SourceSpec, SourceRecord]) -> dict[str, Any]:
    spec, record = known
    return {
        "name": spec.name,
        "enabled": spec.enabled,
        "from": spec.provenance.value,
        "location": spec.shown,
        "format": spec.format,
        "path": spec.path,
        "scheme": spec.scheme,
        "refresh_seconds": spec.refresh,
        "ttl_seconds": None if math.isinf(spec.ttl) else spec.ttl,
        "home_page": spec.home_page,
        "licence": spec.licence,
        "fetched_at": _when(record.fetched_at),
        "due_at": _when(record.due_at(spec) or None),
        "proxies": record.proxies,
        "failures": record.failures,
        "error": record.error,
    }


def _row(known: tuple[SourceSpec, SourceRecord]) -> tuple[str, ...]:
    spec, record = known
    return (
        spec.name,
        "yes" if spec.enabled else "no",
        spec.provenance.value,
        spec.format or "any",
        spec.scheme,
        _when(record.fetched_at) or "never",
        str(record.proxies),
        spec.shown,
        record.error or "",
    )


def _when(timestamp: float | None) -> str | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
