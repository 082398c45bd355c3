"""Every tier by its name, and how one is made of its plan.

Another package offers tiers by entry points of the group `proxywhirl.tiers`: the name is what the user writes as
`l2_tier` or `l3_tier`, the object is a `TierFactory`. A built-in name cannot be taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proxywhirl import plugins
from proxywhirl.cache.tiers.eviction import Uses
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import ProxyWhirlError, SettingsError, TierError

ENTRY_POINT_GROUP = "proxywhirl.tiers"


@dataclass(frozen=True, slots=True)
class TierPlan:
    """What a tier is to be, as the configuration says.

    `directory` is for a tier that keeps several files, `file` for one that keeps one; neither has to be there, nor
    their parents. A tier whose store is elsewhere takes `directory` for its store's name: it tells homes apart.
    `authority` says which part it plays; `max_entries` (None: no bound) and `policy` limit it. With `fsync`, what is
    written survives a power cut. `uses` tells when a write is, and of hits that are not stored yet.
    """

    directory: Path
    file: Path
    authority: bool
    max_entries: int | None = None
    policy: str = "lru"
    fsync: bool = False
    uses: Uses = field(default_factory=Uses, compare=False)


TierFactory = Callable[[TierPlan], Tier]
"""Opens what is stored where the plan says, new where there is nothing. Raises `TierError` where it cannot."""


def _of_files(backend: type[JsonlTier | SqliteTier], plan: TierPlan) -> Tier:
    return backend(
        plan.file if backend is SqliteTier else plan.directory,
        max_entries=plan.max_entries,
        policy=plan.policy,
        authority=plan.authority,
        fsync=plan.fsync,
        uses=plan.uses,
    )


_BUILT_IN: Mapping[str, TierFactory] = {
    "jsonl": partial(_of_files, JsonlTier),
    "sqlite": partial(_of_files, SqliteTier),
}
_MEMBERS = {name for name in vars(Tier) if not name.startswith("_")} | {"__len__", "__contains__"}


def tier_names() -> list[str]:
    """Return every known name, sorted."""
    return plugins.known_names(ENTRY_POINT_GROUP, _BUILT_IN)


def make_tier(name: str, plan: TierPlan) -> Tier:
    """Open the tier of that name.

    Raises:
        UnknownNameError: No tier has that name; the message lists the known ones.
        SettingsError: The package that offers the tier cannot be loaded, or what it offers is no tier.
        TierError: The tier cannot be opened.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name](plan)
    return _checked(name, _opened(name, plugins.find("tier", ENTRY_POINT_GROUP, name, _BUILT_IN), plan))


def _opened(name: str, factory: TierFactory, plan: TierPlan) -> Tier:
    try:
        return factory(plan)
    except ProxyWhirlError:
        raise
    except Exception as exc:  # any error of its library; the text may hold credentials
        raise TierError(f"tier {name!r} cannot be opened: {type(exc).__name__}") from exc


def _checked(name: str, tier: Tier) -> Tier:
    """Refuse what is no tier when it is opened, not when it is first asked for something."""
    if missing := _MEMBERS - set(dir(tier)):
        raise SettingsError(f"what {name!r} opens is no tier: it lacks {', '.join(sorted(missing))}")
    return tier
