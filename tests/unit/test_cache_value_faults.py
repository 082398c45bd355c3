"""A value that a tier cannot hold is the caller's to hear of: the tier is well, and everybody else goes on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from proxywhirl.cache.coordination.breaker import BreakerTier
from proxywhirl.cache.coordination.near_cache import HitLog
from proxywhirl.cache.coordination.reads import Reader
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.record import Record, brought_in_range
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.jsonl.format import decode_record, encode_line, encode_record
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Access, Applied, Batch, Followed, Stretch, TierName
from proxywhirl.errors import UnstorableValue
from proxywhirl.testing import ManualClock
from proxywhirl.validation import LARGEST


def record(key: str, **fields: Any) -> Record:
    """Make a record."""
    return replace(Record(key, "http://192.0.2.1:80", "s", 1.0, 60, 10.0**9, 1.0), **fields)


def refusal(key: str) -> UnstorableValue:
    """Make the error of a tier that cannot hold an entry."""
    fault = UnstorableValue(f"entry {key!r}: what it says is unheard of")
    fault.key = key
    return fault


class Picky(MemoryTier):
    """Refuses by name what has an odd key, as a tier of another package may."""

    def transact(self, keys: Any, decide: Any) -> Applied:
        """See `Tier`."""

        def deciding(present: Any) -> Batch:
            batch: Batch = decide(present)
            self._look(batch.puts)
            return batch

        return super().transact(keys, deciding)

    def follow(self, stretch: Stretch) -> Followed | None:
        """See `Tier`."""
        self._look(stretch.records)
        return super().follow(stretch)

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        """See `Tier`."""
        self._look(records)
        return super().fill(records, revision)

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """See `Tier`."""
        self._look(accesses)

    def _look(self, things: Sequence[Record | Access]) -> None:
        for thing in things:
            if thing.key.startswith("odd"):
                raise refusal(thing.key)


def stack_of(*tiers: tuple[TierName, MemoryTier]) -> TierStack:
    """Put tiers together."""
    return TierStack(tiers, clock=ManualClock(now=2.0), counters=Counters(enabled=True), hits=HitLog(durable=True))


def put(stack: TierStack, *records: Record) -> Any:
    """Write records."""
    return stack.commit([each.key for each in records], lambda _: Batch(puts=list(records)), admit=True)


def test_the_guard_hands_a_value_s_fault_through() -> None:
    """For a question as for a change; the tier is asked on."""
    breaker = BreakerTier("l3", Picky(authority=True), ManualClock())

    def ask(_: object) -> None:
        raise refusal("k")

    for act in (breaker.call, breaker.write):
        with pytest.raises(UnstorableValue) as caught:
            act(ask, None)
        assert caught.value.key == "k"
    assert (breaker.sick, breaker.available, breaker.writable) == (False, True, True)


def test_what_the_authority_cannot_hold_is_told_to_who_writes_it() -> None:
    """Nothing of the batch is written, and the next one is."""
    stack = stack_of(("l2", MemoryTier()), ("l3", Picky(authority=True)))
    with pytest.raises(UnstorableValue, match="entry 'odd': what it says is unheard of"):
        put(stack, record("a"), record("odd"))
    assert put(stack, record("b")) is not None
    assert [each.key for each in stack.page("")] == ["b"]
    assert stack.authority.sick is False


def test_a_window_goes_without_what_it_cannot_hold() -> None:
    """It follows the log all the same, and is not sick; the entry is read from below."""
    window = Picky()
    stack = stack_of(("l2", window), ("l3", MemoryTier(authority=True)))
    assert put(stack, record("a"), record("odd-1"), record("odd-2"), record("z")) is not None
    for key in ("a", "odd-1", "odd-2", "z"):
        assert Reader(stack).read(key, 2.0) is not None
    stack.refresh()
    assert [each.key for each in window.scan("", 9)] == ["a", "z"]
    assert put(stack, record("odd-1", failure_count=3)) is not None
    stack.refresh()
    (breaker,) = stack.windows
    assert (breaker.sick, breaker.behind, window.revision) == (False, False, stack.authority.tier.revision)
    found = Reader(stack).read("odd-1", 2.0)
    assert found is not None
    assert found[0].failure_count == 3


def test_hits_that_cannot_be_stored_are_in_nobody_s_way() -> None:
    """They are counted no more, and those of others are written."""
    written: list[str] = []

    class Noting(Picky):
        """Notes whose hits it takes."""

        def touch_many(self, accesses: Sequence[Access]) -> None:
            """See `Tier`."""
            super().touch_many(accesses)
            written.extend(access.key for access in accesses)

    authority = Noting(authority=True)
    stack = stack_of(("l3", authority))
    MemoryTier.fill(authority, [record("a"), record("odd"), record("z")], 0)
    for key in ("a", "odd", "z"):
        assert Reader(stack).read(key, 2.0) is not None
    stack.flush()
    assert sorted(written) == ["a", "z"]
    stack.flush()
    assert stack.authority.sick is False


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ({"checks": LARGEST + 1}, {"checks": LARGEST}),
        ({"failure_count": -3}, {"failure_count": 0}),
        ({"recovery_attempt": 1.5}, {"recovery_attempt": 1}),
        ({"recovery_attempt": float("inf")}, {"recovery_attempt": LARGEST}),
        ({"next_check_at": float("inf")}, {"next_check_at": 253402300799.0}),
        ({"next_check_at": float("nan")}, {"next_check_at": None}),
        ({"last_check_at": float("-inf")}, {"last_check_at": -62135596800.0}),
        ({"accessed_at": 253402300800.0}, {"accessed_at": 253402300799.0}),
    ],
)
def test_what_an_earlier_release_stored_is_read_as_the_nearest(given: dict[str, Any], nearest: dict[str, Any]) -> None:
    """From a line that it wrote as well, where an endless time was no JSON; what is in range stays as it is."""
    assert brought_in_range(record("k", **given)) == record("k", **nearest)
    sound = record("k", checks=3)
    assert brought_in_range(sound) is sound
    marks = {name: f"<{name}>" for name in given}
    fields = {name: value for name, value in record("k").stored().items() if name != "attributes"}
    line = encode_line({"op": "put", **fields, **marks, "source": '":inf,"next_check_at":inf'})
    body = line[: line.rindex(b',"crc"')]
    for name, value in given.items():
        body = body.replace(f'"<{name}>"'.encode(), repr(value).encode())
    found = decode_record(sealed(body), "k")
    assert found is not None
    assert found == record("k", **nearest, source='":inf,"next_check_at":inf')
    assert decode_record(encode_record(found), "k") == found


def sealed(body: bytes) -> bytes:
    """Return a line with its checksum, as an earlier release would have written it."""
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))
