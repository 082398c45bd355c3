"""Who has which scheme, country, tag and so on: kept from the moment on at which a filter first asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any

from proxywhirl.models import Proxy
from proxywhirl.rotation.filters import Filter

__all__ = ["Index"]

Keys = dict[str, None]  # in order, which those of a set are not

_FACETS: dict[str, Callable[[Proxy], Iterable[Any]]] = {
    "scheme": lambda proxy: (proxy.scheme,),
    "country": lambda proxy: (proxy.attributes.country,),
    "region": lambda proxy: _folded(proxy.attributes.region),
    "city": lambda proxy: _folded(proxy.attributes.city),
    "asn": lambda proxy: (proxy.attributes.asn,),
    "tags": lambda proxy: [tag.casefold() for tag in proxy.attributes.tags],
    "source": lambda proxy: _folded(proxy.source),
    "anonymity": lambda proxy: (proxy.attributes.anonymity,),
    "provider": lambda proxy: _folded(proxy.attributes.provider),
    "max_price": lambda proxy: (proxy.attributes.price_per_gb or 0.0,),
}


def _folded(text: str | None) -> tuple[str, ...]:
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
        """Return keys of which some are wanted and beside which none is: those of the rarest facet.

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
    held: dict[Any, Keys],
    facet: Callable[[Proxy], Iterable[Any]],
    known: Callable[[str], Proxy],
    keys: Iterable[str],
) -> None:
    for key in keys:
        for value in facet(known(key)):
            held.setdefault(value, {})[key] = None
