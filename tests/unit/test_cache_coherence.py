"""What is changed while the tiers are looked at: no read may bring back what the log has told already."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from proxywhirl.cache.coordination.reads import Reader
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.record import Record
from proxywhirl.cache.statistics import Counters
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch, Changes, Tier, TierName
from proxywhirl.testing import ManualClock


class Interrupted(MemoryTier):
    """A tier in memory during whose calls something happens: before its log is read, after records were."""

    def __init__(self, *, authority: bool = False) -> None:
        super().__init__(authority=authority)
        self.before_log: list[Callable[[], object]] = []
        self.after_read: list[Callable[[], object]] = []

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Read the log after what happens first."""
        if self.before_log:
            self.before_log.pop(0)()
        return super().changes_since(revision, limit)

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Read records before what happens then."""
        found = super().get_many(keys)
        if self.after_read:
            self.after_read.pop(0)()
        return found


class Stack:
    """Three tiers, and another process that shares the two lower ones."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=1e9)
        self.l2, self.l3 = Interrupted(), Interrupted(authority=True)
        self.stack = self._over([("l1", MemoryTier(max_entries=1)), ("l2", self.l2), ("l3", self.l3)])
        self.other = self._over([("l3", self.l3)])  # one that has not told the second tier yet

    def _over(self, tiers: list[tuple[TierName, Tier]]) -> TierStack:
        return TierStack(tiers, clock=self.clock, counters=Counters(enabled=True))

    def put(self, key: str, source: str = "s") -> None:
        """Write a record."""
        record = Record(key, "http://192.0.2.1:80", source, 0.0, 0, 2e9, 0.0)
        assert self.stack.commit([], lambda _: Batch(puts=[record]), admit=True) is not None

    def sources(self, *keys: str) -> dict[str, str]:
        """Read the sources of records."""
        return {record.key: record.source for record in Reader(self.stack).read_many(keys, 1e9)[0]}


def nothing() -> None:
    """Let a call pass."""


@pytest.mark.parametrize("call", range(4))
def test_what_another_deletes_while_the_log_is_followed_is_not_read_from_a_window(call: int) -> None:
    """At whichever reading of the log it happens: where memory has followed it, the second tier has as well."""
    stack = Stack()
    stack.put("a")
    stack.put("b")  # for which "a" leaves the first tier
    stack.stack.refresh()
    assert "a" in stack.l2

    def delete() -> None:
        stack.other.commit([], lambda _: Batch(deletes=["a"]), admit=False)

    stack.l3.before_log = [*[nothing] * call, delete]
    stack.other.commit([], lambda _: Batch(deletes=["c"]), admit=False)
    stack.stack.follow_log()
    followed = stack.stack.near_cache.revision == stack.l3.revision and "a" not in stack.l3
    assert not followed or stack.sources("a") == {}
    stack.l3.before_log.clear()
    stack.stack.follow_log()
    assert stack.l3.peek("a") is not None or Reader(stack.stack).read("a", 1e9) is None


def test_a_batch_that_is_written_while_it_is_read_around_is_not_missed() -> None:
    """Reading several keys finds what waits for the second tier, though it is written there between two looks."""
    stack = Stack()
    stack.put("a", "old")
    stack.stack.refresh()
    stack.put("a", "new")
    stack.put("b")  # for which "a" leaves the first tier; both wait for the second one
    stack.l2.after_read = [stack.stack.refresh]
    assert stack.sources("a") == {"a": "new"}
