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

if TYPE_CHECKING:
    from proxywhirl.models import Attributes, Target
    from proxywhirl.runtime import Runtime
    from proxywhirl.urls import ProxyURL

Command = TypeVar("Command", bound=Callable[..., Any])

_SECONDS = re.compile(r"0*[1-9][0-9]{0,14}")  # a longer number would be no number any more
_WORD = re.compile(r"[A-Za-z0-9_-]+")


class Kind(click.ParamType[Any]):
    """What an option or argument may be: its name in the help, and what reads it, or raises saying what is wrong."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what a text says; a default is of its type already."""
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError as exc:
            self.fail(f"{exc}.", param, ctx)


def _seconds(text: str) -> float:
    if text == "never":
        return math.inf
    if not _SECONDS.fullmatch(text):
        raise ValueError(f"{text!r} is neither a whole number of seconds from 1 on nor 'never'")
    return float(text)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return text


def _proxy(text: str) -> ProxyURL:
    from proxywhirl.urls import parse

    return parse(text)


def _key_or_proxy(text: str) -> str | ProxyURL:
    return text if _WORD.fullmatch(text) else _proxy(text)  # a word without a place for a port is a key


def _site(text: str) -> str:
    from proxywhirl.models import Target

    try:
        return Target.parse(text if "://" in text else f"http://{text}").site
    except ValueError as exc:
        raise ValueError(f"{text!r} is no site: {exc}. Write it such as shop.example") from exc


def _target(text: str) -> Target:
    from proxywhirl.models import Target

    return Target.parse(text)


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{text!r} is not a number of 0 or more")
    return number


def _country(text: str) -> str | None:
    from proxywhirl.models import Attributes

    return Attributes(country=text).country


TEXT = Kind("TEXT", _text)
"""A text that can be stored and shown: of one line, without control characters."""
LIFETIME = Kind("SECONDS|never", _seconds)
AMOUNT = Kind("NUMBER", _amount)
PROXY = Kind("URL", _proxy)
"""A proxy in any spelling that lists use."""
KEY_OR_PROXY = Kind("KEY|URL", _key_or_proxy)
"""A key as `list` shows it, or a proxy in any spelling."""
SITE = Kind("SITE|URL", _site)
"""A site as `bans` shows it, or a URL on it."""
TARGET = Kind("URL", _target)
COUNTRY = Kind("CC", _country)
"""The code of a country, in upper case."""


def anywhere(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Keep an option's value for the commands below, or take it from above: the one nearest to the command counts."""
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
    "--ttl", type=LIFETIME, metavar="SECONDS|never", help="How long they live. [default: never ends]"
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
        click.option("--price", type=AMOUNT, metavar="PRICE", help="What 10⁹ bytes cost (bandit, cheapest)."),
        click.option("--weight", type=AMOUNT, metavar="WEIGHT", help="Their share, 0 for never (strategy weighted)."),
        click.option("--country", type=COUNTRY, metavar="CC", help="Their country, such as DE."),
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
