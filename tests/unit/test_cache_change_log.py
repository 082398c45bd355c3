"""The log of changes in memory, and where its readers stand."""

from __future__ import annotations

import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.change_log import REMOVALS_KEPT, ChangeLog, Position


def peek(key: str) -> Record:
    """Make the record of a key."""
    return Record(key, "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0)


def read(journal: ChangeLog, revision: int, limit: int) -> tuple[set[str], set[str], int, int]:
    """Read the log in pages as a follower does; return keys there, keys removed, resets, the last revision."""
    there: set[str] = set()
    removed: set[str] = set()
    resets = 0
    for _ in range(1000):
        page = journal.page(revision, limit, peek)
        if page.reset:
            resets += 1
            there.clear()
            removed.clear()
        there |= {record.key for record in page.records}
        removed |= set(page.removed)
        revision = page.revision
        if not page.more:
            return there, removed, resets, revision
    raise AssertionError("the pages never end")


def test_a_log_that_forgot_its_oldest_removals_is_read_from_its_start_in_pages() -> None:
    """A reader from before the forgotten removals starts anew once, and comes to the end; a later one goes on."""
    journal = ChangeLog()
    for name in ("old", "older"):
        journal.note(name, journal.next(), removed=False)
    for n in range(REMOVALS_KEPT + 10):
        journal.note(f"k{n}", journal.next(), removed=True)
    journal.note("new", journal.next(), removed=False)
    assert journal.floor > 2
    assert len(journal.removals()) <= REMOVALS_KEPT
    for since in (0, 1, journal.floor - 1, journal.revision + 1):
        there, _, resets, revision = read(journal, since, 20_000)
        assert (there, resets, revision) == ({"old", "older", "new"}, 1, journal.revision)
    there, removed, resets, _ = read(journal, journal.revision - 3, 1)
    assert (there, len(removed), resets) == ({"new"}, 2, 0)
    assert journal.page(journal.floor, 10, peek).reset is False


def test_what_is_restored_is_in_the_order_of_its_revisions() -> None:
    """Changes read from disk in any order make the log that was written."""
    journal = ChangeLog()
    journal.restore([("c", 3, False), ("a", 1, True), ("b", 2, False)], revision=7, floor=0)
    assert journal.after(1, 10) == ([("b", 2, False), ("c", 3, False)], False)
    assert journal.after(0, 2) == ([("a", 1, True), ("b", 2, False)], True)
    assert journal.removals() == [("a", 1)]
    assert journal.next() == 8


@pytest.mark.parametrize(
    ("revision", "since", "reset"),
    [(5, 5, False), (9, 9, False), (4, 0, True), (10, 0, True), (0, 0, True), (-3, 0, True), (-10, 0, True)],
)
def test_a_reader_stands_where_the_log_is_whole_for_it(revision: int, since: int, *, reset: bool) -> None:
    """Between floor and end; anywhere else it starts anew."""
    position = Position.of(revision, floor=5, last=9)
    assert (position.since, position.reset, position.from_start) == (since, reset, reset)
    assert position.after(9, more=False) == 9
    if not reset:
        assert position.after(7, more=True) == 7


def test_a_reader_on_its_way_from_the_start_goes_on_while_nothing_is_forgotten() -> None:
    """Behind the floor too; once the floor has moved, it may have missed a removal or a clear, and starts anew."""
    asking = Position.of(0, floor=5, last=9).after(3, more=True)
    assert asking < 0
    position = Position.of(asking, floor=5, last=12)
    assert (position.since, position.reset) == (3, False)
    further = position.after(8, more=True)
    assert Position.of(further, floor=5, last=12).since == 8
    assert position.after(12, more=False) == 12
    for floor, last in ((6, 12), (13, 13), (0, 12), (5, 7)):
        position = Position.of(further, floor=floor, last=last)
        assert (position.since, position.reset) == (0, True)
