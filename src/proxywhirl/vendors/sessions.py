"""The credential that a vendor's session is dialled with, and how one line becomes many sessions (pure).

- Identities are stored in our grammar, also for vendors that read sessions in the password. The vendor's credential is
  made at the moment of connecting, and kept nowhere.
- Two wishes never give one credential, so that no two identities share an exit by accident. A vendor's separator
  therefore never stands in a value.
- A wish that cannot be written for a vendor is an error that says so; it is never left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from proxywhirl.errors import SettingsError
from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require
from proxywhirl.vendors.grammar import Wish, duration, has_wish, parse, write
from proxywhirl.vendors.provider import Lifetimes, Provider, SessionNames, guess, providers
from proxywhirl.vendors.provider import provider as provider_of

MOST_SESSIONS = 100_000
ESCAPE = "zx"
_WITHOUT_PASSWORD = frozenset({"socks4", "socks4a"})
_STRIDE = 2_654_435_761  # a prime that divides no vendor's count of names: each number has a name of its own
_UNIT_SECONDS = {"s": 1, "m": 60}
_UNIT_WORDS = {"s": "seconds", "m": "minutes"}
_DAY = 86_400


def vendor_sessions(
    line: ProxyURL,
    count: int,
    *,
    provider: str | None = None,
    wish: Wish | None = None,
    known: Attributes | None = None,
) -> list[tuple[ProxyURL, Attributes]]:
    """Make sessions 1 to `count` of a vendor's line: for each what to store, and what is known of it.

    The same line, wish and number always give the same session, whatever the password. `provider` is the vendor's name;
    without it the line's host tells. `wish` says where the exits are to be and for how long; of `known` a label goes
    before the session's name, in the place of the vendor's.

    Raises:
        SettingsError: The line has no username, the vendor cannot be told or does not take the wish, or `count` is
            not from 1 to 100,000.
        TypeError: `line` or `count` is of another kind.
        UnknownNameError: No vendor has this name.
    """
    require("line", line, ProxyURL, "a ProxyURL: proxywhirl.urls.parse makes it of a text")
    require("count", count, int, "a whole number of sessions")
    vendor = _vendor(line, provider)
    account = (line.username or "").removesuffix(vendor.tail)
    wish = wish or Wish()
    if not account or has_wish(account):
        raise SettingsError("sessions are made of a line with the username of an account, and no wish in it")
    if wish.session is not None:
        raise SettingsError("the names of the sessions are made: leave the session out of the wish")
    if not 1 <= count <= MOST_SESSIONS:
        raise SettingsError(f"a line gives from 1 to {MOST_SESSIONS:,} sessions")
    made = []
    for name in _names(vendor.names, f"{line.canonical}\n{write(account, wish)}", count):
        single = replace(wish, session=name)
        stored = line.with_credential(write(account, single), line.password)
        _compiled(vendor, stored, account, single)  # an error now rather than at each connection
        made.append((stored, _described(vendor, single, known)))
    return made


def to_send(url: ProxyURL, provider: str | None) -> ProxyURL:
    """Return the URL to dial: with the vendor's credential if the username holds a wish, else as it is.

    Raises:
        SettingsError: The username is no wish, or the vendor does not take it.
    """
    vendor = providers().get(provider) if provider is not None and has_wish(url.username) else None
    return url if vendor is None else _compiled(vendor, url, *parse(url.username or ""))


def recognised(url: ProxyURL, known: Attributes) -> Attributes:
    """Add the wish in a proxy's username to its attributes, if it is one for the vendor at its host.

    Raises:
        SettingsError: The username has the form of a wish there, and is none that the vendor takes.
    """
    if not has_wish(url.username):
        return known
    vendor = providers().get(known.provider) if known.provider else guess(url.host, url.port)
    if vendor is None:
        return known
    account, wish = parse(url.username or "")
    _compiled(vendor, url, account, wish)
    return Attributes(**{**_described(vendor, wish, None).named(), **known.named()})


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


def _compiled(vendor: Provider, url: ProxyURL, account: str, wish: Wish) -> ProxyURL:
    if vendor.into == "password" and url.scheme in _WITHOUT_PASSWORD:
        raise SettingsError(
            f"{vendor.name} reads wishes in the password, which {url.scheme} does not carry: say socks5"
        )
    return url.with_credential(*compile_credential(vendor.name, (account, url.password), wish))


def _vendor(line: ProxyURL, name: str | None) -> Provider:
    vendor = guess(line.host, line.port) if name is None else provider_of(name)
    if vendor is None:
        known = ", ".join(sorted(providers()))
        raise SettingsError(f"whose gateway this is cannot be told by its host: name the provider, of {known}")
    return vendor


def _described(vendor: Provider, wish: Wish, known: Attributes | None) -> Attributes:
    known = known or Attributes()
    words = [known.label or vendor.name, wish.country, wish.region, wish.city, wish.session]
    if wish.session is None and wish.lifetime is not None:
        words.append(duration(wish.lifetime))
    named = {**known.named(), "provider": vendor.name, "label": " ".join(word for word in words if word)}
    named.update((place, getattr(wish, place)) for place in wish.places)
    return Attributes(**named)


def _names(taken: SessionNames, line: str, count: int) -> Iterator[str]:
    """Yield names that fit the vendor, none twice: a walk through all that there are, from where the line says."""
    last = taken.base**taken.digits - 1 if taken.last is None else taken.last
    span = last - taken.first + 1
    begin = int.from_bytes(hashlib.sha256(line.encode()).digest())
    for number in range(1, count + 1):
        value = taken.first + (begin + number * _STRIDE) % span
        yield taken.start + (str(value) if taken.base == 10 else _in_base_36(value, taken.digits))  # noqa: PLR2004


def _in_base_36(value: int, digits: int) -> str:
    characters = []
    for _ in range(digits):
        value, digit = divmod(value, 36)
        characters.append("0123456789abcdefghijklmnopqrstuvwxyz"[digit])
    return "".join(reversed(characters))


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
    template = _template(vendor, vendor.places, wish.places)
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
    template = _template(vendor, vendor.sessions, keys)
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


def _template(vendor: Provider, taken: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """Return how the vendor writes these keys together."""
    template = taken.get("+".join(keys), None if keys else "")
    if template is not None:
        return template
    missing = [key for key in keys if key not in vendor.offers]
    if missing:
        raise SettingsError(f"{vendor.name} offers no {' and no '.join(missing)}")
    ways = "; ".join(way.replace("+", " and ") for way in taken if way)
    raise SettingsError(f"{vendor.name} takes no {' and '.join(keys)} alone, but: {ways}")
