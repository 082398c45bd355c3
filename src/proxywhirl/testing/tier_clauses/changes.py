"""The log of changes, and windows that follow it: pages, resets, compare-and-set, late fills, what is forgotten."""

from __future__ import annotations

from dataclasses import replace

from proxywhirl.cache.tiers.protocol import Followed, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import (
    Clauses,
    LogReader,
    all_records,
    delete,
    expect,
    keys,
    put,
    record,
    same,
    there,
)


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
        failures = {each.key: each.failure_count for each in later.records}
        same(failures, {"a": 2, "d": 0}, "records after the first batch")
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
            reader = LogReader()
            reader.read(tier, limit)
            same((reader.known, reader.resets), (all_records(tier), 0), f"known by pages of {limit}, and resets")
            reader = LogReader(middle)
            reader.read(tier, limit)
            came = {f"n{n}" for n in range(10)} - {"n3"}
            same(set(reader.known), came, f"what pages of {limit} tell from the middle")
            expect(reader.removed >= {"k2", "k5"}, f"pages of {limit} leave removals out: {reader.removed}")

    def test_what_changes_between_two_pages_is_told(self) -> None:
        """A reader on its way learns of what changed behind it, from the start of the log and after a reset alike."""
        for cleared_before in (False, True):
            tier = self.authority()
            if cleared_before:
                put(tier, record("older"))
                tier.clear()
            put(tier, *(record(f"k{n:02}") for n in range(12)))
            readers = [LogReader() for _ in range(6)]
            for pages, reader in enumerate(readers):
                for _ in range(pages):
                    reader.read_page(tier, 2)
            delete(tier, "k00", "k09")
            put(tier, replace(record("k01"), failure_count=9), record("new"))
            for pages, reader in enumerate(readers):
                reader.read(tier, 2)
                same(reader.known, all_records(tier), f"what a reader knows where a change came after {pages} pages")
                expect(reader.resets <= 1, f"a reader was told {reader.resets} times to start anew")

    def test_clearing_resets_each_reader_once(self) -> None:
        """A reader from before a `clear`, or from ahead of the log, is told to forget what it knew, once."""
        for limit in (1, 2, 100):
            tier = self.authority()
            put(tier, record("a"), record("b"), replace(record("r"), retired=True))
            readers = [LogReader(), LogReader(1), LogReader(tier.revision), LogReader(10**6)]
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
            reader = LogReader()
            reader.read_page(tier, 2)
            tier.clear()
            put(tier, record("new"))
            reader.read(tier, 2)
            same(set(reader.known), {"new"}, "what a reader knows that was between two pages at a clear")

    def test_evictions_are_in_the_log(self) -> None:
        """What leaves an authority for a newcomer is removed, also in the eyes of those who follow."""
        tier = self.authority(max_entries=2)
        put(tier, record("a"), record("b"))
        reader = LogReader()
        reader.read(tier, 10)
        put(tier, record("c"))
        put(tier, record("d"), record("e"), record("f"))
        reader.read(tier, 10)
        same(reader.known, all_records(tier), "what a reader knows of a bounded authority")
        expect(reader.removed >= {"a", "b"}, f"evictions are not in the log: {reader.removed}")


