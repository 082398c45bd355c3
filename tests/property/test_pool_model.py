"""The pool against a naive model that keeps everything in plain lists and searches them."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxywhirl.errors import Blame, LeaseReported, PoolEmpty
from proxywhirl.models import HealthStatus, Outcome, Proxy, Sketch
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import BACKOFF, FAILURES_TO_CAP, HOPELESS_BACKOFF
from proxywhirl.rotation.selection.availability import TRIAL_SECONDS
from proxywhirl.testing.clock import ManualClock

KEYS = [f"key-{n}" for n in range(6)]
BLAMES = [None, *Blame]


def portray(key: str, sketch: Sketch) -> Proxy:
    """Make the value of a sketch, which says nothing but its label."""
    return Proxy(key, "http", "192.0.2.1", 8080, label=sketch[1])


@dataclass
class Known:
    """What the model remembers of one proxy."""

    until: float | None = None
    line: int = 1
    failures: int = 0
    incident: int = 0
    served: int = 0
    failed: int = 0
    in_flight: int = 0
    withheld: bool = False


@dataclass
class Out:
    """A lease that is out, with the model's record of its proxy at that moment."""

    lease: Lease
    known: Known
    trial: float | None = None
    incident: int = field(init=False)

    def __post_init__(self) -> None:
        self.incident = self.known.incident


