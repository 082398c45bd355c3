"""Hosts and ports in their one canonical spelling, the same on every version of Python.

No message here quotes the text that it is about: a misread proxy URL may have a password where a host was
expected. That is also why foreign errors, which do quote it, are left before one of ours is raised: even as
its context they would keep the text.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv6Address

from proxywhirl.errors import ProxyURLError

_LONGEST_HOST = 253  # RFC 1035 section 2.3.4, without the root's dot
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_IPV4 = re.compile(IPV4)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")


def split_authority(authority: str, default_port: int | None = None) -> tuple[str, int]:
    """Split `host[:port]` into a canonical host without brackets and a port.

    Without a default the port must be there; with one, an empty port (`host:`) means the default
    (RFC 3986 section 3.2.3).

    Raises:
        ProxyURLError: the host or the port is wrong or missing.
    """
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        host += bracket
        _, colon, port = rest.partition(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise ProxyURLError("an IPv6 address must stand in brackets, followed by :port")
    else:
        host, colon, port = authority.partition(":")
        if ":" in port:
            raise ProxyURLError("more than one colon: an IPv6 address must stand in brackets")
    if not host:
        raise ProxyURLError("the host is empty")
    name = canonical_host(host)
    if port or (default_port is None and colon):
        return name, _port(port)
    if default_port is None:
        raise ProxyURLError("no port")
    return name, default_port


def canonical_host(host: str) -> str:
    """Return the one spelling of a host: an IPv4 address, an IPv6 address without brackets, or an ASCII name.

    IPv4 is four decimal octets without leading zeros (a name that ends in a number is no name); an
    IPv4-mapped IPv6 address keeps its dotted part; zone identifiers are refused, they mean
    nothing beyond this machine.

    Raises:
        ProxyURLError: the text is no host.
    """
    if _IPV4.fullmatch(host):
        return host
    if host.startswith("[") or ":" in host:
        return _canonical_ipv6(host)
    if len(host) > _LONGEST_HOST + 1:
        raise ProxyURLError(f"the host name is longer than {_LONGEST_HOST} characters")
    name = host if host.isascii() else _to_ascii(host)
    name = name.lower().removesuffix(".")
    if _IPV4.fullmatch(name):
        return name
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        raise ProxyURLError("not an IPv4 address: it takes four numbers from 0 to 255, without leading zeros")
    if len(name) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ProxyURLError("not a host name")
    return name


def _canonical_ipv6(host: str) -> str:
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in text:
        raise ProxyURLError("an IPv6 address with a zone identifier")
    with suppress(AddressValueError):
        address = IPv6Address(text)
        # Written out: str() of a mapped address changed in Python 3.13, and keys must not.
        return str(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"
    raise ProxyURLError("not an IPv6 address")


def _to_ascii(host: str) -> str:
    with suppress(UnicodeError):  # IDNAError is one
        import idna  # noqa: PLC0415  # most hosts are plain

        return idna.encode(host, uts46=True).decode("ascii")
    raise ProxyURLError("not an internationalised host name")


def _port(text: str) -> int:
    port = int(text) if _PORT.fullmatch(text) else 0
    if not 1 <= port <= 65535:  # noqa: PLR2004 - the range of a port, RFC 793
        raise ProxyURLError("the port is not a number from 1 to 65535")
    return port
