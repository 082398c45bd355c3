"""Following the log as a window: compare-and-set, late fills, what was held, what is forgotten."""

from __future__ import annotations

from dataclasses import replace

from proxywhirl.cache.tiers.protocol import Followed, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, expect, record, same, there


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
        """Records replace those of their keys; without `admit` a newcomer stays outside, with it they enter."""
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
        same(
            (len(window), "a" in window, there(window.peek("a"), "peek").retired), (1, False, True), "after retirement"
        )

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
        window.fill(
            [replace(record("b", revision=5), source="same"), replace(record("a", revision=2), source="old")], 9
        )
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
