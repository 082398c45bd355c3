"""Forks beside open databases: parent and child go on at once, each with locks of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxywhirl.repeating import Repeating
from proxywhirl.state.forking import hold

START = """
import os, signal, sys, threading, time, warnings
from contextlib import closing
from pathlib import Path
from cryptography.fernet import Fernet
from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.tiers.protocol import Batch
from proxywhirl.state import database
from proxywhirl.state.store import StateStore

database.BUSY_TIMEOUT_MS = 10**9  # a lock that nobody gives back is waited for until the alarm rings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of forks beside threads, which are the point
home = Path(sys.argv[1])
layouts = {
    "l3": {},
    "l2": {"l2_backend": "sqlite", "l3_config": {"enabled": False}},
    "both": {"l2_backend": "sqlite"},
}
config = CacheConfig(
    l2_cache_dir=str(home / "l2"), l3_database_path=str(home / "l3.db"), **layouts[sys.argv[2]],
    encryption_key="b2uFnsVnwPmv9ZyWsIK6rLuTBgjcJqeGYOQPo9Vj1nk=",
)

def add(cache, name):
    assert cache.add(f"http://{name}.example:80", source="test") is not None, name

def there(cache):
    return {entry.proxy_url.partition("://")[2].partition(".")[0] for entry in cache.scan()}

def in_child(act):
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(120)
        try:
            act()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid

