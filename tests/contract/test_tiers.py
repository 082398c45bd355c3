"""The contract of a tier, run over memory, JSONL and SQLite, each as authority and as window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from proxywhirl.cache.jsonl import JsonlTier
from proxywhirl.cache.memory import MemoryTier
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.sqlite import SqliteTier
from proxywhirl.cache.tier import Access, Batch, Decision, Tier

Opener = Callable[..., Tier]

DURABLE = ("jsonl", "sqlite")
KINDS = ("memory", *DURABLE)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name a backend."""
    return str(request.param)


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Iterator[Opener]:
    """Give a function that opens a tier on the same files each time; close all of them afterwards."""
    tiers: list[Tier] = []

    def opening(*, authority: bool = True, max_entries: int | None = None, policy: str = "lru") -> Tier:
        tier: Tier
        if kind == "memory":
            tier = MemoryTier(max_entries=max_entries, policy=policy, authority=authority)
        elif kind == "jsonl":
            tier = JsonlTier(tmp_path / "shards", max_entries=max_entries, policy=policy, authority=authority)
        else:
            tier = SqliteTier(tmp_path / "tier.db", max_entries=max_entries, policy=policy, authority=authority)
        tiers.append(tier)
        return tier

    yield opening
    for tier in tiers:
        tier.close()


