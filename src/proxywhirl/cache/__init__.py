"""Remember proxies: three tiers behind one manager.

The names are imported when they are first used: who reads a configuration does not load what opens a store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxywhirl.cache.change_feed import CacheChanges, portray
    from proxywhirl.cache.manager import CacheManager
    from proxywhirl.cache.models import (
        NEVER,
        CacheConfig,
        CacheEntry,
        CacheStatistics,
        CacheTierConfig,
        CacheTierType,
        HealthStatus,
        L2BackendType,
        TierStatistics,
    )
    from proxywhirl.cache.policy import Merge
    from proxywhirl.cache.tiers.protocol import Finding

__all__ = [
    "NEVER",
    "CacheChanges",
    "CacheConfig",
    "CacheEntry",
    "CacheManager",
    "CacheStatistics",
    "CacheTierConfig",
    "CacheTierType",
    "Finding",
    "HealthStatus",
    "L2BackendType",
    "Merge",
    "TierStatistics",
    "portray",
]

_HOMES = {
    "CacheChanges": "change_feed",
    "portray": "change_feed",
    "CacheManager": "manager",
    "Merge": "policy",
    "Finding": "tiers.protocol",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'models')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