class PoolMachine(RuleBasedStateMachine):
    """Every public operation in any order, checked after each step."""

    strategy = "round_robin"

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.pool = Pool(
            self.strategy, resolve=lambda _key: None, rng=random.Random(5), clock=self.clock, portray=portray
        )
        self.shares = [1.0, 0.03, 0.02, 0.01]
        self.trials = [4.0] * 4
        self.luck = [0.5] * 4
        self.known: dict[str, Known] = {}
        self.labels: dict[str, str | None] = {}
        self.turn: list[str] = []
        self.out: list[Out] = []

    @rule(key=st.sampled_from(KEYS), dead=st.booleans())
    def update(self, key: str, dead: bool) -> None:
        """Add a proxy, or replace it; only that one is dead, or is no more, has consequences."""
        status = HealthStatus.DEAD if dead else HealthStatus.UNKNOWN
        self.pool.update([Proxy(key, "http", "192.0.2.1", 8080, status=status)])
        self.take(key, dead=dead)
        self.labels[key] = None

    @rule(keys=st.lists(st.sampled_from(KEYS), unique=True, min_size=1), dead=st.booleans(), label=st.text("xyz"))
    def stock(self, keys: list[str], dead: bool, label: str) -> None:
        """Do the same with some sketches at once."""
        self.pool.stock(dict.fromkeys(keys, ("", label)), aside=dead)
        for key in sorted(keys, key=lambda key: key not in self.known):  # those first that are told of what is new
            self.take(key, dead=dead)
            self.labels[key] = label

    def take(self, key: str, *, dead: bool) -> None:
        """Do to the model what comes of a proxy that is handed in."""
        new = key not in self.known
        known = self.known.setdefault(key, Known())
        if dead:
            known.withheld = True
            if not known.failures:
                known.failures, known.line = FAILURES_TO_CAP, 1
                known.incident += 1
                known.until = self.drawn(key, FAILURES_TO_CAP, proven=True)
                if key in self.turn:
                    self.turn.remove(key)
        elif new or known.withheld:
            known.withheld, known.failures, known.until = False, 0, None
            if key not in self.turn:
                self.turn.append(key)

    def drawn(self, key: str, failures: int, *, proven: bool) -> float:
        """Return until when the pool has set a proxy aside, which is drawn by chance below a ceiling."""
        until = next(use.set_aside_until for use in self.pool.snapshot() if use.proxy.key == key)
        now = self.clock.monotonic()
        assert until is not None
        assert now <= until <= now + (BACKOFF if proven else HOPELESS_BACKOFF).seconds(failures)
        return until

    @rule(keys=st.sets(st.sampled_from(KEYS), max_size=3))
    def discard(self, keys: set[str]) -> None:
        """Forget proxies, known or not, leased or not."""
        self.pool.discard(keys)
        for key in keys & self.known.keys():
            del self.known[key]
            if key in self.turn:
                self.turn.remove(key)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(exclude=st.sets(st.sampled_from(KEYS)))
    def acquire(self, exclude: set[str]) -> None:
        """Choose: the first in turn, else the one due first, else none."""
        self.come_back()
        ready = [key for key in self.turn if key not in exclude]
        due = sorted((k.until, key) for key, k in self.known.items() if k.until is not None and key not in exclude)
        if not ready and not due:
            with pytest.raises(PoolEmpty):
                self.pool.acquire(exclude=exclude)
            self.grant()
            return
        lease = self.pool.acquire(exclude=exclude)
        key = lease.proxy.key
        assert lease.proxy.label == self.labels[key]
        known = self.known[key]
        trial = None
        if ready:
            self.check_choice(key, ready)
            self.turn.remove(key)
            if known.failures:
                trial = known.until = self.clock.monotonic() + TRIAL_SECONDS
                known.line = 0
            else:
                self.turn.append(key)
        else:
            assert key == due[0][1]
        known.in_flight += 1
        self.out.append(Out(lease, known, trial))

    def check_choice(self, key: str, ready: list[str]) -> None:
        """Hold the choice against those that were ready."""
        assert key == ready[0]

    def come_back(self) -> None:
        """Put those on trial that are due, in the order in which they are, as many as there may be."""
        aside = [(k.until, key) for key, k in self.known.items() if k.until is not None]
        for line in range(4) if aside else ():
            self.trials[line] = min(self.trials[line] + self.shares[line], 64.0)
            for until, key in sorted(aside):
                if self.known[key].line == line and until <= self.clock.monotonic() and self.trials[line] >= 1.0:
                    self.trials[line] -= 1.0
                    self.known[key].until = None
                    self.turn.append(key)

    def grant(self) -> None:
        """Make room for a trial more of each kind, since nobody could serve."""
        self.trials = [min(trials + 1.0, 64.0) for trials in self.trials]

    def line(self, key: str, failures: int, *, proven: bool) -> int:
        """Return where one belongs: with those of a good record, those that served, or those that never did."""
        if not proven:
            return 2 if failures <= 2 else 3
        state = self.pool._chooser.states.slot(key)
        assert state is not None
        return 0 if state.chance >= 0.8 and failures <= 2 else 1

    def end(self, out: Out) -> None:
        """Do to the model what the end of any lease does: one on trial may be tried by another request."""
        out.known.in_flight -= 1
        key = out.lease.proxy.key
        if self.known.get(key) is out.known and out.trial is not None and out.known.until == out.trial:
            out.known.until = None
            self.turn.append(key)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.booleans(), blame=st.sampled_from(BLAMES))
    def report(self, data: st.DataObject, ok: bool, blame: Blame | None) -> None:
        """Report any lease that is out, twice."""
        out = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        outcome = Outcome(ok, blame=None if ok else blame)
        out.lease.report(outcome)
        with pytest.raises(LeaseReported):
            out.lease.report(outcome)
        self.end(out)
        key = out.lease.proxy.key
        if self.known.get(key) is out.known:
            self.learn(key, out, ok=ok, against=outcome.counts_against_proxy)

    def learn(self, key: str, out: Out, *, ok: bool, against: bool) -> None:
        """Do to the model what the report does to the pool."""
        known = out.known
        if ok:
            known.served += 1
            if known.failures and out.trial is not None:
                line = self.line(key, known.failures, proven=known.served > 1)
                self.luck[line] += 0.1 * (1.0 - self.luck[line])
                self.trials[line] = min(self.trials[line] + 3.0 * self.luck[line], 64.0)
            known.failures, known.withheld = 0, False
            if known.until is not None:
                known.until = None
                self.turn.append(key)
        elif against:
            known.failed += 1
            if out.incident == known.incident:
                if out.trial is not None:
                    line = self.line(key, known.failures, proven=known.served > 0)
                    self.luck[line] -= 0.1 * self.luck[line]
                known.incident += 1
                known.failures += 1
                known.line = self.line(key, known.failures, proven=known.served > 0)
                known.until = self.drawn(key, known.failures, proven=known.served > 0)
                if key in self.turn:
                    self.turn.remove(key)

    @precondition(lambda self: self.out)
    @rule()
    def release(self) -> None:
        """Leave a lease unreported."""
        out = self.out.pop()
        with out.lease:
            pass
        self.end(out)

    @precondition(lambda self: self.out)
    @rule()
    def drop(self) -> None:
        """Lose a lease: the next choice takes it back before anything else."""
        out = self.out.pop()
        ended = Out(out.lease, out.known, out.trial)
        self.pool.lost(out.lease)
        with contextlib.suppress(PoolEmpty):
            self.pool.acquire(exclude=KEYS)
        self.end(ended)
        self.come_back()
        self.grant()

    @invariant()
    def agrees(self) -> None:
        """Pool and model know the same."""
        seen = {
            use.proxy.key: (
                use.served,
                use.failed,
                use.in_flight,
                use.set_aside_until,
                use.consecutive_failures,
            )
            for use in self.pool.snapshot()
        }
        assert seen == {key: (k.served, k.failed, k.in_flight, k.until, k.failures) for key, k in self.known.items()}
        assert all(use.proxy.label == self.labels[use.proxy.key] for use in self.pool.snapshot())
        assert self.pool.keys() == list(self.known)
        assert len(self.pool) == len(self.known)
        assert all((key in self.pool) == (key in self.known) for key in KEYS)


class RandomPoolMachine(PoolMachine):
    """The same with the random strategy."""

    strategy = "random"

    def check_choice(self, key: str, ready: list[str]) -> None:
        """Hold the choice against those that were ready."""
        assert key in ready


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
RandomPoolMachine.TestCase.settings = PoolMachine.TestCase.settings


class TestRoundRobinPool(PoolMachine.TestCase):  # type: ignore[misc,valid-type]  # made by hypothesis
    """Round robin chooses exactly whom the model says."""


class TestRandomPool(RandomPoolMachine.TestCase):  # type: ignore[misc,valid-type]  # made by hypothesis
    """Random chooses one of those that the model allows."""
