"""How far a fetch may go: its times and sizes, and which addresses are public. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1, deprecated
_IETF = IPv6Network("2001::/23")  # RFC 2928: Teredo, benchmarks and other protocols, none of them a server's


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """The bounds of fetching: times in seconds, sizes in bytes of unpacked content.

    Attributes:
        concurrency: Sources that are asked at once.
        connect_timeout: For a connection, TLS included.
        read_timeout: Without a byte.
        total_timeout: For one source, with its redirects, attempts and the waits between them.
        max_bytes: Of one list.
        attempts: On failures that may pass.
        max_redirects: Of one attempt.
        wait: Before the second attempt; each later wait is twice as long, and up to as much again by chance.
    """

    concurrency: int = 16
    connect_timeout: float = 10.0
    read_timeout: float = 15.0
    total_timeout: float = 60.0
    max_bytes: int = 16_000_000
    attempts: int = 3
    max_redirects: int = 5
    wait: float = 0.5


def is_public(address: str) -> bool:
    """Whether an IP address, without brackets, is one of the public internet; False for what is none.

    Loopback, private, link-local, shared, multicast, documentation and reserved addresses are not, nor are IPv6
    addresses that stand for such an IPv4 address.

    >>> is_public("93.184.215.14"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed in _LOCAL_NAT64 or parsed in _IETF:
            return False
        inner = _embedded(parsed)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved and not parsed.is_unspecified


def is_public_host(host: str) -> bool:
    """Whether a host as proxies have it may be public: a name may, an address only if it is."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(bare)
    except ValueError:
        return bare != "localhost" and not bare.endswith(".localhost")
    return is_public(bare)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
