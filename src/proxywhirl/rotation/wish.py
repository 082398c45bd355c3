"""What a request wishes of its proxy, as a user writes it: `name,session=cart-17,country=de,tags=fast`. Pure.

The name of the account comes first and may be empty. Then keys and values: several values of one key stand between `|`.
Any character of a value may be percent-encoded by its bytes in UTF-8 (RFC 3986 section 2.1); a comma, an equals sign, a
`|`, a colon and a percent sign inside of one have to be. So every session can be written, as `urllib.parse` does it:
`quote(name, safe="", errors="surrogatepass")`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from proxywhirl.rotation.filters import Wishes
from proxywhirl.rotation.question import Question
from proxywhirl.rotation.sessions import require_name
from proxywhirl.urls import SCHEMES

__all__ = ["NO_WISH", "Wish"]

_COUNTRY = re.compile("[A-Z]{2}")
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Wish:
    """The session of a request (None for none), and what its proxy has to be: pairs of `Wishes`."""

    session: str | None = None
    filters: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, session: str | None, filters: Mapping[str, Any]) -> Self:
        """Take a session and filters as keywords; a filter that is None is none.

        Raises:
            ValueError: one of them is unknown or impossible; the message says what is known.
        """
        if session is not None:
            require_name(session)
        named = {name: value for name, value in filters.items() if value is not None}
        wanted = Question.of(None, (), named).wanted
        if not all(_COUNTRY.fullmatch(country) for country in wanted.country):
            raise ValueError(f"a country is a two-letter code such as de, not {named['country']!r}")
        if not set(SCHEMES).issuperset(wanted.scheme):
            raise ValueError(f"a scheme is one of {', '.join(SCHEMES)}, not {named['scheme']!r}")
        return cls(session, tuple((name, _frozen(value)) for name, value in named.items()))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read it as it comes over the wire, in UTF-8 (RFC 7617 section 2.1); see `parse`.

        Raises:
            ValueError: it is not UTF-8, or `parse` refuses it.
        """
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not in UTF-8: percent-encode the UTF-8 of each value") from None
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what stands after the name of the account and its comma.

        >>> Wish.parse("session=cart-17,country=de|fr,asn=3320").filters
        (('country', ('de', 'fr')), ('asn', 3320))

        Raises:
            ValueError: a key is unknown or there twice, or its value is impossible or wrongly encoded.
        """
        found: dict[str, Any] = {}
        for number, part in enumerate(text.split(","), 1):
            key, equals, value = part.partition("=")
            if not equals or key not in _KEYS:  # not repeated: it may be a piece of a password
                raise ValueError(f"part {number} is no wish: write KEY=VALUE; the keys are {', '.join(_KEYS)}")
            if key in found:
                raise ValueError(f"{key} is wished twice: write its values with | between them")
            found[key] = _typed(key, value)
        return cls.of(found.pop("session", None), found)

    @property
    def wishes(self) -> Wishes:
        """The filters as `Pool.acquire` takes them."""
        wishes: Wishes = dict(self.filters)  # type: ignore[assignment]  # `of` has checked names and values
        return wishes


NO_WISH = Wish()


def _frozen(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else tuple(value)


def _typed(key: str, text: str) -> Any:
    read = _READERS.get(key, str)
    if key in _SINGLE:
        return _read(key, _unquoted(key, text), read)
    values = tuple(_read(key, _unquoted(key, part), read) for part in text.split("|"))
    return values[0] if len(values) == 1 else values


def _unquoted(key: str, text: str) -> str:
    """Decode a value. Half a character is refused, but in a session: its name is any text that Python can hold."""
    if _LONE_PERCENT.search(text):
        raise ValueError(f"the value of {key} has a % without two hexadecimal digits: write a percent sign as %25")
    errors = "surrogatepass" if key == "session" else "strict"
    try:
        return unquote_to_bytes(text.encode("utf-8", errors)).decode("utf-8", errors)
    except UnicodeError:
        raise ValueError(f"the value of {key} is not UTF-8: percent-encode the bytes of its UTF-8") from None


def _read(key: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"{key} cannot be {text!r}: it takes {_TAKES[key]}") from None


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_KEYS = ("session", *Wishes.__annotations__)
_SINGLE = frozenset({"session", "anonymity", "connect", "max_price"})
_READERS: dict[str, Callable[[str], Any]] = {"asn": int, "connect": _truth, "max_price": float}
_TAKES = {"asn": "a number", "connect": "true or false", "max_price": "a number"}
