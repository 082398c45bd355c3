"""The key of a store is changed while processes use it, and by one that is killed at any instant."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.keys.keyring import KeyFile
from proxywhirl.cache.keys.rekey import key_status
from proxywhirl.cache.opening import open_tiers

OFF: dict[str, Any] = {"enabled": False}
LAYOUTS: dict[str, dict[str, Any]] = {
    "JSONL and SQLite": {},
    "SQLite and SQLite": {"l2_backend": "sqlite"},
    "JSONL alone": {"l1_config": OFF, "l3_config": OFF, "l2_config": {"max_entries": None}},
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
TIMEOUT = 60
ENTRIES = 30
INSTANTS = 30

# Opens a copy of a home in a fork and kills itself at the n-th call of a function within the rotation, for n at equal
# distances; a fork that is not killed says how many calls there were.
KILLED = """
import json, os, shutil, signal, sys
from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.keys import rekey as rekeying

rekeying.SEALED_AT_ONCE = 7

def rotate(home, end):
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls == end:
            os.kill(os.getpid(), signal.SIGKILL)
    os.chdir(home)
    with CacheManager(CacheConfig.model_validate_json(sys.argv[2])) as cache:
        sys.setprofile(count)
        cache.rotate_keys()
        sys.setprofile(None)
    return calls

def forked(home, end):
    shutil.copytree(sys.argv[1], home)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"%d" % rotate(home, end))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read(), os.WIFSIGNALED(status)

total, killed = forked(sys.argv[1] + ".whole", -1)
instants = int(sys.argv[3])
for n in range(instants):
    said, killed = forked(f"{sys.argv[1]}.{n}", 1 + int(total) * n // instants)
    assert killed, said
print(total)
"""

READER = """
import sys
from proxywhirl.cache import CacheConfig, CacheManager

with CacheManager(CacheConfig.model_validate_json(sys.argv[1])) as cache:
    keys = [entry.key for entry in cache.scan()]
    print("open", flush=True)
    reads = 0
    while not sys.stdin.closed and reads < 10**7:
        for key in keys:
            entry = cache.get(key)
            number = entry.proxy_url.partition("//h")[2].partition(".")[0]
            assert entry.password.get_secret_value() == f"pass{number}"
            reads += 1
        for entry in cache.scan():
            entry.password.get_secret_value()
        print(reads, flush=True)
"""

WRITER = """
import sys
from proxywhirl.cache import CacheConfig, CacheManager

first = 1000
with CacheManager(CacheConfig.model_validate_json(sys.argv[1])) as cache:
    print("open", flush=True)
    for n in range(first, 10**7):
        assert cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"pass{n}", ttl=1e9)
        print(n, flush=True)
"""


def fields(layout: str) -> dict[str, Any]:
    """Return what configures a cache in the working directory."""
    return {"l2_cache_dir": "l2", "l3_database_path": "l3.db", "key_file": "key", **LAYOUTS[layout]}


def opened(layout: str) -> CacheManager:
    """Open the cache of the working directory."""
    return CacheManager(CacheConfig.model_validate(fields(layout)))


def fill(layout: str, count: int) -> None:
    """Make a cache with a password in each entry."""
    with opened(layout) as cache:
        for n in range(count):
            assert cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"pass{n}", ttl=1e9)


def numbers(cache: CacheManager) -> set[int]:
    """Return which entries there are, each with its own password."""
    found = set()
    for entry in cache.scan():
        number = int(entry.proxy_url.partition("//h")[2].partition(".")[0])
        assert entry.password is not None
        assert entry.password.get_secret_value() == f"pass{number}"
        found.add(number)
    return found


def is_finished(layout: str) -> bool:
    """Whether one key is kept, and everything is sealed with it."""
    config = CacheConfig.model_validate(fields(layout))
    tiers = open_tiers(config)
    try:
        found = key_status(config, tiers)
    finally:
        for _, tier in tiers:
            tier.close()
    return not found.unfinished and set(found.sealed) == {found.current} and len(KeyFile(Path("key")).read()) == 1


@pytest.fixture(autouse=True)
def _without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PROXYWHIRL_CACHE_KEY_PREVIOUS", raising=False)


@every_layout
def test_a_rotation_that_is_killed_leaves_a_store_that_opens_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """At whichever call it dies, every password is read back by a new process, and a second rotation ends the first."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    fill(layout, ENTRIES)
    command = [sys.executable, "-c", KILLED, str(home), json.dumps(fields(layout)), str(INSTANTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    unfinished = 0
    for n in range(INSTANTS):
        monkeypatch.chdir(f"{home}.{n}")
        unfinished += not is_finished(layout)
        under_way = len(KeyFile(Path("key")).read()) > 1
        with opened(layout) as cache:
            assert numbers(cache) == set(range(ENTRIES)), n
            assert cache.rotate_keys().resumed == under_way, n
            assert numbers(cache) == set(range(ENTRIES)), n
        assert is_finished(layout), n
        with opened(layout) as cache:
            assert numbers(cache) == set(range(ENTRIES)), n
    assert unfinished > INSTANTS // 2


class Running:
    """A script in a process of its own, and what it said until it was killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []

    def hear(self, count: int = 1) -> None:
        """Wait until it has said something more."""
        assert self.process.stdout is not None
        self.said += [self.process.stdout.readline() for _ in range(count)]


@contextlib.contextmanager
def running(script: str, layout: str) -> Iterator[Running]:
    """Run a script until it is killed at the end of the block; it must not have ended before."""
    command = [sys.executable, "-c", script, json.dumps(fields(layout))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        script_ = Running(process)
        script_.hear()
        try:
            yield script_
            alive = process.poll() is None
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stderr is not None
        script_.said += process.stdout.readlines()
        assert alive, process.stderr.read()


@every_layout
def test_processes_read_and_write_through_rotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """One reads everything over and over and one adds entries, through five rotations: no error, nothing lost."""
    monkeypatch.chdir(tmp_path)
    fill(layout, ENTRIES)
    with running(READER, layout) as reader, running(WRITER, layout) as writer:
        for _ in range(5):
            reader.hear()
            writer.hear()
            with opened(layout) as cache:
                cache.rotate_keys()
        reader.hear(10)
        writer.hear(10)
    assert reader.said[0] == writer.said[0] == "open\n"
    added = {int(line) for line in writer.said[1:] if line.endswith("\n")}
    with opened(layout) as cache:
        assert numbers(cache) >= {*range(ENTRIES), *added}
        cache.rotate_keys()
        assert numbers(cache) >= {*range(ENTRIES), *added}
    assert is_finished(layout)
