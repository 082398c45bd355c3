"""The transport for httpx clients."""

from proxywhirl.integrations.httpx.transport import WhirlTransport

__all__ = ["WhirlTransport"]
