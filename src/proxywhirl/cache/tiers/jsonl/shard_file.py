"""One shard on disk with its index: append, read back by offset, follow other writers, rewrite.

The caller holds the directory's lock for all but `read`. Errors are `OSError`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxywhirl.cache.record import Record, counted
from proxywhirl.cache.tiers.eviction import Standing
from proxywhirl.cache.tiers.jsonl.format import (
    Change,
    Hit,
    Passed,
    Put,
    change_of,
    check_header,
    decode_line,
    decode_record,
    encode_hit,
    encode_removal,
    header,
    is_whole,
    removal_in,
    whole_lines,
)
from proxywhirl.cache.tiers.protocol import Access
from proxywhirl.state.files import replace_file, write_all

LineRead = tuple[str, str, int]
"""What a line says: (op, key, revision)."""


@dataclass(slots=True)
class Located:
    """Where a record's line is, what the index must know of it, and the hits noted since."""

    offset: int
    length: int
    revision: int
    expires_at: float
    retired: bool
    standing: Standing
    hits: int = 0
    moved: bool = False
    """Whether its standing is another one than in its line."""


@dataclass(slots=True)
class News:
    """The lines of a file that its index does not have yet, in their order.

    `fresh`: it was read from its start. `shorter`: it has lost something that was read before. `damaged` has damaged
    lines, `torn` the piece of a line after the last newline.
    """

    fresh: bool = False
    shorter: bool = False
    lines: list[LineRead] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    torn: bytes = b""
    revision: int = 0
    floor: int = 0


