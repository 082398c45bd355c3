"""From a `CacheConfig` to open tiers: which there are, and what each is to be.

The first tier is always the one in memory: nothing else is fast enough to be asked first. The durable ones are made by
their names (`tiers/registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from proxywhirl.cache.coordination.breaker import AbsentTier
from proxywhirl.cache.manifest import L2_DATABASE, l2_directory, l3_file
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.tiers.directory_lock import backend_of, check_backend
from proxywhirl.cache.tiers.eviction import Uses
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import TIER_NAMES, Tier, TierName
from proxywhirl.cache.tiers.registry import TierPlan, make_tier
from proxywhirl.errors import TierError, WrongPlaceError

L3_TIER = "sqlite"


def open_tiers(
    config: CacheConfig,
    names: Sequence[TierName] | None = None,
    *,
    open_one: Callable[[TierName], Tier] | None = None,
    absent: Callable[[TierName, TierError], Tier] | None = None,
) -> list[tuple[TierName, Tier]]:
    """Open the enabled tiers, fastest first; the last one is the authority. Without any, one in memory is.

    `names` are those of the enabled ones, where they are known. `open_one` opens one, as `open_tier` does where it is
    not given. `absent` gives what stands for a durable tier that cannot be opened, beside another one that can; without
    it that is an error as well.

    Raises:
        UnknownNameError: no tier has the name that is configured; the message lists the known ones.
        SettingsError: the package that offers it cannot be loaded.
        TierError: a durable tier cannot be opened.
        FormatVersionError: one was written by a newer version.
    """
    open_one = open_one or partial(open_tier, config)
    tiers: list[tuple[TierName, Tier]] = []
    names = enabled_tiers(config) if names is None else names
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
    if name == "l1":
        l1 = config.l1_config
        lonely = not (config.l2_config.holds_entries or config.l3_config.holds_entries)
        return MemoryTier(max_entries=l1.max_entries, policy=l1.eviction_policy, authority=lonely)
    if name == "l2" and (backend := backend_of(config)) is not None:
        check_backend(l2_directory(config), backend)
    named = config.l2_tier or config.l2_backend.value if name == "l2" else config.l3_tier or L3_TIER
    return make_tier(named, tier_plan(config, name, uses))


def tier_plan(config: CacheConfig, name: TierName, uses: Uses | None = None) -> TierPlan:
    """Return what a durable tier is to be."""
    if name == "l2":
        tier, directory = config.l2_config, l2_directory(config)
        file, authority = directory / L2_DATABASE, not config.l3_config.holds_entries
    else:
        tier, file, authority = config.l3_config, l3_file(config), True
        directory = file.with_suffix("")
    return TierPlan(
        directory=directory,
        file=file,
        authority=authority,
        max_entries=tier.max_entries,
        policy=tier.eviction_policy,
        fsync=config.durability == "power",
        uses=uses or Uses(),
    )
