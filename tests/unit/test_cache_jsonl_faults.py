"""The JSONL tier where the system fails it, and where a process is forked or its writer dies."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxywhirl.cache.manifest import MARK
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.format import decode_line
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.jsonl.write_lock import WriteLock
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch
from proxywhirl.errors import TierError


def record(key: str, revision: int = 0) -> Record:
    """Make a record."""
    return Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0, revision=revision, generation=revision)


def held(tier: JsonlTier) -> dict[str, int]:
    """Name what a tier holds, with the revisions."""
    return {found.key: found.revision for found in tier.scan("", 1000)}


class Disk:
    """System calls that fail from a given one on; of a write that fails, a part may have been written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.left: int | None = None
        self.error = errno.ENOSPC
        self.part = 0
        for name in ("write", "pwrite", "fsync", "ftruncate"):
            monkeypatch.setattr(os, name, self._failing(name, getattr(os, name)))

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(fd: int, *arguments: Any) -> Any:
            self.calls += 1
            if self.left is None or (name == "ftruncate" and self.error == errno.ENOSPC):
                return call(fd, *arguments)
            if self.left > 0:
                self.left -= 1
                return call(fd, *arguments)
            if name == "write" and self.part and self.error == errno.ENOSPC:
                call(fd, bytes(arguments[0][: self.part]))
            raise OSError(self.error, os.strerror(self.error))

        return failing


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Give a disk that can be made to fail."""
    return Disk(monkeypatch)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_acknowledged_is_lost_on_a_full_disk(
    tmp_path_factory: pytest.TempPathFactory, disk: Disk, data: st.DataObject
) -> None:
    """Whichever call fails, and whatever part of a write is on the disk: what was acknowledged is there, whole."""
    disk.left = None
    directory = tmp_path_factory.mktemp("home")
    tier = JsonlTier(directory, authority=True)
    names = [f"k{n}" for n in range(12)]
    there: set[str] = set()
    for _ in range(data.draw(st.integers(1, 4), label="rounds")):
        disk.left = data.draw(st.integers(0, 12), label="calls that work")
        disk.error = data.draw(st.sampled_from([errno.ENOSPC, errno.EIO]), label="error")
        disk.part = data.draw(st.integers(0, 300), label="bytes of a write that fails")
        puts = data.draw(st.sets(st.sampled_from(names)), label="puts")
        deletes = data.draw(st.sets(st.sampled_from(names)), label="deletes") - puts
        before, revision = held(tier), tier.revision
        try:
            tier.transact([], lambda _: Batch([record(key) for key in sorted(puts)], sorted(deletes)))  # noqa: B023  # called at once
        except TierError:
            if disk.error == errno.ENOSPC:  # what the disk cannot take back may have happened
                assert (held(tier), tier.revision) == (before, revision)
        disk.left = None
        tier.changed_elsewhere()
        now = held(tier)
        assert now.keys() <= before.keys() | puts
        assert before.keys() - deletes <= now.keys()
        there = set(now)
    tier.transact([], lambda _: Batch([record("last")]))
    assert held(tier).keys() == {*there, "last"}
    tier.close()
    again = JsonlTier(directory, authority=True)
    assert held(again).keys() == {*there, "last"}
    assert again.corrupted == 0
    again.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("part", [0, 7, 10_000])
def test_a_window_names_no_revision_whose_lines_are_missing(tmp_path: Path, disk: Disk, error: int, part: int) -> None:
    """At whichever call following fails, whoever opens the files finds all of the stretch or an older revision."""
    old = [record(f"k{n}", 1) for n in range(8)]
    new = [record(f"k{n}", 9) for n in range(5)]
    for left in itertools.count():
        directory = tmp_path / str(left)
        window = JsonlTier(directory)
        window.follow(Stretch(0, 1, old, admit=True))
        disk.left, disk.error, disk.part = left, error, part
        try:
            done = window.follow(Stretch(1, 9, new, ["k6", "k7"]))
        except TierError:
            done = None
        disk.left = None
        window.close()
        again = JsonlTier(directory)
        assert again.revision in {1, 9}
        if again.revision == 9:
            assert held(again) == {"k5": 1, **{f"k{n}": 9 for n in range(5)}}
        else:
            assert done is None
            again.follow(Stretch(1, 9, new, ["k6", "k7"]))
            assert held(again) == {"k5": 1, **{f"k{n}": 9 for n in range(5)}}
        again.close()
        if done is not None:
            break
    assert left > 5


def test_a_full_disk_is_an_error_that_names_the_directory(tmp_path: Path, disk: Disk) -> None:
    """A TierError says what the system said; reading goes on, and writing too once there is space."""
    tier = JsonlTier(tmp_path, authority=True)
    tier.transact([], lambda _: Batch([record("a")]))
    disk.left = 0
    with pytest.raises(TierError, match=rf"{tmp_path}.*No space left"):
        tier.transact([], lambda _: Batch([record("b")]))
    assert tier.get("a") is not None
    assert tier.get("b") is None
    with pytest.raises(TierError, match="No space left"):
        tier.touch_many([Access("a", 1, 1, 5.0)])
    disk.left = None
    made = record("b")
    assert tier.transact([], lambda _: Batch([made])).puts[0].generation == 2


def test_what_could_not_be_written_is_unchanged_for_the_next_try(tmp_path: Path, disk: Disk) -> None:
    """A record that was refused has neither revision nor generation."""
    tier = JsonlTier(tmp_path, authority=True)
    made = record("b")
    disk.left = 0
    with pytest.raises(TierError):
        tier.transact([], lambda _: Batch([made]))
    assert (made.revision, made.generation) == (0, 0)


def test_a_rewrite_that_fails_costs_only_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The put that brought it is acknowledged, the log says why the file grows on, and nothing is lost."""
    tier = JsonlTier(tmp_path, authority=True)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", failing)
    for _ in range(600):
        tier.transact([], lambda _: Batch([record("a")]))
    assert "could not be removed: broken" in caplog.text
    assert held(tier) == {"a": 600}
    monkeypatch.undo()
    tier.close()
    assert held(JsonlTier(tmp_path, authority=True)) == {"a": 600}


