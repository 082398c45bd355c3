"""Remember proxies: three tiers behind one manager."""

from proxywhirl.cache.changes import CacheChanges, portray
from proxywhirl.cache.decisions import Merge
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
from proxywhirl.cache.tier import Finding

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
