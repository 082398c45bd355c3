"""The names of fields in structured lists, and what each one holds.

Names are compared without case, spaces and punctuation: `countryCode`, `country_code` and `Country Code` are
one name. The fields of an object inside a record count as the record's own, below those that it has itself;
there a name that says nothing alone (`code`) counts together with the outer one (`country` and `code`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from proxywhirl.urls import SCHEMES, protocol_scheme

__all__ = ["FACTS", "ROLES", "Plan", "field_name", "flattened", "names_endpoint", "plan_of"]

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
