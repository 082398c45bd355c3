"""Which proxies a request may have, by what is known of them. Pure.

A `Filter` holds the wishes. The `Index` finds proxies by their scheme, country, tag and so on: it keeps each of these
from the moment on at which a filter first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import chain
from typing import Any, Self, TypedDict

from proxywhirl.models import ANONYMITIES, Proxy
from proxywhirl.urls import SCHEMES

_CODE = 2  # letters of a country

Text = str | Iterable[str]


class Wishes(TypedDict, total=False):
    """What a proxy must be, as keywords; where several values are given, one of them has to fit (of tags, all).

    `scheme`: as in its URL. `country`: two letters. `region`, `city`, `source`, `provider`: as stored, in any case.
    `asn`: a number. `tags`: all of them. `anonymity`: this grade or a better one. `connect`: True keeps out those that
    were found not to open tunnels. `max_price`: for 10⁹ bytes; a proxy without a price costs nothing.
    """

    scheme: Text
    country: Text
    region: Text
    city: Text
    asn: int | Iterable[int]
    tags: Text
    source: Text
    anonymity: str
    provider: Text
    connect: bool
    max_price: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Wishes in one form, so that equal wishes are equal. An empty tuple and None let every proxy pass.

    The hash is kept, since each request that filters asks for it.
    """

    scheme: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    city: tuple[str, ...] = ()
    asn: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    anonymity: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    max_price: float | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the hash."""
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in self.__slots__[:-1])))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, wishes: Mapping[str, Any]) -> Self:
        """Read wishes (`Wishes` without `connect`).

        Raises:
            ValueError: there is no such wish, or its value is impossible; the message says what is.
        """
        values: dict[str, Any] = {}
        for name, wish in wishes.items():
            if name not in _NAMES:
                raise ValueError(f"there is no filter {name!r}; known: {', '.join((*_NAMES, 'connect'))}")
            if wish is None or wish in ((), []):
                continue
            values[name] = _price(wish) if name == "max_price" else _values(name, wish)
        return cls(**values)

    def admits(self, proxy: Proxy) -> bool:
        """Whether a proxy is what is wished for."""
        known = proxy.attributes
        return (
            (not self.scheme or proxy.scheme in self.scheme)
            and (not self.country or known.country in self.country)
            and (not self.region or _folded(known.region) in self.region)
            and (not self.city or _folded(known.city) in self.city)
            and (not self.asn or known.asn in self.asn)
            and (not self.tags or {*map(str.casefold, known.tags)}.issuperset(self.tags))
            and (not self.source or _folded(proxy.source) in self.source)
            and (not self.anonymity or known.anonymity in self.anonymity)
            and (not self.provider or _folded(known.provider) in self.provider)
            and (self.max_price is None or (known.price_per_gb or 0.0) <= self.max_price)
        )

    def unfulfilled(self, proxy: Proxy) -> str:
        """Return the first wish that a proxy does not fulfil, as `name=value`; nothing where it fulfils all."""
        if self.admits(proxy):
            return ""
        for name in _NAMES:
            alone = Filter(**{name: getattr(self, name)})
            if not alone.admits(proxy):
                return str(alone)
        return ""

    def without(self, names: Iterable[str]) -> Filter:
        """Return the same without some of the wishes."""
        return Filter(**{name: getattr(self, name) for name in _NAMES if name not in names})

    def joined(self, other: Filter) -> Filter:
        """Return a filter that asks for both: of a wish that both have, the values that fit both."""
        values: dict[str, Any] = {}
        for name in _NAMES:
            one, two = getattr(self, name), getattr(other, name)
            if name == "max_price":
                values[name] = min(one, two) if one is not None and two is not None else two if one is None else one
            elif name == "tags":
                values[name] = tuple(sorted({*one, *two}))
            elif one and two:
                values[name] = tuple(value for value in one if value in two) or (_NOBODY,)
            else:
                values[name] = one or two
        return Filter(**values)

    def __str__(self) -> str:
        """Return the wishes as `name=value`, with commas between them."""
        told = []
        for name in _NAMES:
            value = getattr(self, name)
            if value not in ((), None):
                told.append(f"{name}={'|'.join(map(str, value)) if isinstance(value, tuple) else f'{value:g}'}")
        return ",".join(told)


_NAMES = tuple(known.name for known in fields(Filter) if known.init)
_NOBODY = "\0"

NO_FILTER = Filter()


@lru_cache(maxsize=1024)
def _folded(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def _price(wish: Any) -> float:
    if isinstance(wish, bool) or not isinstance(wish, int | float) or not wish >= 0:
        raise ValueError(f"max_price must be a number of 0 or more, not {wish!r}")
    return float(wish)


def _values(name: str, wish: Any) -> tuple[Any, ...]:
    try:
        several: list[Any] = [wish] if isinstance(wish, str | int) else list(wish)
    except TypeError:
        several = [wish]
    if name == "asn":
        if any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in several):
            raise ValueError(f"asn must be a number without its AS, or several, not {wish!r}")
        return tuple(sorted(set(several)))
    if not all(isinstance(value, str) and value for value in several):
        raise ValueError(f"{name} must be a text, or several, not {wish!r}")
    if name == "anonymity":
        return _grades(wish, several)
    if name == "country":
        if not all(len(value) == _CODE and value.isascii() and value.isalpha() for value in several):
            raise ValueError(f"country must be a two-letter code such as DE, or several, not {wish!r}")
        return tuple(sorted({value.upper() for value in several}))
    folded = tuple(sorted({value.casefold() for value in several}))
    if name == "scheme" and not SCHEMES.keys() >= {*folded}:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, or several, not {wish!r}")
    return folded


def _grades(wish: Any, several: list[str]) -> tuple[str, ...]:
    if len(several) != 1 or several[0] not in ANONYMITIES:
        raise ValueError(f"anonymity must be one of {', '.join(ANONYMITIES)}, not {wish!r}")
    return ANONYMITIES[ANONYMITIES.index(several[0]) :]


Keys = dict[str, None]  # in order, which those of a set are not

_FACETS: dict[str, Callable[[Proxy], Iterable[Any]]] = {
    "scheme": lambda proxy: (proxy.scheme,),
    "country": lambda proxy: (proxy.attributes.country,),
    "region": lambda proxy: _folded_values(proxy.attributes.region),
    "city": lambda proxy: _folded_values(proxy.attributes.city),
    "asn": lambda proxy: (proxy.attributes.asn,),
    "tags": lambda proxy: [tag.casefold() for tag in proxy.attributes.tags],
    "source": lambda proxy: _folded_values(proxy.source),
    "anonymity": lambda proxy: (proxy.attributes.anonymity,),
    "provider": lambda proxy: _folded_values(proxy.attributes.provider),
    "max_price": lambda proxy: (proxy.attributes.price_per_gb or 0.0,),
}


def _folded_values(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text.casefold(),)


class Index:
    """Keys by what is known of their proxies, in the order in which they came: with the same seed the same are chosen.

    Args:
        known: Gives a value with what is known of a key; its address may be another's.
    """

    def __init__(self, known: Callable[[str], Proxy]) -> None:
        self._known = known
        self._facets: dict[str, dict[Any, Keys]] = {}

    @property
    def asked(self) -> bool:
        """Whether any filter asked for anything."""
        return bool(self._facets)

    def add(self, keys: Iterable[str]) -> None:
        """Take in keys that came into the pool. O(1) for each facet that was asked for, nothing where none was."""
        for name, held in self._facets.items():
            _fill(held, _FACETS[name], self._known, keys)

    def remove(self, key: str, proxy: Proxy) -> None:
        """Forget a key, by what was known of it when it was taken in."""
        for name, held in self._facets.items():
            for value in _FACETS[name](proxy):
                keys = held.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del held[value]

    def candidates(self, wanted: Filter, everyone: Collection[str]) -> Collection[str]:
        """Return all keys that may fit, as few as one facet can tell: the keys of the rarest.

        A facet that was not asked for before costs O(n), once.
        """
        best: Collection[str] = everyone
        for name, facet in _FACETS.items():
            wish = getattr(wanted, name)
            if wish in ((), None):
                continue
            held = self._facets.get(name)
            if held is None:
                held = self._facets[name] = {}
                _fill(held, facet, self._known, everyone)
            if name == "max_price":
                found = [held[price] for price in held if price <= wish]
            else:
                found = [held[value] for value in wish if value in held]
                if name == "tags":  # all of them are wanted: the rarest is enough
                    found = [min(found, key=len)] if len(found) == len(wish) else []
            if sum(map(len, found)) < len(best):
                best = found[0] if len(found) == 1 else dict.fromkeys(chain(*found))
        return best


def _fill(
    held: dict[Any, Keys], facet: Callable[[Proxy], Iterable[Any]], known: Callable[[str], Proxy], keys: Iterable[str]
) -> None:
    for key in keys:
        for value in facet(known(key)):
            held.setdefault(value, {})[key] = None
