"""Which durable tiers there are, and how one is opened by its name.

Another package offers tiers by entry points of the group `proxywhirl.tiers`: the name is what the user writes as
`l2_tier` or `l3_tier`, the object is a `TierFactory`. A built-in name cannot be taken over. The first tier is
always the one in memory: nothing else is fast enough to be asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from proxywhirl.cache.jsonl import JsonlTier
from proxywhirl.cache.sqlite import SqliteTier
from proxywhirl.cache.standing import Uses
from proxywhirl.cache.tier import Tier
from proxywhirl.errors import ProxyWhirlError, SettingsError, TierError, UnknownNameError

__all__ = ["ENTRY_POINT_GROUP", "TierFactory", "TierPlan", "make_tier", "tier_names"]

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


def _jsonl(plan: TierPlan) -> Tier:
    return JsonlTier(
        plan.directory,
        max_entries=plan.max_entries,
        policy=plan.policy,
        authority=plan.authority,
        fsync=plan.fsync,
        uses=plan.uses,
    )


def _sqlite(plan: TierPlan) -> Tier:
    return SqliteTier(
        plan.file,
        max_entries=plan.max_entries,
        policy=plan.policy,
        authority=plan.authority,
        fsync=plan.fsync,
        uses=plan.uses,
    )


_BUILT_IN: Mapping[str, TierFactory] = {"jsonl": _jsonl, "sqlite": _sqlite}
_MEMBERS = {name for name in vars(Tier) if not name.startswith("_")} | {"__len__", "__contains__"}


def tier_names() -> list[str]:
    """Return every known name, sorted."""
    return sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINT_GROUP).names})


def make_tier(name: str, plan: TierPlan) -> Tier:
    """Open the tier of that name.

    Raises:
        UnknownNameError: No tier has that name; the message lists the known ones.
        SettingsError: The package that offers the tier cannot be loaded, or what it offers is no tier.
        TierError: The tier cannot be opened.
    """
    built_in = _BUILT_IN.get(name)
    if built_in is not None:
        return built_in(plan)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            factory: TierFactory = entry_point.load()
        except (ImportError, AttributeError) as exc:
            raise SettingsError(f"tier {name!r} cannot be loaded from {entry_point.value}: {exc}") from exc
        return _checked(name, _opened(name, factory, plan))
    raise UnknownNameError("tier", name, tier_names())


def _opened(name: str, factory: TierFactory, plan: TierPlan) -> Tier:
    try:
        return factory(plan)
    except ProxyWhirlError:
        raise
    except Exception as exc:  # whatever its library raises; the text may hold the credentials of its store
        raise TierError(f"tier {name!r} cannot be opened: {type(exc).__name__}") from exc


def _checked(name: str, tier: Tier) -> Tier:
    """Refuse what is no tier when it is opened, not when it is first asked for something."""
    if missing := _MEMBERS - set(dir(tier)):
        raise SettingsError(f"what {name!r} opens is no tier: it lacks {', '.join(sorted(missing))}")
    return tier
