"""What a tier promises, and the values that cross its border (see the package for authority, window and revisions).

Tiers are not thread-safe, except that `MemoryTier.get` may run beside anything: a lock for each tier guards the rest.
A failure is a `TierError`, whatever its library raised. A value that the tier cannot hold is an `UnstorableValue`,
which names the entry: the tier is well, and the caller is told. Anything else that it raises counts as a failure too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

from proxywhirl.cache.record import Record

TierName = Literal["l1", "l2", "l3"]
TIER_NAMES: tuple[TierName, ...] = get_args(TierName)


@dataclass(frozen=True, slots=True)
class Batch:
    """A decision: whole records to write, and keys to delete."""

    puts: Sequence[Record] = ()
    deletes: Sequence[str] = ()


@dataclass(slots=True)
class Applied:
    """The result of a transaction: records with their new revisions, keys that were there and were removed."""

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

    `revision` is what to ask with next. It is negative where `more` follows of a log that is read from its start:
    such a reader cannot know the keys that were removed before.
    """

    revision: int
    records: list[Record]
    removed: list[str]
    reset: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the log for a window: what changed after `since`, up to and with `revision`.

    `records` replace what a window holds of them; with `admit` they enter where it holds nothing. `removed` are
    gone, for whatever reason. A key is in one of the two, once.
    """

    since: int
    revision: int
    records: Sequence[Record] = ()
    removed: Collection[str] = ()
    admit: bool = False


@dataclass(slots=True)
class Followed:
    """What a stretch did to a window: which of the removed keys it served, which keys left for new ones."""

    held: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a store: where, what, what to do, and whether it was mended."""

    where: str
    what: str
    advice: str
    repaired: bool = False


REPAIR = "run `proxywhirl doctor --repair`"
"""The advice where a repair mends what is found."""

Decision = Callable[[Mapping[str, Record]], Batch]
"""A pure function of the records that are there now to what shall be written."""


class Tier(Protocol):
    """A store of records. Sizes leave out retired records; `get` gives them, marked."""

    @property
    def revision(self) -> int:
        """The last revision written (authority) or applied (window)."""

    @property
    def corrupted(self) -> int:
        """How many damaged records were found and set aside since opening."""

    def get(self, key: str) -> Record | None:
        """Return the record. A tier in memory notes its use; others are told of uses by `touch_many`."""

    def peek(self, key: str) -> Record | None:
        """Return the record, noting no use."""

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records that are there, as `get` does."""

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """Read `keys`, let `decide` choose, write its choice: one atomic, logged change (authority).

        Each record of `puts` is given the next revision. One whose `generation` is 0 comes in new, and is given the
        same for that; any other keeps its generation.

        Reading notes no use. A batch names each key once. A record that cannot be held is an `UnstorableValue` with
        its key, and nothing of the batch is written.
        """

    def follow(self, stretch: Stretch) -> Followed | None:
        """Apply a part of the log and stand at its end; None, and nothing done, unless `revision == since` (window).

        Check and change are one step for every process that shares the tier. A record that cannot be held may be an
        `UnstorableValue`, with nothing done: the stretch comes again without it.
        """

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        """Take records read when the log stood at `revision`; return the keys evicted for them (window).

        None, and nothing done, where the window has applied a later part of the log: it may know better. A
        record that is held already in the same or a later revision is left alone. `revision` itself is not stored. What
        cannot be held is refused as by `follow`.
        """

    def drop(self, keys: Collection[str]) -> list[str]:
        """Forget keys without logging it; return those that were held and served (window)."""

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """Add hits to the stored counts, where the generation is still the same, and note the uses. Never inserts.

        A count stays at the largest number that the tier can store.
        """

    def expired(self, now: float, limit: int) -> list[str]:
        """Return up to `limit` keys with `expires_at <= now`, without looking at the others.

        A record that expires at `NEVER_TIMESTAMP` never does, whatever `now` is.
        """

    def scan(self, after: str, limit: int) -> list[Record]:
        """Return up to `limit` records in the order of their keys, those after `after`."""

    def changes_since(self, revision: int, limit: int) -> Changes:
        """Return a page of the log after `revision` (authority)."""

    def changed_elsewhere(self) -> bool:
        """Whether another process may have written since the last call; costs microseconds."""

    def clear(self, revision: int | None = None) -> int:
        """Forget everything; return how many records were held and served.

        The authority logs it, with a new revision of at least `revision`. A window stands at `revision` then,
        even where it was past it.
        """

    def get_meta(self, name: str) -> str | None:
        """Return a note kept beside the records."""

    def set_meta(self, name: str, value: str | None) -> None:
        """Keep a note beside the records, durably where the tier is durable; None removes it."""

    def metas(self, prefix: str) -> dict[str, str]:
        """Return the notes whose names begin with `prefix`, by name. Names are made of `a-z0-9_.-`."""

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """Compare what the tier knows with what is stored, all of it; with `repair`, mend what can be mended."""

    def close(self) -> None:
        """Give files and locks back. Idempotent."""

    def __len__(self) -> int:
        """How many records are held and served."""

    def __contains__(self, key: object) -> bool:
        """Whether a served record is held under a key; notes no use."""


def pages(scan: Callable[[str], list[Record]]) -> Iterator[list[Record]]:
    """Yield what `scan` gives after "", and after the last key of each page, until a page is empty."""
    after = ""
    while page := scan(after):
        yield page
        after = page[-1].key


CopyOf = Callable[[str, int], Record | None]
"""From a key and a revision to a sound copy of that record, None where no other tier has one."""


@runtime_checkable
class Salvaging(Protocol):
    """What a tier may offer beside `Tier` that may lose single records to damage: where it asks for their copies."""

    copy_of: CopyOf | None


@runtime_checkable
class Patient(Protocol):
    """What a tier may offer beside `Tier` that shares its store with other processes.

    With `patient`, a write waits for theirs. Without it, such a write raises `TierBusyError` at once: the caller waits,
    and reads of this process go on meanwhile.
    """

    patient: bool


SketchRow = tuple[str, str, str, int, int]
"""The sketch of a record: key, URL, traits, standing, revision.

Its traits are "STATUS CREDENTIAL ATTRIBUTES\nSOURCE", where CREDENTIAL is 1 or 0 and ATTRIBUTES are JSON without a
line break, or nothing. Its standing is one of the three below: gone, serving, or set aside since it is dead or retired.
"""
GONE, SERVING, ASIDE = range(3)


class Sketches(NamedTuple):
    """A page of the log in the rows of `Sketching`, with what `Changes` says of it."""

    rows: Sequence[SketchRow]
    revision: int
    removed: Sequence[str]
    reset: bool
    more: bool


@runtime_checkable
class Sketching(Protocol):
    """What a tier may offer beside `Tier`, where it reads a part of a record in less time than the whole."""

    def sketches_since(self, revision: int, limit: int, now: float) -> Sketches:
        """Return of each record of `changes_since` its sketch at a time."""
