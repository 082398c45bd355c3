"""Processes that write to one home and are killed at random instants: nothing they acknowledged may be lost.

A nursery process, which has imported everything and opened nothing, forks the writers. They carry out a plan and say
each step that has returned, through the nursery's one pipe, so what was said is known in full when a death is told.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.models import HealthStatus

SEALING_KEY = Fernet.generate_key().decode()
ROUNDS = 25
IDENTITIES = 40
STEPS = 80
TIMEOUT = 60

OFF: dict[str, Any] = {"enabled": False}
SMALL: dict[str, Any] = {"l1_config": {"max_entries": 6}, "l2_config": {"max_entries": 15}}
ALONE: dict[str, Any] = {"l1_config": {"max_entries": 6}, "l2_config": {"max_entries": None}, "l3_config": OFF}
LAYOUTS: dict[str, dict[str, Any]] = {
    "JSONL and SQLite": SMALL,
    "SQLite and SQLite": {**SMALL, "l2_backend": "sqlite"},
    "JSONL alone": ALONE,
    "SQLite alone": {**ALONE, "l2_backend": "sqlite"},
}

NURSERY = """
import json, os, signal, sys, time, traceback
from datetime import UTC, datetime
from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.models import HealthCheck, HealthStatus

def key(i):
    return CacheManager.generate_cache_key(f"http://u@h{i}.example:80")

def entry(i, n):
    return CacheEntry(
        key=key(i), proxy_url=f"http://h{i}.example:80", username="u", password=f"pass{n}", source=f"s{n}",
        fetch_time=datetime.now(UTC), ttl_seconds=10**6,
    )

def check(ok):
    return HealthCheck(ok, HealthStatus.HEALTHY if ok else HealthStatus.DEGRADED, time.time())

def step(cache, what, *given):
    match what, given:
        case "put", (i, n):
            return cache.put(key(i), entry(i, n))
        case "put_many", pairs:
            return cache.put_many([entry(i, n) for i, n in pairs])
        case "add", (i, n):
            made = cache.add(f"http://h{i}.example:80", source=f"s{n}", username="u", password=f"pass{n}", ttl=10**6)
            return made is not None
        case "delete", (i,):
            return cache.delete(key(i))
        case "clear", ():
            return cache.clear()
        case "check", (i, ok):
            return cache.record_check(key(i), check(ok))
        case "get", (i,):
            found = cache.get(key(i))
            return None if found is None else found.password.get_secret_value()

def tell(*what):
    os.write(1, (json.dumps(what) + "\\n").encode())  # one write, so that lines of several writers do not mix

def live(who, config, plan, stays):
    cache = CacheManager(CacheConfig.model_validate(config))
    for number, planned in enumerate(plan):
        tell("said", who, number, step(cache, *planned))
    if stays:
        signal.pause()
    cache.close()

for line in sys.stdin:
    children = {}
    for who, life in enumerate(json.loads(line)):
        pid = os.fork()
        if pid == 0:
            try:
                live(who, **life)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children[pid] = who
    tell("born", list(children))
    while children:
        pid, status = os.wait()
        tell("died", children.pop(pid), os.waitstatus_to_exitcode(status))
    tell("over")
