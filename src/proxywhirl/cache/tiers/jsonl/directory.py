"""The shard files as one: find a record, follow other writers, write lines to several files as one.

All but reading is done under the lock. Errors are `OSError`.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from proxywhirl.cache.manifest import DAMAGED, MARK
from proxywhirl.cache.tiers.jsonl.format import Change, Mark, decode_mark
from proxywhirl.cache.tiers.jsonl.shard_file import LineRead, Located, News, ShardFile
from proxywhirl.cache.tiers.jsonl.write_lock import WriteLock
from proxywhirl.state.files import append_file

_log = logging.getLogger(__name__)

SHARDS = 16


class ShardLine(NamedTuple):
    """A line to be written: its change to keys of one shard, and its text."""

    change: Change
    encoded: bytes


@dataclass(slots=True)
class CaughtUp:
    """What other writers did: where they stand, the lines they wrote in the order of their revisions.

    `right_at` is a revision at which everything there was right, None where nothing is known to be lost; `fresh`
    says that files were read from their start.
    """

    mark: Mark | None = None
    lines: list[LineRead] = field(default_factory=list)
    revision: int = 0
    floor: int = 0
    fresh: bool = False
    right_at: int | None = None


@lru_cache(maxsize=4_096)  # each write asks several times
def shard_number(key: str) -> int:
    """Return the number of the shard in which a key belongs."""
    return zlib.crc32(key.encode(errors="surrogatepass")) % SHARDS


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{number:02x}.jsonl"


def _belonging(number: int) -> Callable[[str], bool]:
    return lambda key: shard_number(key) == number


class Shards:
    """`SHARDS` files and the mark of one directory.

    `damaged` counts lines that were set aside, and files that were gone: these are in `lost`.
    """

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self.directory = directory
        self.damaged = 0
        self.lost: dict[Path, None] = {}
        self.files = [ShardFile(directory / shard_name(n), _belonging(n), fsync=fsync) for n in range(SHARDS)]
        self._fsync = fsync
        self._caught = CaughtUp()  # lines that were read and not handed on
        self._aside: list[tuple[ShardFile, list[bytes]]] = []  # damaged lines to set aside
        self._torn: list[ShardFile] = []  # files that end in a piece of a line
        self._broken: list[ShardFile] = []  # files to be rewritten
        self._mark = Mark()
        self._read = b""  # the mark's line that is being caught up with
        self._seen = b""  # the one that was; b"" where the files must be looked at
        self.write_lock = WriteLock(directory / MARK)

    def locate(self, key: str) -> Located | None:
        """Return where a key's record is."""
        return self.files[shard_number(key)].index.get(key)

    def located(self) -> Iterator[tuple[str, Located]]:
        """Return every key with where it is."""
        for shard in self.files:
            yield from shard.index.items()

    def number(self) -> int:
        """How many records are there, served or not."""
        return sum([len(shard.index) for shard in self.files])

    def __len__(self) -> int:
        """How many records are there and served."""
        return sum(len(shard.index) - shard.retired for shard in self.files)

    def is_behind(self) -> bool:
        """Whether another writer may have been here: two system calls of about a microsecond."""
        return not self._seen or self.write_lock.read() != self._seen or self.write_lock.is_gone()

    def lock(self) -> None:
        """Wait until no other writer is here.

        Raises:
            TierBusyError: one stays too long.
        """
        if self.write_lock.lock():
            self._seen = b""

    def unlock(self) -> None:
        """Let others write."""
        self.write_lock.unlock()

    def reread(self, shard: ShardFile | None = None) -> None:
        """Have the next `catch_up` look at all files, and read one of them from its start."""
        self._seen = b""
        if shard is not None:
            shard.forget()

    def catch_up(self) -> CaughtUp | None:
        """Index what other writers wrote, None where there is nothing new; `finish` is to be called then.

        Raises:
            FormatVersionError: a newer version wrote here.
        """
        line = self.write_lock.read()
        if line and line == self._seen:
            return None
        self._seen = b""  # should this fail, the next one goes on with the files that were not read
        self._read = line
        self._caught.mark = mark = decode_mark(line, str(self.write_lock.path))
        self._mark = mark or Mark()
        for shard in self.files:
            self._take(shard, self._caught)
        caught, self._caught = self._caught, CaughtUp()
        caught.lines.sort(key=lambda line: line[2])  # the log is one, the shards are many
        caught.revision = max(caught.revision, self._mark.revision)
        caught.floor = max(caught.floor, self._mark.floor)
        return caught

    def finish(self, caught: CaughtUp, revision: int, floor: int, removals: Iterable[tuple[str, int]]) -> None:
        """Stand at a revision after catching up; count and keep aside what is damaged, and bring the files in order."""
        while self._aside:
            self._set_aside(*self._aside[-1])
            self._aside.pop()
        while self._torn:
            self._torn[-1].cut()
            self._torn.pop()
        done = self._mark._replace(revision=revision, floor=floor)
        missing = [shard for shard in self.files if not shard.exists and shard not in self._broken]
        if self._broken or missing:
            self._mark = done
            self.rewrite([*self._broken, *missing], revision, floor, removals)
            self._broken.clear()
        elif caught.mark == done and not done.busy:
            self._seen = self._read
        else:
            self._say_done(revision, floor)

    def commit(self, lines: Iterable[ShardLine], revision: int, floor: int) -> list[ShardFile]:
        """Write lines and stand at a revision then: all of it or, but for a crash, nothing.

        Returns the files that are worth rewriting.
        """
        by_shard: dict[int, list[ShardLine]] = {}
        for line in lines:
            by_shard.setdefault(shard_number(line.change.keys[0]), []).append(line)
        touched = [(self.files[number], group) for number, group in by_shard.items()]
        written: list[ShardFile] = []
        try:
            if touched:
                self._say_busy()
            for shard, group in touched:
                shard.check()
                written.append(shard)
                shard.write(b"".join([line.encoded for line in group]))
            self._say_done(revision, floor)
        except BaseException:
            self._undo(written)
            raise
        for shard, group in touched:
            for line in group:
                shard.note(line.change, len(line.encoded))
        return [shard for shard, _ in touched if shard.is_wasteful()]

    def rewrite(
        self, shards: Sequence[ShardFile], revision: int, floor: int, removals: Iterable[tuple[str, int]]
    ) -> None:
        """Replace files by what the index holds of them and the removals that belong there."""
        self._say_busy()  # or another writer might append to a file that was replaced
        belonging: dict[ShardFile, list[tuple[str, int]]] = {shard: [] for shard in shards}
        for key, at in removals:
            belonging.get(self.files[shard_number(key)], []).append((key, at))
        for shard, gone in belonging.items():
            if damaged := shard.rewrite(gone, revision=revision, floor=floor):
                self._set_aside(shard, damaged)
        self._say_done(revision, floor)

    def clear(self, revision: int, floor: int) -> None:
        """Empty every file."""
        for shard in self.files:
            shard.forget()
        self.rewrite(self.files, revision, floor, ())

    def close(self) -> None:
        """Give the descriptors back; a lock that a parent process holds stays with it. Idempotent."""
        self.write_lock.close()
        for shard in self.files:
            shard.close()

    def _take(self, shard: ShardFile, caught: CaughtUp) -> None:
        """Catch up with one file."""
        try:
            news = shard.catch_up() or News()
        except IsADirectoryError:
            self._make_way(shard.path)
            news = News(shorter=True)
        caught.lines += news.lines
        caught.revision = max(caught.revision, news.revision, *(line[2] for line in news.lines), 0)
        caught.floor = max(caught.floor, news.floor)
        caught.fresh = caught.fresh or news.fresh
        lost = bool(news.damaged) or news.shorter
        if aside := [*news.damaged, *([news.torn] if news.torn else [])]:
            self._aside.append((shard, aside))
        elif caught.mark is not None and not shard.exists:  # the mark is written when every file is there
            lost = True
            self.damaged += 1
            self.lost[shard.path] = None
            _log.warning("%s was removed or emptied: what it held is lost", shard.path)
        if news.torn:
            lost = lost or not self._mark.busy  # else its writer died, and never said that it was done
            self._torn.append(shard)
        if news.damaged:
            self._broken.append(shard)
        if lost:
            caught.right_at = shard.base if caught.right_at is None else min(caught.right_at, shard.base)

    def _make_way(self, path: Path) -> None:
        """Move a directory aside that stands where a file belongs."""
        aside = path.with_name(f"{path.name}.set-aside-{os.getpid()}")
        path.rename(aside)
        _log.warning("%s is a directory and was moved to %s", path, aside)

    def _set_aside(self, shard: ShardFile, lines: Sequence[bytes]) -> None:
        path = self.directory / DAMAGED
        append_file(path, b"".join([line.rstrip(b"\0") + b"\n" for line in lines]))
        self.damaged += len(lines)
        _log.warning("%s: %d damaged lines were set aside in %s", shard.path, len(lines), path)

    def _undo(self, written: Sequence[ShardFile]) -> None:
        """Cut off a write that failed half-way. If even this fails, the next writer finds the mark busy."""
        self._say_busy()  # first: the mark must not name a revision whose lines are missing
        for shard in written:
            shard.cut()
        self._say_done(self._mark.revision, self._mark.floor)
        self._seen = b""  # the files may have changed

    def _say_busy(self) -> None:
        mark = self._mark._replace(writes=self._mark.writes + 1, busy=True)
        self._seen = b""
        self.write_lock.write(mark)
        self._mark = mark

    def _say_done(self, revision: int, floor: int) -> None:
        mark = Mark(revision, floor, self._mark.writes + 1)
        self._seen = b""
        self._seen = self.write_lock.write(mark, fsync=self._fsync)
        self._mark = mark
