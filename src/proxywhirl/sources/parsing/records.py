"""What a list yields, and how the fields of one record (a JSON object, a row, labelled words) become that.

- Names of fields are compared without case, spaces and punctuation: `countryCode`, `country_code` and `Country Code`
  are one name. `ROLES` says what each name holds.
- The fields of an object inside a record count as the record's own, below those that it has itself. A name that says
  nothing alone (`code`) counts together with the outer one (`country` and `code`) there.
- A fact that cannot be understood is left out. Only a wrong endpoint rejects the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Anonymity, Attributes
from proxywhirl.urls import SCHEMES, ProxyURL, parse, parse_plain, protocol_scheme

NOTHING_KNOWN = Attributes()


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """How a list is to be read: the scheme of entries that name none, and where in a document they stand."""

    scheme: str = "http"
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proxy that a list offers, what the list says of it, and the line (from 1) where it stands."""

    url: ProxyURL
    attributes: Attributes = NOTHING_KNOWN
    line: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line (from 1) that has the shape of a proxy and is wrong; `reason` is redacted."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line (from 1) that is no proxy: blank, a comment, a heading, prose, a link."""

    line: int


Item = Candidate | Rejected | Ignored

ROLES: dict[str, tuple[str, ...]] = {
    "host": (
        *("ip", "host", "address", "ipaddress", "proxyaddress", "hostname", "server", "addr", "ipaddr", "proxyip"),
        *("proxyhost", "serverip", "ipv4", "ipv6"),
    ),
    "url": (
        *("url", "proxy", "proxyurl", "uri", "endpoint", "ipport", "hostport", "ipaddressport", "proxyipport"),
        *("proxyaddressport", "addressport"),
    ),
    "port": ("port", "proxyport", "portnumber", "portnum", "serverport"),
    "protocol": ("protocol", "protocols", "scheme", "schemes", "proto", "proxytype", "type", "types"),
    "username": ("username", "user", "login", "proxyusername", "proxyuser"),
    "password": ("password", "pass", "passwd", "pwd", "proxypassword", "proxypass"),
    "country": ("countrycode", "countryisocode", "country", "cc", "iso", "isocode", "code", "alpha2", "geo"),
    "region": ("region", "regionname", "state"),
    "city": ("city", "cityname"),
    "asn": ("asn", "asnumber", "autonomoussystemnumber"),
    "anonymity": ("anonymity", "anonymitylevel", "anonymous", "anonlevel", "anon", "level", "type"),
    "provider": ("provider",),
}
FIELD_NAMES = frozenset().union(*map(frozenset, ROLES.values()))
_ENDPOINT = frozenset(ROLES["host"] + ROLES["url"])
_NOTHING_ALONE = frozenset({"code", "name", "type", "level", "id", "state", "status"})
_PROTOCOLS = "|".join([*SCHEMES, "socks"])  # where a vendor numbers its ports by protocol, SOCKS is version 5
_PORT_OF = re.compile(rf"(?:proxy)?(?:ports?({_PROTOCOLS})|({_PROTOCOLS})ports?)")
_LONGEST_NAME = 64
_DEEPEST = 3
_UNKNOWN = frozenset({"", "-", "?", "unknown", "n/a", "none", "null"})
_HIGHEST_ASN = (1 << 32) - 1  # RFC 6793
_DELIMITERS = ",;\t|"
_FIRST_LINE = re.compile(r"^[^\S\n]*([^\s#].*)", re.MULTILINE)  # the first line that is neither blank nor a comment
_WHOLE = re.compile(r"([0-9]+)\.0+")
_LINK = re.compile(r"""["'<]*https?://[^\s/?#@:]+/[^\s/"',;|]""", re.IGNORECASE)
_LEVELS: dict[Anonymity, tuple[str, ...]] = {
    "transparent": ("n", "noa", "none", "transparent", "level3"),
    "anonymous": ("a", "anm", "anonymous", "distorting", "level2"),
    "elite": ("h", "hia", "high", "highanonymous", "highanonymity", "highlyanonymous", "elite", "eliteproxy", "level1"),
}
_ANONYMITY = {word: level for level, words in _LEVELS.items() for word in words}