def test_a_disk_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO leaves as a TierError, loses no entry, and is over when the disk is."""
    tier = JsonlTier(tmp_path, authority=True)
    tier.transact([], lambda _: Batch([record("a")]))

    def failing(fd: int, length: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", failing)
        with pytest.raises(TierError, match="Input/output error"):
            tier.get("a")
        with pytest.raises(TierError, match="Input/output error"):
            tier.changed_elsewhere()
        with pytest.raises(TierError, match="Input/output error"):
            JsonlTier(tmp_path)
    assert tier.get("a") is not None
    assert tier.corrupted == 0


def test_a_directory_that_may_not_be_written_to_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses at opening leaves as a TierError that names the place."""

    def refusing(*_arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refusing)  # the tests may run as root, whom no mode stops
    with pytest.raises(TierError, match=rf"opening {tmp_path} failed: Permission denied"):
        JsonlTier(tmp_path)


def test_a_closed_tier_says_so(tmp_path: Path) -> None:
    """Neither reading nor writing is silent after `close`."""
    tier = JsonlTier(tmp_path, authority=True)
    tier.transact([], lambda _: Batch([record("a")]))
    tier.close()
    with pytest.raises(TierError):
        tier.get("a")
    with pytest.raises(TierError):
        tier.transact([], lambda _: Batch([record("b")]))


def test_a_lock_that_stays_taken_is_an_error_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the directory and how long was waited; afterwards all is well."""
    monkeypatch.setattr("proxywhirl.cache.tiers.jsonl.write_lock.LOCK_TIMEOUT_SECONDS", 0.05)
    tier = JsonlTier(tmp_path, authority=True)
    other = WriteLock(tmp_path / MARK)
    other.lock()
    with pytest.raises(TierError, match=rf"{tmp_path} stayed locked by another process for 0.05 s"):
        tier.transact([], lambda _: Batch([record("a")]))
    other.unlock()
    tier.transact([], lambda _: Batch([record("a")]))
    other.close()


def test_a_child_that_abandons_the_tier_takes_no_lock_from_its_parent(tmp_path: Path) -> None:
    """Closing the child's descriptors leaves the lock where it was."""
    tier = JsonlTier(tmp_path, authority=True)
    with tier._writing():
        child = os.fork()
        if child == 0:
            tier.abandon()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        other = os.open(tmp_path / MARK, os.O_RDWR)
        import fcntl

        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    tier.transact([], lambda _: Batch([record("a")]))
    assert held(tier) == {"a": 1}


@pytest.mark.parametrize("authority", [True, False])
def test_a_writer_that_dies_at_any_call_leaves_a_store_that_works(tmp_path: Path, *, authority: bool) -> None:
    """Killed before each of its system calls: what was acknowledged is there, revisions are never given twice."""
    for call in range(14):
        directory = tmp_path / str(call)
        tier = JsonlTier(directory, authority=authority)
        if authority:
            tier.transact([], lambda _: Batch([record(f"k{n}") for n in range(8)]))
        else:
            tier.follow(Stretch(0, 8, [record(f"k{n}", n + 1) for n in range(8)], admit=True))
        child = os.fork()
        if child == 0:
            _die_at(call)
            with_all = [record(f"k{n}", 9) for n in range(4)]
            mine = JsonlTier(directory, authority=authority)
            if authority:
                mine.transact([], lambda _, puts=with_all: Batch(puts))  # type: ignore[misc]  # bound now
            else:
                mine.follow(Stretch(8, 12, with_all, ["k7"]))
            os._exit(0)
        os.waitpid(child, 0)
        tier.changed_elsewhere()
        if authority:
            assert held(tier).keys() == {f"k{n}" for n in range(8)}
            reached = max(held(tier).values())
            assert tier.revision >= reached
            (put,) = tier.transact([], lambda _: Batch([record("next")])).puts
            assert put.revision > reached
        else:
            assert tier.revision in {8, 12}
            if tier.revision == 8:
                assert tier.follow(Stretch(8, 12, [record(f"k{n}", 9) for n in range(4)], ["k7"])) is not None
            expected = {**{f"k{n}": 9 for n in range(4)}, "k4": 5, "k5": 6, "k6": 7}
            assert held(tier) == expected
        for path in directory.glob("shard-*.jsonl"):
            assert all(decode_line(line) for line in path.read_bytes().splitlines())
        tier.close()


def _die_at(call: int) -> None:
    """Have this process killed at one of its next writes."""
    calls = itertools.count()

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*arguments: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments)

        return maybe

    for name in ("write", "pwrite"):
        setattr(os, name, dying(getattr(os, name)))
