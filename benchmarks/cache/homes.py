"""Homes to measure, and the entries in them.

Entry number n is the same in every run: an address of its own, attributes, and for every `WITH_CREDENTIAL`th or
for all a credential of its own. Keys are hashes, so numbers in a row are scattered over the keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from proxywhirl.cache import CacheEntry, CacheManager, CacheTierType
from proxywhirl.cache.models import NEVER
from proxywhirl.models import Attributes
from proxywhirl.settings import Settings
from proxywhirl.urls import parse

__all__ = ["Home", "entry", "key_of", "served_by"]

WITH_CREDENTIAL = 4
PAGE = 1_000
FETCHED = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 50 * 365 * 86_400
COUNTRIES = ("DE", "FR", "JP", "US")


def _url(number: int) -> str:
    return f"http://198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}:{1024 + (number >> 17)}"


def _username(number: int) -> str:
    return f"customer-session-{number}"


def key_of(number: int, *, sealed: bool) -> str:
    """Return the key of an entry with a credential or without."""
    url = parse(_url(number))
    return (url.with_credential(_username(number), None) if sealed else url).key


def entry(number: int, *, sealed: bool) -> CacheEntry:
    """Make an entry, every second one of which never expires; `sealed` gives it a credential that no other has."""
    return CacheEntry(
        key=key_of(number, sealed=sealed),
        proxy_url=_url(number),
        username=SecretStr(_username(number)) if sealed else None,
        password=SecretStr(f"secret-{number * 7919}") if sealed else None,
        source="benchmark",
        fetch_time=FETCHED,
        ttl_seconds=TTL,
        expires_at=FETCHED + timedelta(seconds=TTL) if number % 2 else NEVER,
        attributes=Attributes(country=COUNTRIES[number % len(COUNTRIES)]),
    )


def mixed(number: int) -> bool:
    """Whether an entry of a large store has a credential."""
    return number % WITH_CREDENTIAL == 0


@dataclass(frozen=True, slots=True)
class Home:
    """A directory with the files of a store."""

    folder: Path

    def settings(self, **cache: Any) -> Settings:
        """Return the settings of the home, with changed ones of the cache."""
        return Settings.load(self.folder, overrides={"cache": cache})

    @property
    def database(self) -> Path:
        """Where the third tier is."""
        return Path(self.settings().cache.l3_database_path)

    @contextmanager
    def open(self, **cache: Any) -> Iterator[CacheManager]:
        """Open the cache of the home, with changed settings."""
        with CacheManager(self.settings(**cache).cache) as manager:
            yield manager

    def fill(self, numbers: Iterable[int], *, sealed: bool | None = None, **cache: Any) -> float:
        """Put entries (`sealed` None: a mixture); return microseconds per entry spent in `put_many`."""
        rest, spent, count = iter(numbers), 0, 0
        with self.open(**cache) as manager:
            while page := [entry(n, sealed=mixed(n) if sealed is None else sealed) for n in islice(rest, PAGE)]:
                began = time.perf_counter_ns()
                taken = manager.put_many(page)
                spent += time.perf_counter_ns() - began
                count += len(page)
                if taken != len(page):
                    raise RuntimeError(f"{self.folder}: {taken} of {len(page)} entries were taken")
            if len(manager) != count:
                raise RuntimeError(f"{self.folder} holds {len(manager)} entries instead of {count}")
        return spent / 1000 / max(count, 1)


@contextmanager
def served_by(manager: CacheManager, tier: CacheTierType | None, *, insist: bool = True) -> Iterator[None]:
    """Insist that everything that is asked in the block is served by one tier, or with None by no tier.

    Raises:
        RuntimeError: it was not: what was measured is not what the result says.
    """
    before = _counts(manager)
    yield
    asked, *hits = (now - then for now, then in zip(_counts(manager), before, strict=True))
    wanted = [asked if tier is each else 0 for each in CacheTierType]
    if insist and (asked == 0 or hits != wanted):
        raise RuntimeError(f"of {asked} gets L1, L2 and L3 served {hits} instead of {wanted}")


def _counts(manager: CacheManager) -> list[int]:
    figures = manager.get_statistics()
    tiers = (figures.l1_stats, figures.l2_stats, figures.l3_stats)
    if figures.l1_degraded or figures.l2_degraded or figures.l3_degraded:
        raise RuntimeError("a tier is degraded: the result would be that of another store")
    return [figures.requests, *(tier.hits for tier in tiers)]
