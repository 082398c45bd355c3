"""Reconciliation: whether a window belongs to the authority below it, and what one gives back to the other.

A store has an id, and a window notes which store it follows. When tiers are opened together:

| the authority | the window | then |
|---|---|---|
| holds nothing and has no id: new, lost, or set aside | holds something | gives all of it to the authority |
| was off | was the lowest tier for a time | gives what it changed and removed since it left the authority |
| is of another store | follows another store | is emptied |
| any other | any other | nothing |

What a window merely does not hold stays in the authority.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from proxywhirl.cache.coordination.handoff import Removals
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Tier, TierName
from proxywhirl.errors import TierError

_log = logging.getLogger(__name__)

STORE_ID = "store_id"
FOLLOWS = "follows"
LEFT = "left"
PAGE = 1_000


def adopt(tiers: Sequence[tuple[TierName, Tier]], removals: Removals | None = None) -> int:
    """Make the durable tiers one store before they are used together; return how many entries were given back.

    Called while no other process does the same to these tiers. `removals` are those of the second tier.
    """
    durable = [(name, tier) for name, tier in tiers if name != "l1"]
    if not durable:
        return 0
    lowest, authority = durable[-1]
    store = authority.get_meta(STORE_ID)
    is_new = is_new_store(authority)
    store = store or uuid.uuid4().hex
    given = 0
    for name, window in durable[:-1]:
        followed = window.get_meta(FOLLOWS)
        if is_new and len(window):
            authority.clear(window.revision + 1)
            given += _give_back(window, authority, None)
            _log.warning("tier %s was empty and was rebuilt from %s: %d entries", lowest, name, given)
        elif window.get_meta(STORE_ID) is not None:  # it was written to while the tier below was off
            since = _left_at(window, authority, store)
            gone = _remove(removals.noted() if removals is not None else {}, window, authority, since)
            given += _give_back(window, authority, since)
            what = (
                "tier %s was the lowest for a time: %d of its entries went to %s, and %d that it removed are gone there"
            )
            _log.warning(what, name, given, lowest, gone)
        elif followed is not None and followed != store:
            window.clear(authority.revision)
        if removals is not None:
            removals.forget()
        _note_as_window(window, store)
    _note_as_authority(authority, store)
    return given


def _note_as_window(window: Tier, store: str) -> None:
    _set(window, STORE_ID, None)
    _set(window, LEFT, None)
    _set(window, FOLLOWS, store)


def _note_as_authority(authority: Tier, store: str) -> None:
    left = authority.get_meta(FOLLOWS)
    if left is not None:
        authority.set_meta(LEFT, f"{left} {authority.revision}")
    _set(authority, FOLLOWS, None)
    _set(authority, STORE_ID, store)


def _set(tier: Tier, note: str, value: str | None) -> None:
    if tier.get_meta(note) != value:
        tier.set_meta(note, value)


def is_new_store(authority: Tier) -> bool:
    """Whether an authority is new, or was lost: a window may hold the only copy of what it held."""
    return authority.get_meta(STORE_ID) is None and authority.revision == 0


def rejoin(window: Tier, store: str, revision: int) -> None:
    """Make a window one store with an authority that is in use already, and stands at a revision.

    Raises:
        TierError: it was the lowest for a time, and what it has to give back needs an authority that is not in use.
    """
    if window.get_meta(STORE_ID) is not None:
        raise TierError("it was the lowest tier for a time: close the cache and open it again, to carry that over")
    if window.get_meta(FOLLOWS) not in {None, store}:
        window.clear(revision)
    _note_as_window(window, store)


def has_left(tier: Tier) -> bool:
    """Whether an authority was a window before, so that a tier that is off holds what it held then."""
    return tier.get_meta(LEFT) is not None


def _left_at(window: Tier, authority: Tier, store: str) -> int | None:
    """Return the revision at which a window left the authority; None where it left another store, or a later one."""
    left, _, revision = (window.get_meta(LEFT) or "").partition(" ")
    if left != store or not revision.isdecimal():
        return None
    return int(revision) if int(revision) <= authority.revision else None


def _remove(noted: Mapping[str, float], window: Tier, authority: Tier, since: int | None) -> int:
    """Remove from the authority what a window removed while that was off; return how many entries."""
    keys = [key for key in noted if window.peek(key) is None]

    def decide(present: Mapping[str, Record]) -> Batch:
        return Batch(
            deletes=[
                key for key, stored in present.items() if _is_as_left(stored, since) or _latest(stored) <= noted[key]
            ]
        )

    pages = (keys[n : n + PAGE] for n in range(0, len(keys), PAGE))
    return sum(len(authority.transact(page, decide).deletes) for page in pages)


def _give_back(window: Tier, authority: Tier, since: int | None) -> int:
    """Write to the authority what a window knows and it does not, or knows better; return how many entries."""
    written: list[Record] = []
    page = window.scan("", PAGE)
    while page:
        after = page[-1].key
        offered = [record for record in page if not _is_as_left(record, since)]
        for record in offered:
            record.generation = 0
        if offered:
            written += authority.transact([record.key for record in offered], partial(_better, offered, since)).puts
        page = window.scan(after, PAGE)
    window.clear(authority.revision)
    window.fill([record for record in written if not record.retired], authority.revision)
    return len(written)


def _better(offered: Sequence[Record], since: int | None, present: Mapping[str, Record]) -> Batch:
    """Choose what the authority does not know better: the last write wins, where both know of one."""
    return Batch(puts=[record for record in offered if _is_news(record, present.get(record.key), since)])


def _is_news(record: Record, stored: Record | None, since: int | None) -> bool:
    if stored is None or _is_as_left(stored, since):
        return True
    return _latest(record) >= _latest(stored) if since is not None else _latest(record) > _latest(stored)


def _is_as_left(record: Record, since: int | None) -> bool:
    """Whether a record was written before the two tiers parted."""
    return since is not None and record.revision <= since


def _latest(record: Record) -> float:
    """When a record was last fetched or checked."""
    return max(record.fetched_at, record.last_check_at or 0.0)
