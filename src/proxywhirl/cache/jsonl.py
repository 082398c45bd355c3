"""The JSONL tier: append-only sharded files that people and `jq` can read.

Rules: every write happens under the directory's lock, after catching up with what other processes
appended; a line is never changed in place; a shard whose lines are mostly outdated is rewritten into a new
file that replaces the old one by an atomic rename, so a reader always sees one or the other.
Only the index is in memory: a record is read from its line when it is asked for.
"""

from __future__ import annotations

import contextlib
import heapq
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from proxywhirl.cache.eviction import ORDERS, admit
from proxywhirl.cache.expiry import Expiries
from proxywhirl.cache.journal import Journal
from proxywhirl.cache.record import Record
from proxywhirl.cache.shard import keys_of, put_fields
from proxywhirl.cache.shardfile import Located, News, ShardFile
from proxywhirl.cache.tier import Access, Applied, Changes, Decision
from proxywhirl.errors import TierError
from proxywhirl.state.directory import make_private_directory

__all__ = ["JsonlTier"]

SHARDS = 16
LOCK_TIMEOUT_SECONDS = 10.0

Line = dict[str, Any]


def _shard_number(key: str) -> int:
    return zlib.crc32(key.encode()) % SHARDS


class JsonlTier:
    """Records in `SHARDS` files of one directory, which is made with mode 0700."""

    def __init__(
        self,
        directory: Path,
        *,
        max_entries: int | None = None,
        policy: str = "lru",
        authority: bool = False,
        fsync: bool = False,
    ) -> None:
        self._directory = directory
        self._bound = max_entries
        self._authority = authority
        self._policy = policy
        self._order = ORDERS[policy]()
        self._journal = Journal()
        self._expiries = Expiries(self._expires_at)
        self._in_order = False
        self._changed = False
        self.corrupted = 0
        with self._translated("opening"):
            make_private_directory(directory)
            self._lock = FileLock(directory / ".lock", timeout=LOCK_TIMEOUT_SECONDS, mode=0o600)
        self._shards = [ShardFile(directory / f"shard-{n:02x}.jsonl", fsync=fsync) for n in range(SHARDS)]
        try:
            self.changed_elsewhere()  # reads what is there
        except BaseException:
            self.close()
            raise

    @property
    def revision(self) -> int:
        """See `Tier`."""
        return self._journal.revision

    def get(self, key: str) -> Record | None:
        """See `Tier`."""
        record = self.peek(key)
        if record is not None:
            self._order.touch(key)
        return record

    def peek(self, key: str) -> Record | None:
        """See `Tier`. One that was damaged since it was indexed is counted, set aside and lost alone."""
        shard = self._shard(key)
        if key not in shard.index:
            return None
        with self._translated("reading"):
            record = shard.read(key)
            if record is None:
                self.corrupted += 1
                self._order.discard(key)
                shard.lose(key)
        return record

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`."""
        found = ((key, self.get(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """See `Tier`."""
        with self._writing():
            applied = Applied(revision_before=self.revision)
            batch = decide({key: record for key in keys if (record := self.peek(key)) is not None})
            applied.deletes = [key for key in batch.deletes if self._located(key) is not None]
            self._append([(key, self._removal(key)) for key in applied.deletes])
            applied.puts, applied.evicted = self._make_room(batch.puts)
            for record in applied.puts:
                record.revision = self._journal.next()
                record.generation = record.generation or record.revision
            self._append([(record.key, put_fields(record)) for record in applied.puts])
            applied.revision = self.revision
        return applied

    def fill(self, records: Sequence[Record], revision: int | None = None) -> list[str]:
        """See `Tier`."""
        with self._writing():
            kept, evicted = self._make_room(records)
            self._append([(record.key, put_fields(record)) for record in kept])
            self._follow(revision)
            return evicted

    def drop(self, keys: Collection[str], revision: int | None = None) -> list[str]:
        """See `Tier`."""
        with self._writing():
            held = [key for key in keys if self._located(key) is not None]
            if revision is None:
                self._evict(held)
            else:
                self._append([(key, {"op": "del", "key": key, "revision": revision}) for key in held])
            self._follow(revision)
            return held

    def touch_many(self, accesses: Sequence[Access]) -> None:
        """See `Tier`."""
        with self._writing():
            lines: list[tuple[str, Line]] = []
            for a in accesses:
                located = self._located(a.key)
                if located is not None and located.generation == a.generation:
                    hit = {
                        "op": "hit",
                        "key": a.key,
                        "generation": a.generation,
                        "count": a.count,
                        "at": a.at,
                    }
                    lines.append((a.key, hit))
            self._append(lines)

    def expired(self, now: float, limit: int) -> list[str]:
        """See `Tier`."""
        return self._expiries.due(now, limit)

    def scan(self, after: str, limit: int) -> list[Record]:
        """See `Tier`."""
        later = (key for shard in self._shards for key in shard.index if key > after)
        return [record for key in heapq.nsmallest(limit, later) if (record := self.peek(key)) is not None]

    def changes_since(self, revision: int, limit: int) -> Changes:
        """See `Tier`."""
        return self._journal.page(revision, limit, self.peek)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: one `stat` for each shard."""
        with self._translated("looking at"):
            behind = any(shard.is_behind() for shard in self._shards)
        if behind:
            with self._writing():
                pass  # catching up is all
        changed, self._changed = self._changed, False
        return changed

    def clear(self, revision: int | None = None) -> int:
        """See `Tier`."""
        with self._writing():
            held = len(self)
            if self._authority:
                self._journal.restart()
            self._follow(revision)
            for shard in self._shards:
                shard.index.clear()
                shard.rewrite([], revision=self.revision, floor=self._journal.floor)
            self._order = ORDERS[self._policy]()
            return held

    def get_meta(self, name: str) -> str | None:
        """See `Tier`: each note is a small file beside the shards."""
        path = self._directory / f"{name}.meta"
        with self._translated("reading"):
            return path.read_text(encoding="utf-8") if path.exists() else None

    def set_meta(self, name: str, value: str) -> None:
        """See `Tier`."""
        path = self._directory / f"{name}.meta"
        temporary = path.with_suffix(".tmp")
        with self._writing():
            temporary.touch(mode=0o600)
            temporary.write_text(value, encoding="utf-8")
            temporary.replace(path)

    def close(self) -> None:
        """See `Tier`."""
        for shard in self._shards:
            shard.close()

    def __len__(self) -> int:
        return sum(len(shard.index) - shard.retired for shard in self._shards)

    def __contains__(self, key: object) -> bool:
        located = self._located(key) if isinstance(key, str) else None
        return located is not None and not located.retired

    def _shard(self, key: str) -> ShardFile:
        return self._shards[_shard_number(key)]

    def _located(self, key: str) -> Located | None:
        return self._shard(key).index.get(key)

    def _expires_at(self, key: str) -> float | None:
        located = self._located(key)
        return None if located is None else located.expires_at

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Timeout as exc:
            wait = f"{LOCK_TIMEOUT_SECONDS:g} s"
            raise TierError(f"{self._directory} stayed locked by another process for {wait}") from exc
        except OSError as exc:
            raise TierError(f"{doing} {self._directory} failed: {exc.strerror or exc}") from exc

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the directory's lock, caught up with what others wrote."""
        with self._translated("writing to"), self._lock:
            try:
                self._catch_up()
                if not self._in_order:
                    self._restore_order()
                yield
            except BaseException:
                self._in_order = False  # the order may name keys that were not written
                raise

    def _catch_up(self) -> None:
        found = [(shard, news) for shard in self._shards if (news := shard.catch_up()) is not None]
        self._changed = self._changed or bool(found)
        for _, news in found:
            self._journal.revision = max(self._journal.revision, news.revision)
            self._journal.floor = max(self._journal.floor, news.floor)
            self._in_order = self._in_order and not news.fresh
        lines = [line for _, news in found for line in news.lines]
        for op, key, revision in sorted(lines, key=lambda line: line[2]):  # the log is one, the shards are many
            self._follow_line(op, key, revision)
        for op, key, _ in lines:
            self._follow_use(op, key)
        for shard, news in found:
            self._contain(shard, news)

    def _contain(self, shard: ShardFile, news: News) -> None:
        """Count damaged lines, keep them aside, and bring the file in order."""
        if lost := news.damaged + news.torn:
            self.corrupted += len(lost)
            shard.set_aside(lost)
        if news.damaged:
            self._compact(shard)

    def _restore_order(self) -> None:
        """Order the keys as their lines say they were used, and the log as it was written."""
        located = {key: where for shard in self._shards for key, where in shard.index.items()}
        if self._bound is not None:
            self._order = ORDERS[self._policy]()
            self._order.restore(where.usage(key) for key, where in located.items())
        if self._authority:
            changes = [(key, where.revision, False) for key, where in located.items()]
            changes += [(key, at, True) for key, at in self._journal.removals() if key not in located]
            self._journal.restore(changes, revision=self.revision, floor=self._journal.floor)
        self._in_order = True

    def _append(self, lines: Iterable[tuple[str, Line]]) -> None:
        """Write lines, each into the shard of its key."""
        by_shard: dict[int, list[Line]] = {}
        placed = [(_shard_number(key), fields) for key, fields in lines]
        for number, fields in placed:
            by_shard.setdefault(number, []).append(fields)
        written: set[int] = set()
        try:
            for number, group in by_shard.items():
                self._shards[number].append(group, revision=self.revision, floor=self._journal.floor)
                written.add(number)
        finally:  # what is in a file is in the log, even where the disk was full for the rest
            self._follow_own(fields for number, fields in placed if number in written)
        for number in by_shard:
            if self._shards[number].is_wasteful():
                self._compact(self._shards[number])

    def _follow_own(self, lines: Iterable[Line]) -> None:
        for fields in lines:
            for key in keys_of(fields):
                self._follow_line(fields["op"], key, fields.get("revision", 0))
                if fields["op"] != "put":  # `admit` has noted the use of those
                    self._follow_use(fields["op"], key)

    def _evict(self, keys: Iterable[str]) -> None:
        """Let keys leave the window: one line for each shard."""
        by_shard: dict[int, list[str]] = {}
        for key in keys:
            by_shard.setdefault(_shard_number(key), []).append(key)
        self._append([(group[0], {"op": "evict", "keys": group}) for group in by_shard.values()])

    def _follow_line(self, op: str, key: str, revision: int) -> None:
        """Bring the log in line with a line that is in the file and in its shard's index."""
        if op == "hit":
            return
        self._journal.revision = max(self._journal.revision, revision)
        if self._authority:
            self._journal.note(key, revision, removed=op != "put")
            located = self._located(key)
            if located is not None:
                self._expiries.add(key, located.expires_at)

    def _follow_use(self, op: str, key: str) -> None:
        """Bring the order in line with a line; a tier without a bound keeps none."""
        if self._bound is None:
            return
        if op == "put":
            self._order.add(key)
        elif op == "hit":
            self._order.touch(key)
        else:
            self._order.discard(key)

    def _make_room(self, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
        """Take out what must leave for new records; return those that stay in, and the keys that left."""
        kept, victims = admit(records, self._order, self._bound)
        held = [key for key in victims if self._located(key) is not None]
        if self._authority:
            self._append([(key, self._removal(key)) for key in held])
        else:
            self._evict(held)
        return kept, victims

    def _removal(self, key: str) -> Line:
        return {"op": "del", "key": key, "revision": self._journal.next()}

    def _compact(self, shard: ShardFile) -> None:
        removals = [(key, at) for key, at in self._journal.removals() if self._shard(key) is shard]
        self.corrupted += shard.rewrite(removals, revision=self.revision, floor=self._journal.floor)

    def _follow(self, revision: int | None) -> None:
        if revision is not None and not self._authority:
            self._journal.revision = max(self._journal.revision, revision)
