"""Remember proxies: three tiers behind one manager.

`CacheManager` is one class in three files, each the base of the next: `engine.Lifecycle` opens and closes the parts,
`lookups.Lookups` reads by key, and `manager` has the rest: writes, lists, exports. What a call goes through:

===============  ==============================================================================================
`entries`        a `CacheEntry` becomes a `record.Record`, its credential is sealed; and back, decrypted when read
`policy`         what an operation does to a record and to which tier, as pure functions
`coordination`   the same done in all tiers: waits for a busy one, leaves out a sick one, keeps its writes for it
`tiers`          the same done in one tier
===============  ==============================================================================================

Beside that way:

- `models` are the public models, `record` is the form between and inside the tiers.
- `opening` makes open tiers of a configuration. `manifest` lists the files of a store.
- `keys` seals credentials, `maintenance` keeps a store whole, `doctor` looks at one that may not open.
- `change_feed` is the log as the pool and the monitor read it, `statistics` counts.

A new field of an entry goes into `models.CacheEntry`, `record.Record` with its check, `entries` in both directions,
and the migrations of `tiers.sqlite.schema`. A line of JSON has all fields of a record.

The names are imported when they are first used: reading a configuration does not load the code that opens a store.
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
