"""Keep SQLite whole across a fork: at that moment no call is under way, and no database is open.

SQLite keeps the state of its files and locks in the memory of the process, and a fork copies it. A child would take its
parent's locks for its own, and wait for ever for a lock of a thread that it does not have
(https://www.sqlite.org/howtocorrupt.html, section 2.6). So a fork waits until every database is between two calls and
closes it; parent and child open it again at their next call. A call that takes too long is waited for no longer: the
log says so, and the child may then get errors that the database is busy.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Protocol, TypeVar

_log = logging.getLogger(__name__)

WAIT_SECONDS = 5.0


class ForkAware(Protocol):
    """What is not to be in use when the process forks: `lock` is held while it is."""

    name: str
    lock: threading.RLock

    def close_for_fork(self) -> bool:
        """Close it before a fork; False where the thread that forks is in the middle of a change."""

    def reset_in_child(self) -> None:
        """Leave to the parent, in the child, what was not closed; make the lock anew."""


F = TypeVar("F", bound=ForkAware)

_known: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_joining = threading.RLock()
_here: list[ForkAware] = []
_held: list[ForkAware] = []


def register(forked: ForkAware) -> None:
    """Have something closed at each fork of this process for as long as it exists."""
    with _joining:
        _known.add(forked)


def hold(wanted: Sequence[F], timeout: float) -> list[F]:
    """Take the locks of all; after `timeout` seconds, of those that can be had at once. Return whose were taken.

    While it waits for a lock it holds no other: threads may hold several, in any order.
    """
    deadline = time.monotonic() + timeout
    order = list(wanted)
    while order:
        if not order[0].lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return [each for each in order if each.lock.acquire(blocking=False)]
        held = [order[0]]
        for each in order[1:]:
            if not each.lock.acquire(blocking=False):
                break
            held.append(each)
        else:
            return held
        for each in held:
            each.lock.release()
        order = order[len(held) :] + held  # begin with the one that was not to be had
    return []


def _before() -> None:
    _joining.acquire()
    _here[:] = list(_known)
    _held[:] = hold(_here, WAIT_SECONDS)
    for each in _here:
        if each not in _held:
            _log.warning(
                "%s is in use for more than %g s while this process forks: the child may find it busy until it ends",
                each.name,
                WAIT_SECONDS,
            )
        elif not each.close_for_fork():
            _log.warning("%s: this process forks amid a change to it: the child may find it busy", each.name)


def _in_parent() -> None:
    for each in _held:
        each.lock.release()
    _here.clear()
    _held.clear()
    _joining.release()


def _in_child() -> None:
    global _joining  # noqa: PLW0603  # a lock of the parent's is of no use
    _joining = threading.RLock()
    for each in _here:
        each.reset_in_child()
    _here.clear()
    _held.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
