"""From an account and a wish to the credential that a vendor's gateway reads (pure).

Rules: two wishes never give one credential, so that no two identities share an exit by accident; what cannot be
written for a vendor is an error that says so, never left out. A vendor's separator therefore never stands in a value.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxywhirl.errors import SettingsError
from proxywhirl.vendors.catalogue import provider as provider_of
from proxywhirl.vendors.grammar import Wish, duration
from proxywhirl.vendors.provider import Lifetimes, Provider

ESCAPE = "zx"
_UNIT_SECONDS = {"s": 1, "m": 60}
_UNIT_WORDS = {"s": "seconds", "m": "minutes"}
_DAY = 86_400


def compile_credential(provider: str, credential: tuple[str, str | None], wish: Wish) -> tuple[str, str | None]:
    """Return the username and the password that a vendor reads, for those of an account and a wish.

    >>> compile_credential("iproyal", ("bob", "pw"), Wish(session="cart0017", country="de", lifetime=600))
    ('bob', 'pw_country-de_session-cart0017_lifetime-10m')

    Raises:
        UnknownNameError: No vendor has this name.
        SettingsError: The vendor does not take the wish, or the account's credential.
    """
    vendor = provider_of(provider)
    username, password = credential
    written = _places(vendor, wish) + _session(vendor, wish)
    username = _account(vendor, username)
    if vendor.into == "username":
        _free_of_wishes(vendor, username, "username")
        return username + written, password
    if not password:
        raise SettingsError(f"{vendor.name} reads sessions and places in the password: give the account's")
    _free_of_wishes(vendor, password, "password")
    return username, password + written


def spelled_session(vendor: Provider, name: str) -> str:
    """Return a session's name as the vendor takes it: as it is where that fits, else its bytes in hexadecimal.

    Raises:
        SettingsError: It does not fit either way.
    """
    escaped = ESCAPE + name.encode().hex()
    for spelling in (escaped,) if session_name(name) != name else (name, escaped):
        if vendor.names.pattern.fullmatch(spelling):
            return spelling
    raise SettingsError(f"{vendor.name} takes no session of this name: it wants {vendor.names.words}")


def session_name(spelling: str) -> str:
    """Return the name that `spelled_session` spelled so."""
    if spelling.startswith(ESCAPE):
        try:
            name = bytes.fromhex(spelling[len(ESCAPE) :]).decode()
        except ValueError:
            return spelling
        if name and ESCAPE + name.encode().hex() == spelling:
            return name
    return spelling


def _account(vendor: Provider, username: str) -> str:
    if vendor.account is not None and not vendor.account.fullmatch(username):
        raise SettingsError(f"the username of an account at {vendor.name} is {vendor.account_words}")
    return username if username.startswith(vendor.prefix) else vendor.prefix + username


def _free_of_wishes(vendor: Provider, text: str, what: str) -> None:
    mark = vendor.marks.search(text)
    if mark is not None:
        raise SettingsError(
            f"the {what} holds {mark[0]!r} already, a wish for {vendor.name}: give that of the account alone"
        )


def _places(vendor: Provider, wish: Wish) -> str:
    template = vendor.places.get("+".join(wish.places), None if wish.places else "")
    if template is None:
        raise SettingsError(_unwritable(vendor, wish.places, vendor.places))
    country = wish.country
    if country is not None and country in vendor.countries.values():
        (ours,) = (name for name, theirs in vendor.countries.items() if theirs == country)
        raise SettingsError(f"{vendor.name} writes {country} for {ours}: say {ours}")
    if wish.region is not None and vendor.regions_of and country not in vendor.regions_of:
        raise SettingsError(f"{vendor.name} offers a region in {', '.join(vendor.regions_of)} alone")
    country = vendor.countries.get(country or "", country or "")
    return template.format(
        country=country,
        COUNTRY=country.upper(),
        region=_joined(vendor, wish.region, "region"),
        city=_joined(vendor, wish.city, "city"),
    )


def _joined(vendor: Provider, place: str | None, what: str) -> str:
    if place is None or " " not in place:
        return place or ""
    if not vendor.joint:
        raise SettingsError(f"{vendor.name} spells a {what} as one word: say {place.replace(' ', '')}")
    return place.replace(" ", vendor.joint)


def _session(vendor: Provider, wish: Wish) -> str:
    keys = tuple(key for key in ("session", "lifetime") if getattr(wish, key) is not None)
    template = vendor.sessions.get("+".join(keys), None if keys else "")
    if template is None:
        raise SettingsError(_unwritable(vendor, keys, vendor.sessions))
    return template.format(
        session="" if wish.session is None else spelled_session(vendor, wish.session),
        lifetime="" if wish.lifetime is None or vendor.lifetimes is None else _lifetime(vendor, vendor.lifetimes, wish),
    )


def _lifetime(vendor: Provider, taken: Lifetimes, wish: Wish) -> str:
    seconds = wish.lifetime or 0
    if not taken.shortest <= seconds <= taken.longest:
        raise SettingsError(
            f"{vendor.name} takes a lifetime from {duration(taken.shortest)} to {duration(taken.longest)}"
        )
    if taken.unit == "suffixed":
        return f"{seconds // _DAY}d" if seconds % _DAY == 0 else duration(seconds)
    if seconds % _UNIT_SECONDS[taken.unit]:
        raise SettingsError(f"{vendor.name} takes a lifetime in whole {_UNIT_WORDS[taken.unit]}")
    return str(seconds // _UNIT_SECONDS[taken.unit])


def _unwritable(vendor: Provider, keys: tuple[str, ...], taken: Mapping[str, str]) -> str:
    missing = [key for key in keys if key not in vendor.offers]
    if missing:
        return f"{vendor.name} offers no {' and no '.join(missing)}"
    ways = "; ".join(way.replace("+", " and ") for way in taken if way)
    return f"{vendor.name} takes no {' and '.join(keys)} alone, but: {ways}"
