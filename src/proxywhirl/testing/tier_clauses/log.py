"""The log of changes: what a reader that follows it in pages, from anywhere, ends up knowing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, delete, expect, keys, put, record, same

LONGEST_READING = 1_000


@dataclass(slots=True)
class Follower:
    """A reader of the log, and what it knows by it. `revision` is what it asks with next."""

    revision: int = 0
    known: dict[str, Record] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    resets: int = 0

    def read_page(self, tier: Tier, limit: int) -> bool:
        """Read one page, apply it, and return whether more follow."""
        changes = tier.changes_since(self.revision, limit)
        expect(len(changes.records) <= limit, f"a page of {limit} has {len(changes.records)} records")
        names = [*keys(changes.records), *changes.removed]
        same(len(set(names)), len(names), f"how often each key is in one page: {names}")
        if changes.reset:
            self.known.clear()
            self.removed.clear()
            self.resets += 1
        for each in changes.records:
            self.known[each.key] = replace(each)
        for name in changes.removed:
            self.known.pop(name, None)
        self.removed |= set(changes.removed)
        self.revision = changes.revision
        return changes.more

    def read(self, tier: Tier, limit: int) -> None:
        """Read to the end of the log, which the last page names."""
        for _ in range(LONGEST_READING):
            if not self.read_page(tier, limit):
                break
        else:
            raise AssertionError("the pages of the log never end")
        same(self.revision, tier.revision, "the revision of the last page")


class LogClauses(Clauses):
    """`changes_since`."""

    def test_the_log_has_the_latest_change_of_each_key_once(self) -> None:
        """What was put or removed after a revision, each key as it is now, retired records among the records."""
        tier = self.authority()
        first = put(tier, record("a"), record("b"), record("c"), record("d"))
        put(tier, replace(record("a"), failure_count=2))
        (retired,) = put(tier, replace(record("d"), retired=True)).puts
        middle = delete(tier, "b").revision
        changes = tier.changes_since(0, 10)
        same(sorted(keys(changes.records)), ["a", "c", "d"], "records of the whole log")
        expect(set(changes.removed) <= {"b"}, f"removed of the whole log: {changes.removed}")
        same((changes.revision, changes.reset, changes.more), (tier.revision, False, False), "the whole log's end")
        later = tier.changes_since(first.revision, 10)
        same(
            {each.key: each.failure_count for each in later.records}, {"a": 2, "d": 0}, "records after the first batch"
        )
        expect(retired in later.records, "a retired record is a record of the log")
        same(later.removed, ["b"], "removed after the first batch")
        end = tier.changes_since(middle, 10)
        same((end.records, end.removed, end.reset, end.more), ([], [], False, False), "the log after its end")

    def test_a_key_that_came_again_is_no_removal(self) -> None:
        """The latest change of a key stands alone in the log."""
        tier = self.authority()
        start = put(tier, record("a")).revision
        delete(tier, "a")
        put(tier, record("a"))
        changes = tier.changes_since(start, 10)
        same((keys(changes.records), changes.removed), (["a"], []), "the log of a key that was removed and came again")

    def test_pages_of_any_size_follow_each_other(self) -> None:
        """Whatever the limit, the pages leave nothing out, repeat no work for ever, and end."""
        tier = self.authority()
        middle = put(tier, *(record(f"k{n}") for n in range(30))).revision
        put(tier, *(record(f"n{n}") for n in range(10)))
        delete(tier, "k2", "k5", "n3")
        for limit in (1, 2, 3, 5, 37, 38, 1000):
            reader = Follower()
            reader.read(tier, limit)
            same(
                (reader.known, reader.resets),
                (all_records(tier), 0),
                f"what pages of {limit} tell, and how many resets",
            )
            reader = Follower(middle)
            reader.read(tier, limit)
            same(
                set(reader.known), {f"n{n}" for n in range(10)} - {"n3"}, f"what pages of {limit} tell from the middle"
            )
            expect(reader.removed >= {"k2", "k5"}, f"pages of {limit} leave removals out: {reader.removed}")

    def test_what_changes_between_two_pages_is_told(self) -> None:
        """A reader on its way learns of what changed behind it, from the start of the log and after a reset alike."""

        def change(tier: Tier) -> None:
            delete(tier, "k00", "k09")
            put(tier, replace(record("k01"), failure_count=9), record("new"))

        def cleared(tier: Tier) -> None:
            put(tier, record("older"))
            tier.clear()

        for prepare in (_nothing, cleared):
            tier = self.authority()
            prepare(tier)
            put(tier, *(record(f"k{n:02}") for n in range(12)))
            self._change_between_pages(tier, change)

    def _change_between_pages(self, tier: Tier, change: Callable[[Tier], None]) -> None:
        readers = [Follower() for _ in range(6)]
        for pages, reader in enumerate(readers):
            for _ in range(pages):
                reader.read_page(tier, 2)
        change(tier)
        for pages, reader in enumerate(readers):
            reader.read(tier, 2)
            same(
                set(reader.known),
                set(all_records(tier)),
                f"what a reader knows where a change came after {pages} pages",
            )
            same(reader.known, all_records(tier), "and each record as it is")
            expect(reader.resets <= 1, f"a reader was told {reader.resets} times to start anew")

    def test_clearing_resets_each_reader_once(self) -> None:
        """A reader from before a `clear`, or from ahead of the log, is told to forget what it knew, once."""
        for limit in (1, 2, 100):
            tier = self.authority()
            put(tier, record("a"), record("b"), replace(record("r"), retired=True))
            readers = [Follower(), Follower(1), Follower(tier.revision), Follower(10**6)]
            for reader in readers:
                reader.known = {"stale": record("stale")}
            tier.clear()
            put(tier, *(record(f"n{n}") for n in range(5)))
            for reader in readers:
                reader.read(tier, limit)
                same((set(reader.known), reader.resets), ({f"n{n}" for n in range(5)}, 1), "known, and resets")
                reader.read(tier, limit)
                same(reader.resets, 1, "how often a reader at the end is told to start anew")

    def test_a_clear_in_the_middle_of_a_reading_is_told(self) -> None:
        """A reader between two pages forgets what it has read when all is cleared, after an earlier reset too."""
        for cleared_before in (False, True):
            tier = self.authority()
            if cleared_before:
                put(tier, record("older"))
                tier.clear()
            put(tier, *(record(f"k{n}") for n in range(6)))
            reader = Follower()
            reader.read_page(tier, 2)
            tier.clear()
            put(tier, record("new"))
            reader.read(tier, 2)
            same(set(reader.known), {"new"}, "what a reader knows that was between two pages at a clear")

    def test_evictions_are_in_the_log(self) -> None:
        """What leaves an authority for a newcomer is removed, also in the eyes of those who follow."""
        tier = self.authority(max_entries=2)
        put(tier, record("a"), record("b"))
        reader = Follower()
        reader.read(tier, 10)
        put(tier, record("c"))
        put(tier, record("d"), record("e"), record("f"))
        reader.read(tier, 10)
        same(reader.known, all_records(tier), "what a reader knows of a bounded authority")
        expect(reader.removed >= {"a", "b"}, f"evictions are not in the log: {reader.removed}")


def _nothing(_: Tier) -> None:
    pass
