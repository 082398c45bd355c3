"""The cache in several processes, and in one that is killed."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    "JSONL and L1": {"l3_config": OFF},
    "SQLite and L1": {"l3_config": OFF, "l2_backend": "sqlite"},
    "JSONL alone, through to the disk": {
        "l1_config": OFF,
        "l3_config": OFF,
        "l2_config": {"max_entries": None},
        "durability": "power",
    },
}
TIMEOUT = 60
ROUNDS = 20
SEEN_WITHIN_SECONDS = 0.1

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


OBSERVER = """
import json
import sys
import time
from proxywhirl.cache import CacheConfig, CacheManager


def password(key):
    entry = cache.get(key)
    return None if entry is None or entry.password is None else entry.password.get_secret_value()


cache = CacheManager(CacheConfig.model_validate_json(sys.argv[1]))
for line in sys.stdin:
    wanted = json.loads(line)
    print("watching", flush=True)
    seen, stall, looked = {}, 0.0, time.monotonic()
    while len(seen) < len(wanted):
        stall, looked = max(stall, time.monotonic() - looked), time.monotonic()
        seen |= {key: time.monotonic() for key in wanted.keys() - seen.keys() if password(key) == wanted[key]}
        time.sleep(0.001)
    for _ in range(1000):
        hits = cache.get_statistics().l1_stats.hits
        there = sum(password(key) is not None for key in wanted)
        if cache.get_statistics().l1_stats.hits == hits + there:
            print(json.dumps([seen, stall]), flush=True)
            break  # the next change is one of what is hit in L1
        time.sleep(0.001)
    else:
        raise SystemExit("what was seen is never in L1")
"""

CROWD = """
import sys
import threading
from random import Random
from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.coordination import breaker, replicas
from proxywhirl.models import HealthCheck, HealthStatus

# Where the machine is slow a turn may take long; what never comes ends the test.
replicas.WINDOW_PATIENCE_SECONDS = breaker.PATIENCE_SECONDS = breaker.SLOW_CALL_SECONDS = 100.0
seed, turns = int(sys.argv[2]), int(sys.argv[3])
cache = CacheManager(CacheConfig.model_validate_json(sys.argv[1]))
URLS = [f"http://bob:x@h{n}.example:80" for n in range(60)]
KEYS = [cache.generate_cache_key(url) for url in URLS]


def act(rng):
    n = rng.randrange(60)
    match rng.choices(range(12), weights=(8, 4, 12, 6, 0.2, 6, 4, 20, 10, 2, 2, 1))[0]:
        case 0:
            entry = cache.get(KEYS[n])
            assert entry is None or cache.put(KEYS[n], entry)
        case 1:
            assert cache.put_many(cache.get_many(rng.sample(KEYS, 5)).values()) is not None
        case 2:
            assert cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"{rng.random()}") or True
        case 3:
            cache.delete(KEYS[n])
        case 4:
            cache.clear()
        case 5:
            ok = rng.random() < 0.6
            status = HealthStatus.HEALTHY if ok else HealthStatus.UNHEALTHY
            cache.record_check(KEYS[n], HealthCheck(ok, status, 1.0, error=None if ok else "refused"))
        case 6:
            cache.invalidate_by_health(KEYS[n])
        case 7:
            entry = cache.get(KEYS[n])
            assert entry is None or (entry.key == KEYS[n] and entry.password.get_secret_value())
        case 8:
            assert all(key == entry.key for key, entry in cache.get_many(rng.sample(KEYS, 10)).items())
        case 9:
            cache.flush()
        case 10:
            assert len({entry.key for entry in cache.scan()}) <= 60
        case 11:
            findings = cache.verify()
            assert not findings, findings


def work(number):
    rng = Random(f"{seed} {number}")
    try:
        for _ in range(turns):
            act(rng)
    except BaseException:
        failed.append(number)
        raise


