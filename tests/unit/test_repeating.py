"""The thread that repeats: errors end nothing, and it keeps no object alive."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable

import pytest

from proxywhirl.errors import TierError
from proxywhirl.repeating import Repeating

LONG = 20.0  # seconds: a defect, where it takes as long


class Worker:
    """Does what it is told to, each time that it is called, and counts."""

    def __init__(self) -> None:
        self.calls = threading.Semaphore(0)
        self.deed: Callable[[], None] = lambda: None

    def act(self) -> None:
        """Do it."""
        self.calls.release()
        self.deed()

    def begin(self, seconds: float = 0.001) -> Repeating:
        """Have it done again and again."""
        return Repeating(self.act, seconds, name="worker", failing="nothing is done")

    def wait(self, times: int = 1) -> None:
        """Wait until it has begun so many times more."""
        for _ in range(times):
            assert self.calls.acquire(timeout=LONG)


def test_errors_end_nothing_and_one_of_the_store_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A `TierError` is told once until it goes well again, a defect each time with its traceback."""
    worker = Worker()

    def fail() -> None:
        raise TierError("no room")

    worker.deed = fail
    thread = worker.begin()
    worker.wait(5)
    worker.deed = lambda: None
    worker.wait(5)
    worker.deed = fail
    worker.wait(5)
    thread.stop()
    assert [record.getMessage() for record in caplog.records] == ["nothing is done: no room"] * 2
    caplog.clear()

    def break_down() -> None:
        raise RuntimeError("a defect")

    worker.deed = break_down
    thread = worker.begin()
    worker.wait(3)
    thread.stop()
    assert {(record.levelno, record.exc_info is not None) for record in caplog.records} == {(logging.ERROR, True)}


def test_it_acts_at_once_where_it_is_woken_and_no_more_when_it_is_stopped() -> None:
    """The wait of an hour is cut short by both."""
    worker = Worker()
    thread = worker.begin(3600.0)
    assert not worker.calls.acquire(timeout=0.05)
    thread.wake()
    worker.wait()
    thread.stop()
    thread.wake()
    assert not worker.calls.acquire(timeout=0.05)


def test_it_keeps_no_object_alive() -> None:
    """Where the object of the method is gone the thread ends; what is no method of one is refused."""
    worker = Worker()
    thread, there = worker.begin(3600.0), weakref.ref(worker)
    del worker
    gc.collect()
    assert there() is None
    thread.wake()
    thread.stop()
    with pytest.raises(TypeError, match="bound method"):
        Repeating(lambda: None, 1.0, name="nobody", failing="nothing is done")


@pytest.mark.parametrize("acting", [False, True])
def test_what_comes_last_is_called_once_and_after_the_last_act(acting: bool) -> None:
    """At once where it does not act; else by the thread, for which nobody waits."""
    worker, go_on, order = Worker(), threading.Event(), list[str]()

    def act() -> None:
        go_on.wait(LONG)
        order.append("act")

    worker.deed = act
    thread = worker.begin(3600.0)
    if acting:
        thread.wake()
        worker.wait()
    thread.end_with(lambda: order.append("last"))
    assert order == ([] if acting else ["last"])
    go_on.set()
    thread.stop()
    assert order == (["act", "last"] if acting else ["last"])
