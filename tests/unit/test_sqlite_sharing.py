"""Several processes on one SQLite file, forks, and disks that refuse: no lock is seen, nothing half-written."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import apsw
import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import TierError
from proxywhirl.state.database import Database

PROCESSES = 4
THREADS = 4
WRITES = 60

WRITERS = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.cache.tiers.protocol import Batch

path, processes, threads, writes = Path(sys.argv[1]), *map(int, sys.argv[2:])

def record(key):
    return Record(key, "http://192.0.2.1:80", "s", 1.0, 60, 61.0, 1.0)

def write(name):
    def decide(present):
        shared = present.get("shared") or record("shared")
        shared.failure_count += 1
        return Batch([shared, record(f"{name}-{n}")])
    tier = SqliteTier(path, authority=True)
    for n in range(writes):
        tier.transact(["shared"], decide)
        tier.changed_elsewhere()
        assert tier.get("shared") is not None
    tier.close()

waiting, begin = os.pipe()
children = []
for process in range(processes):
    if not (child := os.fork()):
        os.close(begin)
        os.read(waiting, 1)  # all begin together, when the other end is closed
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, [f"{process}-{thread}" for thread in range(threads)]))
        sys.exit(0)
    children.append(child)
os.close(begin)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
"""


def record(key: str) -> Record:
    """Make a record."""
    return Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0)


def put(tier: SqliteTier, *keys: str) -> None:
    """Write records under keys."""
    tier.transact([], lambda _: Batch(puts=[record(key) for key in keys]))


def run(script: str, *arguments: object) -> None:
    """Run a script in an interpreter of its own, which ends well and says nothing."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("processes", "threads", "writes"), [(PROCESSES, THREADS, WRITES), (8, 1, 2)])
def test_writers_wait_for_each_other_and_lose_nothing(
    tmp_path: Path, processes: int, threads: int, writes: int
) -> None:
    """Processes and threads that make, open and write one file at once meet no lock, and each update is there."""
    path = tmp_path / "tier.db"
    run(WRITERS, path, processes, threads, writes)
    tier = SqliteTier(path, authority=True)
    assert tier.set_aside is None
    total = processes * threads * writes
    assert len(tier) == total + 1
    shared = tier.get("shared")
    assert shared is not None
    assert shared.failure_count == total
    assert tier.revision == 2 * total
    assert tier.examine() == []
    tier.close()


def test_a_lock_that_is_never_given_back_is_told_as_what_it_is(tmp_path: Path) -> None:
    """It is no damage; the file stays in place, and works again with the lock gone."""
    path = tmp_path / "tier.db"
    tier = SqliteTier(path, authority=True)
    tier._database.connection.set_busy_timeout(1)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TierError, match="another process holds"):
        put(tier, "a")
    assert not tier.damaged
    other.execute("ROLLBACK")
    put(tier, "a")
    assert len(tier) == 1
    other.close()
    tier.close()


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_abandons_what_it_inherited_and_harms_nothing(tmp_path: Path, *, busy: bool) -> None:
    """After a fork, even amid a transaction, parent and child write on connections of their own."""
    path = tmp_path / "tier.db"
    tier = SqliteTier(path, authority=True)
    put(tier, "before")

    def child() -> None:
        tier.abandon()
        tier.close()  # has nothing to close
        if not busy:
            mine = SqliteTier(path, authority=True)
            put(mine, "child")
            mine.close()

    def fork() -> None:
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            code = 1
            try:
                child()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0

    def decide(present: Mapping[str, Record]) -> Batch:
        fork()
        return Batch([record("parent")])

    if busy:
        tier.transact([], decide)
    else:
        fork()
        put(tier, "parent")
    assert {found.key for found in tier.scan("", 9)} == {"before", "parent", *(() if busy else ("child",))}
    other = apsw.Connection(str(path))
    tier._database.connection.execute("BEGIN IMMEDIATE")
    other.set_busy_timeout(0)
    with pytest.raises(apsw.BusyError):  # the parent's locks hold still
        other.execute("BEGIN IMMEDIATE")
    tier._database.connection.execute("ROLLBACK")
    other.close()
    tier.close()


def test_a_child_that_ends_in_the_ordinary_way_closes_nothing_of_its_parent(tmp_path: Path) -> None:
    """The end of a forked interpreter leaves the parent's log in place."""
    script = """
import os, sys
from pathlib import Path
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.cache.tiers.protocol import Batch
tier = SqliteTier(Path(sys.argv[1]), authority=True)
pid = os.fork()
if pid == 0:
    tier.abandon()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert Path(sys.argv[1] + "-wal").exists()
tier.transact([], lambda _: Batch([Record("a", "http://192.0.2.1:80", "s", 1.0, 60, 61.0, 1.0)]))
os._exit(0)
"""
    path = tmp_path / "tier.db"
    run(script, path)
    tier = SqliteTier(path, authority=True)
    assert "a" in tier
    tier.close()


@contextlib.contextmanager
def no_more_pages(tier: SqliteTier) -> Iterator[None]:
    """Let SQLite find the file as large as it may be."""
    tier._database.connection.pragma("max_page_count", 1)
    yield
    tier._database.connection.pragma("max_page_count", 1_000_000)


@contextlib.contextmanager
def no_more_bytes(tier: SqliteTier) -> Iterator[None]:
    """Let the system refuse to make the log longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = Path(f"{tier._database.connection.filename}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 5000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", [no_more_pages, no_more_bytes])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tmp_path: Path, full: Callable[[SqliteTier], contextlib.AbstractContextManager[None]]
) -> None:
    """Writes fail with an error that says what to do, reads go on, and with room again so do writes."""
    tier = SqliteTier(tmp_path / "tier.db", authority=True, max_entries=500)
    put(tier, "a", "b")
    many = [f"k{n:03}" for n in range(400)]
    with full(tier):
        for _ in range(2):
            with pytest.raises(TierError, match=r"tier\.db failed: .*make room"):
                put(tier, *many)
        assert not tier.damaged
        assert (len(tier), tier.revision, tier.examine()) == (2, 2, [])
        assert tier.get("a") is not None
    put(tier, *many)
    assert (len(tier), tier.revision) == (402, 402)
    tier.close()
    again = SqliteTier(tmp_path / "tier.db", authority=True)
    assert len(again) == 402
    again.close()


def test_a_place_that_cannot_be_written_to_is_told_with_what_to_do(tmp_path: Path) -> None:
    """The words are the same for a file, a directory and a disk that are read-only."""
    database = Database(tmp_path / "a.db", [["CREATE TABLE t (x)"]])
    reader = apsw.Connection(str(tmp_path / "a.db"), flags=apsw.SQLITE_OPEN_READONLY)
    writable, database.connection = database.connection, reader
    told = r"a\.db failed .*let this user write to the file and its directory"
    with pytest.raises(TierError, match=told), database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    database.connection = writable
    reader.close()
    database.close()
    error = database.failure("opening", PermissionError(13, "Permission denied"))
    assert "let this user write" in str(error)
    assert not database.damaged
