"""Hinted handoff: writes for a tier that is away are kept in a file, as hints, and handed over when it is back.

A tier is away in one of two ways:

- L3, the authority, is sick or cannot be opened. Each write is kept in `debt.jsonl` (`Handoff`), and written when
  L3 is well (`replay`).
- L3 is off by the settings, and L2 is the authority. Each removal is kept in `removed.jsonl` (`Removals`), and done
  in L3 when that is on (`reconcile`).

The log of L2 does not replace `removed.jsonl`: it is cut off at a length, `clear` begins it anew, and it does not tell
a removal from an eviction. L3 keeps an entry that L2 only evicted.

Both files have one format, one JSON object a line, and the processes of a home share them:

- The first line names format and version. Each further line is a hint: its `change` (`put` with all fields of the
  record, or `del`), the checksum of a shard's lines, and `left`, the number of lines of its batch that follow.
- A batch without its last line is a write that was cut off, and is not there. The last hint of a key counts.
- Every access happens under the lock of the file, inside which the lock of the JSONL tier may be taken.
- A file is only shortened by lines that were never acknowledged. Else it is replaced or removed, and other processes
  notice that by its identity.
- A hint that can never be written is moved to `refused.jsonl`, with the reason (`why`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from proxywhirl.cache.manifest import DAMAGED, HINTS, REFUSED, REMOVED
from proxywhirl.cache.policy import Hint, replayed
from proxywhirl.cache.record import UNREADABLE, Record, brought_in_range
from proxywhirl.cache.tiers.jsonl.format import check_header, decode_line, encode_line
from proxywhirl.cache.tiers.protocol import Batch, Decision, Tier, pages
from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError, DecryptionError, TierError, UnstorableValue
from proxywhirl.state.files import (
    append_file,
    explained,
    make_private_directory,
    replace_file,
    sync_directory,
    write_all,
)

FORMAT = "proxywhirl-debt"
VERSION = 1
HEADER = encode_line({"op": "head", "format": FORMAT, "version": VERSION})
MOST_HINTS = 100_000
MOST_REMOVALS = 1_000_000
LOCK_TIMEOUT_SECONDS = 10.0
PAGE = 500
SCANNED = 1_000
SPARE_LINES = 1_024

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class HintsRead:
    """What a part of the file says: hints, damaged lines, and how many bytes belong to whole batches."""

    hints: list[Hint] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    whole: int = 0


def parse(data: bytes, path: str) -> HintsRead:
    """Read lines. A batch without its end counts only if damage, not a cut, explains that."""
    found = HintsRead()
    batch: list[Hint] = []
    spoiled: list[bytes] = []
    offset = left = 0
    *lines, last = data.split(b"\n")
    if last and decode_line(last[:-1]) is not None:  # whole, but for its newline: a cut does not leave that
        lines.append(last[:-1])
        spoiled.append(last)
    for line in lines:
        offset += len(line) + 1
        fields = decode_line(line)
        if fields is not None and fields.get("op") == "head":
            check_header(fields, path, FORMAT, VERSION)
        elif (hint := _hint_of(fields)) is not None and fields is not None:
            batch.append(hint)
            left = fields["left"]
        else:
            spoiled.append(line)
            left = max(left - 1, 0)
        if left == 0:
            found.hints += batch
            found.damaged += spoiled
            found.whole = offset
            batch, spoiled = [], []
    if spoiled:
        found.hints += batch
        found.damaged += spoiled
        found.whole = offset
    return found


def _hint_of(fields: dict[str, Any] | None) -> Hint | None:
    """Return the hint of a line, None where it is damaged or of no version."""
    if fields is None:
        return None
    try:
        change = fields["change"]
        record = brought_in_range(Record(**change["record"])) if change["op"] == "put" else None
        hint = Hint(change["key"], record, fields["base"], fields["at"], fields["merge"])
        return hint if fields["left"] >= 0 else None
    except (KeyError, TypeError):
        return None


def _fields_of(hint: Hint, left: int) -> dict[str, Any]:
    change: dict[str, Any] = {"op": "del", "key": hint.key}
    if hint.record is not None:
        change = {"op": "put", "key": hint.key, "record": hint.record.stored()}
    return {"op": "owe", "left": left, "base": hint.base, "at": hint.at, "merge": hint.merge, "change": change}


def encode_batch(hints: Sequence[Hint]) -> bytes:
    """Return the lines of a batch."""
    last = len(hints) - 1
    return b"".join(encode_line(_fields_of(hint, last - place)) for place, hint in enumerate(hints))


class HintFile:
    """The hints of one home. Thread-safe; `get`, `in` and `len` take no lock and tell the state at the last `catch_up`.

    Holds at most `limit` keys. With `fsync` a hint survives a power cut. The file is made, with mode 0600, by the
    first hint and removed when all are handed over. `hear` is told the keys of what others have noted, and of
    what was handed over, before that is known here: what memory holds of them may be in no log. `waiting` tells whether
    there are hints, as far as this process has looked.

    Raises (as every method that touches the file):
        TierError: the file cannot be read or written, or stayed locked for 10 s.
        FormatVersionError: a newer version wrote the file, which is left as it is.
    """

    def __init__(self, directory: Path, *, name: str = HINTS, fsync: bool = False, limit: int = MOST_HINTS) -> None:
        self.path = directory / name
        self.corrupted = 0
        self.waiting = False
        self.hear: Callable[[Collection[str]], object] = len  # nobody is told
        self._place = str(self.path)
        self._fsync = fsync
        self._limit = limit
        self._fd = -1
        self._renew()
        with contextlib.suppress(TierError):  # the next call that needs the file says so
            self.catch_up()

    def note(self, puts: Sequence[Record], deletes: Sequence[str], *, base: int, at: float, merge: bool) -> None:
        """Add a batch of hints, whole or not at all; it is on disk when this returns.

        The records' credentials must be sealed. A record noted over a hint of the same key counts as merged with that
        hint already; it merges with the stored record only if the hint did.

        Raises:
            TierError: also where there are too many hints.
        """
        for record in puts:
            if record.plain is not None and record.sealed is None:
                raise TierError(f"entry {record.key} has credentials that are not sealed: not noted in {self.path}")
        hints = [Hint(key, None, base, at, merge=False) for key in deletes]
        hints += [Hint(record.key, replace(record, plain=None), base, at, merge) for record in puts]
        if not hints:
            return
        with self._translated("making"):
            make_private_directory(self.path.parent)
        with self._locked():
            if self._handing_over:
                raise TierError(f"{self.path} takes no debts from what settles them")
            self._read_on()
            hints = self._joined(hints)
            added = len({hint.key for hint in hints} - self._hints.keys())
            if len(self._hints) + added > self._limit:
                raise TierError(f"{self.path} is full: the authority is owed {len(self._hints)} entries already")
            with self._translated("writing to"):
                if self._is_untidy:
                    self._rewrite()
                self._append(encode_batch(hints))
            self._take(hints)
            if self._lines > 2 * len(self._hints) + SPARE_LINES:
                self._tidy()

    def get(self, key: str) -> Hint | None:
        """Return the hint of a key. The record is not the caller's to change."""
        return self._hints.get(key)

    def pending(self) -> list[Hint]:
        """Catch up and return all hints, one for each key, in the order of writing."""
        with self._mutex:
            self.catch_up()
            return list(self._hints.values())

    def catch_up(self) -> bool:
        """Follow what other processes wrote; return whether there are hints. Costs one `stat` without news."""
        status = self._look()
        if status is None and self._fd < 0:
            self.waiting = False
            return False
        self.waiting = status is not None and status.st_size > len(HEADER)
        if self._is_behind(status):  # also if there are none any more: others wrote them
            with self._locked():
                self._read_on()
        return self.waiting

    def hand_over(self, act: Callable[[Sequence[Hint]], None]) -> int:
        """Give all hints to `act`, in pages of 500, and forget them when it took every page; return how many.

        If `act` raises, that is raised here, and all hints stay: those that were taken are given again. Other
        processes can neither note nor hand over meanwhile.
        """
        if not self.catch_up():
            return 0
        with self._locked():
            self._read_on()
            self._handing_over = True
            try:
                hints = iter(list(self._hints.values()))
                while page := list(islice(hints, PAGE)):
                    act(page)
            finally:
                self._handing_over = False
            number = len(self._hints)
            with self._translated("emptying"):
                self.path.unlink(missing_ok=True)
                self._sync_directory()
            self._forget_hints()
            return number

    def set_aside(self, refused: Mapping[str, str]) -> Path:
        """Keep hints that cannot be written in a file of their own, by key with the reason; return its path.

        To be called by `act` of `hand_over`, with its hints: it is on disk when this returns.
        """
        lines = [encode_line({**_fields_of(self._hints[key], 0), "why": why}) for key, why in refused.items()]
        path = self.path.with_name(REFUSED)
        with self._translated("setting aside what is in"):
            append_file(path, b"".join(lines), fsync=self._fsync)
            self._sync_directory()
        return path

    def refused(self) -> dict[str, tuple[Hint, str]]:
        """Return what was set aside: the last hint of each key, with the reason. What is damaged is left out."""
        found: dict[str, tuple[Hint, str]] = {}
        with self._translated("reading"), contextlib.suppress(FileNotFoundError):
            for line in self.path.with_name(REFUSED).read_bytes().splitlines():
                fields = decode_line(line)
                if (hint := _hint_of(fields)) is not None and fields is not None:
                    found[hint.key] = hint, str(fields.get("why"))
        return found

    def retry(self, keys: Collection[str]) -> int:
        """Note again the hints of some keys that were set aside, unless newer ones were noted; forget the others.

        Returns how many.
        """
        with self._locked():
            self._read_on()
            aside = self.refused()
            again = [hint for key, (hint, _) in aside.items() if key in keys and key not in self._hints]
            with self._translated("taking back what was set aside of"):
                if again:
                    self._append(encode_batch(again))
                    self.hear({hint.key for hint in again})
                    self._take(again)
                if aside:
                    self.path.with_name(REFUSED).unlink(missing_ok=True)
                    self._sync_directory()
            return len(again)

    def close(self) -> None:
        """Give the file back. Idempotent; what is asked next opens it again."""
        with self._mutex:
            self._forget()

    def abandon(self) -> None:
        """Let go, in a forked child, of everything shared with the parent; the child's object can go on."""
        self._renew()

    def __contains__(self, key: object) -> bool:
        return key in self._hints

    def __len__(self) -> int:
        return len(self._hints)

    def _renew(self) -> None:
        self._mutex = threading.RLock()
        self._lock = FileLock(self.path.with_name(f".{self.path.stem}.lock"), timeout=LOCK_TIMEOUT_SECONDS, mode=0o600)
        self._handing_over = False
        self._forget()

    def _forget(self) -> None:
        fd = self._fd
        self._hints: dict[str, Hint] = {}
        self._fd, self._identity, self._size, self._lines, self._is_untidy = -1, (0, 0), 0, 0, False
        if fd >= 0:  # no more known by now: a fork may come between
            os.close(fd)

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise TierError(explained(exc, doing, self.path)) from exc

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex:
            try:
                self._lock.acquire()
            except Timeout as exc:
                wait = f"{LOCK_TIMEOUT_SECONDS:g} s"
                raise TierError(f"{self.path} stayed locked by another process for {wait}") from exc
            except OSError as exc:
                raise TierError(f"locking {self.path} failed: {exc.strerror or exc}") from exc
            try:
                yield
            finally:
                self._lock.release()

    def _look(self) -> os.stat_result | None:
        """Look at the file; None where there is none. Each write of the cache does this, so it calls nothing else."""
        try:
            return os.stat(self._place)  # noqa: PTH116  # a `Path` costs as much again
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise TierError(explained(exc, "looking at", self.path)) from exc

    def _is_behind(self, status: os.stat_result | None) -> bool:
        if status is None:
            return self._fd >= 0
        return (status.st_dev, status.st_ino) != self._identity or status.st_size != self._size

    def _read_on(self) -> None:
        """Index what is in the file and was not seen yet, and bring the file in order."""
        status = self._look()
        if not self._is_behind(status):
            return
        if status is None:
            self._forget_hints()
            return
        with self._translated("reading"):
            if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._size:
                self._forget_hints()  # it was replaced or shortened
                self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                self._identity = _identity(self._fd)
            data = os.pread(self._fd, os.fstat(self._fd).st_size - self._size, self._size)
            found = parse(data, str(self.path))
            torn = data[found.whole :]
            if torn:
                os.ftruncate(self._fd, self._size + found.whole)
        self._size += found.whole
        if found.hints:
            self.hear({hint.key for hint in found.hints})
        self._take(found.hints)
        if torn or found.damaged:
            self._contain([*found.damaged, torn] if torn else found.damaged)
            if found.damaged:
                self._tidy()

    def _forget_hints(self) -> None:
        """Forget what was handed over, or written anew by others."""
        if self._hints:
            self.hear(list(self._hints))
        self._forget()

    def _joined(self, hints: Iterable[Hint]) -> list[Hint]:
        """Return the hints, joined with earlier hints of the same keys."""
        joined: dict[str, Hint] = {}
        for hint in hints:
            earlier = joined.get(hint.key) or self._hints.get(hint.key)
            alone = earlier is None or earlier.merge
            joined[hint.key] = hint if alone else replace(hint, merge=False)
        return list(joined.values())

    def _take(self, hints: Iterable[Hint]) -> None:
        for hint in hints:
            (counts,) = self._joined([hint])
            self._hints.pop(hint.key, None)  # the order is that of the last writing
            self._hints[hint.key] = counts
            self._lines += 1

    def _append(self, data: bytes) -> None:
        """Write at the end of the file; if that fails, cut off the part that was written."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._identity = _identity(self._fd)
            self._sync_directory()
        if self._size == 0:
            data = HEADER + data
        try:
            write_all(self._fd, data)
            if self._fsync:
                os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # the part that stays lacks its end, and the next reader cuts it off
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _contain(self, damaged: Sequence[bytes]) -> None:
        """Count what cannot be read and keep it aside."""
        self.corrupted += len(damaged)
        aside = self.path.with_name(DAMAGED)
        try:
            append_file(aside, b"".join(line.rstrip(b"\n") + b"\n" for line in damaged))
        except OSError as exc:
            _log.warning("%s: %d damaged or unfinished pieces could not be kept: %s", self.path, len(damaged), exc)
        else:
            _log.warning("%s: %d damaged or unfinished pieces were set aside in %s", self.path, len(damaged), aside)

    def _tidy(self) -> None:
        """Rewrite the file; a failure harms no hint."""
        try:
            self._rewrite()
        except OSError as exc:
            self._is_untidy = True
            _log.warning("%s could not be rewritten: %s", self.path, exc.strerror or exc)

    def _rewrite(self) -> None:
        """Replace the file by one that holds each hint once."""
        hints = list(self._hints.values())
        data = HEADER + b"".join(encode_batch([hint]) for hint in hints)
        replaced = self._fd
        replace_file(self.path, data, temporary=self.path.with_suffix(".tmp"), sync_name=self._fsync)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._identity, self._size, self._lines, self._is_untidy = _identity(self._fd), len(data), len(hints), False
        os.close(replaced)

    def _sync_directory(self) -> None:
        """Make the coming or going of a name durable, with `fsync`."""
        if self._fsync:
            sync_directory(self.path.parent)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


Write = Callable[[Collection[str], Decision], bool]
"""Writes to the authority; whether it took it."""


class Handoff(HintFile):
    """The writes that a sick authority could not take: served meanwhile, and written when it is well again.

    A failure of the file is a return value here, not an error.
    """

    def __init__(
        self, directory: Path, *, clock: Clock, password_changed: Callable[[Record, Record], bool], fsync: bool = False
    ) -> None:
        super().__init__(directory, fsync=fsync)
        self._clock = clock
        self._password_changed = password_changed

    def look(self) -> bool:
        """Do as `catch_up`, as far as the file can be seen."""
        try:
            return self.catch_up()
        except CacheError as exc:
            _log.debug("what is owed cannot be seen: %s", exc)  # the tier that it belongs to is degraded, and says so
            return self.waiting

    def records(self) -> dict[str, Record | None]:
        """Return the records to be written by key, None for a deletion, as far as this process has looked."""
        return {hint.key: hint.record for hint in list(self._hints.values())} if self.waiting else {}

    def over(self, page: list[Record], after: str, last: str | None) -> list[Record]:
        """Return a page of stored records after a key, up to the last one, as it will be when all is written."""
        hints = {key: record for key, record in self.records().items() if after < key and (last is None or key <= last)}
        if not hints:
            return page
        merged = {record.key: record for record in page} | {
            key: None if record is None else replace(record) for key, record in hints.items()
        }
        return [record for _, record in sorted(merged.items()) if record is not None]

    def keep(self, batch: Batch, *, base: int, at: float, merge: bool) -> bool:
        """Take a change durably; return whether that worked."""
        if not batch.puts and not batch.deletes:
            return True
        try:
            self.note(batch.puts, batch.deletes, base=base, at=at, merge=merge)
        except CacheError as exc:
            _log.error("a change is lost, since no durable tier takes it: %s", exc)
            return False
        self.waiting = True
        return True

    def replay(self, write: Write) -> bool:
        """Write everything that was kept; return whether nothing is left.

        A record that can never be written is set aside, and the rest is written: one with a value that the authority
        cannot hold, or one that makes no sense, such as a credential that no key at hand opens.
        """
        refused = 0

        def act(hints: Sequence[Hint]) -> None:
            nonlocal refused
            refused += self._replay_page({hint.key: hint for hint in hints}, write)

        try:
            number = self.hand_over(act)
        except CacheError as exc:
            _log.info("nothing is paid yet: %s", exc)
            return False
        if number > refused:
            _log.warning("%d changes were written that were owed while the authority was degraded", number - refused)
        self.waiting = False
        return True

    def _replay_page(self, hints: dict[str, Hint], write: Write) -> int:
        """Write what can be written of a page; return how many were set aside.

        Raises:
            TierError: nothing was written.
        """
        refused: dict[str, str] = {}

        def decide(present: Mapping[str, Record]) -> Batch:
            now = self._clock.now()
            refused.clear()
            batches: list[Batch] = []
            for key, hint in hints.items():
                stored = present.get(key)  # a record that was there when the hint was noted was removed meanwhile
                try:
                    batches.append(
                        replayed(hint, stored, now, removed=stored is None, password_changed=self._password_changed)
                    )
                except (DecryptionError, *UNREADABLE) as exc:
                    refused[key] = f"{type(exc).__name__}: {exc}"
            puts = [record for batch in batches for record in batch.puts]
            return Batch(puts, [key for batch in batches for key in batch.deletes])

        try:
            if not write(hints.keys(), decide):
                raise TierError("the authority is still degraded")
        except UnstorableValue as exc:
            if exc.key not in hints and len(hints) > 1:  # the error does not name the record
                return sum(self._replay_page({key: hint}, write) for key, hint in hints.items())
            key = exc.key if exc.key in hints else next(iter(hints))
            others = {other: hint for other, hint in hints.items() if other != key}
            refused = {key: str(exc)}
            earlier = self._replay_page(others, write) if others else 0
        else:
            earlier = 0
        if refused:
            path = self.set_aside(refused)
            key, why = next(iter(refused.items()))
            what = "%d changes that the authority cannot take were set aside in %s, such as that of entry %s: %s"
            _log.error(what, len(refused), path, key, why)
        return earlier + len(refused)

    def retry(self, keys: Collection[str]) -> int:
        """Do as the file does, and know of it."""
        again = super().retry(keys)
        self.waiting = self.waiting or again > 0
        return again

    def forget(self) -> None:
        """Forget all hints: everything was removed."""
        try:
            self.hand_over(lambda _: None)
            super().retry(())
        except CacheError as exc:
            _log.error("what is owed cannot be forgotten: %s", exc)
        self.waiting = False


class Removals(HintFile):
    """The keys that L2 removed as the authority, and when, for L3, which is off and still holds them.

    A key counts only where L2 does not hold it: a process may die after it has noted a removal and before it
    has removed anything, and what was removed may come again.
    """

    def __init__(self, directory: Path, *, clock: Clock, fsync: bool = False) -> None:
        super().__init__(directory, name=REMOVED, fsync=fsync, limit=MOST_REMOVALS)
        self._clock = clock

    def noting(self, decide: Decision) -> Decision:
        """Return the decision so that its removals are noted before they are done."""

        def decided(present: Mapping[str, Record]) -> Batch:
            held = frozenset(present)
            batch = decide(present)
            self._keep([key for key in batch.deletes if key in held])
            return batch

        return decided

    def note_all(self, tier: Tier) -> None:
        """Note everything that a tier holds, before it is cleared."""
        for page in pages(lambda after: tier.scan(after, SCANNED)):
            self._keep([record.key for record in page])

    def noted(self) -> dict[str, float]:
        """Return the keys, and when each was removed last (Unix seconds)."""
        return {hint.key: hint.at for hint in self.pending()}

    def forget(self) -> None:
        """Forget all: L3 knows."""
        self.hand_over(lambda _: None)

    def _keep(self, keys: Sequence[str]) -> None:
        try:
            self.note((), keys, base=0, at=self._clock.now(), merge=False)
        except CacheError as exc:
            _log.error(
                "that %d entries were removed cannot be noted, so they are back when the third tier is enabled: %s",
                len(keys),
                exc,
            )
