"""Options that several commands share, and how a command opens the store."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxywhirl.cli.output import warn
from proxywhirl.errors import ProxyURLError

if TYPE_CHECKING:
    from proxywhirl.models import Attributes
    from proxywhirl.runtime import Runtime
    from proxywhirl.urls import ProxyURL

Command = TypeVar("Command", bound=Callable[..., Any])

_SECONDS = re.compile(r"0*[1-9][0-9]{0,14}")  # a longer number would be no number any more
_KEY = re.compile(r"[0-9a-f]{16}")
_WORD = re.compile(r"[A-Za-z0-9_-]+")


class TimeToLive(click.ParamType[float]):
    """A number of seconds, or `never`."""

    name = "SECONDS|never"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, infinity for `never`."""
        if isinstance(value, float):
            return value
        if value == "never":
            return math.inf
        if not _SECONDS.fullmatch(value):
            self.fail(f"{value!r} is neither a whole number of seconds from 1 on nor 'never'.", param, ctx)
        return float(value)


class Text(click.ParamType[str]):
    """A text that can be stored and shown: of one line, without control characters."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        text = str(value)
        if not text.strip():
            self.fail("is empty.", param, ctx)
        if not text.isprintable():
            self.fail("holds a character that cannot be printed.", param, ctx)
        return text


class ProxyArgument(click.ParamType["ProxyURL"]):
    """A proxy in any spelling that lists use."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ProxyURL:
        """Return the parsed URL; the message about a wrong one is redacted."""
        from proxywhirl.urls import ProxyURL, parse

        try:
            return value if isinstance(value, ProxyURL) else parse(value)
        except ProxyURLError as exc:
            self.fail(f"{exc}.", param, ctx)


class KeyOrProxy(click.ParamType["str | ProxyURL"]):
    """A key as `list` shows it, or a proxy in any spelling."""

    name = "KEY|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | ProxyURL:
        """Return the key, or the parsed URL: what has no place for a port is meant as a key."""
        if isinstance(value, str) and (_KEY.fullmatch(value) or _WORD.fullmatch(value)):
            return value
        return ProxyArgument().convert(value, param, ctx)


class Site(click.ParamType[str]):
    """A site as `bans` shows it, or a URL on it."""

    name = "SITE|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the site: the host, and the port where it is not its scheme's own."""
        from proxywhirl.models import Target

        try:
            return Target.parse(value if "://" in value else f"http://{value}").site
        except ProxyURLError as exc:
            self.fail(f"{value!r} is no site: {exc}. Write it such as shop.example.", param, ctx)


class Amount(click.ParamType[float]):
    """A number of 0 or more that is not infinite."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"{value!r} is not a number of 0 or more.", param, ctx)
        return number


TEXT = Text()
AMOUNT = Amount()


def country_code(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the code of a country, in upper case; refuse what is none."""
    if value is None:
        return None
    from proxywhirl.models import Attributes

    try:
        return Attributes(country=value).country
    except ValueError as exc:
        raise click.BadParameter(f"{exc}.") from exc


def anywhere(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Keep what an option says for the commands below, or take what it said above: the nearest to the command goes."""
    key = f"proxywhirl.{option.name}"
    if value:
        context.meta[key] = value
    return context.meta.get(key, value)


def _named_home(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    if value == "":
        raise click.BadParameter("is empty, such as a variable that is not set: name a directory, or leave it out.")
    return anywhere(context, option, value)


def _lacking(context: click.Context, option: click.Parameter, value: Any) -> None:
    if anywhere(context, option, value):
        raise click.UsageError(f"`{context.command_path}` takes no {option.opts[0]}, before it or after it.", context)


_HOME: dict[str, Any] = {
    "metavar": "DIR",
    "callback": _named_home,
    "help": "The store to use. [default: PROXYWHIRL_HOME, else the user's]",
}
_JSON: dict[str, Any] = {"is_flag": True, "callback": anywhere, "help": "Print JSON for programs."}
_FLAGS: dict[str, Any] = {"is_flag": True, "callback": anywhere, "expose_value": False}

home_option = click.option("--home", **_HOME)
json_option = click.option("--json", "as_json", **_JSON)
ttl_option = click.option(
    "--ttl", type=TimeToLive(), metavar="SECONDS|never", help="How long they live. [default: never ends]"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What the options say of proxies; None and an empty tuple say nothing."""

    tags: tuple[str, ...] = ()
    country: str | None = None
    weight: float | None = None
    price_per_gb: float | None = None

    def of(self, known: Attributes) -> Attributes:
        """Return what a list says of a proxy together with this, which wins; tags are added."""
        named = {name: value for name in self.__slots__ if (value := getattr(self, name)) not in (None, ())}
        if not named:
            return known
        named["tags"] = tuple(dict.fromkeys((*known.tags, *self.tags)))
        return replace(known, **named)


def attribute_options(command: Command) -> Command:
    """Add `--tag`, `--country`, `--weight` and `--price`, which arrive as `said`."""

    @functools.wraps(command)
    def gathered(
        *args: Any, tags: tuple[str, ...], country: str | None, weight: float | None, price: float | None, **rest: Any
    ) -> Any:
        return command(*args, said=Said(tags, country, weight, price), **rest)

    for option in (
        click.option("--price", type=AMOUNT, metavar="PRICE", help="What 10⁹ bytes cost (strategy cheapest)."),
        click.option("--weight", type=AMOUNT, metavar="WEIGHT", help="Their share, 0 for never (strategy weighted)."),
        click.option("--country", metavar="CC", callback=country_code, help="Their country, such as DE."),
        click.option(
            "--tag", "tags", metavar="TAG", type=TEXT, multiple=True, help="Give them a tag; may be repeated."
        ),
    ):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]  # a command takes whatever its options give


def offer_anywhere(command: click.Command) -> None:
    """Let a command, and those in it, take `--home`, `--json`, `--quiet` and `--no-color` before the command too.

    One that has no use for the first two refuses them wherever they stand: nothing asked for is left out in silence.
    """
    known = {option.name for option in command.params}
    for names, settings in ((["--home"], _HOME), (["--json", "as_json"], _JSON)):
        if isinstance(command, click.Group):
            command.params.append(click.Option(names, expose_value=False, **settings))
        elif names[-1].removeprefix("--") not in known:
            refused = {**settings, "callback": _lacking, "expose_value": False, "hidden": True}
            command.params.append(click.Option(names, **refused))
    command.params += [
        click.Option(["--quiet", "-q"], help="Print data, warnings and errors alone.", **_FLAGS),
        click.Option(["--no-color"], help="Print no escape sequence, on a terminal neither.", **_FLAGS),
    ]
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        offer_anywhere(inner)


def open_runtime(home: str | None, overrides: dict[str, dict[str, Any]] | None = None) -> Runtime:
    """Open the store of a home."""
    from proxywhirl.runtime import Runtime
    from proxywhirl.settings import Settings

    return Runtime(Settings.load(home, overrides=overrides))


def open_to_write(home: str | None) -> Runtime:
    """Open the store of a home to put something into it; say so where nothing of it will stay."""
    from proxywhirl.cache.opening import enabled_tiers

    runtime = open_runtime(home)
    if enabled_tiers(runtime.settings.cache) == ["l1"]:
        warn(
            "proxywhirl: only the first tier is on, which is memory: all is gone when this command ends; enable "
            "cache.l2_config or cache.l3_config"
        )
    return runtime
