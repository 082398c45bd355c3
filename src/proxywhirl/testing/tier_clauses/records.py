"""Records: how they are read, what becomes of a batch, revisions, generations, hits; and the notes beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.protocol import Access, Batch, Tier
from proxywhirl.errors import UnstorableValue
from proxywhirl.testing.tier_clauses.base import (
    Clauses,
    all_records,
    delete,
    expect,
    full,
    keys,
    put,
    record,
    same,
    there,
)

ODD_KEYS = ["a", "a\x00b", "a b", "a%_", "line\nbreak", 'quo"te', "ünï", "\u2028", "\uffff", "\U00010000", "z" * 300]
ROUNDS = 15
FEW, MANY = 200, 20_000
SLOWEST_RATIO = 20.0
SECONDS_OF_NOISE = 0.0002


class ReadingClauses(Clauses):
    """`get`, `peek`, `get_many`, `scan`, `expired`, `len` and `in`."""

    def test_every_column_comes_back_as_it_was_put(self) -> None:
        """Every way of reading gives each column as it was put: text of any kind, None, times that never come."""
        for made in (full("k"), record("k"), replace(record("k"), source="", error="", attributes="")):
            tier = self.authority()
            put(tier, record("before"))
            (written,) = put(tier, made).puts
            expected = replace(made, revision=written.revision, generation=written.revision)
            same(written, expected, "transact reports a record as it was put, with its revision and generation")
            same(tier.get("k"), expected, "get")
            same(tier.peek("k"), expected, "peek")
            same(tier.get_many(["k"]), {"k": expected}, "get_many")
            same(tier.scan("before", 1), [expected], "scan")
            same(tier.changes_since(written.revision - 1, 1).records, [expected], "changes_since")

    def test_a_window_gives_back_every_column_too(self) -> None:
        """`fill` and `follow` keep each column, revision and generation included."""
        for made in (full("k", revision=7), replace(full("k", revision=7), generation=3), record("k", revision=7)):
            window = self.window()
            window.fill([replace(made)], 7)
            same(window.get("k"), made, "get after fill")
            same(all_records(window), {"k": made}, "scan after fill")

    def test_what_is_not_there_is_none(self) -> None:
        """A key that was never put, or was deleted, is found by no way of reading."""
        tier = self.authority()
        put(tier, record("gone"), record("there"))
        delete(tier, "gone")
        for name in ("gone", "never", ""):
            same(tier.get(name), None, f"get({name!r})")
            same(tier.peek(name), None, f"peek({name!r})")
            same(name in tier, False, f"{name!r} in tier")
        same(keys(list(tier.get_many(["gone", "there", "never", "there"]).values())), ["there"], "get_many")
        same(tier.get_many([]), {}, "get_many of nothing")
        same(tier.get_many(iter(["there"])).keys(), {"there"}, "get_many of an iterator")

    def test_any_text_may_be_a_key(self) -> None:
        """Keys of any characters are told apart, found again, and scanned in the order of their code points."""
        tier = self.authority()
        put(tier, *(replace(record(name), source=name) for name in reversed(ODD_KEYS)))
        same(list(all_records(tier, page=2)), sorted(ODD_KEYS), "scan")
        for name in ODD_KEYS:
            same(there(tier.get(name), f"get({name!r})").source, name, f"the source of {name!r}")
        delete(tier, ODD_KEYS[1])
        expect(ODD_KEYS[0] in tier, f"deleting {ODD_KEYS[1]!r} has taken {ODD_KEYS[0]!r} with it")
        same(len(tier), len(ODD_KEYS) - 1, "len after deleting one")

    def test_nothing_but_text_is_held(self) -> None:
        """`in` is False for what is no text, and raises nothing."""
        tier = self.authority()
        put(tier, record("3"))
        for other in (3, None, b"3", ("3",)):
            same(other in tier, False, f"{other!r} in tier")

    def test_retired_records_are_kept_and_count_in_no_size(self) -> None:
        """`len` and `in` leave retired records out; every way of reading gives them, marked."""
        tier = self.authority()
        (_, retired) = put(tier, record("a"), replace(record("b"), retired=True)).puts
        same((len(tier), "a" in tier, "b" in tier), (1, True, False), "len, and which are in")
        for found in (tier.get("b"), tier.peek("b"), tier.get_many(["b"])["b"], tier.scan("a", 1)[0]):
            same(found, retired, "a retired record")
        same(tier.changes_since(0, 9).removed, [], "the log does not call a retired record removed")
        put(tier, replace(record("a"), retired=True), record("b"))
        same((len(tier), "a" in tier, "b" in tier), (1, False, True), "after they changed parts")
        delete(tier, "a", "b")
        same(len(tier), 0, "len of nothing")

    def test_scan_pages_in_the_order_of_keys(self) -> None:
        """`scan` gives the records after a key, which need not be there, in order, up to the limit."""
        tier = self.authority()
        names = [f"k{n:02}" for n in range(25)]
        put(tier, *(record(name) for name in reversed(names)))
        same(keys(tier.scan("", 3)), names[:3], "the first page")
        same(keys(tier.scan("k02", 3)), names[3:6], "the second page")
        same(keys(tier.scan("k02x", 2)), names[3:5], "the page after a key that is not there")
        same(tier.scan("k24", 3), [], "the page after the last key")
        for page in (1, 2, 25, 26):
            same(list(all_records(tier, page)), names, f"all pages of {page}")

    def test_expired_names_those_whose_time_has_ended(self) -> None:
        """`expired` includes the moment itself, retired records, and never what never expires; it removes nothing."""
        tier = self.authority()
        times = {"a": 1.0, "b": 2.0, "c": 3.0, "never": NEVER_TIMESTAMP}
        put(tier, *(replace(record(name), expires_at=at, retired=name == "c") for name, at in times.items()))
        same(tier.expired(0.5, 10), [], "expired before the first")
        for _ in range(2):
            same(sorted(tier.expired(2.0, 10)), ["a", "b"], "expired at the very moment of the second")
        same(sorted(tier.expired(math.inf, 10)), ["a", "b", "c"], "expired at the end of time")
        few = tier.expired(9.0, 2)
        same((len(few), len(set(few)), set(few) <= {"a", "b", "c"}), (2, 2, True), f"expired up to two: {few}")
        put(tier, replace(record("a"), expires_at=9.0))
        delete(tier, "b")
        same(tier.expired(8.0, 10), ["c"], "expired after one was renewed and one deleted")

    def test_expired_does_not_look_at_the_others(self) -> None:
        """Finding ten expired records costs about the same among twenty thousand others as among two hundred."""
        few, many = (self._seconds_to_find_ten(others) for others in (FEW, MANY))
        bound = SLOWEST_RATIO * few + SECONDS_OF_NOISE
        expect(many < bound, f"expired takes {many:.6f} s among {MANY} others and {few:.6f} s among {FEW}: it scans")

    def _seconds_to_find_ten(self, others: int) -> float:
        tier = self.authority()
        put(tier, *(replace(record(f"live{n}"), expires_at=1e9 + n) for n in range(others)))
        put(tier, *(replace(record(f"old{n}"), expires_at=float(n)) for n in range(10)))
        return min(_seconds(tier) for _ in range(ROUNDS))


def _seconds(tier: Tier) -> float:
    started = time.perf_counter()
    found = tier.expired(1000.0, 100)
    taken = time.perf_counter() - started
    same(len(found), 10, "expired")
    return taken


FAR = 1_000
_ODD: tuple[dict[str, Any], ...] = (
    {"checks": 2**70},
    {"recovery_attempt": 1.5},
    {"next_check_at": float("inf")},
    {"fetched_at": float("-inf")},
    {"error": "\ud800"},
    {"source": None},
)


class UndecidedError(Exception):
    """Raised by a decision that fails."""


def _undecided(_: Mapping[str, Record]) -> Batch:
    raise UndecidedError


class TransactionClauses(Clauses):
    """`transact`, `touch_many` and `clear` of an authority."""

    def test_an_empty_tier_stands_at_zero(self) -> None:
        """A new tier holds nothing and has written or applied nothing."""
        for tier in (self.authority(), self.window()):
            same((tier.revision, len(tier), tier.corrupted), (0, 0, 0), "revision, len and corrupted of a new tier")
            same(all_records(tier), {}, "scan of a new tier")
            same(tier.changed_elsewhere(), False, "changed_elsewhere of a new tier")

    def test_a_decision_sees_what_is_there_and_its_choice_is_written(self) -> None:
        """`transact` shows the asked records that are there, and no others, and writes puts and deletes as one."""
        tier = self.authority()
        before = put(tier, record("a"), record("b"), record("c"))
        shown: list[dict[str, Record]] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            shown.append(dict(present))
            return Batch(puts=[record("d")], deletes=["a", "missing"])

        applied = tier.transact(["a", "missing", "b"], decide)
        same(shown, [{each.key: each for each in before.puts if each.key != "c"}], "what the decision was shown")
        same((keys(applied.puts), applied.deletes, applied.evicted), (["d"], ["a"], []), "puts, deletes, evicted")
        same((applied.revision_before, applied.revision), (before.revision, tier.revision), "before and after")
        same(list(all_records(tier)), ["b", "c", "d"], "what is there")

    def test_each_change_has_a_revision_of_its_own(self) -> None:
        """Revisions grow with every change, deletes included, and no two records share one."""
        tier = self.authority()
        last, seen = 0, set[int]()
        for n in range(20):
            applied = put(tier, *(record(f"k{m}") for m in range(n % 4, 6)))
            same(applied.revision_before, last, "revision_before")
            given = {each.revision for each in applied.puts}
            same(len(given), len(applied.puts), "how many different revisions the puts of a batch have")
            expect(min(given) > last, f"a put was given revision {min(given)} after revision {last}")
            expect(not given & seen, "a revision was given twice")
            same(tier.revision, applied.revision, "the tier's revision")
            expect(applied.revision >= max(given), "the tier stands before its last put")
            deleted = delete(tier, "k4")
            expect(deleted.revision > applied.revision, "a delete took no revision")
            seen |= given
            last = deleted.revision

    def test_what_is_not_there_is_not_deleted(self) -> None:
        """An empty batch, and deleting what is not there, apply nothing and log nothing."""
        tier = self.authority()
        put(tier, record("a"))
        before = tier.revision
        for applied in (put(tier), delete(tier, "missing")):
            same((applied.puts, applied.deletes, applied.evicted), ([], [], []), "what was applied")
        changes = tier.changes_since(before, 9)
        same((changes.records, changes.removed, changes.more), ([], [], False), "the log")

    def test_an_update_keeps_its_generation_and_a_new_one_takes_its_revision(self) -> None:
        """A record that comes with a generation is an update of it; one without begins a new one."""
        tier = self.authority()
        put(tier, record("other"))
        (first,) = put(tier, record("a")).puts
        same(first.generation, first.revision, "the generation of a new record")
        (updated,) = put(tier, replace(first, failure_count=1)).puts
        same(updated.generation, first.generation, "the generation of an update")
        expect(updated.revision > first.revision, "an update took no revision")
        (replaced,) = put(tier, record("a")).puts
        same(replaced.generation, replaced.revision, "the generation of one that was put anew")
        same(tier.get("a"), replaced, "what is stored")

    def test_a_value_that_cannot_be_held_is_refused_by_name(self) -> None:
        """`UnstorableValue` with the key of the record and nothing written, or the value is there as it was given."""
        tier = self.authority()
        put(tier, record("a"), record("b"))
        for fields in _ODD:
            before, revision = all_records(tier), tier.revision
            odd = replace(record("odd"), **fields)
            try:
                put(tier, replace(record("b"), failure_count=7), odd, record("c"))
            except UnstorableValue as exc:
                same(exc.key, "odd", f"the key that a refusal of {fields} names")
                same((all_records(tier), tier.revision), (before, revision), f"what is left when {fields} is refused")
            else:
                stored = all_records(tier)["odd"]
                same({name: getattr(stored, name) for name in fields}, fields, "what is stored")
                delete(tier, "odd")

    def test_a_decision_that_raises_leaves_nothing(self) -> None:
        """Its error comes through as it is; records, revision, log and order stay; the tier works on."""
        tier = self.authority(max_entries=2)
        put(tier, record("a"), record("b"))
        before, revision = all_records(tier), tier.revision
        for asked in ([], ["a"], ["a", "b", "x"]):
            try:
                tier.transact(asked, _undecided)
            except UndecidedError:
                pass
            else:
                raise AssertionError("the error of a decision was swallowed")
        same((all_records(tier), tier.revision), (before, revision), "records and revision")
        same(put(tier, record("c")).evicted, ["a"], "who leaves for a newcomer: reading in transact is no use")

    def test_hits_never_insert_and_never_reach_another_generation(self) -> None:
        """`touch_many` ignores keys that are gone and generations that ended; it is no change for the log."""
        tier = self.authority()
        (old,) = put(tier, record("a")).puts
        old_generation = old.generation
        (new,) = put(tier, record("a")).puts
        expected, revision = replace(new), tier.revision
        tier.touch_many([Access("a", old_generation, 7, 9e9), Access("a", 99, 7, 9e9), Access("gone", 1, 1, 9e9)])
        tier.touch_many([])
        same(all_records(tier), {"a": expected}, "what is stored after hits of others")
        tier.touch_many([Access("a", new.generation, 1, 2000.0)])
        same(tier.revision, revision, "the revision after a hit")
        changes = tier.changes_since(revision, 9)
        same((changes.records, changes.removed), ([], []), "the log after a hit")

    def test_a_count_at_its_end_is_no_failure(self) -> None:
        """`touch_many` counts no further than the tier can store, and never less than there was; other hits count."""
        tier = self.authority()
        end = 2**63 - 1
        records = [replace(record("a"), access_count=end), replace(record("b"), access_count=end - 2), record("c")]
        generations = {each.key: each.generation for each in put(tier, *records).puts}
        tier.touch_many([Access(key, generation, 5, 2000.0) for key, generation in generations.items()])
        stored = all_records(tier)
        for key in "ab":
            counted = stored[key].access_count
            expect(counted >= end - 2, f"the count of {key} was {end} or less by two, and is {counted} after five hits")
        put(tier, *(replace(each, failure_count=1) for each in stored.values()))
        same(list(all_records(tier)), ["a", "b", "c"], "keys, after these were written again")

    def test_clearing_an_authority_is_a_change_of_at_least_the_given_revision(self) -> None:
        """`clear` forgets retired records too, counts the served ones, and never goes back."""
        tier = self.authority()
        put(tier, record("a"), record("b"), replace(record("r"), retired=True))
        before = tier.revision
        same(tier.clear(), 2, "clear counts those that were held and served")
        same((len(tier), all_records(tier), tier.expired(9e9, 9)), (0, {}, []), "what is left")
        expect(tier.revision > before, "clear took no revision")
        tier.clear(FAR)
        expect(tier.revision >= FAR, f"clear({FAR}) ended at {tier.revision}")
        before = tier.revision
        same(tier.clear(5), 0, "clear of nothing")
        expect(tier.revision > before, "clear with an older revision took no new one")
        applied = put(tier, record("a"))
        expect(applied.puts[0].generation > before, "what comes after a clear has no generation of its own")

    def test_a_batch_of_thousands_is_one_change(self) -> None:
        """A large batch is taken whole, and a decision sees thousands of asked records."""
        tier = self.authority()
        names = [f"k{n:04}" for n in range(3000)]
        same(len(put(tier, *(record(name) for name in names)).puts), len(names), "puts")
        shown: list[int] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            shown.append(len(present))
            return Batch(deletes=names[1:])

        same(len(tier.transact(names, decide).deletes), len(names) - 1, "deletes")
        same((shown, len(tier)), ([len(names)], 1), "how many were shown, how many are left")
        same(there(tier.get(names[0]), "the one that is left").key, names[0], "its key")


NAMES = ["a", "a_b", "a.b", "axb", "revision", "floor", "store_id", "key-check", "n0.tmp", "schema_version"]
TEXTS = ["", "plain", "ünï ☃ \U0001f9ea", "two\r\nlines\n", ' " \\ ', "x" * 70_000]


class NoteClauses(Clauses):
    """`get_meta`, `set_meta`, `metas`, `examine` and `close`."""

    def test_a_note_keeps_its_last_text(self) -> None:
        """A note is None until it is set, may be any text, is replaced by the next, and is removed by None."""
        for tier in (self.authority(), self.window()):
            for text in TEXTS:
                tier.set_meta("note", text)
                same(tier.get_meta("note"), text, "a note")
            tier.set_meta("note", None)
            same(tier.get_meta("note"), None, "a removed note")
            tier.set_meta("note", None)
            same(tier.metas(""), {}, "all notes, after the only one was removed twice")

    def test_notes_are_found_by_the_beginning_of_their_names(self) -> None:
        """Every name is the user's: none is taken by the tier itself, none stands for others."""
        tier = self.authority()
        revision = put(tier, record("r")).revision
        for name in NAMES:
            same((name, tier.get_meta(name)), (name, None), "a note that was never set")
        same(tier.metas(""), {}, "the notes of a tier in which none was set")
        for name in NAMES:
            tier.set_meta(name, f"text of {name}")
        for prefix in ("", "a", "a_", "a.", "re", "n0.tmp", "x", "%"):
            expected = {name: f"text of {name}" for name in NAMES if name.startswith(prefix)}
            same(tier.metas(prefix), expected, f"the notes that begin with {prefix!r}")
        same((tier.revision, list(all_records(tier))), (revision, ["r"]), "revision and records beside the notes")

    def test_notes_survive_a_clear(self) -> None:
        """`clear` forgets records, not notes."""
        for tier in (self.authority(), self.window()):
            tier.set_meta("store_id", "one")
            tier.clear(5)
            same(tier.get_meta("store_id"), "one", "a note after clear")

    def test_a_sound_tier_has_no_findings(self) -> None:
        """`examine` says nothing of a tier that was merely used, and repairing it changes nothing."""
        use: list[Callable[[Tier], object]] = [
            lambda tier: put(tier, full("f"), record("a"), record("b")),
            lambda tier: delete(tier, "a"),
            lambda tier: put(tier, replace(record("b"), retired=True), record("c"), record("d")),
            lambda tier: tier.clear(),
            lambda tier: put(tier, record("e")),
        ]
        tier = self.authority(max_entries=2)
        tier.set_meta("note", "text")
        same(tier.examine(), [], "findings in an empty tier")
        for step in use:
            step(tier)
            before = all_records(tier), tier.revision, len(tier)
            same((tier.examine(), tier.examine(repair=True)), ([], []), "findings in a sound tier")
            same((all_records(tier), tier.revision, len(tier)), before, "the tier after its examination")
        same(tier.corrupted, 0, "corrupted")
        window = self.window()
        window.fill([record("a", revision=3)], 3)
        same((window.examine(), window.examine(repair=True)), ([], []), "findings in a window")

    def test_closing_again_does_nothing(self) -> None:
        """`close` may be called any number of times."""
        for tier in (self.authority(), self.window()):
            tier.close()
            tier.close()
