"""One line of a vendor becomes many sessions, each an identity of its own; and what an identity sends when it connects.

What is stored and what tells identities apart is our grammar, also for vendors that read sessions in the password: the
credential of the vendor exists from the moment of connecting on, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from proxywhirl.errors import SettingsError
from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require
from proxywhirl.vendors.catalogue import guess, providers
from proxywhirl.vendors.catalogue import provider as provider_of
from proxywhirl.vendors.compiling import compile_credential
from proxywhirl.vendors.grammar import Wish, duration, has_wish, parse, write
from proxywhirl.vendors.provider import Provider, SessionNames

MOST_SESSIONS = 100_000
_WITHOUT_PASSWORD = frozenset({"socks4", "socks4a"})
_STRIDE = 2_654_435_761  # a prime that divides no vendor's count of names: each number has a name of its own


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
    """Return what a proxy is dialled with: with the vendor's credential where its username holds a wish, else as it is.

    Raises:
        SettingsError: The username is no wish, or the vendor does not take it.
    """
    vendor = providers().get(provider) if provider is not None and has_wish(url.username) else None
    return url if vendor is None else _compiled(vendor, url, *parse(url.username or ""))


def recognised(url: ProxyURL, known: Attributes) -> Attributes:
    """Add to what is known of a proxy what its username says, where that is a wish for the vendor at its host.

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


def _compiled(vendor: Provider, url: ProxyURL, account: str, wish: Wish) -> ProxyURL:
    if vendor.into == "password" and url.scheme in _WITHOUT_PASSWORD:
        raise SettingsError(
            f"{vendor.name} reads wishes in the password, which {url.scheme} does not carry: say socks5"
        )
    return url.with_credential(*compile_credential(vendor.name, (account, url.password), wish))


def _vendor(line: ProxyURL, name: str | None) -> Provider:
    vendor = guess(line.host, line.port) if name is None else provider_of(name)
    if vendor is None:
        raise SettingsError(f"whose gateway this is cannot be told by its host: name the provider, of {_all()}")
    return vendor


def _all() -> str:
    return ", ".join(sorted(providers()))


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