class ShardFile:
    """A shard file, made with mode 0600, for the keys that belong there.

    `base` is a revision at which everything in it was right, 0 where its first line does not say.
    """

    def __init__(self, path: Path, belongs: Callable[[str], bool], *, fsync: bool = False) -> None:
        self.path = path
        self.index: dict[str, Located] = {}
        self.retired = 0
        self.base = 0
        self._belongs = belongs
        self._lines = 0
        self._fsync = fsync
        self._needed_lines = 0  # how many there were when the file was last rewritten
        self._fd = -1
        self._identity = (0, 0)
        self._size = 0

    @property
    def exists(self) -> bool:
        """Whether there is a file with a line in it."""
        return self._size > 0

    def read(self, key: str, located: Located) -> Record | None:
        """Return the record of an indexed key, None where its line is damaged."""
        record = decode_record(os.pread(self._fd, located.length, located.offset), key)
        if record is not None and located.hits:
            record.access_count = counted(record.access_count, located.hits)
            record.accessed_at = max(record.accessed_at, located.standing.accessed_at)
        return record

    def catch_up(self) -> News | None:
        """Index what the file holds beyond what was seen; None: nothing new. A torn end is left to `cut`.

        Raises:
            FormatVersionError: a newer version wrote the file.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if self._fd < 0:
                return None
            self.forget()
            return News(fresh=True, shorter=True)
        if (status.st_dev, status.st_ino) == self._identity and status.st_size == self._size:
            return None
        news = self._reopen(status)
        end = os.fstat(self._fd).st_size
        *lines, news.torn = os.pread(self._fd, end - self._size, self._size).split(b"\n")
        damaged: list[tuple[int, bytes]] = []
        for line in lines:
            if self._take_line(line, self._size, news):
                self._take_damaged(damaged, news)
            else:
                damaged.append((self._size, line))
            self._size += len(line) + 1
        self._take_damaged(damaged, news)
        if whole_lines(news.torn):  # only the newline is missing
            self._take_damaged([(self._size, news.torn)], news)
            self._size += len(news.torn)
            news.torn = b""
        return news

    def reading_anew(self) -> ShardFile:
        """Return the same file without an index, to be read from its start."""
        return ShardFile(self.path, self._belongs)

    def cut(self) -> None:
        """Cut off what stands behind the last line that was noted."""
        os.ftruncate(self._fd, self._size)

    def forget(self) -> None:
        """Forget what was read, so that the next `catch_up` reads the file from its start."""
        self.close()
        self._clear()

    def check(self) -> None:
        """Look whether the file is as it was seen last.

        Raises:
            OSError: `ESTALE` where it is not: it was changed without the lock.
        """
        status = os.fstat(self._fd)
        if status.st_size != self._size or not status.st_nlink:
            raise OSError(errno.ESTALE, f"{self.path.name} was changed by something else than ProxyWhirl")

    def write(self, data: bytes) -> None:
        """Write lines at the end of the file; until they are noted, `cut` takes them back."""
        write_all(self._fd, data)
        if self._fsync:
            os.fsync(self._fd)

    def note(self, change: Change, length: int) -> None:
        """Bring the index in line with the line that was written next."""
        self._index(change, self._size, length - 1)  # without its newline
        self._size += length

    def is_wasteful(self) -> bool:
        """Whether most lines are outdated, so that rewriting pays."""
        return self._lines > 2 * max(self._needed_lines, len(self.index)) + 512

    def rewrite(self, removals: Iterable[tuple[str, int]], *, revision: int, floor: int) -> list[bytes]:
        """Replace the file by one that holds each indexed record once, and the given removals.

        Returns the lines of records that were found damaged and are not in the new file.
        """
        self._needed_lines = self._lines  # should this fail, it is not tried again at once
        kept, damaged = self._gather()
        lines = [header(revision, floor)]
        size = len(lines[0])
        offsets: list[int] = []
        for key, located, line in kept:
            offsets.append(size)
            standing = located.standing
            hits = Access(key, standing.generation, located.hits, standing.accessed_at)
            group = (line, encode_hit(hits, standing)) if located.moved else (line,)
            lines += group
            size += sum(map(len, group))
        lines += [encode_removal(key, at) for key, at in removals]
        replace_file(self.path, b"".join(lines), temporary=self.path.with_suffix(".tmp"), sync_name=self._fsync)
        self.close()
        self._open()
        self._clear()
        for (key, located, _), offset in zip(kept, offsets, strict=True):
            located.offset = offset
            self._place(key, located)
        self._size, self.base = sum(map(len, lines)), revision
        self._lines = self._needed_lines = len(lines) - 1
        return damaged

    def close(self) -> None:
        """Give the file back. Idempotent."""
        fd, self._fd, self._identity, self._size = self._fd, -1, (0, 0), 0  # first: a fork may come between
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def _clear(self) -> None:
        self.index.clear()
        self.retired = self._lines = self._needed_lines = self.base = 0

    def _gather(self) -> tuple[list[tuple[str, Located, bytes]], list[bytes]]:
        """Return the lines of the indexed records, and those that are damaged."""
        data = os.pread(self._fd, self._size, 0) if self.index else b""
        kept: list[tuple[str, Located, bytes]] = []
        damaged: list[bytes] = []
        for key, located in self.index.items():
            line = data[located.offset : located.offset + located.length].rstrip(b"\n")
            if is_whole(line):
                kept.append((key, located, line + b"\n"))
            else:
                damaged.append(line)
        return kept, damaged

    def _reopen(self, status: os.stat_result) -> News:
        """Open the file anew where it was replaced or shortened."""
        same = (status.st_dev, status.st_ino) == self._identity
        if same and status.st_size > self._size:
            return News()
        self.forget()
        self._open()
        return News(fresh=True, shorter=same)

    def _take_line(self, line: bytes, offset: int, news: News) -> bool:
        """Index a line; return whether it is sound, and belongs here."""
        fields = decode_line(line)
        try:
            return fields is not None and self._follow(fields, offset, len(line), news)
        except (KeyError, TypeError, AttributeError):  # a checksum that fits, of something that no version wrote
            return False

    def _follow(self, fields: dict[str, Any], offset: int, length: int, news: News) -> bool:
        if fields["op"] == "head":
            check_header(fields, str(self.path))
            news.revision, news.floor = int(fields["revision"]), int(fields["floor"])
            self.base = news.revision if offset == 0 else self.base
            return True
        change = change_of(fields)
        if change is None or not all(map(self._belongs, change.keys)):
            return False
        self._index(change, offset, length)
        news.lines += [(fields["op"], key, fields.get("revision", 0)) for key in change.keys]
        return True

    def _take_damaged(self, lines: list[tuple[int, bytes]], news: News) -> None:
        """Note a run of damaged lines, and index what is certain in it."""
        while lines:
            offset, line = lines.pop(0)
            removal = removal_in(line)
            if removal is None and lines:  # the wrong byte may be a newline that was none
                both = b"%s\n%s" % (line, lines[0][1])
                removal = removal_in(both)
                if removal is not None:
                    line = both
                    del lines[0]
            if removal is not None:
                self._follow(removal, offset, len(line), news)
            for start, end in whole_lines(line):
                self._take_line(line[start:end], offset + start, news)
            news.damaged.append(line)

    def _index(self, change: Change, offset: int, length: int) -> None:
        """Bring the index in line with the line at a place."""
        self._lines += 1
        if isinstance(change, Put):
            (key,), revision, expires_at, retired, standing = change
            self._place(key, Located(offset, length, revision, expires_at, retired, standing))
            return
        for key in change.keys:
            located = self.index.get(key)
            if located is None:
                continue
            if isinstance(change, Passed):
                located.standing, located.moved = located.standing.spared(change.at), True
            elif not isinstance(change, Hit):
                if located.revision <= change.revision:  # files of earlier releases have older ones behind a put
                    self._remove(key)
            elif located.standing.generation == change.generation:
                located.hits, located.moved = counted(located.hits, change.uses), True
                located.standing = located.standing.used_again(change.uses, change.at)._replace(**change.said)

    def _place(self, key: str, located: Located) -> None:
        self._remove(key)
        self.index[key] = located
        self.retired += located.retired

    def _remove(self, key: str) -> None:
        known = self.index.pop(key, None)
        if known is not None:
            self.retired -= known.retired
