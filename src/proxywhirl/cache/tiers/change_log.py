"""The log of changes of a tier that keeps its index in memory: the latest change of each key.

One dictionary in the order of revisions, so that the newest changes are read from its end without
looking at the others. Removals are kept up to a bound; a reader that is further behind starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Changes

REMOVALS_KEPT = 100_000
REVISIONS = 2**48  # more than a log will ever give
NOWHERE = 1 - REVISIONS
"""The position of a reader that every log tells to start anew."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a reader of a log: changes after `since` are news to it.

    A log that forgot its oldest changes (all up to `floor`) is whole only for readers that are past them, and for
    readers that began at its start, as long as it forgets no more. The latter get pages with a negative revision: it
    holds the floor at which they began and how far they came.
    """

    since: int
    reset: bool
    from_start: bool
    floor: int

    @classmethod
    def of(cls, revision: int, *, floor: int, last: int) -> Position:
        """Return the position of a reader that asks with a revision (see `Changes`)."""
        if revision < 0:
            began, since = divmod(-revision, REVISIONS)
            if began == floor and since <= last:
                return cls(since, reset=False, from_start=True, floor=floor)
            return cls(0, reset=True, from_start=True, floor=floor)
        reset = revision < floor or revision > last
        return cls(0 if reset else revision, reset, from_start=reset, floor=floor)

    def after(self, reached: int, *, more: bool) -> int:
        """Return the revision to ask with next, after a page that reached one."""
        return -(self.floor * REVISIONS + reached) if more and self.from_start else reached


class ChangeLog:
    """Revisions and removals. `floor` is the oldest revision from which the log is whole."""

    def __init__(self) -> None:
        self.revision = 0
        self.floor = 0
        self._latest: dict[str, tuple[int, bool]] = {}
        self._removals = 0

    def next(self) -> int:
        """Take the next revision."""
        self.revision += 1
        return self.revision

    def note(self, key: str, revision: int, *, removed: bool) -> None:
        """Record the latest change of a key."""
        previous = self._latest.pop(key, None)
        if previous is not None and previous[1]:
            self._removals -= 1
        self._latest[key] = (revision, removed)
        self.revision = max(self.revision, revision)
        if removed:
            self._removals += 1
            if self._removals > REMOVALS_KEPT:
                self._forget_half()

    def restart(self, at_least: int = 0) -> None:
        """Forget the log after everything was removed: readers behind this point start anew."""
        self._latest.clear()
        self._removals = 0
        self.revision = max(self.revision, at_least - 1)
        self.floor = self.next()

    def restore(self, changes: Iterable[tuple[str, int, bool]], *, revision: int, floor: int) -> None:
        """Take over what was read from disk, in any order."""
        self._latest = {}
        self._removals = 0
        self.revision = revision
        self.floor = floor
        for key, at, removed in sorted(changes, key=lambda change: change[1]):
            self.note(key, at, removed=removed)

    def removals(self) -> list[tuple[str, int]]:
        """Return the removed keys with the revisions of their removal."""
        return [(key, revision) for key, (revision, removed) in self._latest.items() if removed]

    def after(self, since: int, limit: int) -> tuple[list[tuple[str, int, bool]], bool]:
        """Return up to `limit` changes after a revision as (key, revision, removed), and whether more follow."""
        found: list[tuple[str, int, bool]] = []
        for key in reversed(self._latest):
            at, removed = self._latest[key]
            if at <= since:
                break
            found.append((key, at, removed))
        found.reverse()
        return found[:limit], len(found) > limit

    def page(self, revision: int, limit: int, peek: Callable[[str], Record | None]) -> Changes:
        """Return the page of changes that a reader asks for with a revision."""
        position = Position.of(revision, floor=self.floor, last=self.revision)
        found, more = self.after(position.since, limit)
        reached = found[-1][1] if more else self.revision
        records = [record for key, _, removed in found if not removed and (record := peek(key)) is not None]
        gone = [key for key, _, removed in found if removed]
        return Changes(position.after(reached, more=more), records, gone, position.reset, more)

    def _forget_half(self) -> None:
        old = self.removals()[: REMOVALS_KEPT // 2]
        for key, revision in old:
            del self._latest[key]
            self.floor = max(self.floor, revision)
        self._removals -= len(old)
