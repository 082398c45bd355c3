"""The rule that no gateway is open to a network without credentials: what is loopback, and what to say.

The rule is kept twice: for the host as it is written, before anything is looked up, and for the addresses
that a name turns out to have.
"""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback", "open_without_credentials"]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`; a name other than localhost could be anything."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def open_without_credentials(where: str) -> str:
    """Return the words that refuse `where` and name the way out."""
    return (
        f"{where} can be reached from other machines: set PROXYWHIRL_GATEWAY_USERNAME and "
        "PROXYWHIRL_GATEWAY_PASSWORD, or listen on 127.0.0.1"
    )
