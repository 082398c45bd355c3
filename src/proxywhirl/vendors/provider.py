"""A vendor as `providers.toml` describes it: the values, how they are read from its table, and which ones are known."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from proxywhirl.errors import Blame, UnknownNameError
from proxywhirl.vendors.grammar import KEYS

_MARK = re.compile(r"[-_][a-z]+[-_]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class SessionNames:
    """Which names of sessions a vendor takes: a pattern in words too, and what ready-made ones are built of.

    A ready-made name is `start` and a number below `base ** digits` in that base, or, where `start` is empty and `base`
    is 10, a number from `first` to `last`.
    """

    pattern: re.Pattern[str]
    words: str
    start: str = "s"
    base: int = 36
    digits: int = 11
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Which lifetimes a vendor takes, in seconds, and in which unit it reads them: s, m, or `suffixed` (10m)."""

    shortest: int
    longest: int
    unit: str


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What one answer of a vendor's gateway means.

    It holds for the statuses, where there are some, and for one of the headers: with one of the `codes` in it, or with
    words that match `says`. Without headers it is about refused tunnels alone. `name` stands in the rule of the
    verdict; None for the code that was found.
    """

    blame: Blame
    name: str | None
    statuses: frozenset[int]
    headers: tuple[bytes, ...]
    codes: re.Pattern[str] | None
    says: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Provider:
    """How a vendor reads a session and a place out of a credential, and what its errors mean.

    `places` and `sessions` have a template for each set of keys that it takes, joined by `+`. `marks` finds in a
    credential what says that something is wished already.
    """

    name: str
    title: str
    docs: str
    hosts: tuple[str, ...]
    into: str
    joint: str
    places: Mapping[str, str]
    sessions: Mapping[str, str]
    names: SessionNames
    marks: re.Pattern[str]
    ports: tuple[int, ...] = ()
    prefix: str = ""
    tail: str = ""
    account: re.Pattern[str] | None = None
    account_words: str = ""
    regions_of: tuple[str, ...] = ()
    countries: Mapping[str, str] = field(default_factory=dict)
    lifetimes: Lifetimes | None = None
    errors: tuple[ErrorRule, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        """The keys of a wish that the vendor takes, in order."""
        named = {key for table in (self.places, self.sessions) for keys in table for key in keys.split("+")}
        return tuple(key for key in KEYS if key in named)

    def is_at(self, host: str, port: int) -> bool:
        """Tell whether a gateway's address is one of this vendor."""
        return (not self.ports or port in self.ports) and any(fnmatchcase(host, pattern) for pattern in self.hosts)

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> Provider:
        """Build the value of a table."""
        names, lifetimes, account = table["names"], table.get("lifetimes"), table.get("account")
        read = {
            "hosts": tuple(table["hosts"]),
            "ports": tuple(table.get("ports", ())),
            "account": None if account is None else re.compile(account),
            "regions_of": tuple(table.get("regions_of", ())),
            "names": SessionNames(**{**names, "pattern": re.compile(names["pattern"])}),
            "lifetimes": None if lifetimes is None else Lifetimes(**lifetimes),
            "errors": tuple(_rule(rule) for rule in table.get("errors", ())),
            "marks": _marks([*table["places"].values(), *table["sessions"].values()]),
        }
        return cls(**{"name": name, **table, **read})


def _marks(templates: list[str]) -> re.Pattern[str]:
    literals = [literal for template in templates for literal in _PLACEHOLDER.split(template)[::2]]
    marks = {mark for literal in literals for mark in _MARK.findall(literal)}
    return re.compile("|".join(sorted(map(re.escape, marks))))


def _rule(table: Mapping[str, Any]) -> ErrorRule:
    codes, says = table.get("codes"), table.get("says")
    return ErrorRule(
        blame=Blame(table["blame"]),
        name=table.get("name"),
        statuses=frozenset(table.get("statuses", ())),
        headers=tuple(header.encode() for header in table.get("headers", ())),
        codes=None if codes is None else re.compile(rf"(?<![A-Za-z0-9])({'|'.join(codes)})(?![A-Za-z0-9])"),
        says=None if says is None else re.compile(says, re.IGNORECASE),
    )


@cache
def providers() -> Mapping[str, Provider]:
    """Return the vendors by name."""
    text = files("proxywhirl.vendors").joinpath("providers.toml").read_text(encoding="utf-8")
    return {name: Provider.of(name, table) for name, table in tomllib.loads(text).items()}


def provider(name: str) -> Provider:
    """Return a vendor.

    Raises:
        UnknownNameError: There is none of this name; the message lists those that there are.
    """
    known = providers()
    if name not in known:
        raise UnknownNameError("provider", name, list(known))
    return known[name]


def guess(host: str, port: int) -> Provider | None:
    """Return the vendor at whose gateways' addresses a host and port are; None where it is nobody's."""
    return next((known for known in providers().values() if known.is_at(host, port)), None)
