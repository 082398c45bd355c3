"""How a gateway is set up, and the rule that none is open to a network without credentials.

The rule is kept twice: for the host as it is written, before anything is looked up, and for the addresses that a name
turns out to have.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field

from proxywhirl.errors import GatewayError

Credentials = tuple[str, str]
"""Username and password."""

_MAX_PORT = 65535


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


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where a gateway listens, for whom, and how long it waits (seconds).

    Attributes:
        host: The address to listen on; "localhost" and loopback addresses need no credentials.
        port: 0 for a free one.
        credentials: Username and password that clients must offer; None for nothing.
        attempt_timeout: For one proxy to connect and begin to answer.
        total_timeout: After this no further proxy is tried for a request.
        idle_timeout: Without a byte on a tunnel, a body or a kept connection.
        header_timeout: For a client to send its whole request head.
        tls: For upstream proxies of the scheme https; None stands for the system's trusted authorities.
        max_connections: How many clients are served at once; more wait in the system's backlog.

    Raises:
        GatewayError: A value is out of its range, or the address is open to a network without credentials.
    """

    host: str = "127.0.0.1"
    port: int = 8899
    credentials: Credentials | None = field(default=None, repr=False)
    attempt_timeout: float = 10.0
    total_timeout: float = 60.0
    idle_timeout: float = 300.0
    header_timeout: float = 30.0
    tls: ssl.SSLContext | None = None
    max_connections: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything listens."""
        if not 0 <= self.port <= _MAX_PORT:
            raise GatewayError(f"the gateway's port must be 0 to {_MAX_PORT}, not {self.port}")
        for name in ("attempt_timeout", "total_timeout", "idle_timeout", "header_timeout", "max_connections"):
            if not getattr(self, name) > 0:
                raise GatewayError(f"the gateway's {name} must be more than 0, not {getattr(self, name)}")
        if self.credentials is not None and (not all(self.credentials) or ":" in self.credentials[0]):
            raise GatewayError("the gateway's username and password must not be empty, and the username has no colon")
        if self.credentials is None and not is_loopback(self.host):
            raise GatewayError(open_without_credentials(self.host or "every address"))
