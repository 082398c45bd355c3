"""The bound of a tier, and who leaves it for a newcomer."""

from __future__ import annotations

from dataclasses import replace

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.tiers.protocol import Batch, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, delete, expect, keys, put, record, same, there

VICTIMS = {"lru": "b", "fifo": "a", "lfu": "c", "sieve": "a"}


class BoundClauses(Clauses):
    """`max_entries` and the policies."""

    def test_the_bound_holds_after_every_write(self) -> None:
        """However a record comes in, a tier holds no more than its bound, and the newcomer is in."""
        for policy in EVICTION_POLICIES:
            authority = self.authority(max_entries=3, policy=policy)
            followed = self.window(max_entries=3, policy=policy)
            filled = self.window(max_entries=3, policy=policy)
            for n in range(1, 12):
                name = f"k{n % 7}"
                same(keys(put(authority, record(name)).puts), [name], "what was put")
                followed.follow(Stretch(n - 1, n, [record(name, revision=n)], admit=True))
                filled.fill([record(name, revision=n)], n)
                for tier in (authority, followed, filled):
                    held = all_records(tier)
                    same((len(held), name in held), (min(n, 3), True), f"how many with {policy}, {name} among them")
                    same(len(tier), len(held), "len")

    def test_each_policy_chooses_its_victim(self) -> None:
        """Reading by `get` and `get_many` is a use, once told; by `peek`, `scan`, `in` or in `transact` it is none."""
        for policy in EVICTION_POLICIES:
            authority = self.authority(max_entries=3, policy=policy)
            put(authority, record("a"), record("b"), record("c"))
            self._use_each(authority)
            authority.transact(["b", "c"], lambda _: Batch())
            same(put(authority, record("d")).evicted, [VICTIMS[policy]], f"who leaves an authority with {policy}")
            same(sorted(all_records(authority)), _others(policy), f"who stays in an authority with {policy}")
            followed, filled = (self.window(max_entries=3, policy=policy) for _ in range(2))
            for window in (followed, filled):
                window.fill([record(name, revision=n) for n, name in enumerate("abc", start=1)], 3)
                self._use_each(window)
            evicted = there(followed.follow(Stretch(0, 4, [record("d", revision=4)], admit=True)), "follow").evicted
            same(evicted, [VICTIMS[policy]], f"who leaves a window that follows with {policy}")
            evicted = there(filled.fill([record("d", revision=4)], 4), "fill")
            same(evicted, [VICTIMS[policy]], f"who leaves a filled window with {policy}")
            for window in (followed, filled):
                same(sorted(all_records(window)), _others(policy), f"who stays in a window with {policy}")

    def test_what_has_gone_leaves_its_place(self) -> None:
        """Deleting, dropping and clearing make room, and a key that comes again is a newcomer."""
        for policy in EVICTION_POLICIES:
            tier = self.authority(max_entries=2, policy=policy)
            put(tier, record("a"), record("b"))
            delete(tier, "a")
            same(put(tier, record("c")).evicted, [], "who leaves for one that takes a free place")
            tier.clear()
            same(put(tier, record("d"), record("e")).evicted, [], "who leaves after a clear")
            window = self.window(max_entries=2, policy=policy)
            window.fill([record("a", revision=1), record("b", revision=2)], 2)
            window.drop(["a"])
            same(window.fill([record("c", revision=3)], 3), [], "who leaves after a drop")
            window.follow(Stretch(0, 4, removed=["b"]))
            same(window.fill([record("d", revision=4)], 4), [], "who leaves after following a removal")
            same(sorted(all_records(window)), ["c", "d"], "who is in")

    def test_writing_what_is_held_evicts_nobody(self) -> None:
        """A full tier takes updates of what it holds without losing anything."""
        for policy in EVICTION_POLICIES:
            tier = self.authority(max_entries=2, policy=policy)
            put(tier, record("a"), record("b"))
            for name in ("a", "b", "a"):
                evicted = put(tier, replace(record(name), failure_count=1)).evicted
                same(evicted, [], f"who leaves for an update with {policy}")
            same(len(tier), 2, "len")

    def test_a_batch_larger_than_the_bound_leaves_its_last_records(self) -> None:
        """Records that came and went in one call are not reported as written, nor as there by the log."""
        tier = self.authority(max_entries=2)
        before = put(tier, record("a")).revision
        applied = put(tier, *(record(name) for name in "bcde"))
        same((keys(applied.puts), list(all_records(tier))), (["d", "e"], ["d", "e"]), "what was put, what is there")
        expect("a" in applied.evicted, f"a left and is not among the evicted: {applied.evicted}")
        expect(not {"d", "e"} & set(applied.evicted), f"what is there is among the evicted: {applied.evicted}")
        changes = tier.changes_since(before, 10)
        same(sorted(keys(changes.records)), ["d", "e"], "records of the log")
        expect("a" in changes.removed, f"a left and the log does not say so: {changes.removed}")
        window = self.window(max_entries=2)
        window.fill([record(name, revision=n) for n, name in enumerate("abcde", start=1)], 5)
        same(list(all_records(window)), ["d", "e"], "what is left of a fill that is larger than the bound")

    def test_retired_records_take_a_place(self) -> None:
        """The bound counts what is stored, served or not."""
        tier = self.authority(max_entries=2)
        put(tier, replace(record("a"), retired=True), record("b"))
        same(put(tier, record("c")).evicted, ["a"], "who leaves")

    def _use_each(self, tier: Tier) -> None:
        """Read so that each policy has another victim: a was used last and most, c least often, b before c."""
        for name in ("a", "b", "b", "a"):
            self.use(tier, name)
        for name in ("c", "a"):
            self.use(tier, name, many=True)
        tier.peek("b")
        tier.peek("c")
        tier.scan("", 10)
        expect("b" in tier, "b is not in")


def _others(policy: str) -> list[str]:
    return sorted({"a", "b", "c", "d"} - {VICTIMS[policy]})
