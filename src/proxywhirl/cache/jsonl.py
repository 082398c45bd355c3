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
from proxywhirl.cache.shardfile import Located, ShardFile
from proxywhirl.cache.tier import Access, Applied, Changes, Decision
from proxywhirl.errors import TierError

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
        self._order = ORDERS[policy]()
        self._journal = Journal()
        self._expiries = Expiries(self._expires_at)
        self._in_order = False
        self.corrupted = 0
        with self._translated("opening"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(directory / ".lock", timeout=LOCK_TIMEOUT_SECONDS, mode=0o600)
            self._shards = [ShardFile(directory / f"shard-{n:02x}.jsonl", fsync=fsync) for n in range(SHARDS)]
        with self._writing():
            pass  # catching up reads what is there

    @property
    def revision(self) -> int:
        """See `Tier`."""
        return self._journal.revision

    def get(self, key: str) -> Record | None:
        """See `Tier`."""
        record = self._peek(key)
        if record is not None:
            self._order.touch(key)
        return record

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """See `Tier`."""
        found = ((key, self.get(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def transact(self, keys: Collection[str], decide: Decision) -> Applied:
        """See `Tier`."""
        with self._writing():
            applied = Applied(revision_before=self.revision)
            batch = decide(self.get_many(keys))
            applied.deletes = [key for key in batch.deletes if self._located(key) is not None]
            self._append([(key, self._removal(key)) for key in applied.deletes])
            kept, applied.evicted = self._make_room(batch.puts)
            applied.puts = list(kept)
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
        return [record for key in heapq.nsmallest(limit, later) if (record := self._peek(key)) is not None]

    def changes_since(self, revision: int, limit: int) -> Changes:
        """See `Tier`."""
        page, more, reset = self._journal.after(revision, limit)
        upto = page[-1][1] if more else self.revision
        records = [record for key, _, removed in page if not removed and (record := self._peek(key)) is not None]
        return Changes(upto, records, [key for key, _, removed in page if removed], reset, more)

    def changed_elsewhere(self) -> bool:
        """See `Tier`: one `stat` for each shard."""
        with self._translated("looking at"):
            if not any(shard.is_behind() for shard in self._shards):
                return False
        with self._writing():
            return True

    def clear(self, revision: int | None = None) -> int:
        """See `Tier`."""
        with self._writing():
            held = len(self)
            if self._authority:
                self._journal.restart()
            self._follow(revision)
            for shard in self._shards:
                shard.index.clear()
                shard.rewrite([], revision=self._journal.revision, floor=self._journal.floor)
            self._order = type(self._order)()
            return held

    def get_meta(self, name: str) -> str | None:
        """See `Tier`: each note is a small file beside the shards."""
        with self._translated("reading"):
            path = self._directory / f"{name}.meta"
            return path.read_text() if path.exists() else None

    def set_meta(self, name: str, value: str) -> None:
        """See `Tier`."""
        with self._writing():
            path = self._directory / f"{name}.meta"
            path.touch(mode=0o600)
            path.write_text(value)

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

    def _peek(self, key: str) -> Record | None:
        """Read a record without noting a use. One damaged since it was indexed is counted and lost alone."""
        shard = self._shard(key)
        if key not in shard.index:
            return None
        with self._translated("reading"):
            record = shard.read(key)
        if record is None:
            self.corrupted += 1
            shard.forget(key)
            self._order.discard(key)
        return record

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
            for shard in self._shards:
                self._catch_up(shard)
            if not self._in_order:
                self._restore_order()
            try:
                yield
            except OSError:
                self._in_order = False  # the order may name keys that were not written
                raise

    def _catch_up(self, shard: ShardFile) -> None:
        news = shard.catch_up()
        if news is None:
            return
        self._journal.revision = max(self._journal.revision, news.revision)
        self._journal.floor = max(self._journal.floor, news.floor)
        self._in_order = self._in_order and not news.fresh
        for op, key, revision in news.lines:
            self._follow_line(op, key, revision)
        if news.damaged:
            self.corrupted += len(news.damaged)
            shard.set_aside(news.damaged)
            self._compact(shard)

    def _restore_order(self) -> None:
        """Order the keys as their lines say they were used, and the log as it was written."""
        self._order = type(self._order)()
        located = {key: where for shard in self._shards for key, where in shard.index.items()}
        for key in sorted(located, key=lambda k: (located[k].used_at, located[k].revision)):
            self._order.add(key)
        if self._authority:
            changes = [(key, where.revision, False) for key, where in located.items()]
            changes += [(key, at, True) for key, at in self._journal.removals() if key not in located]
            self._journal.restore(changes, revision=self._journal.revision, floor=self._journal.floor)
        self._in_order = True

    def _append(self, lines: Iterable[tuple[str, Line]]) -> None:
        """Write lines, each into the shard of its key."""
        by_shard: dict[int, list[Line]] = {}
        for key, fields in lines:
            by_shard.setdefault(_shard_number(key), []).append(fields)
        for number, group in by_shard.items():
            self._append_to(self._shards[number], group)

    def _append_to(self, shard: ShardFile, group: Sequence[Line]) -> None:
        shard.append(group, revision=self.revision, floor=self._journal.floor)
        for fields in group:
            for key in keys_of(fields):
                self._follow_line(fields["op"], key, fields.get("revision", 0))
        if shard.is_wasteful():
            self._compact(shard)

    def _evict(self, keys: Iterable[str]) -> None:
        """Let keys leave the window: one line for each shard."""
        by_shard: dict[int, list[str]] = {}
        for key in keys:
            by_shard.setdefault(_shard_number(key), []).append(key)
        for number, group in by_shard.items():
            self._append_to(self._shards[number], [{"op": "evict", "keys": group}])

    def _follow_line(self, op: str, key: str, revision: int) -> None:
        """Bring order and log in line with a line that is in the file and in its shard's index."""
        if op == "hit":
            self._order.touch(key)
            return
        if op == "put":
            self._order.add(key)
        else:
            self._order.discard(key)
        self._journal.revision = max(self._journal.revision, revision)
        if self._authority:
            self._journal.note(key, revision, removed=op != "put")
            located = self._located(key)
            if located is not None:
                self._expiries.add(key, located.expires_at)

    def _make_room(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[str]]:
        """Take out what must leave for new records; return those that stay in, and the keys that left."""
        if self._bound is None:
            return records, []
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
        shard.rewrite(removals, revision=self.revision, floor=self._journal.floor)

    def _follow(self, revision: int | None) -> None:
        if revision is not None and not self._authority:
            self._journal.revision = max(self._journal.revision, revision)
