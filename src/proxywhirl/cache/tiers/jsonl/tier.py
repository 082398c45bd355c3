"""The tier in JSON lines: its index, its log and its eviction (the package says how it works)."""

from __future__ import annotations

import contextlib
import heapq
import logging
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

from proxywhirl.cache.manifest import NOTE_SUFFIX
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.change_log import ChangeLog
from proxywhirl.cache.tiers.eviction import Admission, Admitted, Standing, Uses, rank_for
from proxywhirl.cache.tiers.jsonl.directory import CaughtUp, ShardLine, Shards, shard_number
from proxywhirl.cache.tiers.jsonl.format import (
    Gone,
    Hit,
    Passed,
    Put,
    encode_evictions,
    encode_hit,
    encode_passes,
    encode_record,
    encode_removal,
)
from proxywhirl.cache.tiers.jsonl.inspect import differing, left_over, lost, mend
from proxywhirl.cache.tiers.jsonl.shard_file import Located, ShardFile
from proxywhirl.cache.tiers.memory import Expiries
from proxywhirl.cache.tiers.protocol import REPAIR, Access, Applied, Changes, Decision, Finding, Followed, Stretch
from proxywhirl.errors import TierError
from proxywhirl.state.files import explained, make_private_directory, replace_file

_log = logging.getLogger(__name__)

KEYS_IN_A_LINE = 256


