"""The names of fields in structured lists, and what each one holds.

Names are compared without case, spaces and punctuation: `countryCode`, `country_code` and `Country Code` are
one name. The fields of an object inside a record count as the record's own, below those that it has itself;
there a name that says nothing alone (`code`) counts together with the outer one (`country` and `code`).

What the words beside a proxy mean: headings, flags, countries, levels of anonymity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from proxywhirl.models import Anonymity, Attributes
from proxywhirl.sources.parsing.items import NOTHING_KNOWN
from proxywhirl.urls import SCHEMES, protocol_scheme

_LONGEST_HEADING = 120
_SEPARATORS = re.compile(r"[\s,;|:/()\[\]]+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_SOCKS_VERSION = re.compile(r"\bsocks[ -]?v?(?=[45])", re.IGNORECASE)
_FLAGS = re.compile(r"([A-Z]{2})-([NAH])(?:-S)?!?")  # 170.0.2.1:999 CO-N-S! +
_COUNTRY = re.compile(r"(?!OK)[A-Z]{2}")
_WORD = re.compile(r"[a-z]+[0-9]?[a-z]*|[0-9]+", re.IGNORECASE)
_NO_HEADING = re.compile(
    r"://|@|[0-9]\.[0-9]+\.|\.(?!txt\b)[A-Za-z]|\w-[A-Za-z]+:[0-9]+$"
)  # an address, a link or a name in it
_HEADING_WORDS = frozenset(
    """
    a alive all and as at available by checked count date elite fast found free fresh gmt last list lists live new
    number of on online only open protocol proxies proxy public section server servers ssl the time tls total txt
    type update updated utc verified working
    """.split()  # noqa: SIM905 - words read better than a column of quotes
)
_ANONYMITY: dict[str, Anonymity] = {
    "n": "transparent",
    "noa": "transparent",
    "none": "transparent",
    "transparent": "transparent",
    "level3": "transparent",
    "a": "anonymous",
    "anm": "anonymous",
    "anonymous": "anonymous",
    "distorting": "anonymous",
    "level2": "anonymous",
    "h": "elite",
    "hia": "elite",
    "high": "elite",
    "highanonymous": "elite",
    "highanonymity": "elite",
    "highlyanonymous": "elite",
    "elite": "elite",
    "eliteproxy": "elite",
    "level1": "elite",
}


def heading_scheme(line: str) -> str | None:
    """Return the scheme that a heading sets for the bare lines below it, None where it sets none.

    A heading is made of protocols and of words that say no more than "list": `# SOCKS5 Proxies (28)`,
    `[socks4]`, `HTTPS:`. One that names two families sets nothing, and prose is no heading.
    """
    if len(line) > _LONGEST_HEADING or _NO_HEADING.search(line):
        return None
    line = _SOCKS_VERSION.sub("socks", _TAG.sub(" ", line))
    schemes = set()
    for word in _WORD.findall(line.lower()):
        scheme = protocol_scheme(word)
        if scheme:
            schemes.add(scheme)
        elif not word.isdigit() and word not in _HEADING_WORDS:
            return None
    return schemes.pop() if len(schemes) == 1 else None


def anonymity(text: str) -> Anonymity | None:
    """Return the level that a word or two name, None where they name none."""
    return _ANONYMITY.get(re.sub(r"[\s_-]", "", text.lower()))


@lru_cache(maxsize=4096)  # a list has millions of lines and a few hundred such columns
def column_attributes(columns: str) -> Attributes:
    """Take what the columns beside an endpoint tell: country and anonymity."""
    country: str | None = None
    level: Anonymity | None = None
    for word in _SEPARATORS.split(columns):
        flags = _FLAGS.fullmatch(word)
        if flags:
            country, level = country or flags[1], level or anonymity(flags[2])
        elif _COUNTRY.fullmatch(word):
            country = country or word
        elif len(word) > 1:
            level = level or anonymity(word)
    return Attributes(country=country, anonymity=level) if country or level else NOTHING_KNOWN


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
FACTS = ("country", "region", "city", "asn", "anonymity", "provider")
_ENDPOINT = frozenset(ROLES["host"] + ROLES["url"])
_NOTHING_ALONE = frozenset({"code", "name", "type", "level", "id", "state", "status"})
_PROTOCOLS = "|".join([*SCHEMES, "socks"])  # where a vendor numbers its ports by protocol, SOCKS is version 5
_PORT_OF = re.compile(rf"(?:proxy)?(?:ports?({_PROTOCOLS})|({_PROTOCOLS})ports?)")
_LONGEST_NAME = 64
_DEEPEST = 3


class Plan(NamedTuple):
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


@lru_cache(maxsize=16)  # the records of a list have the same few shapes
def plan_of(names: tuple[str, ...]) -> Plan:
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
    facts = tuple((role, key) for role in FACTS for key in keys[role])
    return Plan(keys, tuple(ports), flags, facts)


def flattened(value: Mapping[str, object], depth: int = _DEEPEST) -> dict[str, object]:
    """Return a record with the fields of the objects in it as its own."""
    own = {name: content for name, content in value.items() if not isinstance(content, dict)}
    for outer, content in value.items():
        if isinstance(content, dict) and depth:
            for name, inner in flattened(content, depth - 1).items():
                own.setdefault(outer + name, inner)
                if field_name(name) not in _NOTHING_ALONE:
                    own.setdefault(name, inner)
    return own
