"""Bring a window in line with the log of the authority, and refuse answers that no tier can mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from proxywhirl.cache.coordination.breaker import BreakerTier, sound
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Access, Changes, Followed, Stretch, Tier
from proxywhirl.errors import TierError, UnstorableValue

_log = logging.getLogger(__name__)

PAGE = 1_000
MOST_PAGES = 100_000


def bring_in_line(window: BreakerTier, authority: BreakerTier) -> list[str]:
    """Apply what the log says after the revision where a window stands; return the keys that it held and that went.

    A window that cannot be written to is `behind` until it could. One that is too far behind for the log is
    emptied: what it held can be read from below again.
    """
    held: list[str] = []
    stood = None
    for _ in range(MOST_PAGES):
        since = window.call(lambda tier: tier.revision, -1)
        if since < 0 or since == stood:  # it cannot be read, or did not take what it was told
            window.behind = True
            break
        stood = since
        changes = authority.call(lambda tier: tier.changes_since(since, PAGE), None, PAGE)  # noqa: B023  # called at once
        if changes is None:  # nothing newer can be known now
            break
        if window.miscounts or changes.reset or (since == 0 < changes.revision and window.call(len, 1) == 0):
            target = authority.call(lambda tier: tier.revision, -1)
            window.behind = target < 0 or window.write(lambda tier: tier.clear(target), -1, PAGE * PAGE) < 0  # noqa: B023  # as above
            window.miscounts = window.miscounts and window.behind
            break
        if changes.revision == since:
            window.behind = False
            break
        done = window.write(partial(followed, stretch_of(since, changes)), None, PAGE)
        if done is not None:
            held += done.held
    return held


def followed(stretch: Stretch, window: Tier) -> Followed | None:
    """Have a window follow a part of the log; what it cannot hold it is not to hold: it is read from below."""
    try:
        return window.follow(stretch)
    except UnstorableValue as exc:
        left = _without(exc, stretch.records)
        return followed(replace(stretch, records=left, removed=[*stretch.removed, str(exc.key)]), window)


def filled(records: Sequence[Record], revision: int, window: Tier) -> list[str] | None:
    """Fill a window with what it can hold of some records."""
    try:
        return window.fill(records, revision)
    except UnstorableValue as exc:
        return filled(_without(exc, records), revision, window)


def touched(accesses: Sequence[Access], tier: Tier) -> bool:
    """Add hits to what a tier counts. What it cannot store is counted no more: it would be in the way of all others."""
    try:
        tier.touch_many(accesses)
    except UnstorableValue as exc:
        _log.error("%s: it counts no further", exc)
        left = [access for access in accesses if access.key != exc.key]
        return len(left) == len(accesses) or touched(left, tier)
    return True


def _without(refused: UnstorableValue, records: Sequence[Record]) -> list[Record]:
    left = [record for record in records if record.key != refused.key]
    if len(left) == len(records):
        raise TierError(f"it refuses what it was not given: {refused}") from refused
    return left


def stretch_of(since: int, changes: Changes) -> Stretch:
    """Return a page of the log, read after a revision, as a window takes it."""
    served = [record for record in changes.records if not record.retired]
    gone = [*changes.removed, *(record.key for record in changes.records if record.retired)]
    return Stretch(since, changes.revision, served, gone)


def sound_many(answers: object) -> dict[str, Record]:
    """Return the answer of a tier that was asked for several keys. Raises `TierError` as `sound` does."""
    if not isinstance(answers, Mapping):
        raise TierError(f"asked for entries, it answered with {type(answers).__name__}")
    found = {key: answer for key, answer in answers.items() if type(answer) is Record and answer.key == key}
    if len(found) < len(answers):
        for key, answer in answers.items():
            sound(key, answer)
    return found
