"""`proxywhirl add`, `remove` and `clear`: changes to single entries of the store, and to all."""

from __future__ import annotations

import math
import sys

import click

from proxywhirl.cli.options import (
    KEY_OR_PROXY,
    PROXY,
    TEXT,
    Kind,
    Said,
    attribute_options,
    home_option,
    json_option,
    open_runtime,
    open_to_write,
    ttl_option,
)
from proxywhirl.cli.output import tell, warn
from proxywhirl.errors import ProxyURLError, SettingsError
from proxywhirl.models import Attributes, Proxy
from proxywhirl.runtime import Intake
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors import provider as vendors
from proxywhirl.vendors.grammar import Wish, read_duration
from proxywhirl.vendors.sessions import MOST_SESSIONS, recognised


@click.command()
@click.argument("urls", metavar="URL...", type=PROXY, nargs=-1, required=True)
@click.option("--username", metavar="NAME", help="The username, where the URL has none.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin, so that it need not stand here.")
@click.option("--source", metavar="NAME", type=TEXT, default="user", show_default=True, help="Where it comes from.")
@click.option("--label", metavar="TEXT", type=TEXT, help="What to show instead of the username.")
@ttl_option
@attribute_options
@click.option("--provider", metavar="NAME", help="Whose gateway it is. [default: by its host]")
@click.option(
    "--sessions", metavar="N", type=click.IntRange(1, MOST_SESSIONS), help="Make N proxies of a vendor's line."
)
@click.option("--region", metavar="NAME", help="The state or region that the sessions leave from.")
@click.option("--city", metavar="NAME", help="Likewise, a city, in the vendor's spelling.")
@click.option("--lifetime", type=Kind("TIME", read_duration), help="How long a session keeps its exit, such as 10m.")
@json_option
@home_option
def add(
    urls: tuple[ProxyURL, ...],
    username: str | None,
    password_stdin: bool,
    source: str,
    label: str | None,
    ttl: float | None,
    said: Said,
    provider: str | None,
    sessions: int | None,
    region: str | None,
    city: str | None,
    lifetime: int | None,
    as_json: bool,
    home: str | None,
) -> None:
    """Add proxies, or renew their password.

    A proxy that was removed before is let in again. With --sessions the line of a vendor's gateway becomes so many
    proxies, each a session with an exit of its own; adding it again adds nothing.
    """
    if len(urls) > 1 and (username is not None or password_stdin or label or sessions):
        raise click.UsageError("--username, --password-stdin, --label and --sessions go with one URL.")
    if sessions is None and (region or city or lifetime):
        raise click.UsageError("--region, --city and --lifetime go with --sessions.")
    if username is not None or password_stdin:
        urls = (_with_credential(urls[0], username, password_stdin=password_stdin),)
    given = said.of(Attributes(label=label))
    lives = math.inf if ttl is None else ttl
    if sessions is not None:
        try:
            wish = Wish(country=said.country, region=region, city=city, lifetime=lifetime)
        except SettingsError as exc:
            raise click.UsageError(f"{exc}.") from exc
        with open_to_write(home) as runtime:
            intake = runtime.add_sessions(
                urls[0], sessions, provider=provider, wish=wish, known=given, source=source, ttl=lives
            )
        _tell_sessions(urls[0], intake, provider, as_json=as_json)
        return
    if provider is not None:
        given = Attributes(**{**given.named(), "provider": vendors.provider(provider).name})
    offered = [(url, recognised(url, given)) for url in urls]
    with open_to_write(home) as runtime:
        for url, known in offered:
            there = bool(runtime.cache.known([url.key]))
            intake = runtime.take_in([(url, known)], source=source, ttl=lives, lift=True)
            word = "known already" if not intake.loaded else "renewed" if there else "added"
            words = f"{word}{':' * (word == 'known already')} {Proxy.of(url, attributes=known)}"
            tell({"key": url.key, "proxy_url": url.canonical, "result": word}, words, as_json=as_json)
            if url.key not in runtime.cache:
                warn(f"proxywhirl: {url.canonical} is out of service, and tried now and then: see `show {url.key}`")


def _tell_sessions(line: ProxyURL, intake: Intake, provider: str | None, *, as_json: bool) -> None:
    vendor = vendors.guess(line.host, line.port) if provider is None else None
    name = provider if vendor is None else vendor.name
    tell(
        {"proxy_url": line.canonical, "provider": name, "loaded": intake.loaded, "skipped": intake.skipped},
        f"loaded {intake.loaded}, skipped {intake.skipped} (known already): sessions of {name} at {line.canonical}",
        as_json=as_json,
    )


def _with_credential(proxy: ProxyURL, username: str | None, *, password_stdin: bool) -> ProxyURL:
    if username is not None and proxy.username is not None:
        raise click.UsageError("The URL has a username already: leave --username out.")
    name = username if username is not None else proxy.username
    if not name:
        raise click.UsageError("A password needs a username: give --username, or one in the URL.")
    password = proxy.password
    if password_stdin:
        if password is not None:
            raise click.UsageError("The URL has a password already: leave --password-stdin out.")
        password = _password()
    try:
        return proxy.with_credential(name, password)
    except ProxyURLError as exc:
        raise click.UsageError(f"The credential cannot be used: {exc}.") from exc


def _password() -> str:
    """Read one line from stdin, unseen where that is a terminal."""
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, err=True)
        return typed
    try:
        password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as exc:
        raise click.UsageError("stdin holds no text in UTF-8.") from exc
    if not password:
        raise click.UsageError("stdin holds no password.")
    return password


@click.command()
@click.argument("proxies", metavar="KEY|URL...", type=KEY_OR_PROXY, nargs=-1, required=True)
@click.option(
    "--reason", metavar="TEXT", type=TEXT, default="removed by the user", help="Why; `list --removed` shows it."
)
@json_option
@home_option
def remove(proxies: tuple[str | ProxyURL, ...], reason: str, as_json: bool, home: str | None) -> int:
    """Remove proxies, and keep them out.

    They stay out when a list offers them again, until you add them. A URL without a username stands for
    every session of its endpoint.
    """
    with open_runtime(home) as runtime:
        removal = runtime.remove(proxies, reason)
    told = {"removed": removal.removed, "missing": removal.missing}
    tell(told, f"removed {removal.removed}", as_json=as_json)
    if removal.missing:
        warn(f"proxywhirl: {removal.missing} of {len(proxies)} not in the store; `proxywhirl list` shows what is")
    return 1 if removal.missing else 0


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@home_option
def clear(yes: bool, as_json: bool, home: str | None) -> None:
    """Remove every proxy of the store.

    They come back when a list offers them again; proxies that were removed one by one stay out.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("This removes every proxy: say --yes.")
        click.confirm("Remove every proxy of the store?", abort=True, err=True)
    with open_runtime(home) as runtime:
        count = runtime.clear()
    tell({"removed": count}, f"removed {count}", as_json=as_json)
