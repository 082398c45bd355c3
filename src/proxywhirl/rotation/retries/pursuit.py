"""One request, through one proxy after another until one of them serves it (pure).

`Pursuit.steps` is a generator that the gateway and the transport for httpx2 drive, each in its own way. It yields a
step and is sent the answer:

==============  ========================================================================
`Choose`        `Proxy`, `Moved` or `NoChoice`, as `choose` makes it of a pool's answer
`Try`           `Served`, `Failed`, or None if the proxy is gone
`Wait`          None, after that time
`Publish`       None
==============  ========================================================================

It ends with None where the request is served, else with the `Stop` or the `NoChoice` that says why no attempt follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame, CacheError, PoolEmpty, SessionLost, SiteResting
from proxywhirl.events import AttemptFailed, Event, SessionMoved
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.retries.send_policy import IDEMPOTENT_METHODS, ROUND_BACKOFF, SendPolicy
from proxywhirl.rotation.selection.request_options import NO_OPTIONS, RequestOptions
from proxywhirl.rotation.sites.site import alike
from proxywhirl.rotation.verdicts.response import CUT


@dataclass(frozen=True, slots=True)
class Choose:
    """Choose and lease a proxy for the target, as wished, and none whose key is in `exclude`.

    `within` is how many seconds the request has left.
    """

    target: Target
    exclude: frozenset[str]
    wish: RequestOptions = NO_OPTIONS
    within: float | None = field(default=None, kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class Moved:
    """A leased `proxy` that a session has instead of another one, whose key is `moved_from`; and `why`."""

    proxy: Proxy
    moved_from: str
    why: str


@dataclass(frozen=True, slots=True)
class NoChoice:
    """There is no proxy, and `why`; `error` is what the pool raised.

    `free_in` is in how many seconds there may be one, None where time does not help; `waits` says that it makes sense
    to wait for that, and not to come back another time. `resting` says that the site is left alone: one request tries
    it meanwhile, and may end that sooner.
    """

    why: str
    free_in: float | None = None
    waits: bool = False
    resting: bool = False
    error: Exception | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many `seconds` pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Try:
    """Send the request through the proxy that was chosen last."""

    proxy: Proxy


@dataclass(frozen=True, slots=True)
class Publish:
    """Put an event on the bus, where there is one."""

    event: Event


@dataclass(frozen=True, slots=True)
class Served:
    """The client has the response or is getting it; `outcome` is what was reported, None while it is on its way."""

    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt did not serve the request, and another one may.

    Attributes:
        outcome: What was reported.
        held: There is a response that can be handed on where no other proxy does better.
        sent: The target may have seen the request.
        replayable: The request, its body included, can be sent again.
        counted: The proxy was really tried, and is not tried again in this round.
        targets_own: It is the target's own answer to all (`Lease.targets_own`).
        page_served: Somebody was served this page (`Lease.page_served`).
    """

    outcome: Outcome
    held: bool = False
    sent: bool = True
    replayable: bool = True
    counted: bool = True
    targets_own: bool = False
    page_served: bool = False


class Stop(StrEnum):
    """Why no further attempt is made."""

    UNSAFE = "the request may have had its effect, and is not sent twice"
    SPENT = "its body cannot be sent again"
    OWN = "several proxies met the same at this target, and nobody was served"
    LATE = "its time was over"
    ATTEMPTS = "no more attempts are allowed"
    BUDGET = "the budget of retries is used up for the moment"


def choose(pool: Pool, command: Choose) -> tuple[Lease | None, Proxy | Moved | NoChoice]:
    """Carry out a `Choose`: return the lease, None where there is no proxy, and the answer."""
    wish = command.wish
    try:
        lease = pool.acquire(
            command.target, session=wish.session, exclude=command.exclude, within=command.within, **wish.wishes
        )
    except PoolEmpty as exc:
        return None, NoChoice(str(exc), exc.retry_after, waits=True, error=exc)
    except SiteResting as exc:
        return None, NoChoice(str(exc), exc.retry_after, waits=True, resting=True, error=exc)
    except (SessionLost, CacheError) as exc:  # the store may have to agree on a session
        return None, NoChoice(str(exc), error=exc)
    return lease, lease.proxy if lease.moved_from is None else Moved(lease.proxy, lease.moved_from, lease.why)


_LEAST_WAIT = 0.01  # seconds: who is free again "now" may take a moment to be
_LEAST_LEFT = 0.001  # seconds: a pool is not asked for less
_ASK_AGAIN = 0.25  # seconds after which to ask whether a site still rests
_ANSWERED_ALIKE = 4  # tries that were answered alike tell what the target's answer is
_OF_TARGET = (Blame.TARGET_THROUGH_PROXY, Blame.TARGET)


