"""Remember proxies: three tiers behind one manager."""

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