def record(key: str, *, revision: int = 0, at: float = 1000.0, retired: bool = False, **fields: object) -> Record:
    """Make a record that is distinct in every field."""
    made = Record(
        key=key,
        url=f"http://192.0.2.1:{1000 + len(key)}",
        source="src",
        fetched_at=at,
        ttl=60,
        expires_at=at + 60,
        accessed_at=at,
        retired=retired,
        revision=revision,
        generation=revision,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def full(key: str) -> Record:
    """Make a record with a value other than the default in every field."""
    return Record(
        key=key,
        url="socks5://[2001:db8::1]:1080",
        source="quelle ünï ☃ \u2028",
        fetched_at=1.25,
        ttl=7,
        expires_at=8.25,
        accessed_at=2.5,
        access_count=3,
        status="degraded",
        failure_count=4,
        last_check_at=5.125,
        check_failures=6,
        check_successes=8,
        recovery_attempt=9,
        next_check_at=10.5,
        error='"quoted"\nand \\ more',
        checks=11,
        failed_checks=12,
        attributes='{"country":"DE","tags":["a","b"]}',
        sealed="up:token",
        retired=True,
    )


def putting(*records: Record) -> Decision:
    """Make a decision that writes records."""
    return lambda _: Batch(puts=list(records))


def put(tier: Tier, *records: Record) -> list[Record]:
    """Write records into an authority."""
    return tier.transact([], putting(*records)).puts


def keys(records: Sequence[Record]) -> list[str]:
    """Name the records."""
    return [record.key for record in records]


def all_keys(tier: Tier) -> list[str]:
    """Name everything that a tier holds, in pages of two."""
    found: list[str] = []
    while page := tier.scan(found[-1] if found else "", 2):
        found += keys(page)
    return found


def test_every_field_comes_back_as_it_was_put(opened: Opener) -> None:
    """`get` returns each field as it was put, with the revision and the generation that the put was given."""
    tier = opened()
    put(tier, record("a"))
    (written,) = put(tier, full("k"))
    assert (written.revision, written.generation) == (2, 2)
    found = tier.get("k")
    expected = full("k")
    expected.revision = expected.generation = 2
    assert found == expected
    assert tier.get("other") is None
    assert tier.peek("other") is None


def test_get_many_and_peek_find_what_get_finds(opened: Opener) -> None:
    """`get_many` returns those that are there by key, `peek` one of them."""
    tier = opened()
    put(tier, record("a"), record("b"))
    assert keys(list(tier.get_many(["b", "x", "a"]).values())) in (["a", "b"], ["b", "a"])
    peeked = tier.peek("a")
    assert peeked is not None
    assert peeked.key == "a"


def test_a_transaction_shows_the_decision_what_is_there_and_writes_its_choice(opened: Opener) -> None:
    """`transact` hands the asked records to the decision, and reports what it wrote with its revisions."""
    tier = opened()
    put(tier, record("a"), record("b"), record("c"))
    shown: dict[str, Record] = {}

    def decide(present: Mapping[str, Record]) -> Batch:
        shown.update(present)
        return Batch(puts=[record("d")], deletes=["a", "missing"])

    applied = tier.transact(["a", "x"], decide)
    assert set(shown) == {"a"}
    assert applied.deletes == ["a"]
    assert keys(applied.puts) == ["d"]
    assert applied.evicted == []
    assert applied.revision_before == 3
    assert applied.revision == tier.revision == 5
    assert all_keys(tier) == ["b", "c", "d"]


def test_an_update_keeps_its_generation_and_a_new_one_takes_its_revision(opened: Opener) -> None:
    """A record that comes with a generation is an update; one without is a new incarnation."""
    tier = opened()
    (first,) = put(tier, record("a"))
    (updated,) = put(tier, record("a", generation=first.generation, failure_count=1))
    assert (updated.generation, updated.revision) == (1, 2)
    (replaced,) = put(tier, record("a"))
    assert (replaced.generation, replaced.revision) == (3, 3)


def test_a_decision_that_raises_changes_nothing(opened: Opener) -> None:
    """An exception in the decision leaves records, revision and order as they were."""
    tier = opened(max_entries=2)
    put(tier, record("a"), record("b"))

    def decide(present: Mapping[str, Record]) -> Batch:
        raise RuntimeError("undecided")

    with pytest.raises(RuntimeError, match="undecided"):
        tier.transact(["a"], decide)
    assert tier.revision == 2
    put(tier, record("c"))
    assert all_keys(tier) == ["b", "c"]


def test_retired_records_are_kept_and_count_in_no_size(opened: Opener) -> None:
    """`len` and `in` leave retired records out, `get` and `scan` give them, marked."""
    tier = opened()
    put(tier, record("a"), record("b", retired=True))
    assert len(tier) == 1
    assert "a" in tier
    assert "b" not in tier
    assert 3 not in tier
    found = tier.get("b")
    assert found is not None
    assert found.retired
    assert all_keys(tier) == ["a", "b"]
    put(tier, record("b"))
    assert len(tier) == 2
    tier.transact([], lambda _: Batch(deletes=["a"]))
    assert len(tier) == 1


def test_touch_many_adds_hits_to_the_same_generation_only(opened: Opener, kind: str) -> None:
    """Hits are added where the generation is the one that was hit; a touch never inserts."""
    tier = opened()
    (first,) = put(tier, record("a", access_count=5))
    put(tier, record("b"))
    tier.touch_many(
        [
            Access("a", first.generation, 2, 2000.0),
            Access("a", first.generation, 1, 1500.0),
            Access("b", 99, 7, 3000.0),
            Access("x", 1, 1, 3000.0),
        ]
    )
    a, b = tier.peek("a"), tier.peek("b")
    assert a is not None
    assert b is not None
    assert (b.access_count, b.accessed_at) == (0, 1000.0)
    assert tier.peek("x") is None
    if kind != "memory":  # a record in memory is counted when it is handed out
        assert (a.access_count, a.accessed_at) == (8, 2000.0)
    assert tier.revision == 2


def test_expired_gives_those_whose_time_has_ended_soonest_first(opened: Opener) -> None:
    """`expired` is inclusive of the moment, bounded by the limit, renewed by an update, and never names the endless."""
    tier = opened()
    put(tier, *(record(name, expires_at=at) for name, at in (("c", 3.0), ("a", 1.0), ("b", 2.0))))
    put(tier, record("never", expires_at=NEVER_TIMESTAMP))
    assert tier.expired(0.5, 10) == []
    assert tier.expired(2.0, 10) == ["a", "b"]
    assert tier.expired(2.0, 10) == ["a", "b"]
    assert tier.expired(9.0, 2) == ["a", "b"]
    assert tier.expired(math.inf, 10) == ["a", "b", "c"]
    put(tier, record("a", expires_at=9.0))
    tier.transact([], lambda _: Batch(deletes=["b"]))
    assert tier.expired(8.0, 10) == ["c"]


def test_scan_pages_in_the_order_of_keys(opened: Opener) -> None:
    """`scan` gives the keys after the given one, in order, up to the limit."""
    tier = opened()
    names = [f"k{n:02}" for n in range(25)]
    put(tier, *(record(name) for name in reversed(names)))
    assert keys(tier.scan("", 3)) == names[:3]
    assert keys(tier.scan("k02", 3)) == names[3:6]
    assert keys(tier.scan("k24", 3)) == []
    assert all_keys(tier) == names


def test_the_log_gives_the_latest_change_of_each_key_once(opened: Opener) -> None:
    """`changes_since` gives what was put or removed after a revision, each key as it is now."""
    tier = opened()
    put(tier, record("a"), record("b"), record("c"))
    put(tier, record("a", failure_count=2))
    tier.transact([], lambda _: Batch(deletes=["b"]))
    changes = tier.changes_since(0, 10)
    assert sorted(keys(changes.records)) == ["a", "c"]
    assert changes.removed == ["b"]
    assert (changes.revision, changes.reset, changes.more) == (5, False, False)
    later = tier.changes_since(3, 10)
    assert keys(later.records) == ["a"]
    assert later.records[0].failure_count == 2
    assert later.removed == ["b"]
    assert tier.changes_since(5, 10).records == []


def test_a_key_that_was_removed_and_came_again_is_no_removal(opened: Opener) -> None:
    """The latest change of a key stands alone in the log."""
    tier = opened()
    put(tier, record("a"))
    tier.transact([], lambda _: Batch(deletes=["a"]))
    put(tier, record("a"))
    changes = tier.changes_since(1, 10)
    assert keys(changes.records) == ["a"]
    assert changes.removed == []


def read_log(tier: Tier, revision: int, limit: int) -> tuple[set[str], set[str], int, int]:
    """Read the log in pages as a follower does; return keys there, keys removed, resets, the last revision."""
    there: set[str] = set()
    removed: set[str] = set()
    resets = pages = 0
    more = True
    while more:
        changes = tier.changes_since(revision, limit)
        if changes.reset:
            resets += 1
            there.clear()
            removed.clear()
        assert len(changes.records) <= limit
        there |= set(keys(changes.records))
        removed |= set(changes.removed)
        revision, more = changes.revision, changes.more
        pages += 1
        assert pages < 100, "the pages never end"
    return there, removed, resets, revision


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_the_log_is_read_in_pages_of_any_size(opened: Opener, limit: int) -> None:
    """Pages follow each other without a gap or an endless loop, whatever their size."""
    tier = opened()
    put(tier, *(record(f"k{n}") for n in range(40)))
    tier.transact([], lambda _: Batch(deletes=["k2", "k5"]))
    there, removed, resets, revision = read_log(tier, 0, limit)
    assert there == {f"k{n}" for n in range(40)} - {"k2", "k5"}
    assert removed == {"k2", "k5"}
    assert resets == 0
    assert revision == tier.revision


@pytest.mark.parametrize("since", [0, 1, 3, 99])
def test_clearing_resets_every_reader_of_the_log(opened: Opener, since: int) -> None:
    """After `clear` a reader that is behind, or ahead of the log, is told to start anew, once."""
    tier = opened()
    put(tier, record("a"), record("b"), record("r", retired=True))
    assert tier.clear() == 2
    assert len(tier) == 0
    assert all_keys(tier) == []
    assert tier.revision > 3
    put(tier, *(record(f"n{n}") for n in range(5)))
    there, removed, resets, revision = read_log(tier, since, 2)
    assert there == {f"n{n}" for n in range(5)}
    assert removed == set()
    assert resets == 1
    assert tier.changes_since(revision, 2).reset is False


def test_a_window_takes_records_with_their_revisions(opened: Opener) -> None:
    """`fill` keeps revisions and generations, and remembers up to where the log is applied only when told."""
    window = opened(authority=False)
    assert window.fill([record("a", revision=7)], 9) == []
    found = window.get("a")
    assert found is not None
    assert (found.revision, found.generation) == (7, 7)
    assert window.revision == 9
    window.fill([record("b", revision=8)], None)
    assert window.revision == 9


def test_a_window_forgets_what_it_is_told_to(opened: Opener) -> None:
    """`drop` returns the keys that were held, and follows the log."""
    window = opened(authority=False)
    window.fill([record("a", revision=1), record("b", revision=2)], 2)
    assert sorted(window.drop(["a", "x"], 3)) == ["a"]
    assert window.revision == 3
    assert all_keys(window) == ["b"]
    assert window.drop(["b"]) == ["b"]
    assert window.revision == 3


def test_a_cleared_window_is_empty_and_has_applied_the_log(opened: Opener) -> None:
    """`clear` of a window returns what it held and follows the log."""
    window = opened(authority=False)
    window.fill([record("a", revision=1), record("b", revision=2)], 2)
    assert window.clear(12) == 2
    assert (len(window), window.revision) == (0, 12)
    window.fill([record("c", revision=13)], 13)
    assert all_keys(window) == ["c"]


def test_the_bound_holds_after_every_write(opened: Opener) -> None:
    """A tier never holds more than its bound, and the newcomer is never the one to go."""
    tier = opened(max_entries=3)
    for n in range(10):
        applied = tier.transact([], putting(record(f"k{n}")))
        assert keys(applied.puts) == [f"k{n}"]
        assert len(all_keys(tier)) <= 3
        assert f"k{n}" in tier
    assert all_keys(tier) == ["k7", "k8", "k9"]


@pytest.mark.parametrize(
    ("policy", "evicted"),
    [("lru", ["b"]), ("fifo", ["a"]), ("lfu", ["c"])],
)
@pytest.mark.parametrize("authority", [True, False])
def test_each_policy_chooses_its_victim(opened: Opener, policy: str, evicted: list[str], *, authority: bool) -> None:
    """The least recently used, the first that came, or the least often used goes first."""
    tier = opened(max_entries=3, policy=policy, authority=authority)

    def write(name: str, revision: int) -> list[str]:
        if authority:
            return tier.transact([name], putting(record(name))).evicted
        return tier.fill([record(name, revision=revision)], revision)

    for revision, name in enumerate(("a", "b", "c"), start=1):
        assert write(name, revision) == []
    for name in ("a", "b", "b", "a", "c", "a"):
        tier.get(name)
    tier.peek("b")  # notes no use
    assert "b" in tier
    assert write("d", 4) == evicted
    assert all_keys(tier) == sorted({"a", "b", "c", "d"} - set(evicted))


def test_a_write_counts_as_one_use(opened: Opener) -> None:
    """Where the least often used goes first, one put and two gets are more than two puts."""
    tier = opened(max_entries=2, policy="lfu")
    put(tier, record("a"), record("b"))
    tier.get("b")
    tier.get_many(["b"])
    tier.transact(["a"], putting(record("a")))
    assert tier.transact([], putting(record("c"))).evicted == ["a"]


def test_a_batch_larger_than_the_bound_leaves_its_last_records(opened: Opener) -> None:
    """Records that came and went in one call are not reported as written."""
    tier = opened(max_entries=2)
    put(tier, record("a"))
    applied = tier.transact([], putting(*(record(name) for name in "bcde")))
    assert keys(applied.puts) == ["d", "e"]
    assert sorted(applied.evicted) == ["a", "b", "c"]
    assert all_keys(tier) == ["d", "e"]
    changes = tier.changes_since(1, 10)
    assert sorted(keys(changes.records)) == ["d", "e"]
    assert "a" in changes.removed


def test_notes_are_kept_beside_the_records(opened: Opener) -> None:
    """A note is None until set, keeps its last value, and survives `clear`."""
    tier = opened()
    assert tier.get_meta("key_check") is None
    tier.set_meta("key_check", "one")
    tier.set_meta("key_check", "two")
    tier.clear()
    assert tier.get_meta("key_check") == "two"


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_an_authority_is_the_same_after_reopening(opened: Opener) -> None:
    """Records, hits, retirement, notes, revision and log survive closing and opening."""
    tier = opened()
    put(tier, record("a"), full("f"), record("gone"))
    tier.transact([], lambda _: Batch(deletes=["gone"]))
    tier.touch_many([Access("a", 1, 4, 5000.0)])
    tier.set_meta("note", "value")
    before = (tier.get_many(["a", "f"]), tier.revision)
    tier.close()
    tier.close()
    again = opened()
    assert (again.get_many(["a", "f"]), again.revision) == before
    assert (len(again), all_keys(again)) == (1, ["a", "f"])
    assert again.get_meta("note") == "value"
    assert again.corrupted == 0
    changes = again.changes_since(2, 10)
    assert (keys(changes.records), changes.removed) == ([], ["gone"])
    assert again.expired(1e9, 10) == ["f", "a"]
    (after,) = put(again, record("n"))
    assert after.revision == before[1] + 1


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_a_window_is_the_same_after_reopening(opened: Opener) -> None:
    """A window remembers its records, and has applied the log at least as far as its last change."""
    window = opened(authority=False)
    window.fill([record("a", revision=4), record("b", revision=5)], 5)
    window.drop(["a"], 6)
    window.close()
    again = opened(authority=False)
    assert all_keys(again) == ["b"]
    assert again.revision == 6


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_clearing_is_remembered_by_the_log_after_reopening(opened: Opener) -> None:
    """A reader from before `clear` is told to start anew by the tier that is opened again."""
    tier = opened()
    put(tier, record("a"), record("b"))
    tier.clear()
    put(tier, record("c"))
    tier.close()
    again = opened()
    there, _, resets, _ = read_log(again, 2, 10)
    assert (there, resets) == ({"c"}, 1)


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
@pytest.mark.parametrize(("policy", "victim"), [("lru", "b"), ("fifo", "a"), ("lfu", "c")])
def test_the_order_of_eviction_survives_reopening(opened: Opener, policy: str, victim: str) -> None:
    """Uses that were written choose the victim in the tier that is opened again."""
    tier = opened(max_entries=3, policy=policy)
    a, b, c = put(tier, record("a"), record("b"), record("c"))
    hits = [(b, 2, 2000.0), (c, 1, 2500.0), (a, 3, 3000.0)]
    tier.touch_many([Access(hit.key, hit.generation, count, at) for hit, count, at in hits])
    tier.close()
    again = opened(max_entries=3, policy=policy)
    assert again.transact([], putting(record("d", at=4000.0))).evicted == [victim]


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_a_smaller_bound_holds_from_the_next_newcomer_on(opened: Opener) -> None:
    """A tier that is opened with a smaller bound makes all the room at once."""
    tier = opened()
    put(tier, *(record(f"k{n}", at=float(n)) for n in range(9)))
    tier.close()
    again = opened(max_entries=2)
    again.transact([], putting(record("new", at=99.0)))
    assert all_keys(again) == ["k8", "new"]


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_a_second_tier_on_the_same_files_sees_what_the_first_wrote(opened: Opener) -> None:
    """`changed_elsewhere` is true once after another one wrote, whatever was done in between."""
    one, other = opened(), opened()
    assert other.changed_elsewhere() is False
    put(one, record("a"))
    assert one.changed_elsewhere() is False
    assert other.changed_elsewhere() is True
    assert other.changed_elsewhere() is False
    assert "a" in other
    one.transact([], lambda _: Batch(deletes=["a"]))
    other.touch_many([])
    assert other.changed_elsewhere() is True
    assert other.get("a") is None
    applied = other.transact([], putting(record("b")))
    assert applied.revision_before == 2
    assert one.changed_elsewhere() is True
    assert keys(one.changes_since(2, 10).records) == ["b"]


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_a_second_tier_gives_the_log_of_the_first_in_its_order(opened: Opener) -> None:
    """Pages of what was caught up with at once leave nothing out."""
    one, other = opened(), opened()
    put(one, *(record(f"k{n}") for n in range(40)))
    other.changed_elsewhere()
    for n in range(40):
        put(one, record(f"k{n}"))
    one.transact([], lambda _: Batch(deletes=[f"k{n}" for n in range(0, 40, 7)]))
    other.changed_elsewhere()
    there, removed, resets, _ = read_log(other, 40, 3)
    assert there == {f"k{n}" for n in range(40)} - removed
    assert removed == {f"k{n}" for n in range(0, 40, 7)}
    assert resets == 0


@pytest.mark.parametrize("kind", DURABLE, indirect=True)
def test_a_second_tier_follows_a_clear(opened: Opener) -> None:
    """What one tier cleared is gone from the other, and its log says so."""
    one, other = opened(), opened()
    put(one, record("a"))
    other.changed_elsewhere()
    one.clear()
    put(one, record("b"))
    assert other.changed_elsewhere() is True
    there, _, resets, _ = read_log(other, 1, 10)
    assert (there, resets, all_keys(other)) == ({"b"}, 1, ["b"])