"""

Step = tuple[Any, ...]


@dataclass(frozen=True)
class Known:
    """What the model remembers of an entry."""

    number: int
    status: HealthStatus = HealthStatus.UNKNOWN
    checks: int = 0


@dataclass
class Model:
    """What was acknowledged, by identity; what is under way may be so or so."""

    known: dict[int, Known] = field(default_factory=dict)
    either: dict[int, Known | None] = field(default_factory=dict)

    def apply(self, step: Step) -> object:
        """Do a step; return what it must answer."""
        answer: object = None
        match step:
            case "put", i, n:
                self.known[i] = Known(n)
                answer = True
            case "put_many", *pairs:
                self.known.update({i: Known(n) for i, n in pairs})
                answer = len(pairs)
            case "add", i, n:
                self.known[i] = replace(self.known[i], number=n) if i in self.known else Known(n)
                answer = True
            case "delete", i:
                answer = self.known.pop(i, None) is not None
            case "clear", *_:
                answer, self.known = len(self.known), {}
            case "check", i, ok:
                answer = i in self.known
                if i in self.known:
                    status = HealthStatus.HEALTHY if ok else HealthStatus.DEGRADED
                    self.known[i] = replace(self.known[i], status=status, checks=self.known[i].checks + 1)
            case "get", i:
                answer = f"pass{self.known[i].number}" if i in self.known else None
        return answer

    def begin(self, step: Step) -> None:
        """Note a step that was begun and perhaps not done: each identity that it changes is as before or as after."""
        after = Model(dict(self.known))
        after.apply(step)
        for i in self.known.keys() | after.known.keys():
            if self.known.get(i) != after.known.get(i):
                self.either[i] = after.known.get(i)

    def settle(self, found: dict[int, Known]) -> None:
        """Compare with what is there, and go on from that."""
        for i, after in self.either.items():
            if found.get(i) == after:
                self.known.pop(i, None)
                self.known.update({} if after is None else {i: after})
        self.either = {}
        lost = {i: known for i, known in self.known.items() if i not in found}
        back = {i: known for i, known in found.items() if i not in self.known}
        assert (lost, back) == ({}, {}), "acknowledged and lost, deleted and back"
        assert found == self.known


def planned(chance: random.Random, identities: Sequence[int], numbers: Iterator[int], steps: int) -> list[Step]:
    """Make a plan for the identities that one writer has."""
    plan: list[Step] = []
    for _ in range(steps):
        i = chance.choice(identities)
        kinds = ["put", "put_many", "add", "delete", "check", "get"]
        kind = chance.choices(kinds, [4, 2, 3, 4, 2, 3])[0]
        if kind in {"put", "add"}:
            plan.append((kind, i, next(numbers)))
        elif kind == "put_many":
            plan.append((kind, *((j, next(numbers)) for j in chance.sample(identities, chance.randrange(1, 12)))))
        elif kind == "check":
            plan.append((kind, i, chance.random() < 0.5))
        else:
            plan.append((kind, i))
    if len(identities) == IDENTITIES and chance.random() < 0.3:
        plan.insert(chance.randrange(steps // 2), ("clear",))
    return plan


@contextmanager
def nursery() -> Iterator[tuple[IO[str], IO[str]]]:
    """Run the process that forks writers; give its two ends. Nothing that it started outlives this, or the timeout."""
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        end = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
        end.start()
        try:
            yield process.stdin, process.stdout
            process.stdin.close()
            assert process.wait(TIMEOUT) == 0
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            end.cancel()


def run_round(
    ends: tuple[IO[str], IO[str]], config: dict[str, Any], plans: list[list[Step]], chance: random.Random
) -> list[list[object]]:
    """Start writers, kill the first at a random instant, let the others end; return what each has answered."""
    commands, answers = ends
    lives = [{"config": config, "plan": plan, "stays": who == 0} for who, plan in enumerate(plans)]
    commands.write(json.dumps(lives) + "\n")
    commands.flush()
    said: list[list[object]] = [[] for _ in plans]
    deaths: dict[int, int] = {}
    pids: list[int] = []
    at_step = chance.randrange(-STEPS // 8, STEPS)
    while True:
        if pids and 0 not in deaths and len(said[0]) >= at_step:
            # the instant is random within a step as well; before the first step the files are being opened
            time.sleep(chance.uniform(0, 0.015 if at_step < 0 else 0.001))
            os.kill(pids[0], signal.SIGKILL)
            at_step = STEPS * 2
        match json.loads(answers.readline()):
            case "said", who, number, answer:
                assert number == len(said[who])
                said[who].append(answer)
            case "born", [*pids]:  # a writer may have said something before
                assert all(pid > 1 for pid in pids)
            case "died", who, code:
                deaths[who] = code
            case "over", *_:
                break
            case heard:
                raise AssertionError(heard)
    assert deaths == {who: -signal.SIGKILL if who == 0 else 0 for who in range(len(plans))}
    return said


def contents(cache: CacheManager) -> dict[int, Known]:
    """Return what each way of reading says is there, if they agree."""
    keys = {cache.generate_cache_key(f"http://u@h{i}.example:80"): i for i in range(IDENTITIES)}
    got = {i: known_of(entry) for key, i in keys.items() if (entry := cache.get(key)) is not None}
    assert got == {keys[entry.key]: known_of(entry) for entry in cache.scan()}
    assert got.keys() == {i for key, i in keys.items() if key in cache}
    assert len(got) == len(cache)
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded) == (False, False, False)
    return got


def known_of(entry: CacheEntry) -> Known:
    """Return an entry as the model knows it."""
    assert entry.password is not None
    number = int(entry.source.removeprefix("s"))
    assert entry.password.get_secret_value() == f"pass{number}"
    return Known(number, entry.health_status, entry.total_health_checks)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_kill_loses_what_was_acknowledged_or_brings_back_what_was_deleted(tmp_path: Path, layout: str) -> None:
    """Over many kills on one home, each entry is what the last acknowledged step made it, for every way of reading.

    In every third round another process writes on meanwhile, to other entries, and is not disturbed.
    """
    chance = random.Random(layout)
    numbers = iter(range(10**9))
    config: dict[str, Any] = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "l3.db")}
    config |= {"encryption_key": SEALING_KEY, "health_check_invalidation": False, **LAYOUTS[layout]}
    model = Model()
    with nursery() as ends:
        for round_ in range(ROUNDS):
            writers = 2 if round_ % 3 == 2 else 1
            plans = [
                planned(chance, range(who, IDENTITIES, writers), numbers, STEPS if who == 0 else STEPS // 2)
                for who in range(writers)
            ]
            said = run_round(ends, config, plans, chance)
            for plan, answers in zip(plans, said, strict=True):
                expected = [model.apply(step) for step in plan[: len(answers)]]
                assert answers == expected, f"round {round_}"
            if len(said[0]) < len(plans[0]):
                model.begin(plans[0][len(said[0])])
            with CacheManager(CacheConfig.model_validate(config)) as cache:
                model.settle(contents(cache))
