"""The wish to a vendor's gateway, and how it is written into a username: one grammar for all vendors (pure).

`name,session=cart-17,country=de,city=berlin,lifetime=10m`: the account's name as the vendor gave it, then keys and
values. A comma, an equals sign and a percent sign inside of them are percent-encoded. The text is an identity's
username: it is the same for the same wish (`write` has one order and one spelling), and it is never sent; what a
vendor wants to read is compiled from it.

No message repeats a value: a username that only looks like this may be somebody's secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from proxywhirl.errors import SettingsError

KEYS = ("session", "country", "region", "city", "lifetime")

LONGEST_SESSION = 64
_COUNTRY = re.compile(r"[a-z]{2}")
_PLACE = re.compile(r"[a-z0-9]+(?: [a-z0-9]+)*")
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_ESCAPED = str.maketrans({"%": "%25", ",": "%2C", "=": "%3D"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a session at a vendor's gateway is to be; None leaves the choice to the vendor.

    Attributes:
        session: Any printable text of 1 to 64 characters; one vendor's may be narrower.
        country: An ISO 3166-1 alpha-2 code, kept in lower case.
        region: A state or region as the vendor spells it, in words of ASCII letters and digits, kept in lower case.
        city: Likewise.
        lifetime: For how many seconds the session keeps its exit.

    Raises:
        SettingsError: One of them is none.
    """

    session: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    lifetime: int | None = None

    def __post_init__(self) -> None:
        """Bring every part to its one spelling."""
        session, lifetime = self.session, self.lifetime
        if session is not None and not (0 < len(session) <= LONGEST_SESSION and session.isprintable()):
            raise SettingsError(f"a session's name has 1 to {LONGEST_SESSION} printable characters")
        if self.country is not None:
            object.__setattr__(self, "country", _matching(_COUNTRY, self.country, "a country is two letters: say de"))
        for name in ("region", "city"):
            value = getattr(self, name)
            if value is not None:
                hint = f"a {name} is written in words of the letters a to z and digits: say new york"
                object.__setattr__(self, name, _matching(_PLACE, value, hint))
        if lifetime is not None and lifetime < 1:
            raise SettingsError("a lifetime is at least a second: say 10m")

    @property
    def places(self) -> tuple[str, ...]:
        """The keys of where its exit is to be, in order."""
        return tuple(name for name in ("country", "region", "city") if getattr(self, name) is not None)


def has_wish(username: str | None) -> bool:
    """Tell whether a username may be written in this grammar: no vendor's own has a comma."""
    return username is not None and "," in username


def write(account: str, wish: Wish) -> str:
    """Return the username for an account's name and a wish.

    >>> write("bob", Wish(session="cart-17", country="DE", lifetime=600))
    'bob,session=cart-17,country=de,lifetime=10m'
    """
    parts = [account.translate(_ESCAPED)]
    for key in KEYS:
        value = getattr(wish, key)
        if value is not None:
            parts.append(f"{key}={duration(value) if key == 'lifetime' else value.translate(_ESCAPED)}")
    return ",".join(parts)


def parse(username: str) -> tuple[str, Wish]:
    """Read the account's name and the wish of a username.

    >>> parse("bob,session=cart-17,country=de")[1].session
    'cart-17'

    Raises:
        SettingsError: What stands after the account's name is no wish.
    """
    account, *parts = username.split(",")
    found: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        key, equals, value = part.partition("=")
        if not equals or key not in KEYS:
            raise SettingsError(f"part {number} after the account's name is no wish: known are {', '.join(KEYS)}")
        if key in found:
            raise SettingsError(f"{key} is wished twice")
        found[key] = unquote(value)
    lifetime = found.pop("lifetime", None)
    return unquote(account), Wish(**found, lifetime=None if lifetime is None else read_duration(lifetime))


def duration(seconds: int) -> str:
    """Write seconds in the largest unit that divides them.

    >>> duration(600), duration(90), duration(7200)
    ('10m', '90s', '2h')
    """
    unit = next(unit for unit in ("h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def read_duration(text: str) -> int:
    """Read what `duration` writes, in any unit; return seconds.

    Raises:
        SettingsError: It is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SettingsError("a lifetime is a whole number and s, m or h: say 90s, 10m or 1h")
    return int(match[1]) * _UNITS[match[2]]


def _matching(pattern: re.Pattern[str], value: str, hint: str) -> str:
    plain = value.strip().lower()
    if not pattern.fullmatch(plain):
        raise SettingsError(hint)
    return plain