def ends_well(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""

AMID_A_WRITE = """
cache = CacheManager(config)
add(cache, "before")
inside, go_on = threading.Event(), threading.Event()

def decide(present):
    inside.set()
    go_on.wait(0.3)  # the transaction is open for as long; its other end is the fork, which waits for it
    return Batch()

thread = threading.Thread(target=lambda: cache._engine.stack.commit((), decide, admit=False))
thread.start()
inside.wait()

def child():
    add(cache, "child")
    figures = cache.get_statistics()
    assert not (figures.l2_degraded or figures.l3_degraded)
    assert there(cache) == {"before", "child"}

ends_well(in_child(child))
thread.join()
add(cache, "parent")
assert there(cache) == {"before", "child", "parent"}
cache.close()
"""

AFTER_THE_PARENT = """
cache = CacheManager(config)
add(cache, "before")
began, ended = os.pipe()

def child():
    os.close(ended)
    add(cache, "child")
    os.read(began, 1)  # until the parent has closed its cache, and with it this pipe
    for n in range(3):
        add(cache, f"after{n}")

pid = in_child(child)
os.close(began)
while there(cache) != {"before", "child"}:
    time.sleep(0.01)
cache.close()
os.close(ended)
ends_well(pid)
with CacheManager(config) as again:
    assert there(again) == {"before", "child", "after0", "after1", "after2"}
"""

AMONG_THREADS = """
cache = CacheManager(config)
stop, failures = threading.Event(), []

def work(name):
    try:
        for n in range(1_000_000):
            if stop.is_set():
                return
            add(cache, f"{name}-{n % 50}")
            cache.get_many(cache.generate_cache_key(f"http://{name}-{m}.example:80") for m in range(50))
    except BaseException as exc:
        failures.append(exc)

threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(3)]
for thread in threads:
    thread.start()
for n in range(12):
    def child():
        add(cache, f"child{n}")
        assert cache.get(cache.generate_cache_key(f"http://child{n}.example:80")) is not None
        if n % 2:
            cache.close()
    ends_well(in_child(child))
stop.set()
for thread in threads:
    thread.join()
assert failures == []
assert there(cache) >= {f"child{n}" for n in range(12)}
assert cache.verify() == []
cache.close()
"""

STATE = """
store = StateStore(home / "state.db")
store.put_many("kind", {"before": "1"})
inside, go_on = threading.Event(), threading.Event()

def change(held):
    inside.set()
    go_on.wait(0.3)
    return {"thread": "1"}

thread = threading.Thread(target=lambda: store.update("kind", [], change))
thread.start()
inside.wait()

def child():
    store.put_many("kind", {"child": "1"})
    store.close()

ends_well(in_child(child))
thread.join()
assert set(store.items("kind")) == {"before", "thread", "child"}
store.put_many("kind", {"parent": "1"})
store.close()
with closing(StateStore(home / "state.db")) as again:
    assert set(again.items("kind")) == {"before", "thread", "child", "parent"}
"""


def run(script: str, *arguments: object) -> str:
    """Run a script in an interpreter of its own, which ends well; return what was logged."""
    command = [sys.executable, "-W", "error", "-c", START + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("layout", ["l3", "l2", "both"])
def test_a_child_forked_amid_the_write_of_another_thread_writes_at_once(tmp_path: Path, layout: str) -> None:
    """The fork waits for the write; parent and child lose nothing and find no tier busy."""
    assert run(AMID_A_WRITE, tmp_path, layout) == ""


@pytest.mark.parametrize("layout", ["l3", "l2"])
def test_what_a_child_writes_after_its_parent_has_closed_is_kept(tmp_path: Path, layout: str) -> None:
    """The child has locks of its own: the log that it writes to is not removed as if nobody used it."""
    assert run(AFTER_THE_PARENT, tmp_path, layout) == ""


@pytest.mark.parametrize("layout", ["l3", "both"])
def test_forks_among_busy_threads_fail_no_call_of_either(tmp_path: Path, layout: str) -> None:
    """Whatever the threads of the parent are doing, they go on, and each child uses the cache."""
    assert run(AMONG_THREADS, tmp_path, layout) == ""


def test_a_child_goes_on_with_the_state_of_its_parent(tmp_path: Path) -> None:
    """The records beside the cache need no new object after a fork, be another thread amid a change or not."""
    assert run(STATE, tmp_path, "l3") == ""


def test_a_fork_from_within_a_change_is_told(tmp_path: Path) -> None:
    """The log names the file that the child may find busy; the parent's change is whole."""
    script = """
store = StateStore(home / "state.db")
def change(held):
    ends_well(in_child(lambda: None))
    return {"parent": "1"}
store.update("kind", [], change)
assert store.items("kind") == {"parent": "1"}
store.close()
"""
    assert "state.db: this process forks amid a change" in run(script, tmp_path, "l3")


@dataclass(eq=False)
class Held:
    """Something with a lock."""

    name: str = "held"
    lock: threading.RLock = field(default_factory=threading.RLock)

    def close_for_fork(self) -> bool:
        """See `ForkAware`."""
        return True

    def reset_in_child(self) -> None:
        """See `ForkAware`."""


def test_a_lock_that_hangs_is_waited_for_no_longer_than_is_said() -> None:
    """The others are taken all the same."""
    free, hung, other = Held(), Held(), Held()
    release = threading.Event()

    def hang() -> None:
        with hung.lock:
            release.wait()

    thread = threading.Thread(target=hang)
    thread.start()
    assert set(hold([free, hung, other], 0.2)) == {free, other}
    release.set()
    thread.join()
    assert set(hold([free, hung, other], 60)) == {free, hung, other}


def test_locks_that_a_thread_takes_in_any_order_are_no_trap() -> None:
    """A thread that holds one and waits for another gets it while the fork waits for the first."""
    one, two = Held(), Held()
    inside = threading.Event()
    in_time: list[bool] = []

    def nest() -> None:
        with two.lock:
            inside.set()
            time.sleep(0.1)  # the other one is likely to be taken by now
            in_time.append(one.lock.acquire(timeout=30))
            one.lock.release()

    thread = threading.Thread(target=nest)
    thread.start()
    inside.wait()
    assert set(hold([one, two], 60)) == {one, two}
    thread.join()
    assert in_time == [True]


def test_a_watcher_that_is_busy_is_waited_for_no_longer_than_is_said() -> None:
    """So a fork is not held up by a slow look at the files."""

    class Slow:
        """Looks for as long as it is let."""

        def __init__(self) -> None:
            self.begun, self.release = threading.Event(), threading.Event()

        def look(self) -> None:
            """Wait."""
            self.begun.set()
            self.release.wait()

    slow = Slow()
    watcher = Repeating(slow.look, 0.05, name="slow", failing="nothing is seen")
    slow.begun.wait()
    watcher.stop(0.1)
    slow.release.set()
    watcher.stop()
