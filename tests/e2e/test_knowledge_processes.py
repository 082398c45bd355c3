"""What choosing knows in several processes on one home, after one was killed, and with a file that is damaged."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxywhirl.errors import Blame, CacheError, PoolEmpty
from proxywhirl.models import Attributes, Outcome
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import ManualClock
from proxywhirl.urls import parse
from tests.waiting import GUARD_SECONDS, wait_until

TARGET = "https://shop.example/"
SITE = "shop.example"
REFUSED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="status-403")
SERVED = Outcome(True, status=200, latency=0.1)
PROXIES = [f"http://203.0.113.{n}:80" for n in range(1, 21)]

OPENED = """
import json
import os
import sys
from pathlib import Path

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings

REFUSED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, status=403, rule="status-403")
SERVED = Outcome(True, status=200, latency=0.1)
runtime = Runtime(Settings.load(Path(sys.argv[1])))
"""

BANS = """
runtime.start()
sys.stdin.readline()
runtime.pool.acquire("https://shop.example/").report(SERVED)
lease = runtime.pool.acquire("https://shop.example/")
lease.report(REFUSED)
print(lease.proxy.key, flush=True)
sys.stdin.readline()
"""

SESSIONS = """
runtime.start()
print("open", flush=True)
sys.stdin.readline()
given = {}
for n in range(200):
    with runtime.pool.acquire(session=f"s{n}") as lease:
        given[f"s{n}"] = lease.proxy.key
print(json.dumps(given), flush=True)
sys.stdin.readline()
"""

FORKS = """
runtime.feed()
with runtime.pool.acquire(session="s") as lease:
    before = lease.proxy.key
