"""One shard on disk with its index: append, read back by offset, follow other writers, rewrite.

The caller holds the directory's lock for all but `read` and `is_behind`. Errors are `OSError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxywhirl.cache.eviction import Usage
from proxywhirl.cache.record import Record
from proxywhirl.cache.shard import check_header, decode_line, encode_line, header, keys_of, put_fields, record_of

__all__ = ["Located", "News", "ShardFile"]


@dataclass(frozen=True, slots=True)
class Located:
    """Where a record's line is, what the index must know of it, and the hits noted since."""

    offset: int
    length: int
    revision: int
    generation: int
    expires_at: float
    used_at: float
    retired: bool = False
    uses: int = 0
    hits: int = 0

    def usage(self, key: str) -> Usage:
        """Return what an eviction order must know of the key."""
        return Usage(key, self.generation, self.revision, self.used_at, self.uses + self.hits)


@dataclass(slots=True)
class News:
    """What a shard's file says that its index did not: lines as (op, key, revision), damaged ones, a torn one."""

    fresh: bool = False
    lines: list[tuple[str, str, int]] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    torn: list[bytes] = field(default_factory=list)
    revision: int = 0
    floor: int = 0


class ShardFile:
    """A shard file, made with mode 0600 when first written to."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.index: dict[str, Located] = {}
        self.lines = 0
        self._fsync = fsync
        self._needed_lines = 0  # how many there were when the file was last rewritten
        self._fd = -1
        self._identity = (0, 0)
        self._size = 0

    def is_behind(self) -> bool:
        """Whether the file is not the one, or not as long as, that was last seen."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return self._fd >= 0
        return (status.st_dev, status.st_ino) != self._identity or status.st_size != self._size

    def read(self, key: str) -> Record | None:
        """Return the record of an indexed key, None where its line is damaged."""
        located = self.index[key]
        fields = decode_line(self._line(located).rstrip(b"\n"))
        if fields is None or fields.get("key") != key:
            return None
        record = record_of(fields)
        record.access_count += located.hits
        record.accessed_at = max(record.accessed_at, located.used_at)
        return record

    def catch_up(self) -> News | None:
        """Index what the file holds beyond what was seen; cut off a torn last line. None: nothing new.

        Raises:
            FormatVersionError: a newer version wrote the file, which is left as it is.
        """
        if not self.is_behind():
            return None
        news = News(fresh=self._reopen())
        if self._fd < 0:
            return news
        end = os.fstat(self._fd).st_size
        data = os.pread(self._fd, end - self._size, self._size)
        *lines, torn = data.split(b"\n")
        offset = self._size
        for line in lines:
            self._take_line(line, offset, news)
            offset += len(line) + 1
        if torn:
            os.ftruncate(self._fd, offset)
            news.torn.append(torn)
        self._size = offset
        return news

    def append(self, lines: Sequence[dict[str, Any]], *, revision: int, floor: int) -> None:
        """Write lines at the end of the file, in one system call where the system allows, and index them."""
        if self._size == 0:  # not there yet, or its header was torn
            self.close()
            self._create(header(revision, floor))
        encoded = [encode_line(fields) for fields in lines]
        self._write(b"".join(encoded))
        for fields, line in zip(lines, encoded, strict=True):
            self._index_line(fields, self._size, len(line))
            self._size += len(line)

    def lose(self, key: str) -> None:
        """Take a key whose line is damaged out of the index, and keep the line aside."""
        self.set_aside([self._line(self.index.pop(key)).rstrip(b"\n")])

    @property
    def retired(self) -> int:
        """How many indexed records are retired."""
        return sum(located.retired for located in self.index.values())

    def is_wasteful(self) -> bool:
        """Whether most lines are outdated, so that rewriting pays."""
        return self.lines > 2 * max(self._needed_lines, len(self.index)) + 512

    def rewrite(self, removals: Iterable[tuple[str, int]], *, revision: int, floor: int) -> int:
        """Replace the file by one that holds each indexed record once, and the given removals.

        Returns how many records were found damaged and set aside.
        """
        records = {key: self.read(key) for key in self.index}
        damaged = [key for key, record in records.items() if record is None]
        for key in damaged:
            self.lose(key)
        fields = [put_fields(record) for record in records.values() if record is not None]
        fields += [{"op": "del", "key": key, "revision": at} for key, at in removals]
        temporary = self.path.with_suffix(".tmp")
        self.close()
        try:
            self._create(header(revision, floor), path=temporary)
            self.index.clear()
            if fields:
                self.append(fields, revision=revision, floor=floor)
                os.fsync(self._fd)  # or a power cut could leave the new name with nothing in it
            temporary.replace(self.path)
            self._sync_directory()
        except OSError:
            self.close()  # the old file stands: the next catch-up reads it anew
            raise
        self._needed_lines = self.lines
        return len(damaged)

    def set_aside(self, damaged: Sequence[bytes]) -> None:
        """Keep damaged lines in `damaged.jsonl` beside the shards."""
        fd = os.open(self.path.parent / "damaged.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, b"".join(line + b"\n" for line in damaged))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the file back. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._identity, self._size = -1, (0, 0), 0

    def _reopen(self) -> bool:
        """Open the file anew where it was replaced or shortened; whether the index starts anew."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            fresh = self._fd >= 0
            self.close()
            self.index.clear()
            return fresh
        if (status.st_dev, status.st_ino) == self._identity and status.st_size >= self._size:
            return False
        self.close()
        self.index.clear()
        self.lines = self._needed_lines = 0
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._identify()
        return True

    def _create(self, first_line: bytes, path: Path | None = None) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path or self.path, flags, 0o600)
        self._identify()
        self._size, self.lines = 0, 0
        self._write(first_line)
        self._size = len(first_line)
        if path is None:
            self._sync_directory()

    def _sync_directory(self) -> None:
        """Where power cuts count, make the file's name durable as well."""
        if self._fsync:
            fd = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _line(self, located: Located) -> bytes:
        return os.pread(self._fd, located.length, located.offset)

    def _identify(self) -> None:
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        if self._fsync:
            os.fsync(self._fd)

    def _take_line(self, line: bytes, offset: int, news: News) -> None:
        fields = decode_line(line)
        if fields is None:
            news.damaged.append(line)
            return
        if fields.get("op") == "head":
            check_header(fields, str(self.path))
            news.revision = max(news.revision, fields["revision"])
            news.floor = max(news.floor, fields["floor"])
            return
        news.lines += [(fields["op"], key, fields.get("revision", 0)) for key in keys_of(fields)]
        self._index_line(fields, offset, len(line) + 1)

    def _index_line(self, fields: dict[str, Any], offset: int, length: int) -> None:
        self.lines += 1
        if fields["op"] == "evict":
            for key in fields["keys"]:
                self.index.pop(key, None)
            return
        key = fields["key"]
        known = self.index.get(key)
        if fields["op"] == "put":
            self.index[key] = Located(
                offset,
                length,
                fields["revision"],
                fields.get("generation", 0),
                fields["expires_at"],
                fields["accessed_at"],
                fields.get("retired", False),
                fields.get("access_count", 0),
            )
        elif fields["op"] != "hit":
            self.index.pop(key, None)
        elif known is not None and known.generation == fields["generation"]:
            used_at = max(known.used_at, fields["at"])
            self.index[key] = replace(known, hits=known.hits + fields["count"], used_at=used_at)
