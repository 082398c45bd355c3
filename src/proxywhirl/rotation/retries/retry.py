"""Whether and when a request may be sent again. Pure.

The rules of a request's attempts:

- another proxy comes first, without waiting; only a further round among those that were tried waits, with full jitter;
- only what is safe is sent again: an idempotent method, what was not sent yet, or what the user calls repeatable;
- nothing is begun after the deadline, and no more than `RetryPolicy.attempts` are made;
- an attempt that may have burdened the target (the request may have been sent, or the target is what failed) is
  followed by another one only within the budget; one that failed at the proxy costs the target nothing, nor the budget.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from proxywhirl.errors import Blame
from proxywhirl.rotation.proxy_state import BACKOFF
from proxywhirl.rotation.retries.budget import RetryBudget
from proxywhirl.validation import require

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2. Methods are case-sensitive (section 9.1): `get` is an unknown method."""


def may_retry(method: str, *, sent: bool, unsafe: bool = False) -> bool:
    """Tell whether a request may go out again through another proxy.

    Ask only while no byte of a response has been handed on. `sent` says whether any byte of the request may
    have left: before that, every method may be sent again, after it only an idempotent one, or any where the user says
    so by `unsafe`.

    >>> may_retry("POST", sent=False), may_retry("POST", sent=True), may_retry("PUT", sent=True)
    (True, False, True)
    """
    return not sent or unsafe or method in IDEMPOTENT_METHODS


def burdens_target(blame: Blame | None, *, sent: bool) -> bool:
    """Tell whether the target may have had work with a failed attempt."""
    return sent or blame in (Blame.TARGET_THROUGH_PROXY, Blame.TARGET)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How far a request is pursued.

    Attributes:
        attempts: How many are made at one request at the most, the first included.
        rounds: How often each proxy may be tried for one request.
        unsafe: Whether methods that are not idempotent are sent again too, though they may have had their effect.

    Raises:
        TypeError: A value is of another kind.
        ValueError: `attempts` or `rounds` is less than 1.
    """

    attempts: int = 20
    rounds: int = 1
    unsafe: bool = False

    def __post_init__(self) -> None:
        """Refuse what would mean no attempt at all."""
        for name in ("attempts", "rounds"):
            require(name, getattr(self, name), int, "a whole number")
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        require("unsafe", self.unsafe, bool, "True or False")


class Stop(StrEnum):
    """Why no further attempt is made."""

    UNSAFE = "the request may have had its effect, and is not sent twice"
    SPENT = "its body cannot be sent again"
    LATE = "its time was over"
    ATTEMPTS = "no more attempts are allowed"
    BUDGET = "the budget of retries is used up for the moment"


_LEAST_WAIT = 0.01  # seconds: who is free again "now" may take a moment to be


class Retries:
    """The attempts at one request. Not thread-safe: a request is sent by one task.

    Args:
        policy: How far it is pursued.
        budget: What all requests of a sender share; the request is counted.
        method: Of the request.
        until: The deadline, on the monotonic clock that `now` is read from.
        rng: Draws the jitter.
        unsafe: The user calls this request repeatable, whatever its method.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        *,
        method: str,
        until: float,
        rng: random.Random,
        unsafe: bool = False,
    ) -> None:
        self.tried: set[str] = set()
        self.attempts = 0
        self.until = until
        self._policy = policy
        self._budget = budget
        self._method = method
        self._unsafe = unsafe or policy.unsafe
        self._rng = rng
        self._rounds = 1
        self._paid = False
        budget.note_request()

    def attempted(self, key: str) -> None:
        """Count an attempt through a proxy, which is not tried again in this round."""
        self.attempts += 1
        self.tried.add(key)

    def repeatable(self, *, sent: bool) -> bool:
        """Tell whether the request is safe to send again; `sent` says that it may have been sent."""
        return may_retry(self._method, sent=sent, unsafe=self._unsafe)

    def stop(self, now: float, *, sent: bool, blame: Blame | None, replayable: bool) -> Stop | None:
        """Tell why a failed attempt is the last, None where another one may follow: the budget has paid for it.

        `sent` says that the request may have been sent, `replayable` that its body is still there to be sent again.
        """
        self._paid = False
        if not self.repeatable(sent=sent):
            return Stop.UNSAFE
        if not replayable:
            return Stop.SPENT
        if now >= self.until:
            return Stop.LATE
        if self.attempts >= self._policy.attempts:
            return Stop.ATTEMPTS
        if burdens_target(blame, sent=sent):
            if not self._budget.take():
                return Stop.BUDGET
            self._paid = True
        return None

    def forgo(self) -> None:
        """Give back what the budget paid: there is no proxy for the attempt that it allowed."""
        if self._paid:
            self._budget.give_back()
            self._paid = False

    def pause(self, now: float, *, free_in: float | None) -> float | None:
        """Return how many seconds to wait where no proxy can be had now, None to give up.

        `free_in` says in how many seconds one may be free that was not tried, None where none will. It may be another
        request's then, so that this may be asked again and again, until the deadline.
        """
        left = self.until - now
        if free_in is not None:
            wait = max(free_in, _LEAST_WAIT) * self._rng.uniform(1.0, 1.1)
            if wait < left:
                return wait
        if self.tried and self._rounds < self._policy.rounds and self.attempts < self._policy.attempts:
            wait = BACKOFF.jittered(self._rounds, self._rng)
            if wait < left:
                self._rounds += 1
                self.tried.clear()
                return wait
        return None