pid = os.fork()
if pid == 0:
    with runtime.pool.acquire(session="s") as lease:
        assert lease.proxy.key == before
    with runtime.pool.acquire(session="of the child") as lease:
        own = lease.proxy.key
    runtime.pool.acquire("https://shop.example/").report(SERVED)
    lease = runtime.pool.acquire("https://shop.example/")
    lease.report(REFUSED)
    runtime.feed()
    print(json.dumps([lease.proxy.key, own]), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
runtime.feed()
with runtime.pool.acquire(session="of the child") as lease:
    own = lease.proxy.key
((banned, _),) = runtime.pool.bans()
print(json.dumps([banned, own]), flush=True)
"""

Spawn = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a home with twenty proxies."""
    directory = tmp_path / "home"
    with Runtime(Settings.load(directory)) as runtime:
        runtime.take_in([(parse(url), Attributes()) for url in PROXIES], source="test", ttl=math.inf)
    return directory


@pytest.fixture
def spawn(home: Path) -> Iterator[Spawn]:
    """Run a program on the home in a process of its own, which is gone at the end."""
    with contextlib.ExitStack() as running:

        def spawn(program: str) -> subprocess.Popen[str]:
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", OPENED + program, str(home)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            running.callback(process.kill)
            return process

        yield spawn


@pytest.fixture
def runtime(home: Path) -> Iterator[Runtime]:
    """Open the home here and start it."""
    with Runtime(Settings.load(home)) as opened:
        opened.start()
        yield opened


def say(process: subprocess.Popen[str]) -> None:
    """Let a program go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Read what a program says next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def refused_by(runtime: Runtime, *, served: bool = True) -> Lease:
    """Let a proxy be refused a page that was `served` just before, so that it is banned; return its lease."""
    if served:
        runtime.pool.acquire(TARGET).report(SERVED)
    lease = runtime.pool.acquire(TARGET)
    lease.report(REFUSED)
    return lease


def chosen(runtime: Runtime) -> set[str]:
    """Return who is chosen for the site, of whom there are many."""
    keys = set()
    for _ in range(5 * len(PROXIES)):
        with runtime.pool.acquire(TARGET) as lease:
            keys.add(lease.proxy.key)
    return keys


def test_a_ban_in_one_process_is_a_ban_in_the_other(runtime: Runtime, spawn: Spawn) -> None:
    """It is known there within a moment, and lifted here it is lifted there."""
    process = spawn(BANS)
    say(process)
    key = hear(process)
    wait_until(lambda: (key, SITE) in runtime.pool.bans())
    assert chosen(runtime) == {parse(url).key for url in PROXIES} - {key}
    with Runtime(runtime.settings) as command:
        command.knowledge.lift([(key, SITE)])
    wait_until(lambda: not runtime.pool.bans())
    assert key in chosen(runtime)


def test_a_ban_outlives_the_process_that_was_killed(home: Path, spawn: Spawn) -> None:
    """What was written down is known to the next one from its first choice on."""
    process = spawn(BANS)
    say(process)
    key = hear(process)
    with Runtime(Settings.load(home)) as looking:
        wait_until(looking.knowledge.bans)
    process.send_signal(signal.SIGKILL)
    process.wait(GUARD_SECONDS)
    with Runtime(Settings.load(home)) as again:
        again.start()
        assert key not in chosen(again)


def test_a_process_that_ends_saves_what_it_knows(home: Path) -> None:
    """Also what it found out in the last moment."""
    with Runtime(Settings.load(home)) as first:
        first.feed()
        lease = refused_by(first)
    with Runtime(Settings.load(home)) as second:
        second.feed()
        assert list(second.pool.bans()) == [(lease.proxy.key, SITE)]


def test_what_is_known_is_shared_while_the_cache_cannot_be_read(home: Path) -> None:
    """One sick file keeps nothing from the other."""
    with Runtime(Settings.load(home)) as sick, Runtime(Settings.load(home)) as other:
        sick.feed()
        sick.pool.acquire(TARGET).report(SERVED)
        sick.checkups.record()  # while there is a cache to write it to
        lease = refused_by(sick, served=False)
        sick.cache.close()
        with pytest.raises(CacheError):
            sick.feed()
        other.feed()
        assert list(other.pool.bans()) == [(lease.proxy.key, SITE)]


def test_processes_agree_on_sessions_that_begin_at_once(spawn: Spawn) -> None:
    """Two hundred names get the same proxies in both, and not all the same one."""
    processes = [spawn(SESSIONS) for _ in range(2)]
    for process in processes:
        assert hear(process) == "open"
    for process in processes:
        say(process)
    one, other = (json.loads(hear(process)) for process in processes)
    assert one == other
    assert len(one) == 200
    assert len(set(one.values())) > len(PROXIES) / 2


def test_a_session_is_the_same_after_a_restart(home: Path) -> None:
    """Its proxy is written down before it is used, and its name is not."""
    given = []
    for _ in range(2):
        with Runtime(Settings.load(home)) as runtime:
            runtime.feed()
            with runtime.pool.acquire(session="bob@example.com") as lease:
                given.append(lease.proxy.key)
    assert given[0] == given[1]
    assert b"bob@example.com" not in b"".join(path.read_bytes() for path in (home / "db").iterdir())


def test_parent_and_child_share_what_they_know_after_a_fork(spawn: Spawn) -> None:
    """What the child finds out and agrees on holds in the parent too."""
    process = spawn(FORKS)
    child, parent = json.loads(hear(process)), json.loads(hear(process))
    assert child == parent
    assert process.wait(GUARD_SECONDS) == 0


def test_no_other_process_has_a_proxy_that_is_held(home: Path, runtime: Runtime) -> None:
    """Who begins while all are held finds none, and gets one that was given back."""
    leases = [runtime.pool.acquire(exclusive=True, ttl=60) for _ in PROXIES]
    assert len({lease.proxy.key for lease in leases}) == len(PROXIES)
    with Runtime(Settings.load(home)) as other:
        other.start()
        assert not _can_acquire(other)
        leases[7].release()
        wait_until(lambda: _can_acquire(other))


def _can_acquire(runtime: Runtime) -> bool:
    """Whether an exclusive lease can be had now."""
    try:
        runtime.pool.acquire(exclusive=True).release()
    except PoolEmpty:
        return False
    return True


def test_a_file_that_is_damaged_amid_its_use_fails_no_request(home: Path, runtime: Runtime) -> None:
    """Requests go on, the file is set aside, and what was learnt meanwhile is written to the new one."""
    runtime.state.put_many("weight", {str(n): "x" * 1000 for n in range(2000)})
    runtime.close()
    path = home / "db" / "state.db"
    with Runtime(Settings.load(home)) as using:
        using.start()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with using.pool.acquire(session="s") as lease:
            given = lease.proxy.key
        lease = refused_by(using)
        wait_until(lambda: list(path.parent.glob("state.db.damaged-*")))
        with using.pool.acquire(session="s") as again:
            assert again.proxy.key == given
        with Runtime(Settings.load(home)) as other:
            wait_until(lambda: (lease.proxy.key, SITE) in other.knowledge.bans())
            wait_until(other.knowledge.sessions)


def test_the_bans_of_a_proxy_that_is_removed_do_not_come_back(home: Path, runtime: Runtime) -> None:
    """Removed and added again by a command, it is welcome in a process that had banned it."""
    lease = refused_by(runtime)
    key, url = lease.proxy.key, parse(lease.proxy.url)
    with Runtime(Settings.load(home)) as command:
        wait_until(command.knowledge.bans)
        command.remove([key], "test")
        command.take_in([(url, Attributes())], source="test", ttl=math.inf, lift=True)
        assert command.knowledge.bans() == {}
    wait_until(lambda: key in runtime.pool and not runtime.pool.bans())


def test_a_limit_that_one_process_has_learnt_is_kept_by_the_next(home: Path, runtime: Runtime) -> None:
    """What is known of a site outlives the process, and two that are there take different proxies first."""
    runtime.close()
    clock, used = ManualClock(), dict[str, float]()

    def visit(pool: Pool) -> None:
        """Send a request to a site that lets each proxy come once in 20 seconds."""
        try:
            lease = pool.acquire(f"{TARGET}{clock.monotonic()}")
        except PoolEmpty:
            return
        early = clock.monotonic() - used.get(lease.proxy.key, -math.inf) < 20.0
        used[lease.proxy.key] = clock.monotonic()
        lease.report(REFUSED if early else SERVED)

    with Runtime(Settings.load(home), clock=clock) as first:
        for _ in range(600):
            first.feed()
            visit(first.pool)
            clock.advance(0.7)
        first.feed()
        with Runtime(Settings.load(home), clock=clock) as second:
            second.feed()
            visit(second.pool)
            for running in (second, first, second):
                running.feed()
            limits = [one.pool._chooser.learning.sites[SITE].rate_limit for one in (first, second)]
            assert limits[0].known
            assert limits[1].numbers()[0] >= limits[0].numbers()[0] > 0
            parts = [one.pool._chooser.states.others for one in (first, second)]
            assert all(parts)
            assert not set(parts[0]) & set(parts[1])
