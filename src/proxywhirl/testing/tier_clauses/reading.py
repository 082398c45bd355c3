"""Reading: what comes back, what is left out, in which order."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from proxywhirl.cache.record import NEVER_TIMESTAMP
from proxywhirl.cache.tiers.protocol import Tier
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
