"""Move the second tier to its other backend: every record as it is, with its place in the log, and every note.

The entries stay where they are until all of them are in the other place and were read back from there. One note, which
names the backend that has the entries (see `directory_lock`), is the switch. Before it, a move that was cut off begins
anew; after it, only the remains are removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from proxywhirl.cache.coordination.reconcile import STORE_ID
from proxywhirl.cache.manifest import JSONL_FILES
from proxywhirl.cache.models import CacheConfig, L2BackendType
from proxywhirl.cache.opening import tier_plan
from proxywhirl.cache.tiers.directory_lock import BACKENDS, DirectoryLock, backend_of, moved_to, note_backend
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Tier, pages
from proxywhirl.cache.tiers.registry import TierPlan, make_tier
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import CacheError, TierError
from proxywhirl.state.salvage import BESIDE

PAGE = 1_000
STAY = "the entries stay where they were"


Backend = JsonlTier | SqliteTier


@dataclass(frozen=True, slots=True)
class Migration:
    """From where how many entries were moved, retired ones too, and how many damaged ones were set aside before."""

    source: str
    moved: int = 0
    damaged: int = 0


def migrate(config: CacheConfig, to: str) -> Migration:
    """Move the second tier of a configuration, of either backend, to `to`: `jsonl` or `sqlite`.

    Nothing else may use the store meanwhile. Costs about 50 microseconds an entry.

    Raises:
        CacheError: another process has the store open, both backends hold entries, the second tier is off or is
            none of these two, or a file cannot be read or written. The entries are then where they were.
    """
    if backend_of(config) is None:
        raise CacheError("the second tier is off or another package's: there is nothing to move")
    plan = tier_plan(config, "l2")
    (source,) = BACKENDS - {to}
    lock = DirectoryLock(plan.directory, alone=True)
    try:
        return _move(plan, source, to)
    finally:
        lock.close()


def _move(plan: TierPlan, source: str, to: str) -> Migration:
    noted = moved_to(plan.directory)
    if noted == to:  # the remains of a move that was complete
        _remove(plan, source)
        return Migration(source)
    if not _files(plan, source):
        if noted is not None:
            note_backend(plan.directory, to)
        return Migration(source)
    if noted is None and _holds_its_own(plan, to):
        _refuse_two_stores(plan, source)
        note_backend(plan.directory, to)
        return Migration(source)
    note_backend(plan.directory, source)  # so that no process takes the unfinished copy for the store
    _remove(plan, to)
    with _opened(source, plan) as old:
        with _opened(to, replace(plan, authority=False)) as new:
            _copy(old, new)
        with _opened(to, plan) as new:
            moved = _compared(old, new, plan)
        damaged = old.corrupted
    note_backend(plan.directory, to)
    _remove(plan, source)
    return Migration(source, moved, damaged)


@contextlib.contextmanager
def _opened(name: str, plan: TierPlan) -> Iterator[Backend]:
    """Open a tier that evicts nothing, and whose writes are on the disk when they return."""
    tier = cast("Backend", make_tier(name, replace(plan, max_entries=None, fsync=True)))
    try:
        yield tier
    finally:
        tier.close()


def _holds_its_own(plan: TierPlan, name: str) -> bool:
    """Whether a backend holds entries that no tier below has."""
    if not _files(plan, name):
        return False
    with _opened(name, plan) as tier:
        return bool(tier.scan("", 1)) and (plan.authority or tier.get_meta(STORE_ID) is not None)


def _refuse_two_stores(plan: TierPlan, other: str) -> None:
    with _opened(other, plan) as tier:
        if tier.scan("", 1):
            raise CacheError(
                f"both backends hold entries in {plan.directory}: export those of one of them (`proxywhirl export "
                "--with-credentials` with PROXYWHIRL_CACHE_L2_BACKEND set to it), move its files away, and import the "
                "export with the other one set"
            )


def _copy(old: Backend, new: Backend) -> None:
    """Fill a window with everything: it takes records with the revisions that they have."""
    revision = old.revision
    new.clear(revision)
    for name, value in old.metas("").items():
        new.set_meta(name, value)
    for page in pages(lambda after: old.scan(after, PAGE)):
        if new.fill(page, revision) is None:
            raise TierError("the new backend refused a page of entries: nothing was moved")
    new.take_standings(old.standings())  # eviction goes by them, and no record has them


def _compared(old: Tier, new: Tier, plan: TierPlan) -> int:
    """Return how many records both hold.

    Raises:
        TierError: they do not hold the same.
    """
    number, after = 0, ""
    while True:
        here, there = old.scan(after, PAGE), new.scan(after, PAGE)
        if [record.stored() for record in here] != [record.stored() for record in there]:
            raise TierError(f"what was written to {plan.directory} reads back otherwise: {STAY}")
        if not here:
            break
        number, after = number + len(here), here[-1].key
    if old.metas("") != new.metas(""):
        raise TierError(f"the notes written to {plan.directory} read back otherwise: {STAY}")
    return number


def _files(plan: TierPlan, name: str) -> list[Path]:
    """Return the files of a backend that are there."""
    if name == L2BackendType.SQLITE:
        return [path for end in BESIDE if (path := Path(f"{plan.file}{end}")).exists()]
    return [path for pattern in JSONL_FILES for path in plan.directory.glob(pattern)]


def _remove(plan: TierPlan, name: str) -> None:
    try:
        for path in reversed(_files(plan, name)):  # a database goes after its journal
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise TierError(f"removing {exc.filename} failed: {exc.strerror or exc}") from exc
