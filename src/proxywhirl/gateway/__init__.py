"""The gateway: one local HTTP proxy whose every request leaves through a proxy of the pool."""

from proxywhirl.gateway.options import GatewayOptions
from proxywhirl.gateway.server import Gateway

__all__ = ["Gateway", "GatewayOptions"]
