"""One record of a structured list (a JSON object, a row of a table, labelled words) to its proxies.

Facts that cannot be understood are left out; only a wrong endpoint rejects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Attributes
from proxywhirl.sources.parsing.fields import Plan, anonymity, flattened, plan_of
from proxywhirl.sources.parsing.items import NOTHING_KNOWN, Candidate, Ignored, Item, Rejected, is_link
from proxywhirl.urls import ProxyURL, parse, parse_plain, protocol_scheme

_UNKNOWN = frozenset({"", "-", "?", "unknown", "n/a", "none", "null"})
_HIGHEST_ASN = (1 << 32) - 1  # RFC 6793
_WHOLE = re.compile(r"([0-9]+)\.0+")

_Fields = Mapping[str, object]


def is_record(value: _Fields) -> bool:
    """Whether an object is one proxy rather than a container of proxies."""
    keys = plan_of(tuple(value)).keys
    return any(value[key] and not isinstance(value[key], list) for key in keys["host"] + keys["url"])


def parse_object(value: _Fields, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read the fields of one record; it is several proxies where it names a port for each protocol.

    `number` becomes the line of the items; `scheme` is that of a record that names none.
    """
    fields = flattened(value) if dict in map(type, value.values()) else value
    plan = plan_of(tuple(fields))
    host, url = _text(fields, plan.keys["host"]), _text(fields, plan.keys["url"])
    if url is not None and is_link(url):
        url = None
    if host is None and url is None:
        yield Ignored(number)
        return
    for port, protocol in _ports(fields, plan):
        try:
            endpoint = _endpoint(host, url, port, protocol or _protocol(fields, plan) or scheme)
            username, password = _secret(fields, plan.keys["username"]), _secret(fields, plan.keys["password"])
            if username or password:
                endpoint = endpoint.with_credential(username, password)
            yield Candidate(endpoint, _attributes(fields, plan), number)
        except ProxyURLError as exc:
            yield Rejected(number, str(exc))


def _ports(fields: _Fields, plan: Plan) -> list[tuple[str | None, str | None]]:
    """Return each port with the protocol that it is for, None where the record has one port for all."""
    named: list[tuple[str | None, str | None]] = [
        (port, scheme) for key, scheme in plan.ports if (port := _port(fields, (key,)))
    ]
    own = _port(fields, plan.keys["port"])
    return named if named and own is None else [(own, None), *named]


def _port(fields: _Fields, keys: tuple[str, ...]) -> str | None:
    text = _text(fields, keys)
    whole = _WHOLE.fullmatch(text) if text and "." in text else None  # tables make 8080.0 of 8080
    return whole[1] if whole else text


def _endpoint(host: str | None, url: str | None, port: str | None, scheme: str) -> ProxyURL:
    """Put the endpoint together; a URL is taken where there is no host, or where it holds a credential."""
    text = url if url is not None and (host is None or "@" in url) else host or ""
    if port is None or (text is url and "://" in text):
        return parse(text, scheme=scheme)
    plain = parse_plain(f"{text}:{port}", scheme)
    if plain:
        return plain
    if re.search(r":[0-9]+/?$", text) and not re.fullmatch(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        return parse(text, scheme=scheme)
    if ":" in text and "://" not in text and not text.startswith("["):
        text = f"[{text}]"  # an IPv6 address in a field of its own needs no brackets
    return parse(f"{text.rstrip('/')}:{port}", scheme=scheme)


def _protocol(fields: _Fields, plan: Plan) -> str | None:
    """Return the first protocol that is known; where one is named and none is known, refuse the record."""
    for key in plan.keys["protocol"]:
        value = fields[key]
        if isinstance(value, str):
            scheme, named = _named_protocol(value)
        else:
            scheme, named = _named_protocol(" ".join(_words(value)))
        if scheme:
            return scheme
        if named and not key.lower().startswith("type"):
            raise ProxyURLError("a protocol that is none of http, https, socks4, socks4a, socks5, socks5h")
    marked = (key for key in plan.flags if str(fields[key]).lower() in ("1", "true", "yes"))
    return next(filter(None, map(protocol_scheme, marked)), None)


def _words(value: object) -> Iterator[str]:
    """Yield the words of a list of protocols, which may be objects that hold one each."""
    for element in value if isinstance(value, list) else ():
        if isinstance(element, str):
            yield element
        elif isinstance(element, dict):
            yield from (content for content in element.values() if isinstance(content, str))


@lru_cache(maxsize=256)
def _named_protocol(text: str) -> tuple[str | None, bool]:
    """Return the first scheme that a text names, and whether it names a protocol at all."""
    words = [word for word in re.split(r"[\s,;|/+]+", text) if word]
    scheme = next(filter(None, map(protocol_scheme, words)), None)
    return scheme, bool(words) and words[0].lower() not in _UNKNOWN


def _attributes(fields: _Fields, plan: Plan) -> Attributes:
    if not plan.facts:
        return NOTHING_KNOWN
    values = [fields[key] for _, key in plan.facts]
    return _facts(plan.facts, tuple([value if isinstance(value, str | int | float) else None for value in values]))


@lru_cache(maxsize=4096)  # a list has millions of records and a few hundred such places
def _facts(keys: tuple[tuple[str, str], ...], values: tuple[str | float | None, ...]) -> Attributes:
    """Return what the values say, by the roles of their keys: the first of each role that can be understood."""
    known: dict[str, Any] = {}
    for (role, key), value in zip(keys, values, strict=True):
        text = _text({key: value}, (key,))
        fact = _FACTS[role](text) if text else None
        if fact is not None:
            known.setdefault(role, fact)
    return Attributes(**known)


def _country(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Za-z]{2}", text) else None


def _asn(text: str) -> int | None:
    match = re.match(r"(?:AS)?([0-9]{1,10})\b", text, re.IGNORECASE)
    number = int(match[1]) if match else 0
    return number if 0 < number <= _HIGHEST_ASN else None


def _known(text: str) -> str | None:
    return None if text.lower() in _UNKNOWN or not text.isprintable() else text


_FACTS: dict[str, Callable[[str], str | int | None]] = {
    "country": _country,
    "region": _known,
    "city": _known,
    "asn": _asn,
    "anonymity": anonymity,
    "provider": _known,
}


def _text(fields: _Fields, keys: tuple[str, ...]) -> str | None:
    """Return the first of the fields that holds something, as text."""
    text = _secret(fields, keys)
    return text.strip() or None if text else None


def _secret(fields: _Fields, keys: tuple[str, ...]) -> str | None:
    """Return a field's text as it stands: blanks belong to a password."""
    for key in keys:
        value = fields[key]
        if isinstance(value, str):
            if value:
                return value
        elif isinstance(value, float) and value.is_integer():
            return str(int(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None
