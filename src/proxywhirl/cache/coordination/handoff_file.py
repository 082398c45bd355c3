"""What the authority is still owed: writes that another tier took while the authority was sick, on disk.

One file, shared by the processes of a home; its format is in `debtlines`. Rules: every access happens under the file's
own lock (not the one of the JSONL tier, which may be taken inside it); a file is shortened only by what was never
acknowledged, else replaced or removed, so that other processes notice by its identity; for one key the last
debt counts. What can never be paid is kept in a file beside it, and is in nobody's way there.

The file format of debts: one JSON object a line, last line of a key wins.

The first line names format and version; each further one is a debt (`op` `owe`) with its `change` (`put` with all
fields of the record, or `del`), with the checksum of a shard's lines, and with `left`: how many lines of its batch
follow. A batch without its last line is a write that was cut off, and is not there. What could never be paid has its
reason with it (`why`), in a file of its own. Pure: bytes in, values out.
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

from proxywhirl.cache.policy import Hint
from proxywhirl.cache.record import Record, brought_in_range
from proxywhirl.cache.tiers.jsonl.format import decode_line, encode_line
from proxywhirl.errors import FormatVersionError, TierError
from proxywhirl.state.advice import explained
from proxywhirl.state.directory import make_private_directory
from proxywhirl.state.files import replace_file, write_all

FORMAT = "proxywhirl-debt"
VERSION = 1
HEADER = encode_line({"op": "head", "format": FORMAT, "version": VERSION})


@dataclass(slots=True)
class Found:
    """What a stretch of the file says: debts, damaged lines, and how many bytes belong to whole batches."""

    debts: list[Hint] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    whole: int = 0


def parse(data: bytes, path: str) -> Found:
    """Read lines. A batch that lacks its end counts only where damage, not a cut, explains that."""
    found = Found()
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
            _check_header(fields, path)
        elif (debt := _debt_of(fields)) is not None and fields is not None:
            batch.append(debt)
            left = fields["left"]
        else:
            spoiled.append(line)
            left = max(left - 1, 0)
        if left == 0:
            found.debts += batch
            found.damaged += spoiled
            found.whole = offset
            batch, spoiled = [], []
    if spoiled:
        found.debts += batch
        found.damaged += spoiled
        found.whole = offset
    return found


def _check_header(fields: dict[str, Any], path: str) -> None:
    version = fields.get("version")
    if fields.get("format") != FORMAT or not isinstance(version, int) or version > VERSION:
        raise FormatVersionError(
            f"{path} has format {fields.get('format')!r} version {version!r}; this program knows "
            f"{FORMAT} up to version {VERSION}: upgrade ProxyWhirl, or name another directory"
        )


def _debt_of(fields: dict[str, Any] | None) -> Hint | None:
    """Return the debt of a line, None where it is damaged or of no version."""
    if fields is None:
        return None
    try:
        change = fields["change"]
        key = change["key"]
        record = brought_in_range(Record(**change["record"])) if change["op"] == "put" else None
        return Hint(key, record, fields["base"], fields["at"], fields["merge"]) if fields["left"] >= 0 else None
    except (KeyError, TypeError):
        return None


def encode_batch(debts: Sequence[Hint]) -> bytes:
    """Return the lines of a batch."""
    return b"".join(
        encode_line(_fields_of(debt, left)) for left, debt in zip(range(len(debts) - 1, -1, -1), debts, strict=True)
    )


def encode_refusal(debt: Hint, why: str) -> bytes:
    """Return the line of a debt that was set aside, with the reason."""
    return encode_line({**_fields_of(debt, 0), "why": why})


def refusals(data: bytes) -> dict[str, tuple[Hint, str]]:
    """Read what was set aside: the last debt of each key, with the reason. What is damaged is left out."""
    found: dict[str, tuple[Hint, str]] = {}
    for line in data.splitlines():
        fields = decode_line(line)
        if (debt := _debt_of(fields)) is not None and fields is not None:
            found[debt.key] = debt, str(fields.get("why"))
    return found


def _fields_of(debt: Hint, left: int) -> dict[str, Any]:
    change: dict[str, Any] = {"op": "del", "key": debt.key}
    if debt.record is not None:
        change = {"op": "put", "key": debt.key, "record": debt.record.stored()}
    return {"op": "owe", "left": left, "base": debt.base, "at": debt.at, "merge": debt.merge, "change": change}


_log = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 10.0
PAGE = 500
SPARE_LINES = 1_024
REFUSED = "refused.jsonl"


class HintFile:
    """The debts of one home. Thread-safe; `get`, `in` and `len` take no lock and tell what was last caught up with.

    Holds at most `limit` keys. With `fsync` a debt survives a power cut. The file is made, with mode 0600, by the
    first debt and removed when all are settled. `hear` is told the keys of what others have noted, and of
    what was settled, before that is known here: what memory holds of them may be in no log.

    Raises (as every method that touches the file):
        TierError: the file cannot be read or written, or stayed locked for 10 s.
        FormatVersionError: a newer version wrote the file, which is left as it is.
    """

    def __init__(self, directory: Path, *, name: str = "debt.jsonl", fsync: bool = False, limit: int = 100_000) -> None:
        self.path = directory / name
        self.corrupted = 0
        self.hear: Callable[[Collection[str]], None] = _ignore
        self._fsync = fsync
        self._limit = limit
        self._fd = -1
        self._renew()
        with contextlib.suppress(TierError):  # what is asked next says so, where that needs the file
            self.catch_up()

    def note(self, batch_puts: Sequence[Record], deletes: Sequence[str], *, base: int, at: float, merge: bool) -> None:
        """Add a batch of debts, whole or not at all; it is on disk when this returns.

        The records' credentials must be sealed. A record noted over a debt of the same key is taken for the result of
        merging with that, and so merges with what is stored only if that did.

        Raises:
            TierError: also where there are too many debts.
        """
        unsealed = next(
            (record.key for record in batch_puts if record.plain is not None and record.sealed is None), None
        )
        if unsealed is not None:
            raise TierError(f"entry {unsealed} has credentials that are not sealed: it is not noted in {self.path}")
        debts = [Hint(key, None, base, at, merge=False) for key in deletes]
        debts += [Hint(record.key, replace(record, plain=None), base, at, merge) for record in batch_puts]
        if not debts:
            return
        with self._translated("making"):
            make_private_directory(self.path.parent)
        with self._locked():
            if self._settling:
                raise TierError(f"{self.path} takes no debts from what settles them")
            self._read_on()
            debts = self._owe(debts)
            added = len({debt.key for debt in debts} - self._owed.keys())
            if len(self._owed) + added > self._limit:
                raise TierError(f"{self.path} is full: the authority is owed {len(self._owed)} entries already")
            with self._translated("writing to"):
                if self._is_untidy:
                    self._rewrite()
                self._append(encode_batch(debts))
            self._take(debts)
            if self._lines > 2 * len(self._owed) + SPARE_LINES:
                self._tidy()

    def get(self, key: str) -> Hint | None:
        """Return what is owed for a key. The record is not the caller's to change."""
        return self._owed.get(key)

    def known(self) -> list[Hint]:
        """Return all debts as they were last caught up with, one for each key; takes no lock."""
        return list(self._owed.values())

    def pending(self) -> list[Hint]:
        """Catch up and return all debts, one for each key, in the order of writing."""
        with self._mutex:
            self.catch_up()
            return list(self._owed.values())

    def catch_up(self) -> None:
        """Follow what other processes wrote; costs one `stat` where they did not."""
        with self._mutex:
            if self._is_behind():
                with self._locked():
                    self._read_on()

    def has_debts(self) -> bool:
        """Whether any process has noted debts that are not settled; costs one `stat`."""
        with self._translated("looking at"):
            try:
                return self.path.stat().st_size > len(HEADER)
            except FileNotFoundError:
                return False

    def settle(self, act: Callable[[Sequence[Hint]], None]) -> int:
        """Hand out all debts to `act`, in pages of 500, and forget them when it took every page; return how many.

        What `act` raises is handed through, and all debts stay: those that were settled are handed out again. Other
        processes can neither note nor settle meanwhile.
        """
        if not self.has_debts():
            self.catch_up()
            return 0
        with self._locked():
            self._read_on()
            self._settling = True
            try:
                debts = iter(list(self._owed.values()))
                while page := list(islice(debts, PAGE)):
                    act(page)
            finally:
                self._settling = False
            settled = len(self._owed)
            with self._translated("emptying"):
                self.path.unlink(missing_ok=True)
                self._sync_directory()
            self._forget_owed()
            return settled

    def set_aside(self, refused: Mapping[str, str]) -> Path:
        """Keep debts that cannot be paid in a file of their own, by key with the reason; return its path.

        To be called by what settles, of what it was handed: it is on disk when this returns.
        """
        lines = [encode_refusal(self._owed[key], why) for key, why in refused.items()]
        path = self.path.with_name(REFUSED)
        with self._translated("setting aside what is in"):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, b"".join(lines))
                if self._fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            self._sync_directory()
        return path

    def refused(self) -> dict[str, tuple[Hint, str]]:
        """Return what was set aside, by key, with the reasons."""
        with self._translated("reading"):
            try:
                return refusals(self.path.with_name(REFUSED).read_bytes())
            except FileNotFoundError:
                return {}

    def owe_again(self, keys: Collection[str]) -> int:
        """Owe again what was set aside of some keys, unless more is owed of them since; forget the rest of it.

        Returns how many.
        """
        with self._locked():
            self._read_on()
            aside = self.refused()
            again = [debt for key, (debt, _) in aside.items() if key in keys and key not in self._owed]
            with self._translated("taking back what was set aside of"):
                if again:
                    self._append(encode_batch(again))
                    self.hear({debt.key for debt in again})
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
        """Let go, in a forked child, of what it shares with its parent; the child's object can go on."""
        self._renew()

    def __contains__(self, key: object) -> bool:
        return key in self._owed

    def __len__(self) -> int:
        return len(self._owed)

    def _renew(self) -> None:
        self._mutex = threading.RLock()
        self._lock = FileLock(self.path.with_name(f".{self.path.stem}.lock"), timeout=LOCK_TIMEOUT_SECONDS, mode=0o600)
        self._settling = False
        self._forget()

    def _forget(self) -> None:
        fd = self._fd
        self._owed: dict[str, Hint] = {}
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

    def _is_behind(self) -> bool:
        with self._translated("looking at"):
            try:
                status = self.path.stat()
            except FileNotFoundError:
                return self._fd >= 0
        return (status.st_dev, status.st_ino) != self._identity or status.st_size != self._size

    def _read_on(self) -> None:
        """Index what is in the file and was not seen yet, and bring the file in order."""
        if not self._is_behind():
            return
        with self._translated("reading"):
            if not self._reopen():
                return
            data = os.pread(self._fd, os.fstat(self._fd).st_size - self._size, self._size)
            found = parse(data, str(self.path))
            torn = data[found.whole :]
            if torn:
                os.ftruncate(self._fd, self._size + found.whole)
        self._size += found.whole
        if found.debts:
            self.hear({debt.key for debt in found.debts})
        self._take(found.debts)
        if torn or found.damaged:
            self._contain([*found.damaged, torn] if torn else found.damaged)
            if found.damaged:
                self._tidy()

    def _reopen(self) -> bool:
        """Open the file anew where it was replaced, shortened or removed; whether there is one."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._forget_owed()
            return False
        if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._size:
            self._forget_owed()
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._identity = _identity(self._fd)
        return True

    def _forget_owed(self) -> None:
        """Forget what was settled, or written anew by others."""
        if self._owed:
            self.hear(list(self._owed))
        self._forget()

    def _owe(self, debts: Iterable[Hint]) -> list[Hint]:
        """Return the debts as they count where others are owed already."""
        owed: dict[str, Hint] = {}
        for debt in debts:
            earlier = owed.get(debt.key) or self._owed.get(debt.key)
            alone = earlier is None or earlier.merge
            owed[debt.key] = debt if alone else replace(debt, merge=False)
        return list(owed.values())

    def _take(self, debts: Iterable[Hint]) -> None:
        for debt in debts:
            (counts,) = self._owe([debt])
            self._owed.pop(debt.key, None)  # the order is that of the last writing
            self._owed[debt.key] = counts
            self._lines += 1

    def _append(self, data: bytes) -> None:
        """Write at the end of the file; where that fails, take back what was written of it."""
        if self._fd < 0:
            self._fd = _create(self.path)
            self._identity = _identity(self._fd)
            self._sync_directory()
        if self._size == 0:
            data = HEADER + data
        try:
            write_all(self._fd, data)
            if self._fsync:
                os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # what stays lacks its end, and the next reader cuts it off
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _contain(self, damaged: Sequence[bytes]) -> None:
        """Count what cannot be read and keep it aside."""
        self.corrupted += len(damaged)
        aside = self.path.with_name("damaged.jsonl")
        try:
            fd = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, b"".join(line.rstrip(b"\n") + b"\n" for line in damaged))
            finally:
                os.close(fd)
        except OSError as exc:
            _log.warning("%s: %d damaged or unfinished pieces could not be kept: %s", self.path, len(damaged), exc)
        else:
            _log.warning("%s: %d damaged or unfinished pieces were set aside in %s", self.path, len(damaged), aside)

    def _tidy(self) -> None:
        """Rewrite the file; that it cannot be done now harms nothing that was noted."""
        try:
            self._rewrite()
        except OSError as exc:
            self._is_untidy = True
            _log.warning("%s could not be rewritten: %s", self.path, exc.strerror or exc)

    def _rewrite(self) -> None:
        """Replace the file by one that holds each debt once."""
        debts = list(self._owed.values())
        data = HEADER + b"".join(encode_batch([debt]) for debt in debts)
        fd = replace_file(self.path, data, temporary=self.path.with_suffix(".tmp"), sync_name=self._fsync)
        replaced = self._fd
        self._fd, self._identity, self._size, self._lines, self._is_untidy = (
            fd,
            _identity(fd),
            len(data),
            len(debts),
            False,
        )
        os.close(replaced)

    def _sync_directory(self) -> None:
        """Where power cuts count, make it durable that a name came or went."""
        if self._fsync:
            fd = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _ignore(keys: Collection[str]) -> None:
    pass


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
