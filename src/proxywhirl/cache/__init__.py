"""Remember proxies: three tiers behind one manager."""

from proxywhirl.cache.manager import CacheChanges, CacheManager, Merge
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

__all__ = [
    "NEVER",
    "CacheChanges",
    "CacheConfig",
    "CacheEntry",
    "CacheManager",
    "CacheStatistics",
    "CacheTierConfig",
    "CacheTierType",
    "HealthStatus",
    "L2BackendType",
    "Merge",
    "TierStatistics",
]
