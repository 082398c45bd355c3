"""What all clauses need: tiers to try, records to put into them, and a way to say what is wrong.

Nothing here asserts: a broken clause raises `AssertionError` itself, so that it does under `python -O` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.protocol import Access, Applied, Batch, Tier

T = TypeVar("T")
LONGEST_SCAN = 100_000
LONGEST_READING = 1_000

hit_times = count(4e9)
"""The times of hits, in Unix seconds: later than any write, and each later than the one before."""


class Clauses:
    """The tiers of one test: made on demand, closed when it ends.

    `stores_hits` is False for a tier whose owner counts hits in the records themselves.
    """

    stores_hits = True

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make a new, empty tier; the subclass says how."""
        raise NotImplementedError(
            f"{type(self).__name__} must say how a tier is made: define make_tier(self, *, authority, "
            'max_entries=None, policy="lru"), which returns a new and empty one each time'
        )

    def teardown_method(self) -> None:
        """Close what the test has opened, and remove its folders."""
        self._held.close()

    def hold(self, tier: Tier) -> Tier:
        """Close a tier when the test ends."""
        self._held.callback(tier.close)
        return tier

    def new_folder(self) -> Path:
        """Make an empty folder that is removed when the test ends."""
        return Path(self._held.enter_context(TemporaryDirectory(prefix="proxywhirl-tier-")))

    def authority(self, *, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make an empty authority."""
        return self.hold(self.make_tier(authority=True, max_entries=max_entries, policy=policy))

    def window(self, *, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Make an empty window."""
        return self.hold(self.make_tier(authority=False, max_entries=max_entries, policy=policy))

    def use(self, tier: Tier, name: str, *, many: bool = False) -> None:
        """Read a record, and tell of it as the cache does, which writes hits later."""
        found = tier.get_many([name]).get(name) if many else tier.get(name)
        if found is not None and self.stores_hits:
            tier.touch_many([Access(name, found.generation, 1, next(hit_times))])

    @cached_property
    def _held(self) -> ExitStack:
        return ExitStack()


def expect(holds: object, broken: str) -> None:
    """Raise `AssertionError` with what is broken, unless it holds."""
    if not holds:
        raise AssertionError(broken)


def same(found: object, expected: object, what: str) -> None:
    """Raise `AssertionError` unless two values are equal."""
    if found != expected:
        raise AssertionError(f"{what}: expected {_shown(expected)}, got {_shown(found)}")


def there(value: T | None, what: str) -> T:
    """Return a value that must be there."""
    if value is None:
        raise AssertionError(f"{what}: expected something, got None")
    return value


def _shown(value: object) -> str:
    """Spell a value; a record, whose `repr` names it only, with all its columns."""
    return str(value.stored()) if isinstance(value, Record) else repr(value)


def record(key: str, *, revision: int = 0, at: float = 1000.0) -> Record:
    """Make a record that lives for a minute; `at` is when it was fetched and used, in Unix seconds."""
    return Record(
        key=key,
        url=f"http://192.0.2.1:{1000 + len(key)}",
        source="a source",
        fetched_at=at,
        ttl=60,
        expires_at=at + 60,
        accessed_at=at,
        revision=revision,
        generation=revision,
    )


def full(key: str, *, revision: int = 0) -> Record:
    """Make a record in which no column has its default."""
    return Record(
        key=key,
        url="socks5://[2001:db8::1]:1080",
        source="quelle ünï ☃ \u2028 \U0001f9ea",
        fetched_at=1.25,
        ttl=7,
        expires_at=NEVER_TIMESTAMP,
        accessed_at=1_735_689_600.123456,
        access_count=2**40,
        status="degraded",
        failure_count=4,
        last_check_at=5.125,
        check_failures=6,
        check_successes=8,
        recovery_attempt=9,
        next_check_at=10.5,
        error='"quoted"\r\nand \\ more\x00',
        checks=11,
        failed_checks=12,
        attributes='{"country":"DE","tags":["a","b"]}',
        sealed="up:token",
        retired=True,
        revision=revision,
        generation=revision,
    )


def put(tier: Tier, *records: Record) -> Applied:
    """Write records into an authority."""
    return tier.transact([], lambda _: Batch(puts=[replace(each) for each in records]))


def delete(tier: Tier, *names: str) -> Applied:
    """Delete keys from an authority."""
    return tier.transact([], lambda _: Batch(deletes=list(names)))


def keys(records: Sequence[Record]) -> list[str]:
    """Name records."""
    return [each.key for each in records]


def all_records(tier: Tier, page: int = 100) -> dict[str, Record]:
    """Return what a tier holds, retired records too, read in pages; noting no use."""
    found: list[Record] = []
    while records := tier.scan(found[-1].key if found else "", page):
        expect(len(records) <= page, f"scan gave {len(records)} records where {page} were asked for")
        found += records
        expect(len(found) < LONGEST_SCAN, "the pages of scan never end: each must begin after the given key")
    same(keys(found), sorted(set(keys(found))), "scan gives each key once, in order")
    return {each.key: each for each in found}


@dataclass(slots=True)
class LogReader:
    """A reader of the log, and what it knows by it. `revision` is what it asks with next."""

    revision: int = 0
    known: dict[str, Record] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    resets: int = 0

    def read_page(self, tier: Tier, limit: int) -> bool:
        """Read one page, apply it, and return whether more follow."""
        changes = tier.changes_since(self.revision, limit)
        expect(len(changes.records) <= limit, f"a page of {limit} has {len(changes.records)} records")
        names = [*keys(changes.records), *changes.removed]
        same(len(set(names)), len(names), f"how often each key is in one page: {names}")
        if changes.reset:
            self.known.clear()
            self.removed.clear()
            self.resets += 1
        for each in changes.records:
            self.known[each.key] = replace(each)
        for name in changes.removed:
            self.known.pop(name, None)
        self.removed |= set(changes.removed)
        self.revision = changes.revision
        return changes.more

    def read(self, tier: Tier, limit: int) -> None:
        """Read to the end of the log, which the last page names."""
        for _ in range(LONGEST_READING):
            if not self.read_page(tier, limit):
                break
        else:
            raise AssertionError("the pages of the log never end")
        same(self.revision, tier.revision, "the revision of the last page")
