"""Writing to an authority: what a decision sees, what becomes of its batch, revisions, generations, hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Access, Batch
from proxywhirl.errors import UnstorableValue
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, delete, expect, keys, put, record, same, there

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
                same(
                    (all_records(tier), tier.revision), (before, revision), f"what is there after {fields} was refused"
                )
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
