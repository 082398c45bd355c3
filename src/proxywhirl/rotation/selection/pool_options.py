"""How a pool chooses, as one text: a strategy's name, and what else is wished for.

`NAME`, or `NAME:wish=value,wish=value`, where several values stand as `a|b`. Besides the strategies there are three
ways to use them, which take the strategy's name as `chooser` (else `random`):

- `composite`: filters first, then the chooser;
- `geo`: the wishes for a place (country, region, city, ASN) are preferences: if no proxy fulfils all of them, the
  narrowest is given up first, the country last; a place that a request asks for replaces the one of the text;
- `sticky`: requests without a session have one for the site that they go to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from proxywhirl.errors import SettingsError
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter
from proxywhirl.rotation.strategies.base import StrategyFactory
from proxywhirl.rotation.strategies.registry import find_strategy, strategy_names
from proxywhirl.validation import require

DEFAULT_STRATEGY = "bandit"
"""What a pool and the settings choose by where nothing is said."""

COMBINED = ("composite", "geo", "sticky")
_RELAXED = ((), ("asn",), ("asn", "city"), ("asn", "city", "region"), ("asn", "city", "region", "country"))


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """A text that was read: the strategy, the filter before it, and the way to use both."""

    name: str
    factory: StrategyFactory
    base: Filter = NO_FILTER
    yielding: bool = False
    sticky: bool = False

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a text.

        Raises:
            UnknownNameError: no strategy has that name; the message lists the known ones.
            SettingsError: a wish is wrong, or the package that offers the strategy cannot be loaded.
        """
        require("strategy", text, str, "a name, with wishes where it takes some")
        name, separator, rest = text.partition(":")
        wishes = _wishes(text, rest) if separator else {}
        if name not in COMBINED:
            if wishes:
                raise SettingsError(f"strategy {text!r}: {name} takes no wishes; write composite:{rest},chooser={name}")
            return cls(name, find_strategy(name, also=COMBINED))
        chooser = wishes.pop("chooser", ["random"])
        if len(chooser) > 1 or chooser[0] in COMBINED:
            raise SettingsError(f"strategy {text!r}: the chooser is one of {', '.join(strategy_names())}")
        if "connect" in wishes:
            raise SettingsError(
                f"strategy {text!r}: connect is for requests to ask; those to https sites need no asking"
            )
        try:
            base = Filter.of({wish: _typed(wish, values) for wish, values in wishes.items()})
        except ValueError as exc:
            raise SettingsError(f"strategy {text!r}: {exc}") from exc
        return cls(
            name, find_strategy(chooser[0], also=COMBINED), base, yielding=name == "geo", sticky=name == "sticky"
        )

    def filters_for(self, asked: Filter) -> tuple[Filter, ...]:
        """Return the filters to try, one after another, for a request that asks for something itself."""
        return _filters_for(self.base, asked, self.yielding)


@lru_cache(maxsize=1024)
def _filters_for(base: Filter, asked: Filter, yielding: bool) -> tuple[Filter, ...]:
    if yielding:
        base = base.without([place for place in _RELAXED[-1] if getattr(asked, place)])
    wanted = base.joined(asked)
    steps = [wanted.without(given_up) for given_up in _RELAXED] if yielding else [wanted]
    return tuple(NO_FILTER if step == NO_FILTER else step for step in dict.fromkeys(steps))


def _wishes(text: str, rest: str) -> dict[str, list[str]]:
    wishes: dict[str, list[str]] = {}
    for part in rest.split(","):
        wish, equals, value = part.partition("=")
        values = [one.strip() for one in value.split("|")]
        if not (wish.strip() and equals and all(values)) or wish.strip() in wishes:
            raise SettingsError(
                f"strategy {text!r}: after the colon come wishes such as country=DE|FR, each once, with commas between"
            )
        wishes[wish.strip()] = values
    return wishes


def _typed(wish: str, values: list[str]) -> object:
    if wish == "asn" and all(value.isascii() and value.isdigit() for value in values):
        return [int(value) for value in values]
    if wish == "max_price":
        try:
            return float("|".join(values))
        except ValueError:
            raise ValueError(f"max_price must be one number of 0 or more, not {'|'.join(values)!r}") from None
    return values
