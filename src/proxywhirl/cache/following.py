"""Bring a window in line with the log of the authority, and refuse answers that no tier can mean."""

from __future__ import annotations

from collections.abc import Mapping

from proxywhirl.cache.guard import GuardedTier, sound
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Changes, Stretch
from proxywhirl.errors import TierError

__all__ = ["bring_in_line", "sound_many", "stretch_of"]

PAGE = 1_000
MOST_PAGES = 100_000


def bring_in_line(window: GuardedTier, authority: GuardedTier) -> list[str]:
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
        followed = window.write(lambda tier: tier.follow(stretch_of(since, changes)), None, PAGE)  # noqa: B023  # as above
        if followed is not None:
            held += followed.held
    return held


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
