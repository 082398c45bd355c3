"""Whether a window belongs to the authority below it, and what to do where the authority was lost.

A store has an id. Its windows note which store they follow. An authority without an id that holds nothing is new, or
was lost or set aside as damaged: the window above it may have outlived it, and gives back what it holds.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Batch, Tier, TierName

__all__ = ["adopt"]

_log = logging.getLogger(__name__)

STORE_ID = "store_id"
FOLLOWS = "follows"
PAGE = 1_000


def adopt(tiers: Sequence[tuple[TierName, Tier]]) -> int:
    """Make the durable tiers one store before they are used together; return how many entries were given back.

    Called while no other process does the same to these tiers.
    """
    durable = [(name, tier) for name, tier in tiers if name != "l1"]
    if not durable:
        return 0
    lowest, authority = durable[-1]
    store = authority.get_meta(STORE_ID)
    is_new = store is None and authority.revision == 0
    store = store or uuid.uuid4().hex
    given = 0
    for name, window in durable[:-1]:
        followed = window.get_meta(FOLLOWS)
        if is_new and len(window):
            authority.clear(window.revision + 1)
            given += _give_back(window, authority)
            _log.warning("tier %s was empty and was rebuilt from %s: %d entries", lowest, name, given)
        elif window.get_meta(STORE_ID) is not None:  # it was written to while the tier below was off
            given += _give_back(window, authority)
            _log.warning("tier %s was the lowest for a time: %d of its entries went to %s", name, given, lowest)
        elif followed is not None and followed != store:
            window.clear(authority.revision)
        window.set_meta(STORE_ID, None)
        if followed != store:
            window.set_meta(FOLLOWS, store)
    if authority.get_meta(FOLLOWS) is not None:
        authority.set_meta(FOLLOWS, None)
    if authority.get_meta(STORE_ID) != store:
        authority.set_meta(STORE_ID, store)
    return given


def _give_back(window: Tier, authority: Tier) -> int:
    """Write to the authority what a window knows and it does not, or knows better; return how many entries."""
    written: list[Record] = []
    page = window.scan("", PAGE)
    while page:
        after = page[-1].key
        for record in page:
            record.generation = 0
        written += authority.transact([record.key for record in page], partial(_missing, page)).puts
        page = window.scan(after, PAGE)
    window.clear(authority.revision)
    window.fill([record for record in written if not record.retired], authority.revision)
    return len(written)


def _missing(offered: Sequence[Record], present: Mapping[str, Record]) -> Batch:
    return Batch(puts=[record for record in offered if _latest(record) > _latest(present.get(record.key))])


def _latest(record: Record | None) -> float:
    """When a record was last fetched or checked."""
    return max(record.fetched_at, record.last_check_at or 0.0) if record is not None else float("-inf")
