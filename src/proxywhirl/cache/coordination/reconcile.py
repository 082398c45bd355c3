"""Reconciliation: whether a window belongs to the authority below it, and which records it gives back.

A store has an id, and a window notes which store it follows. When tiers are opened together:

| the authority | the window | then |
|---|---|---|
| holds nothing and has no id: new, lost, or set aside | holds something | gives all of it to the authority |
| was off | was the lowest tier for a time | gives what it changed and removed since it left the authority |
| is of another store | follows another store | is emptied |
| any other | any other | nothing |

An entry that a window merely does not hold stays in the authority.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from proxywhirl.cache.coordination.handoff import Removals
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Tier, TierName, pages
from proxywhirl.errors import TierError

_log = logging.getLogger(__name__)

STORE_ID = "store_id"
FOLLOWS = "follows"
LEFT = "left"
PAGE = 1_000


def adopt(durable: Sequence[tuple[TierName, Tier]], removals: Removals | None = None) -> None:
    """Make the durable tiers, the lowest one last, one store before they are used together.

    Called while no other process does the same to these tiers. `removals` are those of the second tier.
    """
    lowest, authority = durable[-1]
    is_new = is_new_store(authority)
    store = authority.get_meta(STORE_ID) or uuid.uuid4().hex
    for name, window in durable[:-1]:
        if is_new and len(window):
            authority.clear(window.revision + 1)
            given = _give_back(window, authority, None)
            _log.warning("tier %s was empty and was rebuilt from %s: %d entries", lowest, name, given)
        elif window.get_meta(STORE_ID) is not None:  # it was written to while the tier below was off
            since = _left_at(window, authority, store)
            gone = _remove(removals.noted() if removals is not None else {}, window, authority, since)
            given = _give_back(window, authority, since)
            what = "tier %s was the lowest for a time: %d of its entries went to %s, and %d that it removed are gone"
            _log.warning(f"{what} there", name, given, lowest, gone)
        elif window.get_meta(FOLLOWS) not in {None, store}:
            window.clear(authority.revision)
        if removals is not None:
            removals.forget()
        _note(window, {STORE_ID: None, LEFT: None, FOLLOWS: store})
    left = authority.get_meta(FOLLOWS)
    as_window = {} if left is None else {LEFT: f"{left} {authority.revision}"}
    _note(authority, {**as_window, FOLLOWS: None, STORE_ID: store})


def _note(tier: Tier, notes: Mapping[str, str | None]) -> None:
    known = tier.metas("")
    for name, value in notes.items():
        if known.get(name) != value:
            tier.set_meta(name, value)


def is_new_store(authority: Tier) -> bool:
    """Whether an authority is new, or was lost: a window may hold the only copy of its entries."""
    return authority.get_meta(STORE_ID) is None and authority.revision == 0


def rejoin(window: Tier, store: str, revision: int) -> None:
    """Make a window one store with an authority that is in use already, and stands at a revision.

    Raises:
        TierError: it was the lowest for a time; to give back its changes needs an authority that is not in use.
    """
    if window.get_meta(STORE_ID) is not None:
        raise TierError("it was the lowest tier for a time: close the cache and open it again, to carry that over")
    if window.get_meta(FOLLOWS) not in {None, store}:
        window.clear(revision)
    _note(window, {STORE_ID: None, LEFT: None, FOLLOWS: store})


def has_left(tier: Tier) -> bool:
    """Whether an authority was a window before: a tier that is off then holds the entries of that time."""
    return tier.get_meta(LEFT) is not None


def _left_at(window: Tier, authority: Tier, store: str) -> int | None:
    """Return the revision at which a window left the authority; None where it left another store, or a later one."""
    left, _, revision = (window.get_meta(LEFT) or "").partition(" ")
    if left != store or not revision.isdecimal():
        return None
    return int(revision) if int(revision) <= authority.revision else None


def _remove(noted: Mapping[str, float], window: Tier, authority: Tier, since: int | None) -> int:
    """Remove from the authority what a window removed while the authority was off; return how many entries."""
    keys = [key for key in noted if window.peek(key) is None]

    def decide(present: Mapping[str, Record]) -> Batch:
        older = (key for key, stored in present.items() if _is_as_left(stored, since) or _latest(stored) <= noted[key])
        return Batch(deletes=list(older))

    pages = (keys[n : n + PAGE] for n in range(0, len(keys), PAGE))
    return sum(len(authority.transact(page, decide).deletes) for page in pages)


def _give_back(window: Tier, authority: Tier, since: int | None) -> int:
    """Write a window's newer and unknown records to the authority; return how many."""
    written: list[Record] = []
    for page in pages(lambda after: window.scan(after, PAGE)):
        offered = [record for record in page if not _is_as_left(record, since)]
        for record in offered:
            record.generation = 0
        if offered:
            written += authority.transact([record.key for record in offered], partial(_news, offered, since)).puts
    window.clear(authority.revision)
    window.fill([record for record in written if not record.retired], authority.revision)
    return len(written)


def _news(offered: Sequence[Record], since: int | None, present: Mapping[str, Record]) -> Batch:
    """Choose the records to give back: the last write wins, where both tiers have a record."""
    return Batch([record for record in offered if not _is_outdated(record, present.get(record.key), since)])


def _is_outdated(record: Record, stored: Record | None, since: int | None) -> bool:
    if stored is None or _is_as_left(stored, since):
        return False
    return _latest(record) < _latest(stored) or (since is None and _latest(record) == _latest(stored))


def _is_as_left(record: Record, since: int | None) -> bool:
    """Whether a record was written before the two tiers parted."""
    return since is not None and record.revision <= since


def _latest(record: Record) -> float:
    """When a record was last fetched or checked."""
    return max(record.fetched_at, record.last_check_at or 0.0)
