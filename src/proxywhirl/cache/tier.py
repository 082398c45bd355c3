"""What a tier is: the protocol that memory, JSONL and SQLite share, and the values that cross it.

One tier is the authority: it holds everything, gives each change its revision and keeps the log of
changes. The others are bounded windows on it, which keep the revisions they are given and remember up to
which one they have applied the log. Every tier can play either part.

Tiers are not thread-safe, except that `MemoryTier.get` may run beside anything: the manager's lock
guards the rest. What a tier cannot do is a `TierError`, from whatever library it came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from proxywhirl.cache.record import Record

__all__ = ["TIER_NAMES", "Access", "Applied", "Batch", "Changes", "Decision", "Tier", "TierName"]

TierName = Literal["l1", "l2", "l3"]
TIER_NAMES: tuple[TierName, ...] = get_args(TierName)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a decision wants written: whole records, and keys to delete."""

    puts: Sequence[Record] = ()
    deletes: Sequence[str] = ()


@dataclass(slots=True)
class Applied:
    """What a transaction wrote: records with their new revisions, keys that were there and went."""

    puts: list[Record] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    revision_before: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """Cache hits of one key since the last flush; `generation` is the incarnation that was hit."""

    key: str
    generation: int
    count: int
    at: float


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of the log. With `reset`, forget everything known before applying it.

    `revision` is what to ask with next. It is negative where `more` follows of a log that is read from its
    start: what was removed from it before cannot have been known to such a reader.
    """

    revision: int
    records: list[Record]
    removed: list[str]
    reset: bool = False
    more: bool = False


Decision = Callable[[Mapping[str, Record]], Batch]
"""A pure function of the records that are there now to what shall be written."""


class Tier(Protocol):
    """A store of records. Sizes leave out retired records; `get` gives them, marked."""

    @property
    def revision(self) -> int:
        """The last revision written (authority) or applied (window)."""
        ...

    @property
    def corrupted(self) -> int:
        """How many damaged records were found and set aside since opening."""
        ...

    def get(self, key: str) -> Record | None:
        """Return the record and note its use for the eviction order."""
        ...

    def peek(self, key: str) -> Record | None:
        """Return the record, noting no use."""
        ...

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records that are there, noting their use."""
        ...

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """Read `keys`, let `decide` choose, write its choice: one atomic, logged change (authority).

        Reading notes no use. A batch names each key once.
        """
        ...

    def fill(self, records: Sequence[Record], revision: int | None = None) -> list[str]:
        """Take records with the revisions they have; return the keys evicted for them (window).

        `revision` is up to where the log is applied with this; None says nothing about it.
        """
        ...

    def drop(self, keys: Collection[str], revision: int | None = None) -> list[str]:
        """Forget keys without logging it; return those that were held (window)."""
        ...

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """Add hits to the stored counts, where the generation is still the same. Never inserts."""
        ...

    def expired(self, now: float, limit: int) -> list[str]:
        """Return up to `limit` keys whose time to live has ended, without looking at the others."""
        ...

    def scan(self, after: str, limit: int) -> list[Record]:
        """Return up to `limit` records in the order of their keys, those after `after`."""
        ...

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Return a page of the log after `revision` (authority)."""
        ...

    def changed_elsewhere(self) -> bool:
        """Whether another process may have written since the last call; costs microseconds."""
        ...

    def clear(self, revision: int | None = None) -> int:
        """Forget everything, logged by the authority; return how many records were held."""
        ...

    def get_meta(self, name: str) -> str | None:
        """Return a note kept beside the records."""
        ...

    def set_meta(self, name: str, value: str) -> None:
        """Keep a note beside the records, durably where the tier is durable."""
        ...

    def close(self) -> None:
        """Give files and locks back. Idempotent."""
        ...

    def __len__(self) -> int:
        """How many records are held and served."""
        ...

    def __contains__(self, key: object) -> bool:
        """Whether a served record is held under a key; notes no use."""
        ...