_Fields = Mapping[str, object]


class _FieldPlan(NamedTuple):
    """Which keys of a record hold what, in the order in which they are asked."""

    keys: Mapping[str, tuple[str, ...]]  # by role
    ports: tuple[tuple[str, str], ...]  # a key that is the port of one protocol, and the scheme
    flags: tuple[str, ...]  # keys that are protocols themselves: {"http": true}
    facts: tuple[tuple[str, str], ...]  # role and key of what is known beside the endpoint


def field_name(name: str) -> str:
    """Return a field's name as it is compared: letters and digits in lower case."""
    return re.sub(r"[^a-z0-9]", "", name[:_LONGEST_NAME].lower())


def names_endpoint(names: list[str]) -> bool:
    """Whether compared field names include one that can hold an endpoint: then they are a header."""
    return not _ENDPOINT.isdisjoint(names)


def header_delimiter(head: str) -> str | None:
    """Return what separates the columns where the first line is a header, else None."""
    match = _FIRST_LINE.search(head)
    first = match[1].rstrip() if match else ""
    if re.search(r"[0-9]\.[0-9]|://", first):
        return None
    for delimiter in _DELIMITERS:
        if delimiter in first and names_endpoint([field_name(name) for name in first.split(delimiter)]):
            return delimiter
    return None


@lru_cache(maxsize=16)  # the records of a list have the same few shapes
def _plan_of(names: tuple[str, ...]) -> _FieldPlan:
    """Return what the keys of a record hold."""
    compared: dict[str, str] = {}
    for name in names:
        compared.setdefault(field_name(name), name)
    keys = {role: tuple(compared[name] for name in known if name in compared) for role, known in ROLES.items()}
    ports = []
    for name, key in compared.items():
        match = _PORT_OF.fullmatch(name)
        if match:
            ports.append((key, protocol_scheme(match[1] or match[2]) or "socks5"))
    flags = tuple(key for name, key in compared.items() if name in SCHEMES)
    facts = tuple((role, key) for role in _FACTS for key in keys[role])
    return _FieldPlan(keys, tuple(ports), flags, facts)


def _flattened(value: Mapping[str, object], depth: int = _DEEPEST) -> dict[str, object]:
    """Return a record with the fields of the objects in it as its own."""
    own = {name: content for name, content in value.items() if not isinstance(content, dict)}
    for outer, content in value.items():
        if isinstance(content, dict) and depth:
            for name, inner in _flattened(content, depth - 1).items():
                own.setdefault(outer + name, inner)
                if field_name(name) not in _NOTHING_ALONE:
                    own.setdefault(name, inner)
    return own


def is_link(text: str) -> bool:
    """Whether a text is the address of a page: a web URL with a path and neither port nor credential."""
    return _LINK.match(text) is not None


def is_record(value: _Fields) -> bool:
    """Whether an object is one proxy rather than a container of proxies."""
    keys = _plan_of(tuple(value)).keys
    return any(value[key] and not isinstance(value[key], list) for key in keys["host"] + keys["url"])


def parse_object(value: _Fields, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read the fields of one record; it is several proxies where it names a port for each protocol.

    `number` becomes the line of the items; `scheme` is that of a record that names none.
    """
    fields = _flattened(value) if dict in map(type, value.values()) else value
    plan = _plan_of(tuple(fields))
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


def _ports(fields: _Fields, plan: _FieldPlan) -> list[tuple[str | None, str | None]]:
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


def _protocol(fields: _Fields, plan: _FieldPlan) -> str | None:
    """Return the first protocol that is known; where one is named and none is known, refuse the record."""
    for key in plan.keys["protocol"]:
        value = fields[key]
        scheme, named = _named_protocol(value if isinstance(value, str) else " ".join(_words(value)))
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


def _attributes(fields: _Fields, plan: _FieldPlan) -> Attributes:
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


def anonymity(text: str) -> Anonymity | None:
    """Return the level that a word or two name, None where they name none."""
    return _ANONYMITY.get(re.sub(r"[\s_-]", "", text.lower()))


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
