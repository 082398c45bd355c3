"""The cache in several processes, and in one that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheManager

SEALING_KEY = Fernet.generate_key().decode()
OFF: dict[str, Any] = {"enabled": False}
LAYOUTS: dict[str, dict[str, Any]] = {
    "JSONL and SQLite": {},
    "SQLite and SQLite": {"l2_backend": "sqlite"},
    "JSONL alone": {"l1_config": OFF, "l3_config": OFF, "l2_config": {"max_entries": None}},
    "JSONL alone, through to the disk": {
        "l1_config": OFF,
        "l3_config": OFF,
        "l2_config": {"max_entries": None},
        "durability": "power",
    },
}
TIMEOUT = 60

WRITER = """
import sys
from proxywhirl.cache import CacheConfig, CacheManager

cache = CacheManager(CacheConfig.model_validate_json(sys.argv[1]))
print("open", flush=True)
n = 0
while True:
    made = cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"pass{n}", ttl=float("inf"))
    print("added", made.key, n, flush=True)
    if n % 3 == 2:
        gone = cache.generate_cache_key(f"http://bob:x@h{n - 1}.example:80")
        assert cache.delete(gone)
        print("deleted", gone, n - 1, flush=True)
    n += 1
"""

ADDER = """
import sys
from proxywhirl.cache import CacheConfig, CacheManager

first, count = int(sys.argv[2]), int(sys.argv[3])
with CacheManager(CacheConfig.model_validate_json(sys.argv[1])) as cache:
    for n in range(first, first + count):
        assert cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"pass{n}", ttl=float("inf"))
        cache.get(cache.generate_cache_key("http://bob:x@h0.example:80"))
"""


def configure(home: Path, layout: str, key: str | None = SEALING_KEY) -> tuple[CacheConfig, str]:
    """Return a configuration and its JSON, with the key in the clear as a process needs it."""
    places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db"), "encryption_key": key}
    fields = {**places, **LAYOUTS[layout]}
    return CacheConfig.model_validate(fields), json.dumps(fields)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in a Python of its own."""
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


def acknowledged(said: list[str]) -> tuple[dict[str, int], set[str]]:
    """Return what must be there after these lines, by key, and what must not; what was under way is in neither."""
    there: dict[str, int] = {}
    gone: set[str] = set()
    for line in said:
        if line.endswith("\n"):
            what, key, number = line.split()
            if what == "added":
                there[key] = int(number)
            else:
                del there[key]
                gone.add(key)
    newest = max(there.values())
    if newest % 3 == 2:  # the deletion of the one before may have been done and not said
        there = {key: number for key, number in there.items() if number != newest - 1}
    return there, gone


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_acknowledged_survives_a_kill_and_what_was_deleted_stays_so(tmp_path: Path, layout: str) -> None:
    """A process that is killed while it writes has lost nothing it said, three times over on the same files."""
    config, text = configure(tmp_path, layout)
    for round_, lines in enumerate((7, 60, 161)):
        with start(WRITER, text) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            said = [writer.stdout.readline() for _ in range(lines)]
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.readlines()
            assert writer.wait(TIMEOUT) == -signal.SIGKILL
        there, gone = acknowledged(said)
        with CacheManager(config) as cache:
            found = {entry.key: entry for entry in cache.scan()}
            assert set(there) <= set(found), f"round {round_}"
            assert not gone & set(found), f"round {round_}"
            for key, count in there.items():
                password = found[key].password
                assert password is not None
                assert password.get_secret_value() == f"pass{count}"
            assert all(cache.get(key) is None for key in gone)
            told = cache.get_statistics()
            assert told.l2_stats.evictions_corruption <= 1, "at most the line that was being written"


@pytest.mark.parametrize("key", [SEALING_KEY, None], ids=["key given", "key made"])
@pytest.mark.parametrize("layout", ["JSONL and SQLite", "SQLite and SQLite", "JSONL alone"])
def test_processes_that_open_an_empty_home_at_once_lose_nothing(
    tmp_path: Path, layout: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that make the files together, and the key where there is none, leave one store that reads it all."""
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    config, text = configure(tmp_path, layout, key)
    count = 40
    processes = [start(ADDER, text, str(n * count), str(count)) for n in range(3)]
    for process in processes:
        with process:
            assert process.wait(TIMEOUT) == 0
    with CacheManager(config) as cache:
        found = {entry.proxy_url: entry.password for entry in cache.scan()}
        assert len(found) == 3 * count == len(cache)
        for n in range(3 * count):
            password = found[f"http://h{n}.example:80"]
            assert password is not None
            assert password.get_secret_value() == f"pass{n}"
        told = cache.get_statistics()
        assert told.l2_stats.evictions_corruption == 0
        changes = cache.changes_since(0)
        assert len(changes.proxies) == 3 * count