failed = []
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("failed" if failed else "done", flush=True)
sys.stdin.readline()
print(cache.verify(), flush=True)
cache.close()
"""


def configure(home: Path, layout: str, key: str | None = SEALING_KEY) -> tuple[CacheConfig, str]:
    """Return a configuration and its JSON, with the key in the clear as a process needs it."""
    places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db"), "encryption_key": key}
    fields = {**places, **LAYOUTS[layout]}
    return CacheConfig.model_validate(fields), json.dumps(fields)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in a Python of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if script == CROWD else None,
        text=True,
    )


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


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not name.endswith("L1")])
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


class Watched:
    """A process that reads keys over and over, and tells when it first had what is wanted of each."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    def delays(self, wanted: dict[str, str | None], act: Callable[[], object]) -> dict[str, float]:
        """Return how long after `act` had returned it saw each of the keys as wanted, in seconds.

        It counts what a busy machine adds, too: the longest time that passed between two looks, for the process and
        for the thread that watches the files. That is left out.
        """
        print(json.dumps(wanted), file=self._to, flush=True)
        assert self._from.readline() == "watching\n"
        act()
        acknowledged_at = time.monotonic()  # the clock is the system's, the same in every process
        seen: dict[str, float]
        seen, stall = json.loads(self._from.readline())
        return {key: max(0.0, at - acknowledged_at - 2 * stall) for key, at in seen.items()}


@pytest.fixture
def watching() -> Iterator[Callable[[str], Watched]]:
    """Start observers, which are gone at the end."""
    processes: list[subprocess.Popen[str]] = []

    def starting(text: str) -> Watched:
        processes.append(start(OBSERVER, text))
        return Watched(processes[-1])

    yield starting
    for process in processes:
        process.kill()
        with process:
            pass


@pytest.mark.parametrize("layout", ["JSONL and SQLite", "SQLite and SQLite", "JSONL and L1", "SQLite and L1"])
def test_processes_see_what_others_write_within_100_ms(
    tmp_path: Path, layout: str, watching: Callable[[str], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed passwords, deletes, puts, changed keys and clears, of what was hit in L1 before; in the median of 20."""
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    config, text = configure(tmp_path, layout, None)
    kinds = ("changed", "deleted", "put", "rekeyed", "cleared")
    delays: dict[str, list[float]] = {kind: [] for kind in kinds}
    with CacheManager(config) as cache:

        def add(name: str, password: str) -> str:
            made = cache.add(f"http://{name}.example:80", source="s", username="bob", password=password)
            assert made is not None
            return made.key

        def write(n: int) -> None:
            add("changed", f"new{n}")
            cache.delete(deleted)
            add("put", f"new{n}")

        def rekey(n: int) -> None:
            cache.rotate_keys()
            add("rekeyed", f"new{n}")

        observer = watching(text)
        put = cache.generate_cache_key("http://bob:x@put.example:80")
        for n in range(ROUNDS):
            changed, deleted, rekeyed = (add(name, f"old{n}") for name in ("changed", "deleted", "rekeyed"))
            old, new = f"old{n}", f"new{n}"
            observer.delays({changed: old, deleted: old, rekeyed: old, put: None}, lambda: None)
            written = observer.delays({changed: new, deleted: None, put: new}, lambda: write(n))  # noqa: B023  # called at once
            delays["changed"].append(written[changed])
            delays["deleted"].append(written[deleted])
            delays["put"].append(written[put])
            delays["rekeyed"] += observer.delays({rekeyed: new}, lambda: rekey(n)).values()  # noqa: B023  # as above
            delays["cleared"] += observer.delays(dict.fromkeys((changed, rekeyed, put)), cache.clear).values()
    medians = {kind: statistics.median(delays[kind]) for kind in kinds}
    assert max(medians.values()) <= SEEN_WITHIN_SECONDS, medians


@pytest.mark.parametrize("layout", ["JSONL and SQLite", "SQLite and SQLite", "JSONL and L1"])
def test_a_crowd_that_writes_at_random_leaves_nothing_to_say(tmp_path: Path, layout: str) -> None:
    """Four processes with four threads each: no error, no lock that is held too long, and `verify` finds nothing."""
    config, text = configure(tmp_path, layout)
    processes = [start(CROWD, text, str(seed), "300") for seed in range(4)]
    outcomes = [process.stdout.readline() for process in processes if process.stdout is not None]
    if outcomes != ["done\n"] * 4:  # what went wrong is in the logs, which end when the processes do
        pytest.fail("".join(process.communicate("\n", TIMEOUT)[1] for process in processes))
    for process in processes:
        said, logged = process.communicate("verify\n", TIMEOUT)
        assert (said, logged, process.returncode) == ("[]\n", "", 0)
    with CacheManager(config) as cache:
        assert cache.verify() == []
