"""What outlives the object: a tier that is opened again is the one that was closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import TypeVar

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch, Tier
from proxywhirl.errors import UnstorableValue
from proxywhirl.testing.tier_clauses.base import (
    Clauses,
    LogReader,
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
        told = again.get_meta("note"), again.corrupted, again.examine()
        same(told, ("ünï\r\n", 0, []), "note, corrupted, findings")
        reader = LogReader(middle)
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
            stored = all_records(tier)
            held, other = stored["a"].generation, stored["b"].generation + 1
            hits = [("a", held, 2, 2000.0), ("a", held, 1, 1500.0), ("a", held, 1, 3.0), ("b", other, 9, 2e3)]
            tier.touch_many([Access(*hit) for hit in hits])
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
        reader = LogReader(middle)
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


T = TypeVar("T")
RACERS, LAPS = 4, 12


class SharingClauses(StoredClauses):
    """`changed_elsewhere`, and one step for every process that shares the tier."""

    def test_what_another_wrote_is_seen_when_it_is_asked_for(self) -> None:
        """`changed_elsewhere` is true once after another wrote, whatever was done in between, and not for own work."""
        opened = self.opener()
        one, other = opened(), opened()
        same((one.changed_elsewhere(), other.changed_elsewhere()), (False, False), "before anything was written")
        put(one, record("a"))
        same(one.changed_elsewhere(), False, "changed_elsewhere after a write of its own")
        same([other.changed_elsewhere() for _ in range(2)], [True, False], "and of the other")
        same(("a" in other, len(other), other.revision), (True, 1, one.revision), "what the other sees")
        middle = delete(one, "a").revision
        other.touch_many([])
        other.get("a")
        expect(other.changed_elsewhere(), "a change was forgotten by what was done before it was asked for")
        same((other.get("a"), "a" in other, len(other)), (None, False, 0), "what the other sees after a deletion")
        applied = put(other, record("b"))
        same(applied.revision_before, middle, "revision_before of a write after another's")
        expect(one.changed_elsewhere(), "the other's write was not noticed")
        same(keys(one.changes_since(middle, 10).records), ["b"], "the log after another's write")

    def test_a_write_is_decided_on_what_another_wrote_just_before(self) -> None:
        """`transact` shows the present records without being told, and its revisions go on from the other's."""
        opened = self.opener()
        one, other = opened(), opened()
        (first,) = put(one, record("a")).puts
        shown: list[Mapping[str, Record]] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            shown.append(dict(present))
            return Batch(puts=[record("b")])

        applied = other.transact(["a"], decide)
        same(shown, [{"a": first}], "what a decision was shown")
        same(applied.revision_before, first.revision, "revision_before")
        expect(applied.puts[0].revision > first.revision, "a revision was given twice")

    def test_the_log_of_another_comes_in_its_order(self) -> None:
        """Pages of what was caught up with at once leave nothing out."""
        opened = self.opener()
        one, other = opened(), opened()
        middle = put(one, *(record(f"k{n}") for n in range(40))).revision
        other.changed_elsewhere()
        for n in range(0, 40, 3):
            put(one, replace(record(f"k{n}"), failure_count=1))
        delete(one, *(f"k{n}" for n in range(0, 40, 7)))
        other.changed_elsewhere()
        reader = LogReader(middle)
        reader.read(other, 3)
        known = {key: each for key, each in all_records(one).items() if each.revision > middle}
        same((reader.known, reader.resets), (known, 0), "what a reader knows, and how many resets")
        same(reader.removed, {f"k{n}" for n in range(0, 40, 7)}, "removed")

    def test_a_clear_reaches_the_other(self) -> None:
        """What one cleared is gone from the other, and its log says so."""
        opened = self.opener()
        one, other = opened(), opened()
        middle = put(one, record("a")).revision
        other.changed_elsewhere()
        one.clear()
        put(one, record("b"))
        expect(other.changed_elsewhere(), "a clear was not noticed")
        reader = LogReader(middle)
        reader.read(other, 10)
        same((set(reader.known), reader.resets, list(all_records(other))), ({"b"}, 1, ["b"]), "known, resets, keys")

    def test_notes_are_shared(self) -> None:
        """A note that one sets, changes or removes is read by the other."""
        opened = self.opener()
        one, other = opened(), opened()
        for text in ("first", "second", None):
            one.set_meta("note", text)
            same(other.get_meta("note"), text, "the other's note")
            same(other.metas("no"), {} if text is None else {"note": text}, "the other's notes")

    def test_two_that_follow_the_same_stretch_apply_it_once(self) -> None:
        """The one that comes second is refused without having been told of the first, and so is its late fill."""
        opened = self.opener()
        one, other = opened(authority=False), opened(authority=False)
        stretch = Stretch(0, 3, [record("a", revision=3)], admit=True)
        there(one.follow(stretch), "follow")
        same(other.follow(stretch), None, "the same stretch again, by another")
        same(other.fill([record("b", revision=1)], 2), None, "fill with what was read before the stretch")
        same(other.revision, 3, "the other's revision after a refusal")
        there(other.follow(Stretch(3, 4, removed=["a"])), "the next stretch, by the other")
        same(one.fill([record("a", revision=3)], 3), None, "a late fill by the first")
        one.changed_elsewhere()
        same((one.revision, all_records(one)), (4, {}), "the first one's revision and records")

    def test_racing_followers_apply_each_stretch_once(self) -> None:
        """Of several that follow the same stretch at the same moment one succeeds."""
        opened = self.opener()
        windows = [opened(authority=False) for _ in range(RACERS)]
        start = Barrier(RACERS)

        def follow(window: Tier) -> list[bool]:
            won = []
            for lap in range(LAPS):
                start.wait()
                stretch = Stretch(lap, lap + 1, [record("a", revision=lap + 1)], admit=True)
                won.append(window.follow(stretch) is not None)
            return won

        results = _race(follow, windows)
        same([sum(lap) for lap in zip(*results, strict=True)], [1] * LAPS, "how many succeeded in each lap")

    def test_racing_writers_lose_no_update(self) -> None:
        """Transactions of several are one after the other: each sees what the one before wrote."""
        opened = self.opener()
        tiers = [opened() for _ in range(RACERS)]
        put(tiers[0], record("counter"))

        def count_up(tier: Tier) -> list[int]:
            def decide(present: Mapping[str, Record]) -> Batch:
                known = present["counter"]
                return Batch(puts=[replace(known, failure_count=known.failure_count + 1)])

            return [tier.transact(["counter"], decide).puts[0].revision for _ in range(LAPS)]

        given = [revision for revisions in _race(count_up, tiers) for revision in revisions]
        same(len(set(given)), RACERS * LAPS, "how many different revisions were given")
        for tier in tiers:
            tier.changed_elsewhere()
            same(all_records(tier)["counter"].failure_count, RACERS * LAPS, "the count")


def _race(act: Callable[[Tier], T], tiers: list[Tier]) -> list[T]:
    with ThreadPoolExecutor(len(tiers)) as threads:
        return list(threads.map(act, tiers))
