"""Several processes at one store: each opening of it stands for a process, in a thread of its own where they race."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TypeVar

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import all_records, delete, expect, keys, put, record, same, there
from proxywhirl.testing.tier_clauses.durable import StoredClauses
from proxywhirl.testing.tier_clauses.log import Follower

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
        reader = Follower(middle)
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
        reader = Follower(middle)
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
                won.append(
                    window.follow(Stretch(lap, lap + 1, [record("a", revision=lap + 1)], admit=True)) is not None
                )
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
