"""From a `CacheConfig` to open tiers and the key that reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from proxywhirl.cache.crypto import Sealer, obtain_key_file
from proxywhirl.cache.jsonl import JsonlTier
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.models import KEY_VARIABLE, CacheConfig, CacheTierConfig, L2BackendType
from proxywhirl.cache.sqlite import SqliteTier
from proxywhirl.cache.tier import Tier, TierName
from proxywhirl.errors import DecryptionError

__all__ = ["key_file", "note_key", "open_sealer", "open_tiers"]

_log = logging.getLogger(__name__)

KEY_CHECK = "key_check"
L2_DATABASE = "l2.db"


def open_tiers(config: CacheConfig) -> list[tuple[TierName, Tier]]:
    """Open the enabled tiers, fastest first; the last one is the authority.

    Raises:
        TierError: a durable tier cannot be opened.
        FormatVersionError: one was written by a newer version.
    """
    tiers: list[tuple[TierName, Tier]] = []
    l2, l3 = config.l2_config.enabled, config.l3_config.enabled
    try:
        if config.l1_config.enabled:
            bound, policy = _limits(config.l1_config)
            tiers.append(("l1", MemoryTier(max_entries=bound, policy=policy, authority=not (l2 or l3))))
        if l2:
            tiers.append(("l2", _open_l2(config, authority=not l3)))
        if l3:
            path = Path(config.l3_database_path).expanduser()
            bound, policy = _limits(config.l3_config)
            fsync = config.durability == "power"
            tiers.append(("l3", SqliteTier(path, max_entries=bound, policy=policy, authority=True, fsync=fsync)))
    except BaseException:
        for _, tier in tiers:
            tier.close()
        raise
    return tiers


def _open_l2(config: CacheConfig, *, authority: bool) -> Tier:
    directory = Path(config.l2_cache_dir).expanduser()
    bound, policy = _limits(config.l2_config)
    fsync = config.durability == "power"
    if config.l2_backend is L2BackendType.JSONL:
        return JsonlTier(directory, max_entries=bound, policy=policy, authority=authority, fsync=fsync)
    path = directory / L2_DATABASE
    return SqliteTier(path, max_entries=bound, policy=policy, authority=authority, fsync=fsync)


def _limits(config: CacheTierConfig) -> tuple[int | None, str]:
    return config.max_entries, config.eviction_policy


def open_sealer(config: CacheConfig, tiers: Sequence[tuple[TierName, Tier]]) -> Sealer | None:
    """Find the key and check it against what is stored; None for a cache in memory alone.

    Raises:
        DecryptionError: credentials are stored and the key is missing or another one.
    """
    durable = [tier for name, tier in tiers if name != "l1"]
    if not durable:
        return None
    path = key_file(config)
    checks = {check for tier in durable if (check := tier.get_meta(KEY_CHECK)) is not None}
    if config.encryption_key is not None:
        key, origin = config.encryption_key, f"encryption_key or {KEY_VARIABLE}"
    else:
        if checks and not path.exists():
            raise DecryptionError(
                f"credentials are stored and there is no key: restore {path}, "
                f"or set {KEY_VARIABLE} to the key that sealed them"
            )
        key, made = obtain_key_file(path)
        origin = str(path)
        if made:
            _log.warning("made an encryption key in %s: keep a copy, credentials cannot be read without it", path)
    sealer = Sealer(key)
    if checks - {sealer.key_check}:
        raise _another_key(origin)
    if checks:
        for tier in durable:  # one that was lost has come back without its note
            note_key(sealer, tier)
    return sealer


def _another_key(origin: str) -> DecryptionError:
    return DecryptionError(
        f"the stored credentials were sealed with another key than the one from {origin}: "
        f"set {KEY_VARIABLE} to the key that sealed them"
    )


def key_file(config: CacheConfig) -> Path:
    """Return where the key is kept when none is configured."""
    if config.key_file is not None:
        return Path(config.key_file).expanduser()
    if config.l3_config.enabled:
        return Path(config.l3_database_path).expanduser().with_suffix(".key")
    return Path(config.l2_cache_dir).expanduser().with_suffix(".key")


def note_key(sealer: Sealer, tier: Tier) -> bool:
    """Leave the key-check value in a durable tier, before the first sealed credential goes there; return True.

    Raises:
        DecryptionError: another process has sealed credentials with another key meanwhile.
    """
    noted = tier.get_meta(KEY_CHECK)
    if noted is None:
        tier.set_meta(KEY_CHECK, sealer.key_check)
    elif noted != sealer.key_check:
        raise _another_key("this process's configuration")
    return True