@dataclass(slots=True, eq=False)
class Pursuit:
    """The attempts at one request; making it counts the request. Not thread-safe: one task sends a request.

    Attributes:
        until: The deadline, on the monotonic clock.
        unsafe: The user calls this request repeatable, whatever its method.
        attempts: How many were made.
        tried: Keys of the proxies that are not tried again in this round.
        repeatable: Whether it may be sent again once the target may have seen it.
        moved_from: Key of the proxy that the session had before this request, None where it has not moved.
    """

    policy: SendPolicy
    target: Target
    wish: RequestOptions
    method: str
    until: float
    unsafe: bool
    clock: Clock
    attempts: int = field(default=0, init=False)
    tried: set[str] = field(default_factory=set, init=False)
    repeatable: bool = field(init=False)
    moved_from: str | None = field(default=None, init=False)
    _rounds: int = field(default=1, init=False)
    _held: bool = field(default=False, init=False)
    _failed_there: bool = field(default=False, init=False)
    _paid: bool = field(default=False, init=False)
    _failed: tuple[Proxy, Outcome] | None = field(default=None, init=False)
    _answered: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        """Count the request."""
        self.repeatable = self.unsafe or self.policy.policy.unsafe or self.method in IDEMPOTENT_METHODS
        self.policy.budget.note_request()

    def steps(self) -> Generator[Choose | Wait | Try | Publish, Any, Stop | NoChoice | None]:
        """Pursue the request; see the module. A failure is published once it is known whether it was the last."""
        while True:
            proxy = yield from self._choose()
            if isinstance(proxy, NoChoice):
                return proxy
            attempt: Served | Failed | None = yield Try(proxy)
            # A proxy that is gone: another one, as if this one had not been chosen.
            if attempt is None:
                self.tried.add(proxy.key)
                continue
            if isinstance(attempt, Served) or attempt.counted:
                self.attempts += 1
                self.tried.add(proxy.key)
            # The request is served, though perhaps by a response that is reported as a failure.
            if isinstance(attempt, Served):
                if attempt.outcome is not None and not attempt.outcome.ok:
                    yield self._published(proxy, attempt.outcome, final=True)
                return None
            # Another proxy may do better.
            self._held = self._held or attempt.held
            self._failed_there = self._failed_there or attempt.outcome.blame in _OF_TARGET
            stop = self.stop(attempt)
            if stop is not None:
                yield self._published(proxy, attempt.outcome, final=True)
                return stop
            self._failed = proxy, attempt.outcome

    def _choose(self) -> Generator[Choose | Wait | Publish, Any, Proxy | NoChoice]:
        """Choose a proxy that was not tried in this round; wait for one, unless there is a response in hand.

        A site that rests is waited for by requests that did not find it at fault themselves.
        """
        failed, self._failed = self._failed, None
        while True:
            within = max(self.until - self.clock.monotonic(), _LEAST_LEFT)
            answer: Proxy | Moved | NoChoice = yield Choose(
                self.target, frozenset(self.tried), self.wish, within=within
            )
            if not isinstance(answer, NoChoice):
                break
            seconds = None
            if answer.waits and not self._held and not (answer.resting and self._failed_there):
                seconds = self.pause(free_in=answer.free_in, resting=answer.resting)
            if seconds is None:
                self.forgo()
                break
            yield Wait(seconds)
        if isinstance(answer, Moved):
            self.moved_from = self.moved_from or answer.moved_from
            yield Publish(SessionMoved(self.target, answer.proxy, answer.moved_from, answer.why))
            answer = answer.proxy
        if failed is not None:
            yield self._published(*failed, final=isinstance(answer, NoChoice))
        return answer

    def _published(self, proxy: Proxy, outcome: Outcome, *, final: bool) -> Publish:
        return Publish(AttemptFailed(proxy, self.target, outcome, final=final))

    def stop(self, attempt: Failed) -> Stop | None:
        """Tell why a failed attempt is the last, None where another one may follow: the budget has paid for it."""
        self._paid = False
        forbidden = self._forbidden(attempt)
        if forbidden is None and (attempt.sent or attempt.outcome.blame in _OF_TARGET):  # the target may have had work
            if not self.policy.budget.take():
                return Stop.BUDGET
            self._paid = True
        return forbidden

    def _forbidden(self, attempt: Failed) -> Stop | None:
        """Tell which rule forbids another attempt, whatever the budget."""
        if attempt.sent and not self.repeatable:
            return Stop.UNSAFE
        if not attempt.replayable:
            return Stop.SPENT
        if attempt.targets_own or self._answers_all(attempt):
            return Stop.OWN
        if self.clock.monotonic() >= self.until:
            return Stop.LATE
        if self.attempts >= self.policy.policy.attempts:
            return Stop.ATTEMPTS
        return None

    def _answers_all(self, attempt: Failed) -> bool:
        """Count a whole answer; tell whether it is the page's: so many were alike, and nobody was served this page.

        What is cut or silent may be the proxy's doing, and is no answer to hand on: there the pool alone tells.
        """
        outcome = attempt.outcome
        if outcome.status is None or outcome.blame not in _OF_TARGET or outcome.rule == CUT:
            return False
        sign = alike(outcome)
        self._answered[sign] += 1
        return self._answered[sign] >= _ANSWERED_ALIKE and not attempt.page_served

    def forgo(self) -> None:
        """Give back the retry that the budget allowed: there is no proxy for it."""
        if self._paid:
            self.policy.budget.give_back()
            self._paid = False

    def pause(self, *, free_in: float | None, resting: bool = False) -> float | None:
        """Return how many seconds to wait where no proxy can be had now, None to give up.

        `free_in` says in how many seconds one may be free that was not tried, None where none will. It may be another
        request's then, so that this may be asked again and again, until the deadline. A site that is `resting` may be
        back before.
        """
        left = self.until - self.clock.monotonic()
        if free_in is not None:
            wait = max(free_in, _LEAST_WAIT) * self.policy.rng.uniform(1.0, 1.1)
            if wait < left:
                return min(wait, _ASK_AGAIN) if resting else wait
        if resting:
            return None
        if self.tried and self._rounds < self.policy.policy.rounds and self.attempts < self.policy.policy.attempts:
            wait = ROUND_BACKOFF.jittered(self._rounds, self.policy.rng)
            if wait < left:
                self._rounds += 1
                self.tried.clear()
                return wait
        return None
