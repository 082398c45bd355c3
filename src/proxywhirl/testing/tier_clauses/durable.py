"""What outlives the object: a tier that is opened again is the one that was closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.tiers.protocol import Access, Stretch, Tier
from proxywhirl.errors import UnstorableValue
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, delete, full, keys, put, record, same
from proxywhirl.testing.tier_clauses.log import Follower


class StoredClauses(Clauses):
    """Tiers whose store is in a folder, where it can be opened again."""

    def open_tier(self, folder: Path, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open the tier that is stored in a folder, new where there is none; the subclass says how."""
        raise NotImplementedError(
            f"{type(self).__name__} must say how a tier is opened in {folder}: define open_tier(self, folder, *, "
            'authority, max_entries=None, policy="lru")'
        )

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Open a tier in a new folder."""
        return self.open_tier(self.new_folder(), authority=authority, max_entries=max_entries, policy=policy)

    def opener(self) -> Callable[..., Tier]:
        """Make a folder; return a function that opens the tier in it, with the arguments of `open_tier`."""
        folder = self.new_folder()

        def opened(*, authority: bool = True, max_entries: int | None = None, policy: str = "lru") -> Tier:
            return self.hold(self.open_tier(folder, authority=authority, max_entries=max_entries, policy=policy))

        return opened


class DurableClauses(StoredClauses):
    """Closing and opening again."""

    def test_an_authority_is_the_same_after_it_was_opened_again(self) -> None:
        """Records, hits, retirement, notes, revision, log and expiry are as they were."""
        opened = self.opener()
        tier = opened()
        put(tier, record("a"), full("f"), record("gone"))
        middle = put(tier, record("b")).revision
        delete(tier, "gone")
        (hit,) = put(tier, replace(record("h"), access_count=2)).puts
        tier.touch_many([Access("h", hit.generation, 4, 5000.0), Access("h", hit.generation, 1, 4000.0)])
        tier.set_meta("note", "ünï\r\n")
        before = all_records(tier), tier.revision, len(tier)
        tier.close()
        again = opened()
        same((all_records(again), again.revision, len(again)), before, "records, revision and len")
        stored = all_records(again)["h"]
        same((stored.access_count, stored.accessed_at), (7, 5000.0), "the hits of a record")
        same(
            (again.get_meta("note"), again.corrupted, again.examine()), ("ünï\r\n", 0, []), "note, corrupted, findings"
        )
        reader = Follower(middle)
        reader.read(again, 2)
        same((set(reader.known), reader.removed, reader.resets), ({"h"}, {"gone"}, 0), "the log since the middle")
        same(sorted(again.expired(1e9, 10)), ["a", "b", "h"], "expired")
        (after,) = put(again, record("n")).puts
        same(after.revision > before[1], True, "the next revision goes on")

    def test_a_window_is_the_same_after_it_was_opened_again(self) -> None:
        """It holds what it held, and stands where it stood: no further, or it would miss changes."""
        opened = self.opener()
        window = opened(authority=False)
        window.follow(Stretch(0, 5, [record("a", revision=4), full("f", revision=5)], admit=True))
        window.fill([record("b", revision=9)], 9)
        window.follow(Stretch(5, 6, removed=["a"]))
        window.drop(["x"])
        before = all_records(window), 6
        window.close()
        again = opened(authority=False)
        same((all_records(again), again.revision), before, "records and revision")
        same(again.follow(Stretch(5, 7)), None, "follow from before the end")
        same(again.fill([record("a", revision=4)], 5), None, "fill with what was read before the end")
        same(again.clear(3), 1, "clear")
        again.close()
        cleared = opened(authority=False)
        same((all_records(cleared), cleared.revision), ({}, 3), "records and revision after a clear and opening again")

    def test_hits_are_added_to_what_is_stored(self) -> None:
        """`touch_many` adds counts, keeps the latest time, and brings nothing back that was replaced."""
        for authority in (True, False):
            tier = self.opener()(authority=authority)
            if authority:
                put(tier, replace(record("a"), access_count=5), record("b"))
            else:
                tier.fill([replace(record("a", revision=1), access_count=5), record("b", revision=2)], 2)
            hits = [
                Access("a", 1, 2, 2000.0),
                Access("a", 1, 1, 1500.0),
                Access("a", 1, 1, 3.0),
                Access("b", 1, 9, 2e3),
            ]
            tier.touch_many([replace(each, generation=tier_generation(tier, each)) for each in hits])
            found = all_records(tier)
            same((found["a"].access_count, found["a"].accessed_at), (9, 2000.0), "hits of a")
            same((found["b"].access_count, found["b"].accessed_at), (0, 1000.0), "hits of b, of another generation")

    def test_clearing_is_remembered_after_opening_again(self) -> None:
        """A reader of the log from before a `clear` is told to start anew, whenever it comes."""
        opened = self.opener()
        tier = opened()
        middle = put(tier, record("a"), record("b")).revision
        tier.clear()
        put(tier, record("c"))
        tier.close()
        reader = Follower(middle)
        reader.read(opened(), 10)
        same((set(reader.known), reader.resets), ({"c"}, 1), "what a reader knows, and how many resets")

    def test_the_order_of_eviction_survives(self) -> None:
        """Who leaves a tier that is opened again is who would have left it."""
        for policy in EVICTION_POLICIES:
            left: list[list[str]] = []
            for reopened in (False, True):
                opened = self.opener()
                tier = opened(max_entries=3, policy=policy)
                put(tier, record("b"), record("a"), record("c"))
                for name in ("b", "a", "a", "c"):
                    self.use(tier, name)
                put(tier, replace(record("b"), access_count=3), record("d"))
                self.use(tier, "d")
                put(tier, replace(record("a"), access_count=2))
                if reopened:
                    tier.close()
                    tier = opened(max_entries=3, policy=policy)
                left.append([name for n in "efg" for name in put(tier, record(n)).evicted])
            same(left[1], left[0], f"who leaves with {policy}, in their order")

    def test_a_smaller_bound_holds_from_the_next_newcomer_on(self) -> None:
        """A tier that is opened with a smaller bound makes all the room at once."""
        opened = self.opener()
        put(opened(), *(record(f"k{n}", at=float(n)) for n in range(9)))
        again = opened(max_entries=2)
        put(again, record("new", at=99.0))
        same(list(all_records(again)), ["k8", "new"], "who stays")

    def test_what_cannot_be_stored_takes_its_whole_batch_with_it(self) -> None:
        """A text that no file takes is an `UnstorableValue`; nothing of it is left: no record, change or revision."""
        opened = self.opener()
        tier = opened()
        put(tier, record("a"))
        before = all_records(tier), tier.revision
        batch = [record("b"), replace(record("c"), source="\ud800"), record("d")]
        try:
            put(tier, *batch)
        except UnstorableValue:
            same((all_records(tier), tier.revision), before, "records and revision after the failure")
            tier.close()
            again = opened()
            same((all_records(again), again.revision), before, "and after opening again")
            same(keys(put(again, record("e")).puts), ["e"], "the next put")
        else:
            same(sorted(all_records(tier)), ["a", "b", "c", "d"], "keys, where it was stored")


def tier_generation(tier: Tier, access: Access) -> int:
    """Return the generation that a hit of `a` needs, and for `b` another one than it has."""
    known = all_records(tier)[access.key].generation
    return known if access.key == "a" else known + 1
