"""Exclusive leases in several processes and threads, and of one that is killed: never two holders at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from proxywhirl.knowledge import Knowledge
from proxywhirl.state.store import StateStore

PROXIES = 3
PROCESSES = 3
TIMEOUT = 60

# Each holder notes when it surely had the proxy: from after it was given to before it was given back or ran out.
HAMMER = """
import random
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from proxywhirl.knowledge import Knowledge
from proxywhirl.state.store import StateStore

path, proxies, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
printing = threading.Lock()


def work(knowledge, rng, end):
    while time.monotonic() < end:
        key = f"p{rng.randrange(proxies)}"
        now = time.time()
        until = now + rng.choice((0.002, 0.02))
        token = knowledge.hold(key, now=now, until=until)
        if token is None:
            continue
        begun = time.time()
        if rng.random() < 0.3:
            asked = time.time()
            if knowledge.extend(key, token, now=asked, until=asked + 0.02):
                until = asked + 0.02
        time.sleep(rng.random() * 0.004)
        ended = min(time.time(), until)
        if rng.random() < 0.7:
            knowledge.free(key, token)
        if ended > begun:
            with printing:
                print(key, token, repr(begun), repr(ended), flush=True)


with closing(StateStore(path)) as store:
    knowledge = Knowledge(store)
    end = time.monotonic() + 2
    threads = [
        threading.Thread(target=work, args=(knowledge, random.Random(seed * 100 + n), end)) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""

HOLDER = """
import sys
import time
from pathlib import Path

from proxywhirl.knowledge import Knowledge
from proxywhirl.state.store import StateStore

knowledge = Knowledge(StateStore(Path(sys.argv[1])))
now = time.time()
print(knowledge.hold("p", now=now, until=now + float(sys.argv[2])), repr(now), flush=True)
time.sleep(60)
"""


def test_no_proxy_has_two_holders(tmp_path: Path) -> None:
    """However many threads of several processes want the same few, intervals never overlap and tokens only grow."""
    path = tmp_path / "state.db"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), str(PROXIES), str(n)], stdout=subprocess.PIPE, text=True
        )
        for n in range(PROCESSES)
    ]
    held: dict[str, list[tuple[float, float, int]]] = {}
    for process in running:
        out, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        for line in out.splitlines():
            key, number, since, until = line.split()
            held.setdefault(key, []).append((float(since), float(until), int(number)))
    assert len(held) == PROXIES
    for intervals in held.values():
        intervals.sort()
        assert len(intervals) > 20
        for (_, ended, token), (begun, _, later) in pairwise(intervals):
            assert ended <= begun
            assert token < later


def test_the_hold_of_a_killed_process_ends_in_time(tmp_path: Path) -> None:
    """Nobody gets the proxy before the time of the killed holder is over, and somebody does then."""
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path), "2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        token, taken = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    with closing(StateStore(path)) as store:
        knowledge = Knowledge(store)
        now, end = time.time(), float(taken) + 2
        assert knowledge.hold("p", now=now, until=now + 1) is None
        assert knowledge.hold("p", now=end - 0.001, until=end + 1) is None
        later = knowledge.hold("p", now=end, until=end + 1)
        assert later is not None
        assert later > int(token)
