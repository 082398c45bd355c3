"""The options of `proxywhirl add` for a vendor's gateway: what is wished, and how many sessions a line becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from proxywhirl.cli.render import acknowledge, print_json
from proxywhirl.errors import SettingsError
from proxywhirl.models import Attributes
from proxywhirl.runtime import Runtime
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.grammar import Wish, read_duration
from proxywhirl.vendors.provider import guess, provider
from proxywhirl.vendors.sessions import MOST_SESSIONS, recognised

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType[int]):
    """A time such as 90s, 10m or 1h, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        try:
            return value if isinstance(value, int) else read_duration(str(value))
        except SettingsError as exc:
            self.fail(f"{exc}.", param, ctx)


def vendor_options(command: Command) -> Command:
    """Add `--provider`, `--sessions`, `--region`, `--city` and `--lifetime`."""
    for option in (
        click.option("--lifetime", type=Duration(), help="How long a session keeps its exit, such as 10m."),
        click.option("--city", metavar="NAME", help="Likewise, a city, in the vendor's spelling."),
        click.option("--region", metavar="NAME", help="The state or region that the sessions leave from."),
        click.option(
            "--sessions", metavar="N", type=click.IntRange(1, MOST_SESSIONS), help="Make N proxies of a vendor's line."
        ),
        click.option("--provider", metavar="NAME", help="Whose gateway it is. [default: by its host]"),
    ):
        command = option(command)
    return command


def wish_of(country: str | None, region: str | None, city: str | None, lifetime: int | None) -> Wish:
    """Return what the options wish of a vendor."""
    try:
        return Wish(country=country, region=region, city=city, lifetime=lifetime)
    except SettingsError as exc:
        raise click.UsageError(f"{exc}.") from exc


def of_provider(url: ProxyURL, name: str | None, known: Attributes) -> Attributes:
    """Return what is known of a single line: whose it is, and what its username wishes.

    Raises:
        SettingsError: it wishes what the vendor does not take.
        UnknownNameError: no vendor has this name.
    """
    if name is not None:
        known = Attributes(**{**known.named(), "provider": provider(name).name})
    return recognised(url, known)


def add_sessions(
    runtime: Runtime,
    line: ProxyURL,
    count: int,
    *,
    provider: str | None,
    wish: Wish,
    known: Attributes,
    source: str,
    ttl: float,
    as_json: bool,
) -> None:
    """Take in sessions of a vendor's line, and tell how many are new.

    Raises:
        SettingsError: the vendor cannot be told, or does not take what is wished.
        UnknownNameError: no vendor has this name.
    """
    intake = runtime.add_sessions(line, count, provider=provider, wish=wish, known=known, source=source, ttl=ttl)
    vendor = guess(line.host, line.port) if provider is None else None
    name = provider if vendor is None else vendor.name
    if as_json:
        told = {"proxy_url": line.canonical, "provider": name, "loaded": intake.loaded, "skipped": intake.skipped}
        print_json(told)
    else:
        acknowledge(
            f"loaded {intake.loaded}, skipped {intake.skipped} (known already): sessions of {name} at {line.canonical}"
        )
