"""ProxyWhirl keeps a pool of forward proxies alive and useful.

Its five verbs, and the rooms that do them:

==========  =================================================================================
find        `sources` fetches and reads lists, `vendors` knows the user names of vendors
check       `health` probes proxies and judges how well they work
remember    `cache` keeps entries in three tiers, `knowledge` bans and sessions, `state` files
choose      `rotation` leases a proxy for a request, and learns from what came of it
serve       `gateway` is a proxy, `client` and `integrations` send in a program
==========  =================================================================================

`runtime` puts them together as `settings` say, with `checkups` and `supply`. `cli` has the commands, and `testing` what
tests run against. Below all are `net` (sockets), `wire` (bytes) and the modules of this folder. `docs/architecture.md`
has the layers, and the ways of a request and of a line of a list.

The public names are imported when they are first used, so that `import proxywhirl` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, which takes longer to load than all of this
if TYPE_CHECKING:
    from proxywhirl.cache.manager import CacheManager
    from proxywhirl.cache.models import (
        CacheConfig,
        CacheEntry,
        CacheStatistics,
        CacheTierConfig,
        CacheTierType,
        L2BackendType,
        TierStatistics,
    )
    from proxywhirl.client import AsyncProxyWhirl, ProxyWhirl
    from proxywhirl.errors import (
        Blame,
        CacheError,
        DecryptionError,
        GatewayError,
        LeaseExpired,
        PoolEmpty,
        ProxyURLError,
        ProxyWhirlError,
        SessionLost,
        SettingsError,
        SiteResting,
        UpstreamError,
    )
    from proxywhirl.gateway.options import GatewayOptions
    from proxywhirl.gateway.server import Gateway
    from proxywhirl.integrations.httpx import WhirlTransport
    from proxywhirl.models import Attributes, HealthCheck, HealthStatus, Outcome, Proxy, Target
    from proxywhirl.rotation.affinity.sessions import SessionPolicy
    from proxywhirl.rotation.lease import Lease
    from proxywhirl.rotation.pool import Pool
    from proxywhirl.rotation.proxy_state import Limits
    from proxywhirl.urls import ProxyURL
    from proxywhirl.vendors.grammar import Wish
    from proxywhirl.vendors.sessions import vendor_sessions

__version__ = "1.0.0a1"

_HOMES = {
    "cache.manager": ("CacheManager",),
    "cache.models": (
        "CacheConfig",
        "CacheEntry",
        "CacheStatistics",
        "CacheTierConfig",
        "CacheTierType",
        "L2BackendType",
        "TierStatistics",
    ),
    "client": ("AsyncProxyWhirl", "ProxyWhirl"),
    "errors": (
        "Blame",
        "CacheError",
        "DecryptionError",
        "GatewayError",
        "LeaseExpired",
        "PoolEmpty",
        "ProxyURLError",
        "ProxyWhirlError",
        "SessionLost",
        "SettingsError",
        "SiteResting",
        "UpstreamError",
    ),
    "gateway.options": ("GatewayOptions",),
    "gateway.server": ("Gateway",),
    "integrations.httpx": ("WhirlTransport",),
    "models": ("Attributes", "HealthCheck", "HealthStatus", "Outcome", "Proxy", "Target"),
    "rotation.lease": ("Lease",),
    "rotation.proxy_state": ("Limits",),
    "rotation.pool": ("Pool",),
    "rotation.affinity.sessions": ("SessionPolicy",),
    "urls": ("ProxyURL",),
    "vendors.grammar": ("Wish",),
    "vendors.sessions": ("vendor_sessions",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncProxyWhirl",
    "Attributes",
    "Blame",
    "CacheConfig",
    "CacheEntry",
    "CacheError",
    "CacheManager",
    "CacheStatistics",
    "CacheTierConfig",
    "CacheTierType",
    "DecryptionError",
    "Gateway",
    "GatewayError",
    "GatewayOptions",
    "HealthCheck",
    "HealthStatus",
    "L2BackendType",
    "Lease",
    "LeaseExpired",
    "Limits",
    "Outcome",
    "Pool",
    "PoolEmpty",
    "Proxy",
    "ProxyURL",
    "ProxyURLError",
    "ProxyWhirl",
    "ProxyWhirlError",
    "SessionLost",
    "SessionPolicy",
    "SettingsError",
    "SiteResting",
    "Target",
    "TierStatistics",
    "UpstreamError",
    "WhirlTransport",
    "Wish",
    "vendor_sessions",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
