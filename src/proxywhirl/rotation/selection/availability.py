"""Which proxies are ready to serve: not set aside, not at a limit, not held. Pure.

The rules:

- a failing proxy is set aside for an exponential back-off with full jitter;
- when it is due it comes back on trial: one request at a time, until one succeeds. A trial that is neither reported nor
  released ends by itself, so that it cannot starve;
- trials are few, as long as others are ready (see `TrialQueue`). Each kind has its share of the requests:

  =============================================  ==================
  a good record, and few failures                all that are due
  others that have served                        one request in 33
  never served, few failures                     one request in 50
  never served, failed again and again           one request in 100
  =============================================  ==================

  A trial that succeeds allows up to three more of its kind, a request that no proxy could serve one more;
- a proxy that the store calls retired or dead is withheld: set aside with the longest back-off. If it failed here, it
  keeps its own back-off. A success here brings it back, and so does the store's word that it serves again;
- a proxy at a limit is ready again when that allows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from weakref import ref

from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.proxy_state import BACKOFF, FAILURES_TO_CAP, HOPELESS_BACKOFF, Limits, ProxyState, ProxyStates
from proxywhirl.rotation.selection.views import Views
from proxywhirl.timetable import Timetable

TRIAL_SECONDS = 30.0
"""After so long without a word another request may try the proxy."""

_GOOD_RECORD = 0.8  # chance of success of one whose failures are probably mere chance
_FEW = 2  # failures in a row
_RETURNS_AT_ONCE = 64  # thousands may be due at once; no single request pays for the return of them all
_TRIALS_AT_ONCE = float(_RETURNS_AT_ONCE)
_FIRST_TRIALS = 4.0
_FOR_A_SUCCESS = 3.0  # times the success rate of the last trials
_LUCK_WEIGHT = 0.1


class TrialQueue:
    """Some of the proxies that are set aside, when each is due, and how many may be tried.

    Args:
        share: Trials for each request.
    """

    __slots__ = ("_luck", "due", "share", "trials")

    def __init__(self, share: float) -> None:
        self.due: Timetable[str] = Timetable()
        self.trials = _FIRST_TRIALS
        self.share = share
        self._luck = 0.5

    def tried(self, *, ok: bool) -> None:
        """Take note of a trial; one that succeeded makes room for more."""
        self._luck += _LUCK_WEIGHT * (ok - self._luck)
        if ok:
            self.grant(_FOR_A_SUCCESS * self._luck)

    def grant(self, trials: float) -> None:
        """Make room for trials."""
        self.trials = min(self.trials + trials, _TRIALS_AT_ONCE)


class Availability:
    """Keeps the views in line with what is set aside and at a limit. Times are on the pool's monotonic clock."""

    def __init__(self, states: ProxyStates, views: Views, limits: Limits, rng: random.Random) -> None:
        self.limits = limits
        self.aside: Timetable[str] = Timetable()
        self.limited: Timetable[str] = Timetable()
        self._states = states
        self._views = views
        self._rng = rng
        self._queues = TrialQueue(1.0), TrialQueue(0.03), TrialQueue(0.02), TrialQueue(0.01)
        self._trusted, self._proven, self._doubtful, self._hopeless = self._queues

    def ready(self, key: str) -> bool:
        """Whether a proxy may serve now."""
        return key not in self.aside.at and not self.at_limit(key)

    def at_limit(self, key: str) -> bool:
        """Whether a proxy is used as much as it may be."""
        return key in self.limited.at or self.in_use(key)

    def in_use(self, key: str) -> bool:
        """Whether as many requests are under way through a proxy as may be."""
        limit = self.limits.in_flight
        if limit is None:
            return False
        state = self._states.slot(key)
        return state is not None and state.in_flight >= limit

    def enter(self, key: str) -> None:
        """Let a proxy serve if nothing stands in the way any more."""
        if self.ready(key):
            self._views.add(key)

    def bring_back(self, now: float, *, for_request: bool) -> None:
        """Bring back the proxies that are due, as many as may be on trial."""
        if self.aside.at:
            for queue in self._queues:
                if for_request:
                    queue.grant(queue.share)
                while queue.trials >= 1.0:
                    key = queue.due.pop_due(now)
                    if key is None:
                        break
                    queue.trials -= 1.0
                    self.aside.discard(key)
                    self._states.open(key, aside=True)
                    self.enter(key)
        if self.limited.at:
            for _ in range(_RETURNS_AT_ONCE):
                key = self.limited.pop_due(now)
                if key is None:
                    break
                self.enter(key)

    def begin(self, state: ProxyState, now: float) -> float | None:
        """Take note of a use; return when its trial ends by itself, None where it is no trial."""
        key, limits = state.key, self.limits
        state.in_flight += 1
        trial: float | None = None
        if state.failures and key not in self.aside.at:
            trial = now + TRIAL_SECONDS
            self._put(key, trial, self._trusted)
            self._views.remove(key)
        if limits.requests_per_second is not None:
            state.next_use = max(state.next_use, now) + 1.0 / limits.requests_per_second
            self.limited.put(key, state.next_use)
            self._views.remove(key)
        if limits.in_flight is not None and state.in_flight >= limits.in_flight:
            self._views.remove(key)
        self._views.moved(state)
        return trial

    def end(self, state: ProxyState, trial: float | None) -> None:
        """Take note of the end of a use, before its outcome is told."""
        state.in_flight -= 1
        self._views.moved(state)
        if trial is not None and self.aside.at.get(state.key) == trial:
            self._take(state.key)  # it was one request, and that is over
            self.enter(state.key)
        elif self.limits.in_flight is not None:
            self.enter(state.key)

    def succeeded(self, state: ProxyState, trial: float | None) -> None:
        """Bring a proxy back for good that had failed."""
        before, state.failures, state.withheld = state.failures, 0, False
        self._take(state.key)
        if trial is not None:
            self._queue(state.key, before, proven=state.served > 1).tried(ok=True)
        self.enter(state.key)

    def set_aside(self, state: ProxyState, trial: float | None, now: float) -> None:
        """Set a proxy aside for one more failure in a row."""
        if trial is not None:
            self._queue(state.key, state.failures, proven=state.served > 0).tried(ok=False)
        state.incident += 1
        state.failures += 1
        self.put_aside(state.key, state.failures, now, proven=state.served > 0)

    def pardon(self, state: ProxyState) -> None:
        """Take back the last failure of a proxy: it was not its own."""
        state.failed -= 1
        state.bad = max(state.bad - 1.0, 0.0)
        state.failures = max(state.failures - 1, 1 if state.withheld else 0)
        if not state.failures:
            self._take(state.key)
            self.enter(state.key)

    def put_aside(self, key: str, failures: int, now: float, *, proven: bool = True) -> None:
        """Set aside a proxy with so many failures in a row; `proven` says that it has served before."""
        self._views.remove(key)
        queue = self._queue(key, failures, proven=proven)
        backoff = BACKOFF if proven else HOPELESS_BACKOFF
        self._put(key, now + backoff.jittered(failures, self._rng), queue)

    def withhold(self, key: str, now: float) -> None:
        """Set a proxy aside that the store calls retired or dead."""
        state = self._states.slot(key)
        if state is not None:
            state.withheld = True
            if state.failures:
                return  # it has its back-off, or is on trial
            state.failures = FAILURES_TO_CAP
            state.incident += 1
        elif key in self.aside:
            return
        self.put_aside(key, FAILURES_TO_CAP, now)

    def restore(self, key: str) -> None:
        """Bring back a proxy that the store no longer calls retired or dead, unless it failed here too."""
        state = self._states.slot(key)
        if state is not None:
            if not state.withheld:
                return
            state.failures, state.withheld = 0, False
        elif key not in self.aside:
            return
        self._take(key)
        self.enter(key)

    def grant(self) -> None:
        """Let one more of each kind be tried, since no proxy can serve a request."""
        for queue in self._queues:
            queue.grant(1.0)

    def _queue(self, key: str, failures: int, *, proven: bool) -> TrialQueue:
        """Return the queue of a proxy with so many failures in a row."""
        if not proven:
            return self._doubtful if failures <= _FEW else self._hopeless
        state = self._states.slot(key)
        good = state is not None and state.chance >= _GOOD_RECORD
        return self._trusted if good and failures <= _FEW else self._proven

    def _put(self, key: str, at: float, queue: TrialQueue) -> None:
        self._take(key)
        self.aside.put(key, at)
        queue.due.put(key, at)

    def _take(self, key: str) -> None:
        if self.aside.discard(key):
            for queue in self._queues:
                queue.due.discard(key)

    def forget(self, key: str) -> None:
        """Drop a proxy that leaves the pool."""
        self._take(key)
        self.limited.discard(key)
        self._views.remove(key)

    def due_first(self, admits: Callable[[str], bool], candidates: Collection[str]) -> str | None:
        """Return the proxy due first among those that are set aside, at no limit and admitted.

        None is beside `candidates`: where they are few, no other is looked at.
        """
        if len(candidates) >= len(self.aside):
            return self.aside.first(lambda key: admits(key) and not self.at_limit(key))
        at = self.aside.at
        due = ((at[key], key) for key in candidates if key in at and admits(key) and not self.at_limit(key))
        return min(due, default=(0.0, None))[1]


class Holds(Timetable[str]):
    """Keys with the moment, on the pool's monotonic clock, at which they are free again.

    A lease of this process is known by a weak reference, so that one that is dropped can be taken back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, ref[Lease]] = {}

    def hold(self, lease: Lease, until: float) -> None:
        """Keep others off a lease's proxy."""
        key = lease.state.key
        self.put(key, until)
        self._leases[key] = ref(lease)

    def unhold(self, lease: Lease) -> None:
        """Let others have a lease's proxy, unless another one holds it by now."""
        key = lease.state.key
        known = self._leases.get(key)
        if known is not None and known() is lease:
            del self._leases[key]
            self.discard(key)

    def elsewhere(self, key: str, until: float | None) -> None:
        """Take note that another process holds a proxy until a moment, or holds it no more."""
        if until is not None:
            self._leases.pop(key, None)
            self.put(key, until)
        elif key not in self._leases:
            self.discard(key)

    def end(self, key: str) -> Lease | None:
        """End a hold that is over and return its lease; None where another process had it, or it was dropped."""
        known = self._leases.pop(key, None)
        return None if known is None else known()
