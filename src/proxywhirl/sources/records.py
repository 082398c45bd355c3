"""One record of a structured list (JSON or CSV) to a proxy, whatever its fields are called.

Field names are compared without case, spaces and punctuation: `countryCode`, `country_code` and
`Country Code` are one name. Facts that cannot be understood are left out; only a wrong endpoint rejects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Attributes
from proxywhirl.sources.items import Candidate, Ignored, Item, Rejected
from proxywhirl.sources.lines import parse_line
from proxywhirl.sources.words import anonymity
from proxywhirl.urls import ProxyURL, parse, protocol_scheme

__all__ = ["field_name", "is_record", "names_endpoint", "parse_record"]

_HOST = (
    "ip",
    "host",
    "address",
    "ipaddress",
    "proxyaddress",
    "hostname",
    "server",
    "addr",
    "proxyip",
    "proxyhost",
)
_URL = ("url", "proxy", "proxyurl", "uri", "endpoint", "ipport", "hostport", "ipaddressport", "proxyipport")
_ENDPOINT = frozenset(_HOST + _URL)
_PORT = ("port", "proxyport", "portnumber")
_PROTOCOL = ("protocol", "protocols", "scheme", "schemes", "proto", "proxytype", "type", "types")
_USERNAME = ("username", "user", "login", "proxyusername", "proxyuser")
_PASSWORD = ("password", "pass", "passwd", "pwd", "proxypassword", "proxypass")
_COUNTRY = ("countrycode", "country", "cc", "iso", "isocode", "code", "alpha2", "geo")
_REGION = ("region", "regionname", "state")
_ASN = ("asn", "asnumber", "autonomoussystemnumber")
_ANONYMITY = ("anonymity", "anonymitylevel", "anonymous", "anonlevel", "anon", "level", "type")
_PLACES = ("geolocation", "location", "geo", "country")  # objects that hold country, region and city
_UNKNOWN = frozenset({"", "-", "?", "unknown", "n/a", "none", "null"})
_LONGEST_NAME = 64
_HIGHEST_ASN = (1 << 32) - 1  # RFC 6793

_Fields = Mapping[str, object]


def field_name(name: str) -> str:
    """Return a field's name as it is compared: letters and digits in lower case."""
    return _field_name(name[:_LONGEST_NAME])


@lru_cache(maxsize=1024)  # the same few names come a million times
def _field_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def names_endpoint(names: list[str]) -> bool:
    """Whether compared field names include one that can hold an endpoint: then they are a header."""
    return not _ENDPOINT.isdisjoint(names)


def is_record(value: Mapping[str, object]) -> bool:
    """Whether an object is one proxy rather than a container of proxies."""
    return any(content and field_name(name) in _ENDPOINT for name, content in value.items())


def parse_record(value: object, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read one record: a string in any spelling of a line, a row of fields, or an object.

    `number` becomes the line of the items; `scheme` is that of a record that names none.
    """
    if isinstance(value, str):
        yield from parse_line(value, number, scheme=scheme)
    elif isinstance(value, list) and all(isinstance(field, str | int) for field in value):
        yield from parse_line("\t".join(map(str, value)), number, scheme=scheme)
    elif isinstance(value, dict):
        yield _parse_object(_compared(value), number, scheme)
    else:
        yield Ignored(number)


def _parse_object(fields: _Fields, number: int, scheme: str) -> Item:
    host, url = _text(fields, _HOST), _text(fields, _URL)
    if host is None and url is None:
        return Ignored(number)
    try:
        endpoint = _endpoint(host, url, _text(fields, _PORT), _protocol(fields) or scheme)
        username, password = _secret(fields, _USERNAME), _secret(fields, _PASSWORD)
        if username or password:
            endpoint = endpoint.with_credential(username, password)
    except ProxyURLError as exc:
        return Rejected(number, str(exc))
    return Candidate(endpoint, _attributes(fields), number)


def _endpoint(host: str | None, url: str | None, port: str | None, scheme: str) -> ProxyURL:
    """Put the endpoint together; a URL is taken where there is no host, or where it holds a credential."""
    text = url if url is not None and (host is None or "@" in url) else host or ""
    if port is None or (text is url and "://" in text):
        return parse(text, scheme=scheme)
    if re.search(r":[0-9]+/?$", text) and not re.fullmatch(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        return parse(text, scheme=scheme)
    if ":" in text and "://" not in text and not text.startswith("["):
        text = f"[{text}]"  # an IPv6 address in a field of its own needs no brackets
    return parse(f"{text.rstrip('/')}:{port}", scheme=scheme)


def _protocol(fields: _Fields) -> str | None:
    """Return the first protocol that is known; where one is named and none is known, refuse the record."""
    for name in _PROTOCOL:
        value = fields.get(name)
        words = value if isinstance(value, list) else re.split(r"[\s,;|/+]+", value) if isinstance(value, str) else []
        words = [word for word in words if isinstance(word, str) and word.strip()]
        scheme = next(filter(None, map(protocol_scheme, words)), None)
        if scheme:
            return scheme
        if words and not name.startswith("type") and words[0].strip().lower() not in _UNKNOWN:
            raise ProxyURLError("a protocol that is none of http, https, socks4, socks4a, socks5, socks5h")
    return None


def _attributes(fields: _Fields) -> Attributes:
    places = [fields, *(_compared(place) for name in _PLACES if isinstance(place := fields.get(name), dict))]
    levels = (anonymity(text) for name in _ANONYMITY if (text := _text(fields, (name,))))
    return Attributes(
        country=next(filter(None, map(_country, places)), None),
        region=next(filter(None, (_fact(place, _REGION) for place in places)), None),
        city=next(filter(None, (_fact(place, ("city",)) for place in places)), None),
        asn=_asn(fields),
        anonymity=next((level for level in levels if level), None),
        provider=_fact(fields, ("provider",)),
    )


def _country(fields: _Fields) -> str | None:
    codes = (_text(fields, (name,)) for name in _COUNTRY)
    return next((code.upper() for code in codes if code and re.fullmatch(r"[A-Za-z]{2}", code)), None)


def _asn(fields: _Fields) -> int | None:
    match = re.match(r"(?:AS)?([0-9]{1,10})\b", _text(fields, _ASN) or "", re.IGNORECASE)
    number = int(match[1]) if match else 0
    return number if 0 < number <= _HIGHEST_ASN else None


def _fact(fields: _Fields, names: tuple[str, ...]) -> str | None:
    text = _text(fields, names)
    return None if text is None or text.lower() in _UNKNOWN or not text.isprintable() else text


def _text(fields: _Fields, names: tuple[str, ...]) -> str | None:
    """Return the first of the named fields that holds something, as text."""
    text = _secret(fields, names)
    return text.strip() if text and text.strip() else None


def _secret(fields: _Fields, names: tuple[str, ...]) -> str | None:
    """Return a field's text as it stands: blanks belong to a password."""
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _compared(value: Mapping[str, object]) -> dict[str, object]:
    return {field_name(name): content for name, content in value.items() if isinstance(name, str)}
