"""What a request asks of the pool, read once; and how a user writes it for the gateway. Pure.

A user writes `name,session=cart-17,country=de,tags=fast`: the name of the account, which may be empty, then keys and
values. Several values of one key stand between `|`. Any character of a value may be percent-encoded by its bytes in
UTF-8 (RFC 3986 section 2.1); a comma, an equals sign, a `|`, a colon and a percent sign inside of one have to be. So
every session can be written, as `urllib.parse` does it: `quote(name, safe="", errors="surrogatepass")`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from proxywhirl.models import Target
from proxywhirl.rotation.affinity.sessions import require_name
from proxywhirl.rotation.selection.filters import NO_FILTER, Filter, Wishes
from proxywhirl.validation import require_number

_READ = 1024


@dataclass(slots=True, eq=False)  # frozen, it costs a microsecond for each request
class Criteria:
    """Where a request goes (`Target.site`, None: not said), which keys it does not want, and what the proxy has to be.

    `tunnels` says that it has to open a tunnel. `page` is the target's, None where it is not known. `within` is in how
    many seconds it has to be answered, None where that is not said.
    """

    site: str | None = None
    exclude: Collection[str] = ()
    wanted: Filter = NO_FILTER
    tunnels: bool = False
    page: int | None = None
    within: float | None = None

    @classmethod
    def of(
        cls,
        target: Target | str | None,
        exclude: Collection[str],
        wishes: Mapping[str, Any],
        within: float | None = None,
    ) -> Self:
        """Read what `Pool.acquire` was asked.

        Raises:
            ProxyURLError: the target is a text and no absolute http or https URL.
            TypeError: `target`, `exclude` or `within` is of the wrong kind.
            ValueError: there is no such wish, or its value is impossible; or `within` is not more than 0.
        """
        if within is not None:
            require_number("within", within, "seconds", more="; leave it out for no deadline")
        if exclude:
            _require_keys(exclude)
        else:
            exclude = ()
        site, tunnels, page = None, False, None
        if target is not None:
            if isinstance(target, str):
                target = _read_url(target)
            try:
                site, tunnels, page = target.site, target.scheme == "https", target.page
            except AttributeError:  # to look for its type costs something where it is one
                raise TypeError(f"target must be a URL or a Target, not {type(target).__name__}") from None
        if not wishes:
            return cls(site, exclude, NO_FILTER, tunnels, page, within)
        told = tuple(wishes.items())
        try:
            wanted, connect = _read_wishes(told)
        except TypeError:  # a list among them cannot be remembered
            wanted, connect = _read_wishes.__wrapped__(told)
        return cls(site, exclude, wanted, tunnels or connect, page, within)


ANYTHING = Criteria()


def _require_keys(exclude: Any) -> None:
    """Refuse what holds no keys. Of many it looks at one: each request would pay for the others."""
    if isinstance(exclude, str | bytes) or not isinstance(exclude, Collection):
        raise TypeError("exclude must be a set or a list of keys, and not one or an iterator: put it in brackets")
    if not isinstance(one := next(iter(exclude)), str):
        raise TypeError(f"exclude holds keys of proxies, such as lease.proxy.key, not {type(one).__name__}")


@lru_cache(maxsize=_READ)
def _read_url(url: str) -> Target:
    return Target.parse(url)


@lru_cache(maxsize=_READ)
def _read_wishes(wishes: tuple[tuple[str, Any], ...]) -> tuple[Filter, bool]:
    named = dict(wishes)
    connect = named.pop("connect", False)
    if not isinstance(connect, bool):
        raise ValueError(f"connect must be True or False, not {connect!r}")  # noqa: TRY004  # as of the other wishes
    wanted = Filter.of(named)
    return (NO_FILTER if wanted == NO_FILTER else wanted), connect


_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class RequestOptions:
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
        Criteria.of(None, (), named)  # which refuses what is impossible
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

        >>> RequestOptions.parse("session=cart-17,country=de|fr,asn=3320").filters
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


NO_OPTIONS = RequestOptions()


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
