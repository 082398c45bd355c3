"""From a `CacheConfig` to open tiers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from proxywhirl.cache.absent import AbsentTier
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.occupancy import WrongPlaceError, backend_of, check_backend
from proxywhirl.cache.registry import TierPlan, make_tier
from proxywhirl.cache.standing import Uses
from proxywhirl.cache.tier import TIER_NAMES, Tier, TierName
from proxywhirl.errors import TierError

__all__ = ["enabled_tiers", "l2_plan", "open_tier", "open_tiers"]

L2_DATABASE = "l2.db"
L3_TIER = "sqlite"


def open_tiers(
    config: CacheConfig,
    *,
    open_one: Callable[[TierName], Tier] | None = None,
    absent: Callable[[TierName, TierError], Tier] | None = None,
) -> list[tuple[TierName, Tier]]:
    """Open the enabled tiers, fastest first; the last one is the authority. Where there is none, one in memory is.

    `open_one` opens one, as `open_tier` does where it is not given. `absent` gives what stands for a durable tier that
    cannot be opened, beside another one that can; without it that is an error as well.

    Raises:
        UnknownNameError: no tier has the name that is configured; the message lists the known ones.
        SettingsError: the package that offers it cannot be loaded.
        TierError: a durable tier cannot be opened.
        FormatVersionError: one was written by a newer version.
    """
    open_one = open_one or partial(open_tier, config)
    tiers: list[tuple[TierName, Tier]] = []
    names = enabled_tiers(config)
    if not names:
        return [("l1", MemoryTier(authority=True))]
    try:
        for name in names:
            try:
                tier = open_one(name)
            except WrongPlaceError:
                raise
            except TierError as exc:
                others = any(each != "l1" and not isinstance(tier, AbsentTier) for each, tier in tiers)
                if absent is None or (name == names[-1] and not others):
                    raise
                tier = absent(name, exc)
            tiers.append((name, tier))
    except BaseException:
        for _, tier in tiers:
            tier.close()
        raise
    return tiers


def enabled_tiers(config: CacheConfig) -> list[TierName]:
    """Return the names of the tiers that are to hold entries, fastest first."""
    places = zip(TIER_NAMES, (config.l1_config, config.l2_config, config.l3_config), strict=True)
    return [name for name, tier in places if tier.holds_entries]


def open_tier(config: CacheConfig, name: TierName, uses: Uses | None = None) -> Tier:
    """Open one tier, which is told of `uses`. Raises as `open_tiers` does."""
    match name:
        case "l1":
            l1 = config.l1_config
            lonely = not (config.l2_config.holds_entries or config.l3_config.holds_entries)
            return MemoryTier(max_entries=l1.max_entries, policy=l1.eviction_policy, authority=lonely)
        case "l2":
            if (backend := backend_of(config)) is not None:
                check_backend(Path(config.l2_cache_dir).expanduser(), backend)
            return make_tier(config.l2_tier or config.l2_backend.value, l2_plan(config, uses))
        case "l3":
            return make_tier(config.l3_tier or L3_TIER, _l3_plan(config, uses))


def l2_plan(config: CacheConfig, uses: Uses | None = None) -> TierPlan:
    """Return what the second tier is to be."""
    directory = Path(config.l2_cache_dir).expanduser()
    return TierPlan(
        directory=directory,
        file=directory / L2_DATABASE,
        authority=not config.l3_config.holds_entries,
        max_entries=config.l2_config.max_entries,
        policy=config.l2_config.eviction_policy,
        fsync=config.durability == "power",
        uses=uses or Uses(),
    )


def _l3_plan(config: CacheConfig, uses: Uses | None) -> TierPlan:
    file = Path(config.l3_database_path).expanduser()
    return TierPlan(
        directory=file.with_suffix(""),
        file=file,
        authority=True,
        max_entries=config.l3_config.max_entries,
        policy=config.l3_config.eviction_policy,
        fsync=config.durability == "power",
        uses=uses or Uses(),
    )