class WindowClauses(Clauses):
    """`follow`, `fill`, `drop` and `clear` of a window."""

    def _window_at_nine(self) -> Tier:
        """Make a window that has applied the log up to 9 and holds a, b and the retired r."""
        window = self.window()
        records = [record("a", revision=3), record("b", revision=5), replace(record("r", revision=6), retired=True)]
        same(window.follow(Stretch(0, 9, records, admit=True)), Followed(), "what the first stretch did")
        return window

    def test_a_stretch_is_applied_only_where_the_window_stands_at_its_start(self) -> None:
        """One that begins earlier or later is refused with None, and nothing of it is done."""
        window = self._window_at_nine()
        before = all_records(window)
        for since in (0, 8, 10):
            stretch = Stretch(since, 12, [record("a", revision=11), record("n", revision=12)], ["b"], admit=True)
            same(window.follow(stretch), None, f"follow from {since} of a window at 9")
            same((window.revision, all_records(window)), (9, before), "revision and records after a refusal")
        expect(window.follow(Stretch(9, 12)) is not None, "follow from 9 of a window at 9 was refused")
        same(window.revision, 12, "the revision after following")
        expect(window.follow(Stretch(9, 12)) is None, "the same stretch was applied twice")

    def test_an_empty_stretch_moves_the_window_on(self) -> None:
        """The window stands at the end of a stretch also where it holds nothing of it."""
        window = self._window_at_nine()
        before = all_records(window)
        same(window.follow(Stretch(9, 15, [record("x", revision=14)], ["y"])), Followed(), "what the stretch did")
        same((window.revision, all_records(window)), (15, before), "revision and records")

    def test_without_admit_only_what_is_held_is_replaced(self) -> None:
        """A record replaces the one of its key; a newcomer enters with `admit` alone."""
        window = self._window_at_nine()
        changed, back = record("a", revision=10), record("r", revision=11)
        window.follow(Stretch(9, 12, [replace(changed), record("n", revision=12), replace(back)]))
        same(all_records(window), {"a": changed, "b": record("b", revision=5), "r": back}, "records after following")
        same(len(window), 3, "len after a retired record was served again")
        window.follow(Stretch(12, 14, [record("n", revision=14)], admit=True))
        same(sorted(all_records(window)), ["a", "b", "n", "r"], "keys after following with admit")

    def test_a_window_follows_a_retirement(self) -> None:
        """A record that comes retired is held and served no more."""
        window = self._window_at_nine()
        window.follow(Stretch(9, 10, [replace(record("a", revision=10), retired=True)]))
        retired = there(window.peek("a"), "peek").retired
        same((len(window), "a" in window, retired), (1, False, True), "after retirement")

    def test_removed_keys_go_and_those_that_were_served_are_told(self) -> None:
        """`Followed.held` names the removed keys that the window served: no retired ones, none that it had not."""
        window = self._window_at_nine()
        followed = there(window.follow(Stretch(9, 11, removed=["a", "r", "x"])), "follow")
        same((followed.held, followed.evicted), (["a"], []), "held and evicted")
        same((list(all_records(window)), window.get("a"), window.get("r")), (["b"], None, None), "what is left")
        same(window.follow(Stretch(11, 12, removed={"b"})), Followed(["b"]), "removed may be any collection")

    def test_what_is_read_from_below_fills_the_window(self) -> None:
        """`fill` takes records with their revisions and generations; the window stands where it stood."""
        window = self._window_at_nine()
        same(window.fill([record("n", revision=12), record("m", revision=2)], 12), [], "evicted by fill")
        same(window.revision, 9, "the revision after fill")
        same(window.get("n"), record("n", revision=12), "a filled record")
        same(window.fill([record("o", revision=1)], 9), [], "fill with what was read at the window's own revision")
        same(sorted(all_records(window)), ["a", "b", "m", "n", "o", "r"], "keys after fill")
        same(window.fill([], 9), [], "fill with nothing")

    def test_what_was_read_before_the_window_moved_on_is_refused(self) -> None:
        """A load under way cannot bring back what the window has seen deleted meanwhile."""
        window = self._window_at_nine()
        window.follow(Stretch(9, 10, removed=["a"]))
        same(window.fill([record("a", revision=3), record("n", revision=2)], 9), None, "fill with what was read at 9")
        same((window.revision, sorted(all_records(window))), (10, ["b", "r"]), "what is there after a refusal")
        window.clear(20)
        same(window.fill([record("b", revision=5)], 19), None, "fill with what was read before a clear")
        same(all_records(window), {}, "what is there after a clear and a late fill")

    def test_what_is_held_in_the_same_or_a_later_revision_is_left_alone(self) -> None:
        """`fill` replaces older records only."""
        window = self._window_at_nine()
        held, older = replace(record("b", revision=5), source="same"), replace(record("a", revision=2), source="old")
        window.fill([held, older], 9)
        same({each.source for each in all_records(window).values()}, {"a source"}, "sources")
        window.fill([replace(record("a", revision=10), source="new")], 10)
        same(there(window.peek("a"), "peek").source, "new", "the source after a newer record came")

    def test_what_was_filled_ahead_of_the_log_is_caught_up_with(self) -> None:
        """A stretch that is older than a filled record may replace it, never lose it; the next one has it again."""
        window = self._window_at_nine()
        newest, older = record("n", revision=12), record("n", revision=10)
        window.fill([replace(newest)], 12)
        window.follow(Stretch(9, 10, [replace(older)]))
        expect(window.peek("n") in (newest, older), f"n is held as {window.peek('n')} after an older stretch")
        window.follow(Stretch(10, 12, [replace(newest)]))
        same(window.peek("n"), newest, "n, when the window has reached it")
        window.follow(Stretch(12, 13, [replace(newest)]))
        same(window.peek("n"), newest, "n, when a stretch has it once more")

    def test_a_window_forgets_what_it_is_told_to_forget(self) -> None:
        """`drop` names those that were held and served, and changes no revision; they may be filled again."""
        window = self._window_at_nine()
        same(window.drop(["a", "r", "x"]), ["a"], "what drop says was held")
        same((window.revision, list(all_records(window))), (9, ["b"]), "revision and keys")
        same((window.drop(["a"]), window.drop([])), ([], []), "dropping again, dropping nothing")
        same(window.fill([record("a", revision=3)], 9), [], "filling what was dropped")
        expect("a" in window, "what was dropped cannot be filled again")

    def test_a_cleared_window_stands_where_it_is_told(self) -> None:
        """`clear` counts what was served and sets the revision, also a lower one; without one it stays."""
        window = self._window_at_nine()
        same((window.clear(12), window.revision, all_records(window)), (2, 12, {}), "clear(12)")
        same((window.clear(4), window.revision), (0, 4), "clear(4) of a window at 12")
        same(window.fill([record("a", revision=4)], 4), [], "fill after a clear")
        same((window.clear(), window.revision, len(window)), (1, 4, 0), "clear() of a window at 4")
        expect(window.follow(Stretch(4, 5)) is not None, "follow after a clear was refused")
        same((window.clear(0), window.revision), (0, 0), "clear(0)")