class JsonlTier:
    """Records in the shards of one directory, which is made with mode 0700."""

    def __init__(
        self,
        directory: Path,
        *,
        max_entries: int | None = None,
        policy: str = "lru",
        authority: bool = False,
        fsync: bool = False,
        uses: Uses | None = None,
    ) -> None:
        self._directory = directory
        self._authority = authority
        self._policy = policy
        self._bound = max_entries
        self._rank = rank_for(policy)
        self._queue: list[tuple[Any, str]] | None = None
        self._most_queued = 0
        self._uses = uses or Uses()
        self._ticked = 0.0
        self._changes = ChangeLog()
        self._expiries = Expiries(self._expires_at)
        self._sorted: list[str] | None = None
        self._in_order = False
        self._changed = False
        self._locked = False
        with self._translated("opening"):
            make_private_directory(directory)
            self._shards = Shards(directory, fsync=fsync)
            self._files = self._shards.files
        try:
            self.changed_elsewhere()  # reads what is there
        except BaseException:
            self.close()
            raise

    @property
    def revision(self) -> int:
        return self._changes.revision

    @property
    def corrupted(self) -> int:
        return self._shards.damaged

    @property
    def patient(self) -> bool:
        return self._shards.write_lock.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._shards.write_lock.patient = patient

    def peek(self, key: str) -> Record | None:
        """See `Tier`. One that was damaged since it was indexed is counted, set aside and lost alone."""
        shard = self._files[shard_number(key)]
        located = shard.index.get(key)
        if located is None:
            return None
        try:
            record = shard.read(key, located)
        except OSError as exc:
            raise self._error("reading", exc) from exc
        return self._read_again(key, shard) if record is None else record

    get = peek

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        found = ((key, self.get(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        with self._writing():
            applied = Applied(revision_before=self.revision)
            batch = decide({key: record for key in keys if (record := self.peek(key)) is not None})
            applied.deletes = [key for key in batch.deletes if self._shards.locate(key) is not None]
            admitted = self._admit(batch.puts, self._known(batch.puts), applied.deletes)
            applied.puts, applied.evicted = list(admitted.kept.values()), list(admitted.left)
            gone = [*applied.deletes, *(key for key in applied.evicted if self._shards.locate(key) is not None)]
            first = self.revision + 1 + len(gone)
            given = [record.generation for record in applied.puts]
            for revision, record in enumerate(applied.puts, start=first):
                record.revision = revision
                record.generation = record.generation or revision
            removals = enumerate(gone, start=self.revision + 1)
            lines = [ShardLine(Gone((key,), at), encode_removal(key, at)) for at, key in removals]
            try:
                self._commit([*lines, *self._admissions(admitted)], first - 1 + len(applied.puts))
            except BaseException:
                for record, generation in zip(applied.puts, given, strict=True):
                    record.revision, record.generation = 0, generation  # it may be put again
                raise
            applied.revision = self.revision
        return applied

    def follow(self, stretch: Stretch) -> Followed | None:
        with self._writing():
            if stretch.since != self.revision:
                return None
            followed = Followed([key for key in stretch.removed if key in self])
            removed = [key for key in stretch.removed if self._shards.locate(key) is not None]
            known = self._known(stretch.records)
            records = [
                record
                for record in stretch.records
                if (stretch.admit if (held := known.get(record.key)) is None else not _is_same(held, record))
            ]
            admitted = self._admit(records, known, removed)
            followed.evicted = list(admitted.left)
            lines = [*self._evictions([*removed, *followed.evicted]), *self._admissions(admitted)]
            self._commit(lines, stretch.revision)
            return followed

    def fill(self, records: Sequence[Record], revision: int) -> list[str] | None:
        with self._writing():
            if self.revision > revision:
                return None
            known = self._known(records)
            news = [r for r in records if (held := known.get(r.key)) is None or held.revision < r.revision]
            admitted = self._admit(news, known)
            self._commit([*self._evictions(admitted.left), *self._admissions(admitted)], self.revision)
            return list(admitted.left)

    def drop(self, keys: Collection[str]) -> list[str]:
        with self._writing():
            held = [key for key in keys if key in self]
            self._commit(self._evictions(keys), self.revision)
            return held

    def touch_many(self, accesses: Sequence[Access]) -> None:
        with self._writing():
            lines: list[ShardLine] = []
            for access in accesses:
                held = self._shards.locate(access.key)
                if held is not None and held.standing.generation == access.generation:
                    hit = Hit((access.key,), access.generation, access.count, access.at)
                    lines.append(ShardLine(hit, encode_hit(access)))
            self._commit(lines, self.revision)

    def standings(self) -> dict[str, Standing]:
        return {key: where.standing for key, where in self._shards.located()}

    def take_standings(self, standings: Mapping[str, Standing]) -> None:
        with self._writing():
            for key, standing in standings.items():
                if (where := self._shards.locate(key)) is not None:
                    where.standing, where.moved = standing, True
                    self._note_standing(key, standing)
            revision = self.revision
            self._shards.rewrite(self._shards.files, revision, self._floor(revision), self._changes.removals())

    def expired(self, now: float, limit: int) -> list[str]:
        return self._expiries.due(now, limit)

    def scan(self, after: str, limit: int) -> list[Record]:
        """See `Tier`. The order of the keys is kept until one comes or goes."""
        if self._sorted is None:
            self._sorted = sorted(key for key, _ in self._shards.located())
        keys = self._sorted
        later = (keys[n] for n in range(bisect_right(keys, after), len(keys)))
        found = (record for key in later if (record := self.peek(key)) is not None)
        return list(islice(found, limit))

    def changes_since(self, revision: int, limit: int) -> Changes:
        return self._changes.page(revision, limit, self.peek)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: two system calls where nothing changed."""
        with self._translated("looking at"):
            behind = self._shards.is_behind()
        if behind:
            with self._writing():
                pass  # catching up is all
        changed, self._changed = self._changed, False
        return changed

    def clear(self, revision: int | None = None) -> int:
        with self._writing():
            held = len(self)
            reached = self.revision if revision is None else revision
            if self._authority:
                self._changes.restart(revision or 0)
                reached = self.revision
            self._changes.revision = reached
            self._shards.clear(reached, self._floor(reached))
            self._queue = None
            self._sorted = None
            return held

    def get_meta(self, name: str) -> str | None:
        """See `Tier`: each note is a small file; what damage made unreadable is unlike all that was written."""
        with self._translated("reading"), contextlib.suppress(FileNotFoundError):
            return self._note(name).read_bytes().decode(errors="replace")
        return None

    def set_meta(self, name: str, value: str | None) -> None:
        with self._writing():
            if value is None:
                self._note(name).unlink(missing_ok=True)
            else:
                replace_file(self._note(name), value.encode())

    def metas(self, prefix: str) -> dict[str, str]:
        with self._translated("reading"):
            paths = sorted(self._directory.glob(f"{prefix}*{NOTE_SUFFIX}"))
        notes = {name: self.get_meta(name) for name in (path.name.removesuffix(NOTE_SUFFIX) for path in paths)}
        return {name: value for name, value in notes.items() if value is not None}

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """See `Tier`: reads every file from its start."""
        with self._writing():
            gone = lost(self._shards, authority=self._authority)
            files = differing(self._shards)
            around = left_over(self._directory)
            if repair:
                for shard, _ in files:
                    self._shards.reread(shard)
                self._catch_up()
                self._shards.lost.clear()  # it is told of below
                mend(around)
            where = {finding.where for _, finding in (*files, *around) if repair and finding.advice.startswith(REPAIR)}
            found = [replace(finding, repaired=finding.where in where) for _, finding in (*files, *around)]
            return [*gone, *found]

    def abandon(self) -> None:
        """Give descriptors back in a child process; the lock stays with the parent, which may hold it."""
        self._shards.close()

    def close(self) -> None:
        self._shards.close()

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, key: object) -> bool:
        located = self._shards.locate(key) if isinstance(key, str) else None
        return located is not None and not located.retired

    def _note(self, name: str) -> Path:
        return self._directory / f"{name}{NOTE_SUFFIX}"

    def _expires_at(self, key: str) -> float | None:
        located = self._shards.locate(key)
        return None if located is None else located.expires_at

    def _known(self, records: Iterable[Record]) -> dict[str, Located]:
        """Return where the records are that are held already."""
        locate = self._shards.locate
        return {record.key: where for record in records if (where := locate(record.key)) is not None}

    def _error(self, doing: str, exc: OSError) -> TierError:
        return TierError(explained(exc, doing, self._directory))

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._error(doing, exc) from exc

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the directory's lock, caught up with what others wrote."""
        with self._translated("writing to"):
            self._shards.lock()
            self._locked = True
            try:
                self._catch_up()
                yield
            except BaseException:
                self._in_order = False  # the log may name keys that were not written
                self._queue = None
                raise
            finally:
                self._locked = False
                self._shards.unlock()

    def _catch_up(self) -> None:
        caught = self._shards.catch_up()
        if caught is not None:
            self._changed = True
            self._sorted = None
            self._in_order = self._in_order and not caught.fresh
            self._take_position(caught)
            for op, key, revision in caught.lines:
                located = self._shards.locate(key)
                if located is not None:
                    self._note_standing(key, located.standing)
                if op in {"put", "del"}:
                    self._note_change(key, revision, located.expires_at if op == "put" and located else None)
            self._uses.see(self._ticked)
            self._shards.finish(caught, self.revision, self._floor(self.revision), self._changes.removals())
        if not self._in_order:
            self._restore_order()

    def _take_position(self, caught: CaughtUp) -> None:
        """Take the writers' revision; after a loss, one from which nothing will be missed."""
        revision, floor = caught.revision, max(caught.floor, self._changes.floor)
        if not self._authority:
            revision, floor = caught.mark.revision if caught.mark is not None else 0, 0
            if caught.right_at is not None:
                revision = min(revision, caught.right_at)
        else:
            revision = max(revision, self.revision)
            if revision and (caught.mark is None or caught.right_at is not None):
                revision = floor = revision + 1
        self._changes.revision, self._changes.floor = revision, floor

    def _floor(self, revision: int) -> int:
        """Return from where on the log is whole when it stands at a revision: a window keeps none."""
        return self._changes.floor if self._authority else revision

    def _read_again(self, key: str, shard: ShardFile) -> Record | None:
        """Read a shard again that has a damaged line; damaged lines are set aside."""
        self._shards.reread(shard)
        if self._locked:
            self._catch_up()
        else:
            with self._writing():
                pass
        located = shard.index.get(key)
        with self._translated("reading"):
            return None if located is None else shard.read(key, located)

    def _restore_order(self) -> None:
        """Order the log as it was written."""
        self._queue = None
        if self._authority:
            located = dict(self._shards.located())
            changes = [(key, where.revision, False) for key, where in located.items()]
            changes += [(key, at, True) for key, at in self._changes.removals() if key not in located]
            self._changes.restore(changes, revision=self.revision, floor=self._changes.floor)
        self._in_order = True

    def _commit(self, lines: Iterable[ShardLine], revision: int) -> None:
        """Write lines, and stand at a revision then; rewrite files that are mostly outdated."""
        written = list(lines)
        if not written and revision == self.revision:
            return
        wasteful = self._shards.commit(written, revision, self._floor(revision))
        for change, _ in written:  # before a file is rewritten: it has the removals of the log
            for key in change.keys:
                if isinstance(change, Put):
                    self._note_standing(key, change.standing)
                    self._note_change(key, change.revision, change.expires_at)
                elif not isinstance(change, Gone):
                    if (located := self._shards.locate(key)) is not None:
                        self._note_standing(key, located.standing)
                elif change.revision < inf:  # no eviction is in the log
                    self._note_change(key, int(change.revision), None)
        self._changes.revision = revision
        self._sorted = None
        if wasteful:
            try:
                self._shards.rewrite(wasteful, revision, self._floor(revision), self._changes.removals())
            except OSError as exc:  # everything is written: a failure costs only space
                self._shards.reread()
                _log.warning("outdated lines in %s could not be removed: %s", self._directory, exc.strerror or exc)

    def _evictions(self, keys: Iterable[str]) -> Iterator[ShardLine]:
        """Make the lines of the keys that are in the window and leave it."""
        for group in _by_shard(key for key in keys if self._shards.locate(key) is not None):
            yield ShardLine(Gone(group), encode_evictions(group))

    def _note_change(self, key: str, revision: int, expires_at: float | None) -> None:
        """Bring the log in line with what is in a file: a record that ends, or none any more."""
        if self._authority:
            self._changes.note(key, revision, removed=expires_at is None)
            if expires_at is not None:
                self._expiries.add(key, expires_at)

    def _note_standing(self, key: str, standing: Standing) -> None:
        """Give a key its place in the queue to leave; its earlier place is skipped when it comes up."""
        self._ticked = max(self._ticked, standing.used)
        if self._queue is not None:
            heapq.heappush(self._queue, (self._rank(standing), key))
            if len(self._queue) > self._most_queued:
                self._queue = None

    def _in_order_of_leaving(self, given: list[tuple[Any, str]]) -> Iterator[tuple[str, Standing]]:
        """Give all stored keys in the order of the policy; those in `given` are then no longer in the queue."""
        if self._queue is None:
            self._queue = [(self._rank(where.standing), key) for key, where in self._shards.located()]
            heapq.heapify(self._queue)
            self._most_queued = 2 * len(self._queue) + 1_000
        queue = self._queue
        while queue:
            rank, key = queue[0]
            located = self._shards.locate(key)
            if located is not None and self._rank(located.standing) == rank:
                yield key, located.standing
                given.append(queue[0])
            heapq.heappop(queue)

    def _admit(self, records: Sequence[Record], held: Mapping[str, Located], gone: Collection[str] = ()) -> Admitted:
        """Choose which entries leave for these records; some are `held` already, and those of `gone` have left."""
        number = 0 if self._bound is None else self._shards.number() - len(gone)
        if not records and (self._bound is None or number <= self._bound):
            return Admitted(self._ticked)
        known = {record.key: held[record.key].standing for record in records if record.key in held}
        given: list[tuple[Any, str]] = []
        admission = Admission(
            self._policy,
            self._bound,
            self._uses,
            number=number,
            ticked=self._ticked,
            known=known,
            stored=self._in_order_of_leaving(given),
            keys=(key for key, _ in self._shards.located()),
            gone=gone,
        )
        admitted = admission.admit(records)
        if self._queue is not None:
            for place in given:  # a key that leaves all the same is skipped later
                heapq.heappush(self._queue, place)
        return admitted

    def _admissions(self, admitted: Admitted) -> Iterator[ShardLine]:
        """Make the lines of the entries that the hand has passed, and of those that come in."""
        spared = {key: standing for key, standing in admitted.spared.items() if key not in admitted.kept}
        for group in _by_shard(spared) if spared else ():
            at = max(spared[key].passed for key in group)
            yield ShardLine(Passed(group, at), encode_passes(group, at))
        for key, record in admitted.kept.items():
            arrived, _, used, at, count, passed, lap = admitted.standings[key]
            standing = Standing(arrived, record.generation, used, at, count, passed, lap)
            put = Put((key,), record.revision, record.expires_at, record.retired, standing)
            yield ShardLine(put, encode_record(record, standing))


def _is_same(held: Located, record: Record) -> bool:
    return (held.revision, held.standing.generation) == (record.revision, record.generation)


def _by_shard(keys: Iterable[str]) -> Iterator[list[str]]:
    """Give keys in groups, each for a line of one shard."""
    by_shard: dict[int, list[str]] = {}
    for key in keys:
        by_shard.setdefault(shard_number(key), []).append(key)
    for group in by_shard.values():
        for n in range(0, len(group), KEYS_IN_A_LINE):
            yield group[n : n + KEYS_IN_A_LINE]
