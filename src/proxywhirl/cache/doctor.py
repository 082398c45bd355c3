"""Say what is wrong with a store, whether it can be opened or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from proxywhirl.cache.keys.keyset import examine_keys, missing_keys, tokens_by_key
from proxywhirl.cache.maintenance.files import look_around, out_of_reach
from proxywhirl.cache.manager import CacheManager
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.opening import enabled_tiers, open_tier
from proxywhirl.cache.tiers.protocol import Finding
from proxywhirl.errors import CacheError, DecryptionError, ProxyWhirlError

OPENED_AGAIN = "then run `proxywhirl doctor` again"


def diagnose(config: CacheConfig, others: Iterable[Path] = (), *, repair: bool = False) -> list[Finding]:
    """Open the store and verify it; where it does not open, look at each of its parts alone.

    With `repair`, what can be mended is, and says so. Before the store is opened, its files and `others` are looked at:
    whether their user can read and write them.
    """
    closed = list(out_of_reach(config, others, repair=repair))
    try:
        with CacheManager(config) as cache:
            found = cache.verify(repair=repair)
    except ProxyWhirlError as exc:
        found = _of_a_closed_store(config, exc, repair=repair)
    known = {finding.where for finding in closed}
    return [*closed, *(finding for finding in found if finding.where not in known)]


def _of_a_closed_store(config: CacheConfig, error: ProxyWhirlError, *, repair: bool) -> list[Finding]:
    findings: list[Finding] = []
    seals: dict[str, int] = {}  # how many credentials need which key; the tiers hold the same ones
    for name in enabled_tiers(config):
        try:
            with contextlib.closing(open_tier(config, name)) as tier:
                found = tier.examine(repair=repair)
                for check, count in tokens_by_key(tier).items():
                    seals[check] = max(seals.get(check, 0), count)
            findings += [replace(each, where=f"{name}: {each.where}") for each in found]
        except ProxyWhirlError as exc:
            findings.append(Finding(name, str(exc), OPENED_AGAIN))
    known, ill_kept = examine_keys(config)
    findings += [*ill_kept, *missing_keys(config, known, seals)]
    is_told = isinstance(error, CacheError) and any(str(error) == each.what for each in findings)
    if not findings or not (is_told or isinstance(error, DecryptionError)):
        findings.insert(0, Finding("store", f"it cannot be opened: {error}", OPENED_AGAIN))
    return findings + look_around(config, repair=repair, known={each.where.partition(": ")[2] for each in findings})
