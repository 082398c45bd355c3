"""The contract of a tier catches tiers that break it: one for each kind of promise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Access, Applied, Changes, Decision, Followed, Stretch, Tier
from proxywhirl.testing import DurableTierContract, TierContract


class Contract(TierContract):
    """The contract over a tier that a test names."""

    stores_hits = False
    tier: type[MemoryTier] = MemoryTier

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make it."""
        return self.tier(max_entries=max_entries, policy=policy, authority=authority)


class FollowsFromAnywhere(MemoryTier):
    """Applies each stretch, wherever it begins."""

    def follow(self, stretch: Stretch) -> Followed | None:
        """Apply it."""
        self._changes.revision = stretch.since
        return super().follow(stretch)


class TakesLateFills(MemoryTier):
    """Takes what was read before the window moved on."""

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        """Take it."""
        return super().fill(records, max(revision, self.revision))


class StoresTheRevisionOfAFill(MemoryTier):
    """Believes that it has applied the log up to where a fill was read."""

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        """Take it, and move on."""
        evicted = super().fill(records, revision)
        self._changes.revision = max(revision, self.revision)
        return evicted


class TellsOfRetired(MemoryTier):
    """Says of retired records too that they were served."""

    def drop(self, keys: Collection[str]) -> list[str]:
        """Drop them."""
        held = [key for key in keys if key in self._records]
        super().drop(keys)
        return held


class NeverGoesBack(MemoryTier):
    """Keeps its revision at a clear that names a lower one."""

    def clear(self, revision: int | None = None) -> int:
        """Clear."""
        return super().clear(None if revision is None else max(revision, self.revision))


class CountsReadingAsNothing(MemoryTier):
    """Notes no use when many are read at once."""

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Read them."""
        return {key: record for key in keys if (record := self.peek(key)) is not None}


class CountsLookingAsUse(MemoryTier):
    """Notes a use where somebody only looks."""

    def peek(self, key: str) -> Record | None:
        """Look."""
        return self.get(key)


class HoldsTooMuch(MemoryTier):
    """Holds one more than its bound."""

    def __init__(self, *, max_entries: int | None = None, policy: str = "lru", authority: bool = False) -> None:
        super().__init__(max_entries=max_entries and max_entries + 1, policy=policy, authority=authority)


class Inserts(MemoryTier):
    """Brings back what was hit and has gone."""

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """Insert what is not there."""
        for access in accesses:
            self._records.setdefault(access.key, Record(access.key, "http://192.0.2.1:80", "s", 0, 0, 0, 0))


class SwallowsErrors(MemoryTier):
    """Does nothing where a decision fails."""

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """Decide."""
        try:
            return super().transact(keys, decide)
        except Exception:  # noqa: BLE001  # that is what is wrong with it
            return Applied()


class ForgetsRemovals(MemoryTier):
    """Has no removals in its log."""

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Leave them out."""
        changes = super().changes_since(revision, limit)
        changes.removed.clear()
        return changes


class LooksAtAll(MemoryTier):
    """Finds expired records by looking at all."""

    def expired(self, now: float, limit: int) -> list[str]:
        """Look."""
        return [key for key, record in self._records.items() if record.expires_at <= now][:limit]


class ScansInAnyOrder(MemoryTier):
    """Pages in the order of insertion."""

    def scan(self, after: str, limit: int) -> list[Record]:
        """Scan."""
        return [record for key, record in self._records.items() if key > after][:limit]


class NotesWithPatterns(MemoryTier):
    """Takes an underscore for any character."""

    def metas(self, prefix: str) -> dict[str, str]:
        """Look for notes."""
        return {name: text for name, text in self._meta.items() if name.startswith(prefix.partition("_")[0])}


class LosesNotes(MemoryTier):
    """Forgets its notes at a clear."""

    def clear(self, revision: int | None = None) -> int:
        """Clear."""
        self._meta.clear()
        return super().clear(revision)


BROKEN: dict[type[MemoryTier], str] = {
    FollowsFromAnywhere: "test_a_stretch_is_applied_only_where_the_window_stands_at_its_start",
    TakesLateFills: "test_what_was_read_before_the_window_moved_on_is_refused",
    StoresTheRevisionOfAFill: "test_what_is_read_from_below_fills_the_window",
    TellsOfRetired: "test_removed_keys_go_and_those_that_were_served_are_told",
    NeverGoesBack: "test_a_cleared_window_stands_where_it_is_told",
    CountsReadingAsNothing: "test_each_policy_chooses_its_victim",
    CountsLookingAsUse: "test_each_policy_chooses_its_victim",
    HoldsTooMuch: "test_the_bound_holds_after_every_write",
    Inserts: "test_hits_never_insert_and_never_reach_another_generation",
    SwallowsErrors: "test_a_decision_that_raises_leaves_nothing",
    ForgetsRemovals: "test_the_log_has_the_latest_change_of_each_key_once",
    LooksAtAll: "test_expired_does_not_look_at_the_others",
    ScansInAnyOrder: "test_scan_pages_in_the_order_of_keys",
    NotesWithPatterns: "test_notes_are_found_by_the_beginning_of_their_names",
    LosesNotes: "test_notes_survive_a_clear",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_tier_that_breaks_a_promise_is_caught(broken: type[MemoryTier]) -> None:
    """The test that is named for the promise fails for the broken tier, and holds for a sound one."""
    name = BROKEN[broken]
    sound, contract = Contract(), type("Broken", (Contract,), {"tier": broken})()
    getattr(sound, name)()
    with pytest.raises(AssertionError):
        getattr(contract, name)()


class RandomRuns(Contract):
    """The two random runs alone."""

    @classmethod
    def clauses(cls) -> list[str]:
        """Name them."""
        return [name for name in super().clauses() if "naive" in name or "what_the_log_says" in name]


@pytest.mark.parametrize(
    "broken", [FollowsFromAnywhere, TakesLateFills, TellsOfRetired, CountsLookingAsUse, HoldsTooMuch, ForgetsRemovals]
)
def test_random_runs_find_broken_tiers_by_themselves(broken: type[MemoryTier]) -> None:
    """What no other test names is found too; the failure says by which steps."""
    contract: type[TierContract] = type("Broken", (RandomRuns,), {"tier": broken})
    with pytest.raises(ExceptionGroup, match="of 2 tests of Broken") as caught:
        contract.run_all()
    for exc in caught.value.exceptions:
        assert any("step" in note and "seed" in note for note in exc.__notes__)
        assert any("in Broken.test_" in note for note in exc.__notes__)


def test_run_all_runs_without_a_framework() -> None:
    """Every test runs on an object of its own, and the names of those that ran are returned."""
    assert len(RandomRuns.run_all()) == 2
    names = DurableTierContract.clauses()
    assert len(names) > len(TierContract.clauses()) > 40
    assert set(TierContract.clauses()) < set(names)


def test_a_contract_that_makes_no_tier_says_so() -> None:
    """The one method that the author owes is named."""
    with pytest.raises(
        NotImplementedError, match=r"must say how a tier is made: define make_tier\(self, \*, authority, "
    ):
        TierContract().authority()
    durable = DurableTierContract()
    with pytest.raises(
        NotImplementedError, match=r"must say how a tier is opened in .*: define open_tier\(self, folder, \*, "
    ):
        durable.authority()
    durable.teardown_method()
