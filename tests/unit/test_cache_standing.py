"""What a durable tier keeps of each entry's use: ticks, hits that are not stored yet, files from before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from proxywhirl.cache.coordination import near_cache as hits_module
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.manifest import MARK
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.eviction import POLICIES, Uses
from proxywhirl.cache.tiers.jsonl.directory import SHARDS, shard_name, shard_number
from proxywhirl.cache.tiers.jsonl.format import Mark, encode_line, encode_mark, encode_record
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Access, Batch, Tier
from proxywhirl.cache.tiers.sqlite import schema as table
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import FormatVersionError
from proxywhirl.state.database import Database
from proxywhirl.testing import ManualClock

KINDS = ("jsonl", "sqlite")
# In the order of their revisions; as they leave by time of access, by count, by arrival.
OLD = [("b", 3.0, 2), ("c", 1.0, 3), ("a", 2.0, 1)]
LEAVING = {"lru": "cab", "lfu": "abc", "fifo": "bca", "sieve": "bca"}


def record(key: str, at: float = 1.0, count: int = 0, revision: int = 0) -> Record:
    """Make a record that was used at a time, so often."""
    return Record(key, "http://192.0.2.1:80", "s", 1.0, 60, 9e9, at, count, revision=revision, generation=revision)


def opened(kind: str, folder: Path, policy: str, uses: Uses | None = None, *, bound: int | None = 3) -> Tier:
    """Open an authority."""
    if kind == "jsonl":
        return JsonlTier(folder, max_entries=bound, policy=policy, authority=True, uses=uses)
    return SqliteTier(folder / "tier.db", max_entries=bound, policy=policy, authority=True, uses=uses)


def put(tier: Tier, *records: Record) -> list[str]:
    """Write records; return who left for them."""
    return tier.transact([], lambda _: Batch(records)).evicted


def write_old(kind: str, folder: Path) -> None:
    """Leave a store as releases did that stored no arrival."""
    made = [record(key, at, count, revision) for revision, (key, at, count) in enumerate(OLD, start=1)]
    if kind == "sqlite":
        old = Database(folder / "tier.db", table.MIGRATIONS[:2])
        marks = ", ".join("?" * len(table.as_row(made[0])))
        old.connection.executemany(f"INSERT INTO entries ({table._NAMES}) VALUES ({marks})", map(table.as_row, made))
        old.connection.execute("UPDATE state SET revision = 3, served = 3")
        old.close()
        return
    for number in range(SHARDS):
        head = {"op": "head", "format": "proxywhirl-shard", "version": 1, "revision": 0, "floor": 0}
        lines = [encode_record(each) for each in made if shard_number(each.key) == number]
        (folder / shard_name(number)).write_bytes(b"".join([encode_line(head), *lines]))
    fields = {"op": "mark", "format": "proxywhirl-shard", "version": 1, "revision": 3, "floor": 0}
    mark = encode_line({**fields, "writes": 2, "busy": False})[:-1].ljust(len(encode_mark(Mark())) - 1) + b"\n"
    (folder / MARK).write_bytes(mark)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("kind", KINDS)
def test_what_an_earlier_release_stored_leaves_first(tmp_path: Path, kind: str, policy: str) -> None:
    """Its entries go before newcomers, by what is known of them: their access, count or generation."""
    write_old(kind, tmp_path)
    tier = opened(kind, tmp_path, policy)
    assert (len(tier), tier.revision, tier.corrupted) == (3, 3, 0)
    newcomers = [record(key, 5.0, 9) for key in "xyz"]
    assert [left for each in newcomers for left in put(tier, each)] == list(LEAVING[policy])
    tier.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_arrival_outlives_a_write(tmp_path: Path, kind: str) -> None:
    """With `fifo` an entry of an earlier release that is written again, and read back, has not come later."""
    write_old(kind, tmp_path)
    tier = opened(kind, tmp_path, "fifo")
    assert put(tier, record("b")) == []
    tier.close()
    again = opened(kind, tmp_path, "fifo")
    assert put(again, record("x")) == ["b"]
    again.close()


def test_an_earlier_release_refuses_what_this_one_wrote(tmp_path: Path) -> None:
    """A reader of version 1 finds a newer version in the mark, whatever the first lines of the shards say."""
    write_old("jsonl", tmp_path)
    tier = opened("jsonl", tmp_path, "fifo")
    put(tier, record("x"))
    tier.close()
    assert b'"version":2' in (tmp_path / MARK).read_bytes()
    (tmp_path / "two").mkdir()
    later = Database(tmp_path / "two" / "tier.db", table.MIGRATIONS)
    later.close()
    with pytest.raises(FormatVersionError, match=f"versions up to {len(table.MIGRATIONS) - 1}"):
        Database(tmp_path / "two" / "tier.db", table.MIGRATIONS[:-1])


def test_ticks_grow_however_the_clock_goes() -> None:
    """They are the time where that is later; each comes after the one before, and after what another process used."""
    clock = ManualClock(now=100.0)
    uses = Uses(clock)
    ticks = [uses.tick(), uses.tick(), uses.tick(beyond=300.0), uses.tick()]
    clock.advance(400.0)
    ticks.append(uses.tick())
    ticks.append(Uses(ManualClock(now=50.0)).tick(beyond=ticks[-1]))  # a clock that is behind
    assert ticks == sorted(set(ticks))
    assert (ticks[0], round(ticks[2]), ticks[4]) == (100.0, 300, 500.0)


@pytest.mark.parametrize("policy", ["lru", "lfu", "sieve"])
@pytest.mark.parametrize("kind", KINDS)
def test_hits_that_are_not_stored_yet_count(tmp_path: Path, kind: str, policy: str) -> None:
    """Who was hit stays, and its hits are stored once when they are: the choice is the same before and after."""
    uses = Uses(ManualClock(now=1e9))
    hits = HitLog(durable=True, uses=uses)
    tier = opened(kind, tmp_path, policy, uses)
    put(tier, record("a"), record("b"), record("c"))
    found = tier.get("a")
    assert found is not None
    hits.hand_out([replace(found)], 1e9)
    assert put(tier, record("d", count=1)) == ["b"]
    assert put(tier, record("e", count=1)) == ["c"]
    accesses = hits.take()
    tier.touch_many(accesses)
    stored = tier.peek("a")
    assert stored is not None
    assert (stored.access_count, hits.take()) == (1, [])
    tier.close()


@pytest.mark.parametrize("change", ["clear", "drop all", "delete all"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_emptied_tier_begins_anew(tmp_path: Path, kind: str, change: str) -> None:
    """It takes as many as its bound says before the first one leaves."""
    tier = opened(kind, tmp_path, "sieve")
    put(tier, *(record(key) for key in "abc"))
    doings: dict[str, Callable[[], object]] = {
        "clear": tier.clear,
        "drop all": lambda: tier.drop(["a", "b", "c"]),
        "delete all": lambda: tier.transact([], lambda _: Batch(deletes=["a", "b", "c"])),
    }
    doings[change]()
    assert [put(tier, record(key)) for key in "xyzv"] == [[], [], [], ["x"]]
    tier.close()


@pytest.mark.parametrize("kind", KINDS)
def test_another_policy_finds_its_order(tmp_path: Path, kind: str) -> None:
    """A store that is opened with another policy, or without a bound between, knows arrivals and uses as before."""
    uses = Uses(ManualClock(now=1e9))
    for policy, bound in (("lru", 3), ("lru", None), ("fifo", 3)):
        tier = opened(kind, tmp_path, policy, uses, bound=bound)
        put(tier, *(record(key) for key in ("abc" if policy == "lru" else "")))
        tier.touch_many([Access("a", tier.peek("a").generation, 1, uses.tick())])  # type: ignore[union-attr]  # it is there
        tier.close()
    for policy, left in (("fifo", "a"), ("lru", "b")):
        tier = opened(kind, tmp_path, policy, uses)
        assert put(tier, record(f"new-{policy}")) == [left]
        tier.close()


def test_a_wrong_number_of_entries_costs_none(tmp_path: Path) -> None:
    """Where the file says that there are too many, they are counted before any has to leave for that."""
    tier = opened("sqlite", tmp_path, "lru")
    put(tier, *(record(key) for key in "abc"))
    assert isinstance(tier, SqliteTier)
    with tier._database.writing() as connection:
        connection.execute("UPDATE state SET stored = 1000000")
    tier.close()
    again = opened("sqlite", tmp_path, "lru")
    assert put(again, record("d")) == ["a"]
    assert [found.key for found in again.scan("", 9)] == ["b", "c", "d"]
    again.close()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_of_a_use_is_what_is_stored(tmp_path: Path, kind: str, policy: str) -> None:
    """Hits that are not stored yet decide who leaves, and are no part of what is written then."""
    uses = Uses(ManualClock(now=1e9))
    tier = opened(kind, tmp_path, policy, uses)
    put(tier, record("a"), record("b"), record("c"))
    uses.unsaved = lambda key, _: (5, uses.tick()) if key == "a" else None
    stored = tier.peek("a")
    assert stored is not None
    put(tier, replace(stored, status="healthy"), record("d"))
    assert tier.examine() == []
    again = opened(kind, tmp_path, policy)
    assert {each.key: each.access_count for each in again.scan("", 9)} == {
        each.key: each.access_count for each in tier.scan("", 9)
    }
    tier.close()
    again.close()


@pytest.mark.parametrize("shown", ["handed out", "added to"])
def test_a_read_may_be_anywhere_when_the_hits_are_written(shown: str) -> None:
    """Nothing of it fails, and its hit is counted once, whichever of its steps comes just before."""
    for moment in range(60):
        hits = HitLog(durable=True)
        hits.hand_out([record("k")], 1.0)
        assert [access.count for access in hits.take()] == [1]
        read, steps = record("k", count=1), 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal steps
            if frame.f_code.co_filename != hits_module.__file__ or frame.f_code.co_name == "written":
                return None
            steps += event == "line"
            if steps == moment:  # noqa: B023  # called at once
                hits.written()  # noqa: B023
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            if shown == "handed out":
                hits.hand_out([read], 2.0)
            else:
                hits.add_to(read)
        finally:
            sys.settrace(before)
        assert read.access_count == (2 if shown == "handed out" else 1)
        if steps < moment:
            return
    pytest.fail("a read has more steps than are tried")


@pytest.mark.parametrize("number", [3, 4, 9])
@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_newcomers_leaves_what_they_leave_one_by_one(
    tmp_path: Path, kind: str, policy: str, number: int
) -> None:
    """As many as find room, or more, at once: the same stay, and the same go first after that."""
    newcomers = [f"n{n}" for n in range(number)]
    held: list[list[list[str]]] = []
    for together in (True, False):
        (place := tmp_path / str(together)).mkdir()
        tier = opened(kind, place, policy)
        put(tier, *map(record, "abc"))
        for batch in [newcomers] if together else [[key] for key in newcomers]:
            put(tier, *map(record, batch))
        seen = [[found.key for found in tier.scan("", 10)]]
        for key in "xyz":
            put(tier, record(key))
            seen.append([found.key for found in tier.scan("", 10)])
        held.append(seen)
        tier.close()
    assert held[0] == held[1]
